/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Where one QEMU listens and another one connects to: a UNIX socket or a TCP port, for the migration
 * stream and for NBD alike, in each of the forms that QEMU's commands want it in.
 */
#ifndef QEMU_ADDRESS_H
#define QEMU_ADDRESS_H

#include <jansson.h>

struct qemu_address {
    const char *path; /* a UNIX socket; NULL: TCP */
    const char *host; /* TCP: a name or an address, IPv6 ("::1") without brackets; a migration takes
                       * one of up to 64 characters */
    unsigned port;    /* TCP: from 1 on */
};

#define QEMU_ADDRESS_UNIX(socket_path) (&(const struct qemu_address){.path = (socket_path)})

/* "unix:PATH", "tcp:HOST:PORT", "tcp:[::1]:PORT" (migrate, migrate-incoming), malloc'ed; NULL when
 * memory is short. */
char *qemu_address_uri(const struct qemu_address *address);
/* QAPI's SocketAddress (blockdev-add); NULL when memory is short. */
json_t *qemu_address_json(const struct qemu_address *address);
/* QAPI's SocketAddressLegacy (nbd-server-start); likewise. */
json_t *qemu_address_json_legacy(const struct qemu_address *address);
#endif
