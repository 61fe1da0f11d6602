/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The ports of direct_ports, for QEMUs that guests come in to in mode direct.  A port is one
 * migration's until it is given back, and while somebody else listens on it, or a connection uses it,
 * it is left alone.  Any thread.
 */
#ifndef DAEMON_PORTS_H
#define DAEMON_PORTS_H

#include "common/error.h"

struct ports;

/* The ports from FIRST to LAST; FIRST 0: none.  NULL when memory is short. */
struct ports *ports_new(unsigned first, unsigned last);
/* All ports must have been given back.  NULL is fine. */
void ports_free(struct ports *ports);

/* Takes a port that can be listened on at HOST: a name or an address of this host without brackets,
 * "::" for all.  Returns it, to be given back once QEMU listens on it no more, or a negative errno
 * with ERR: -EADDRINUSE when none is free, -EOPNOTSUPP when there are none. */
int ports_take(struct ports *ports, const char *host, struct error *err);
void ports_give_back(struct ports *ports, int port);

#endif
