/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What HOST_INFO says of this host.
 */
#ifndef DAEMON_HOST_H
#define DAEMON_HOST_H

#include "daemon/daemon.h"

/* Starts this host's QEMU for a moment and sets what DAEMON has of it: once, before anybody is let in.
 * Without a QEMU that answers that is nothing, and logged. */
void host_ask_qemu(struct daemon *daemon);

/* Handlers of HOST_INFO (rpc/dispatch.h); OPAQUE is the struct peer_link, or the struct peer_session. */
int host_handle_info(void *opaque, const void *args, void *ret, struct error *err);
int host_handle_info_in_session(void *opaque, const void *args, void *ret, struct error *err);

#endif
