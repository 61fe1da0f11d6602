/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * One migration that comes in, shared by incoming.c (its life) and incoming_prepare.c (how it is
 * made ready).
 */
#ifndef DAEMON_INCOMING_PRIVATE_H
#define DAEMON_INCOMING_PRIVATE_H

#include "daemon/daemon.h"
#include "daemon/domain.h"
#include "daemon/volume.h"
#include "qemu/qmp.h"
#include "rpc/protocol.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

/*
 * Who owns the guest, as this side knows it:
 *
 *   PREPARING  volumes and QEMU are being made; ends in PREPARED or NOT_MINE
 *   PREPARED   it may come; Finish makes it MINE, anything else fences it
 *   MINE       it is all here; `cont` may have been sent, so it is never fenced any more
 *   RUNNING    it runs here (or stands, if it stood at the source)
 *   NOT_MINE   fenced: its QEMU is dead and it will never run here
 */
enum incoming_state {
    INCOMING_PREPARING,
    INCOMING_PREPARED,
    INCOMING_MINE,
    INCOMING_RUNNING,
    INCOMING_NOT_MINE,
};
#define INCOMING_STATES (INCOMING_NOT_MINE + 1)

struct incoming {
    struct daemon *daemon;
    uint8_t id[BS_ID_SIZE];
    uint8_t uuid[BS_ID_SIZE];
    char hex[2 * BS_ID_SIZE + 1]; /* of id: for names and the log */
    char *peer;                   /* who prepared it; every call must come from there */
    bool running;                 /* the guest ran at the source */
    char *folder;                 /* of its two sockets */
    char *nbd_socket, *migration_socket;
    const struct bs_cookie_source *cookie; /* as the source sent it; only during Prepare */

    atomic_bool closing;  /* its session is going: give up at the next step */
    atomic_bool ready;    /* Prepare has succeeded: channels may come */
    atomic_bool arriving; /* Finish has begun */

    pthread_mutex_t lock; /* the id's: Prepare, Finish, Settle and the end of the session */
    enum incoming_state state;
    struct domain *domain;
    struct volume *volumes;
    size_t volume_count;

    /* Under the table's lock. */
    bool superseded; /* a newer attempt for the same guest has ended this one */
    unsigned references;
    LIST_ENTRY(incoming) link;
};

/* Creates volumes, starts QEMU, exports the disks, waits for the stream: everything of Prepare.
 * After a failure the caller fences what there is.  Called with the id's lock. */
int incoming_prepare(struct incoming *in, const struct bs_migrate_prepare_args *args,
                     struct bs_cookie_destination *ret, struct error *err);

/* A wait of MS milliseconds that ends early when the session goes. */
struct qmp_wait incoming_wait(struct incoming *in, unsigned ms);

#endif
