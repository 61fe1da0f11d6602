/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Forwards: UNIX sockets here that lead to UNIX sockets at a peer, over one session each.
 */
#ifndef DAEMON_FORWARD_H
#define DAEMON_FORWARD_H

#include "common/error.h"
#include "daemon/daemon.h"

struct forwards;

/* Returns NULL when memory is short. */
struct forwards *forwards_new(struct daemon *daemon);
/* Ends all forwards and removes their sockets.  No handler below may run any more. */
void forwards_stop(struct forwards *forwards);
/* After forwards_stop().  NULL is fine. */
void forwards_free(struct forwards *forwards);

/* Handlers for RPC_CALLER_LOCAL (rpc/dispatch.h); OPAQUE is the struct control_connection.  START
 * returns once every local socket accepts; unless it is detached, the forward ends with the
 * connection.  STOP returns once the sockets are gone. */
int forward_handle_start(void *opaque, const void *args, void *ret, struct error *err);
int forward_handle_list(void *opaque, const void *args, void *ret, struct error *err);
int forward_handle_stop(void *opaque, const void *args, void *ret, struct error *err);

#endif
