/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The local sockets of a forward: made with owner and mode, handed to the pump, removed.
 */
#ifndef DAEMON_FORWARD_SOCKET_H
#define DAEMON_FORWARD_SOCKET_H

#include "io/pump.h"
#include "rpc/protocol.h"

#include <stdbool.h>
#include <sys/stat.h>

struct forward_socket {
    char *local, *remote; /* paths, here and at the peer */
    bool made;            /* the file is ours: */
    dev_t device;
    ino_t inode;
};

struct forward_owner {
    uid_t uid; /* (uid_t)-1: as it comes */
    mode_t mode;
};

/* Looks USER (empty: nobody in particular) and MODE (0: 0600) up.  Returns 0, or -EINVAL with ERR.
 */
int forward_owner_find(const char *user, unsigned mode, struct forward_owner *ret,
                       struct error *err);

/* Checks and copies PAIRS; makes no file.  Returns NULL with ERR. */
struct forward_socket *forward_sockets_new(const struct bs_forward_pair *pairs, unsigned count,
                                           struct error *err);
/* NULL is fine. */
void forward_sockets_free(struct forward_socket *sockets, unsigned count);

/* Makes them all and has PUMP accept on them.  After a failure (with ERR) some may be made. */
int forward_sockets_listen(struct forward_socket *sockets, unsigned count,
                           const struct forward_owner *owner, struct pump *pump, struct error *err);
/* Removes the files that were made here and are still the same.  Harmless when said twice. */
void forward_sockets_remove(struct forward_socket *sockets, unsigned count);

/* Copies the paths (malloc'ed) into RET, which has COUNT zeroed pairs.  Returns 0 or -ENOMEM. */
int forward_sockets_describe(const struct forward_socket *sockets, unsigned count,
                             struct bs_forward_pair *ret);

#endif
