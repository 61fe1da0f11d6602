/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What is at the other end.
 */
#ifndef DAEMON_PROBE_H
#define DAEMON_PROBE_H

#include "common/error.h"

/* Handler of PROBE (rpc/dispatch.h); OPAQUE is the struct control_connection. */
int probe_handle(void *opaque, const void *args, void *ret, struct error *err);

#endif
