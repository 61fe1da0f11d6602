/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The port that memory comes in at in mode direct, until the source's connection has come.
 *
 * QEMU must not listen there itself.  It shakes hands in its main loop, one caller after the other, and
 * waits for each as long as that one says nothing: its NBD server and QMP stand still meanwhile.
 * Without TLS the first caller is taken for the source, and QEMU ends with it.
 *
 * So callers are heard here, all at a time, and the one that begins with the migration's id, which
 * the two daemons know and nobody else, is handed on.  That is no substitute for TLS: it keeps strangers
 * away from QEMU, and whoever reads the line reads the id.
 */
#ifndef DAEMON_MEMORY_PORT_H
#define DAEMON_MEMORY_PORT_H

#include "common/error.h"
#include "rpc/protocol.h"

#include <stdint.h>

struct memory_port;

/* Listens on PORT at HOST: a name, of which all addresses are listened on that this host has, or an
 * address without brackets.  ADMIT is called once at the most, in a thread of its own, with the
 * connection that began with ID, which has been read; nobody listens any more then.  FD stays the
 * port's and is closed when ADMIT has returned.  Returns NULL with ERR. */
struct memory_port *memory_port_open(const char *host, unsigned port, const uint8_t id[BS_ID_SIZE],
                                     void (*admit)(void *opaque, int fd), void *opaque,
                                     struct error *err);
/* Ends it, with all callers, and waits until ADMIT has returned.  NULL is fine. */
void memory_port_close(struct memory_port *port);

#endif
