/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The table of everything that can be called: by local clients, by peers on a link, by peers in a
 * session.
 */
#ifndef DAEMON_SERVICES_H
#define DAEMON_SERVICES_H

#include "daemon/conf.h"
#include "rpc/dispatch.h"

/* Constant memory.  Without offer_bistream it has no BISTREAM_OPEN, and so this daemon answers like
 * one from before it. */
const struct rpc_program *services_program(const struct config *config);

#endif
