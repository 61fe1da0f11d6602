/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A listening socket in the main loop.
 */
#ifndef DAEMON_ENTRANCE_H
#define DAEMON_ENTRANCE_H

#include "common/error.h"
#include "common/loop.h"

struct entrance;

/* Watches FD, which is taken over also on failure.  ACCEPTED gets each connection (non-blocking,
 * close-on-exec), and owns it.  NAME is for the log and a constant.  Returns NULL with ERR. */
struct entrance *entrance_new(struct loop *loop, int fd, const char *name,
                              void (*accepted)(void *opaque, int fd), void *opaque,
                              struct error *err);
/* Closes the socket.  NULL is fine. */
void entrance_free(struct entrance *entrance);

#endif
