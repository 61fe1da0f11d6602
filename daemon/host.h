/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What HOST_INFO says of this host.
 */
#ifndef DAEMON_HOST_H
#define DAEMON_HOST_H

#include "common/error.h"

/* The version that QEMU_BINARY --version names ("7.2.22"), malloc'ed; empty when there is no such
 * QEMU.  NULL when memory is short.  Blocks for some seconds at the most. */
char *host_qemu_version(const char *qemu_binary);

/* Handlers of HOST_INFO (rpc/dispatch.h); OPAQUE is the struct peer_link, or the struct peer_session. */
int host_handle_info(void *opaque, const void *args, void *ret, struct error *err);
int host_handle_info_in_session(void *opaque, const void *args, void *ret, struct error *err);

#endif
