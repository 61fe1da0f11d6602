/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * One migration that comes in, shared by
 *
 *     incoming.c          the table of them, the calls about them, restart
 *     incoming_prepare.c  Prepare: how it is made ready
 *     incoming_direct.c   what mode direct has of its own, memory_port.c the port for memory
 *     incoming_offline.c  what mode offline has of its own
 *     incoming_decide.c   Finish, the fence, what is settled
 *     incoming_journal.c  state_dir/migrations/ID.json
 *     incoming_prune.c    entries that nobody asks for any more
 */
#ifndef DAEMON_INCOMING_PRIVATE_H
#define DAEMON_INCOMING_PRIVATE_H

#include "daemon/daemon.h"
#include "daemon/domain.h"
#include "daemon/ownership.h"
#include "daemon/volume.h"
#include "qemu/qmp.h"
#include "rpc/protocol.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

struct incoming {
    struct daemon *daemon;
    uint8_t id[BS_ID_SIZE];
    uint8_t uuid[BS_ID_SIZE];
    char hex[2 * BS_ID_SIZE + 1]; /* of id: for names and the log */
    char *peer;                   /* who prepared it; every call must come from there */
    char *name;                   /* of the guest */
    bool running;                 /* it ran at the source */
    bool persistent;              /* its domain stays when it is shut down */
    bool in_stream;               /* its disks come in the migration stream */
    bool offline;                 /* it is shut off, and no QEMU waits for it */
    bool keep;                    /* the fence keeps what was copied offline */
    char *folder;                 /* of its two sockets */
    char *nbd_socket, *migration_socket;
    const char *local_address;             /* that its session came to; only during Prepare */
    unsigned nbd_port, migration_port;     /* ... at these ports; 0: at none */
    bool tls;                              /* ... with its own TLS */
    struct memory_port *memory_port;       /* ... the second of which is the daemon's at first */
    atomic_bool shut;                      /* ... and nobody comes in there any more */
    const struct bs_cookie_source *cookie; /* as the source sent it; only during Prepare */

    atomic_bool closing;  /* its session is going: give up at the next step */
    atomic_bool ready;    /* Prepare has succeeded: channels may come */
    atomic_bool arriving; /* Finish has begun */
    atomic_bool kept;     /* fenced, and what was copied is kept for the next attempt */

    pthread_mutex_t lock; /* the id's: whatever is done about it is done under it */
    enum incoming_state state;
    int64_t since;    /* it is NOT_MINE: seconds since 1970 */
    unsigned wait_ms; /* Finish: the guest may be held up for so long yet; 0: none is held up */
    struct definition *definition; /* NULL: an attached QEMU waited for it */
    struct domain *domain; /* with the job begun, from Prepare (or restart) until it is ours */
    struct volume *volumes;
    size_t volume_count;

    /* Under the table's lock. */
    bool superseded; /* a newer attempt for the same guest has ended this one */
    bool removed;    /* no longer in the list */
    unsigned references;
    LIST_ENTRY(incoming) link;
};

/* Lock order: an entry's lock, then the table's.  The domains' come below both. */
struct incoming_migrations {
    pthread_mutex_t lock; /* the list, and references of its entries */
    LIST_HEAD(, incoming) list;
};

/* Drops a reference; a SETTLED entry leaves the table. */
void incoming_unref(struct incoming *in, bool settled);
/* Forgets entries that say "not mine" and nothing else, when they are old or many. */
void incoming_prune(struct incoming_migrations *all);

/* Creates volumes, starts QEMU, exports the disks, waits for the stream: everything of Prepare, in
 * mode direct (DIRECT is not NULL) at ports of this host.  After a failure the caller fences what
 * there is.  Called with the id's lock, as all below. */
int incoming_prepare(struct incoming *in, const struct bs_migrate_prepare_args *args,
                     const struct bs_migrate_prepare_direct_args *direct, struct error *err);
/* Where the channels lead, once it is prepared. */
int incoming_fill_cookie(const struct incoming *in, struct bs_cookie_destination *ret,
                         struct error *err);

/* Mode direct: QEMU listens at ports of this host, with the exports that OFFER makes.  As
 * incoming_prepare(). */
int incoming_direct_listen(struct incoming *in, struct qmp *qmp,
                           const struct bs_migrate_prepare_direct_args *args,
                           int (*offer)(struct incoming *in, struct qmp *qmp, struct error *err),
                           struct error *err);
/* The guest is here: takes from QEMU what only mode direct needed, and gives the ports back. */
void incoming_direct_end(struct incoming *in);
/* Lets nobody in any more; before QEMU is ended or handed on.  Harmless when nobody could come in. */
void incoming_direct_shut(struct incoming *in);
/* Gives the ports back.  Harmless when there are none. */
void incoming_direct_release(struct incoming *in);

/* Mode offline, as incoming_prepare(): names where copies are kept, before anything is journalled. */
int incoming_offline_plan(struct incoming *in, struct error *err);
/* Makes VOLUME from what an earlier attempt has kept.  Returns false when there is nothing, or the guest
 * isn't coming offline. */
bool incoming_offline_take_up(struct incoming *in, struct volume *volume,
                              const struct volume_spec *spec);
/* Bytes that earlier attempts of this guest have kept, which this one uses or gives back. */
uint64_t incoming_kept_bytes(struct incoming *in);
/* In every mode: removes what earlier attempts of this guest have kept. */
void incoming_drop_kept(struct incoming *in);
/* Serves the volumes of the disks that are to be copied. */
int incoming_offline_serve(struct incoming *in, struct error *err);
/* Ends that.  Returns 0, also if it had ended, or a negative errno with ERR. */
int incoming_offline_stop(struct incoming *in, struct error *err);
/* Finish: the same, and all that was copied is on disk. */
int incoming_offline_arrive(struct incoming *in, struct error *err);
/* The fence, once NOT_MINE is written: keeps what was copied.  Returns false when it couldn't, and the
 * volumes are still to be deleted. */
bool incoming_offline_keep(struct incoming *in);

/* A wait of MS milliseconds that ends early when the session goes. */
struct qmp_wait incoming_wait(struct incoming *in, unsigned ms);

/* Before it is fenced: if its QEMU has died, that is the reason, with its last words. */
void incoming_explain(const struct incoming *in, struct bs_migrate_finish_ret *ret);
/* Makes sure that the guest never runs here and that nothing of it stays but the entry that says so.
 * Returns 0, or a negative errno with ERR when its QEMU could not be killed: then nothing may be
 * said yet. */
int incoming_fence(struct incoming *in, struct error *err);
/* Finish: once everything is here it becomes ours and runs; else it is fenced. */
void incoming_decide(struct incoming *in, struct bs_migrate_finish_ret *ret);
/* It was decided that it is ours, and nobody knows how far that got. */
void incoming_take_up(struct incoming *in, struct bs_migrate_finish_ret *ret);
/* "mine", or "lost" if its QEMU has died since. */
void incoming_say_mine(struct incoming *in, struct bs_migrate_finish_ret *ret);
/* The entry has served its purpose.  OLD_IMAGES: those that were set aside are deleted. */
int incoming_settled(struct incoming *in, bool old_images, struct error *err);
/* Names the folder and the sockets; nothing is made.  Returns 0 or -ENOMEM with ERR. */
int incoming_name_sockets(struct incoming *in, struct error *err);

/* Writes STATE to the journal, then into IN.  Returns 0, or a negative errno with ERR and the state as
 * it was. */
int incoming_set_state(struct incoming *in, enum incoming_state state, struct error *err);
/* The journal again, with what is known now. */
int incoming_journal_write(struct incoming *in, struct error *err);
/* Has the entry for MINE ready, so that the decision is a rename. */
int incoming_journal_prepare_mine(struct incoming *in, struct error *err);
/* Reads the entry HEX.  Returns NULL with ERR. */
struct incoming *incoming_journal_read(struct daemon *daemon, const char *hex, struct error *err);

/* An entry with a lock and nothing in it; incoming_free_entry() frees it and what it holds. */
struct incoming *incoming_new_entry(struct daemon *daemon);
void incoming_free_entry(struct incoming *in);

#endif
