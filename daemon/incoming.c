/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The life of a migration that comes in: Prepare, Finish, Settle, and the end of its session.
 *
 * One lock per migration id orders these four, so a Finish never meets a fence half way.  The one
 * decision is taken in Finish: once everything is here the state becomes MINE and the guest is
 * resumed; before that, whatever goes wrong fences it (QEMU killed and waited for, volumes
 * deleted), and only then is "not mine" said.  "Mine" is said only after `cont` has succeeded.
 *
 * An entry lives as long as its session.
 */
#include "config.h"

#include "daemon/incoming.h"
#include "daemon/incoming_private.h"
#include "daemon/peer_session.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "qemu/block.h"
#include "qemu/migration.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    ARRIVE_TIMEOUT_MS = 30000, /* the source has sent everything when it calls Finish */
    RESUME_TIMEOUT_MS = 30000,
};

/* Lock order: an entry's lock, then the table's.  The domains' come below both. */
struct incoming_migrations {
    pthread_mutex_t lock; /* the list, and references of its entries */
    LIST_HEAD(, incoming) list;
};

static const char *const state_names[] = {
    [INCOMING_PREPARING] = "preparing", [INCOMING_PREPARED] = "prepared", [INCOMING_MINE] = "mine",
    [INCOMING_RUNNING] = "running",     [INCOMING_NOT_MINE] = "not mine",
};
static_assert(sizeof state_names / sizeof *state_names == INCOMING_STATES, "each state has a name");

/* next[from] has a bit for each state that may follow. */
static const unsigned next[INCOMING_STATES] = {
    [INCOMING_PREPARING] = 1 << INCOMING_PREPARED | 1 << INCOMING_NOT_MINE,
    [INCOMING_PREPARED] = 1 << INCOMING_MINE | 1 << INCOMING_NOT_MINE,
    /* Back only while it is certain that the guest has not run: QEMU refused to run it. */
    [INCOMING_MINE] = 1 << INCOMING_RUNNING | 1 << INCOMING_NOT_MINE,
};

static int set_state(struct incoming *in, enum incoming_state state, struct error *err)
{
    if (!(next[in->state] & 1u << state))
        return error_set(err, EINVAL, "migration %s is '%s' and can't become '%s'", in->hex,
                         state_names[in->state], state_names[state]);
    in->state = state;
    log_info("migration %s (%s) in: %s", in->hex, domain_name(in->domain), state_names[state]);
    return 0;
}

struct incoming_migrations *incoming_new(void)
{
    struct incoming_migrations *all = calloc(1, sizeof *all);

    if (!all)
        return NULL;
    LIST_INIT(&all->list);
    pthread_mutex_init(&all->lock, NULL);
    return all;
}

void incoming_free(struct incoming_migrations *all)
{
    if (!all)
        return;
    assert(LIST_EMPTY(&all->list));
    pthread_mutex_destroy(&all->lock);
    free(all);
}

static void entry_free(struct incoming *in)
{
    for (size_t i = 0; i < in->volume_count; i++)
        volume_clear(&in->volumes[i]);
    free(in->volumes);
    domain_unref(in->domain);
    free(in->folder);
    free(in->nbd_socket);
    free(in->migration_socket);
    free(in->peer);
    pthread_mutex_destroy(&in->lock);
    free(in);
}

static void entry_unref(struct incoming *in)
{
    struct incoming_migrations *all = in->daemon->incoming;
    bool last;

    pthread_mutex_lock(&all->lock);
    last = --in->references == 0;
    if (last)
        LIST_REMOVE(in, link);
    pthread_mutex_unlock(&all->lock);
    if (last)
        entry_free(in);
}

/* ---- the fence ------------------------------------------------------------------------------- */

static void remove_sockets(const struct incoming *in)
{
    if (in->nbd_socket)
        unlink(in->nbd_socket);
    if (in->migration_socket)
        unlink(in->migration_socket);
    if (in->folder && rmdir(in->folder) < 0 && errno != ENOENT)
        log_warning("migration %s in: can't remove %s", in->hex, in->folder);
}

/* Makes sure that the guest never runs here and that nothing of it stays.  Returns 0, or a negative
 * errno with ERR when its QEMU could not be killed: then nothing may be said yet. */
static int fence(struct incoming *in, struct error *err)
{
    int r;

    if (in->domain) {
        r = domain_discard_incoming(in->domain, err);
        if (r < 0)
            return r;
    }
    remove_sockets(in);
    for (size_t i = in->volume_count; i-- > 0;) {
        struct error undoing = ERROR_INIT;

        if (volume_undo(&in->volumes[i], &undoing) < 0)
            log_error("migration %s in: %s", in->hex, undoing.text);
    }
    in->state = INCOMING_NOT_MINE;
    log_info("migration %s in: undone, nothing of it is left", in->hex);
    return 0;
}

/* ---- Prepare --------------------------------------------------------------------------------- */

/* The migrations of PEER's guest UUID that are under way, referenced, one at a time. */
static struct incoming *find_earlier(struct incoming_migrations *all, const char *peer,
                                     const void *uuid)
{
    struct incoming *in;

    pthread_mutex_lock(&all->lock);
    LIST_FOREACH(in, &all->list, link)
    {
        if (!in->superseded && strcmp(in->peer, peer) == 0 &&
            memcmp(in->uuid, uuid, BS_ID_SIZE) == 0) {
            in->superseded = true;
            in->references++;
            atomic_store(&in->closing, true);
            break;
        }
    }
    pthread_mutex_unlock(&all->lock);
    return in;
}

/* A new attempt for the same guest ends the old one, whose session may not know yet that it is
 * dead. */
static int end_earlier_attempts(struct peer_session *session, const void *uuid, struct error *err)
{
    struct incoming *in;
    int r = 0;

    while (r == 0 && (in = find_earlier(session->daemon->incoming, session->peer, uuid))) {
        pthread_mutex_lock(&in->lock);
        if (in->state == INCOMING_PREPARED)
            r = fence(in, err);
        pthread_mutex_unlock(&in->lock);
        entry_unref(in);
    }
    return r;
}

static int entry_insert(struct incoming_migrations *all, struct incoming *in, struct error *err)
{
    struct incoming *other;
    bool taken = false;

    pthread_mutex_lock(&all->lock);
    LIST_FOREACH(other, &all->list, link)
    {
        taken |= memcmp(other->id, in->id, BS_ID_SIZE) == 0;
    }
    if (!taken)
        LIST_INSERT_HEAD(&all->list, in, link);
    pthread_mutex_unlock(&all->lock);
    return taken ? error_set(err, EEXIST, "migration %s is known already", in->hex) : 0;
}

static struct incoming *entry_new(struct peer_session *session,
                                  const struct bs_migrate_prepare_args *args, struct error *err)
{
    struct incoming *in = calloc(1, sizeof *in);

    if (!in || !(in->peer = strdup(session->peer))) {
        free(in);
        error_set(err, ENOMEM, "no memory for a migration");
        return NULL;
    }
    in->daemon = session->daemon;
    memcpy(in->id, args->id, sizeof in->id);
    memcpy(in->uuid, args->uuid, sizeof in->uuid);
    for (size_t i = 0; i < sizeof in->id; i++)
        snprintf(in->hex + 2 * i, 3, "%02x", in->id[i]);
    in->running = args->cookie.running != 0;
    in->cookie = &args->cookie;
    in->references = 1;
    pthread_mutex_init(&in->lock, NULL);
    if (entry_insert(session->daemon->incoming, in, err) < 0) {
        entry_free(in);
        return NULL;
    }
    return in;
}

int incoming_handle_prepare(void *opaque, const void *args_, void *ret_, struct error *err)
{
    struct peer_session *session = opaque;
    const struct bs_migrate_prepare_args *args = args_;
    struct bs_migrate_prepare_ret *ret = ret_;
    struct incoming *in;
    int r;

    if (session->purpose != BS_PURPOSE_MIGRATION)
        return error_set(err, EACCES, "this session was not opened for a migration");
    if (session->incoming)
        return error_set(err, EBUSY, "a migration was prepared in this session already");
    r = end_earlier_attempts(session, args->uuid, err);
    if (r < 0)
        return r;
    in = entry_new(session, args, err);
    if (!in)
        return -err->code;
    log_info("migration %s (%s) in from %s: preparing", in->hex, args->name, session->peer);
    pthread_mutex_lock(&in->lock);
    session->incoming = in;
    r = incoming_prepare(in, args, &ret->cookie, err);
    in->cookie = NULL;
    if (r == 0)
        r = set_state(in, INCOMING_PREPARED, err);
    if (r == 0) {
        atomic_store(&in->ready, true);
    } else {
        struct error fencing = ERROR_INIT;

        log_warning("migration %s (%s) in: refused: %s", in->hex, args->name, err->text);
        if (fence(in, &fencing) < 0)
            log_error("migration %s in: %s", in->hex, fencing.text);
    }
    pthread_mutex_unlock(&in->lock);
    return r;
}

int incoming_resolve(struct peer_session *session, const char *endpoint, char **ret_path,
                     struct error *err)
{
    struct incoming *in = session->incoming;
    const char *path = NULL;

    if (in && atomic_load(&in->ready) && strcmp(endpoint, "migration") == 0)
        path = in->migration_socket;
    else if (in && atomic_load(&in->ready) && strncmp(endpoint, "nbd/", 4) == 0)
        path = in->nbd_socket;
    if (!path)
        return error_set(err, ENOENT, "no migration was prepared that has an endpoint '%s'",
                         endpoint);
    *ret_path = strdup(path);
    return *ret_path ? 0 : error_set(err, ENOMEM, "no memory to reach '%s'", endpoint);
}

/* ---- Finish ---------------------------------------------------------------------------------- */

/* QEMU has everything and lets go of the disks' exports: from here on the guest can be ours. */
static int arrive(struct qmp *qmp, struct error *err)
{
    struct qmp_wait arrival = qmp_wait_ms(ARRIVE_TIMEOUT_MS);
    struct qmp_wait stopping = qmp_wait_ms(ARRIVE_TIMEOUT_MS);
    int r = migration_wait(qmp, MIGRATION_COMPLETED, NULL, &arrival, err);

    if (r == 0)
        r = block_exports_stop(qmp, &stopping, err);
    return r;
}

/* Runs the guest here.  Returns 0, or a negative errno with ERR; *RET_MAY_RUN tells whether it can
 * have run: then nobody else may run it. */
static int resume(struct incoming *in, struct qmp *qmp, bool *ret_may_run, struct error *err)
{
    struct qmp_wait wait = qmp_wait_ms(RESUME_TIMEOUT_MS);
    int r = set_state(in, INCOMING_MINE, err);

    *ret_may_run = false;
    if (r == 0 && in->running) {
        r = migration_resume_here(qmp, &wait, err);
        /* -EPERM: nothing was sent; -EREMOTEIO: QEMU refused before any vCPU ran. */
        *ret_may_run = r < 0 && r != -EPERM && r != -EREMOTEIO;
    }
    return r == 0 ? set_state(in, INCOMING_RUNNING, err) : r;
}

static void finish_failed(struct incoming *in, bool may_run, const struct error *why,
                          struct bs_migrate_finish_ret *ret)
{
    struct error fencing = ERROR_INIT;

    log_error("migration %s (%s) in: %s", in->hex, domain_name(in->domain), why->text);
    if (may_run) {
        /* Stays MINE: its QEMU is there, or is gone after it may have run.  The domain is the
         * operator's to look at. */
        ret->owner = BS_OWNER_LOST;
        if (domain_finish_incoming(in->domain, in->running, &fencing) < 0)
            log_error("migration %s in: %s", in->hex, fencing.text);
        remove_sockets(in);
    } else if (fence(in, &fencing) < 0) {
        log_error("migration %s in: %s", in->hex, fencing.text);
        ret->owner = BS_OWNER_UNKNOWN;
    } else {
        ret->owner = BS_OWNER_NOT_MINE;
    }
    free(ret->reason);
    ret->reason = strdup(why->text);
}

static void finish(struct incoming *in, struct bs_migrate_finish_ret *ret)
{
    struct error why = ERROR_INIT;
    struct qmp *qmp = domain_qmp(in->domain, &why);
    bool may_run = false;
    uint64_t resumed;
    int r = qmp ? arrive(qmp, &why) : -why.code;

    if (r == 0)
        r = resume(in, qmp, &may_run, &why);
    if (r < 0) {
        finish_failed(in, may_run, &why, ret);
        return;
    }
    resumed = loop_clock();
    if (domain_finish_incoming(in->domain, in->running, &why) < 0)
        log_error("migration %s (%s) in: %s", in->hex, domain_name(in->domain), why.text);
    remove_sockets(in);
    ret->owner = BS_OWNER_MINE;
    ret->resumed_us = (loop_clock() - resumed) / 1000;
}

/* The migration ID, if SESSION's peer prepared it in this session. */
static struct incoming *entry_of(struct peer_session *session, const void *id)
{
    struct incoming *in = session->incoming;

    return in && memcmp(in->id, id, BS_ID_SIZE) == 0 ? in : NULL;
}

int incoming_handle_finish(void *opaque, const void *args_, void *ret_, struct error *err)
{
    const struct bs_migrate_finish_args *args = args_;
    struct bs_migrate_finish_ret *ret = ret_;
    struct incoming *in = entry_of(opaque, args->id);
    const struct error closing = {ECANCELED, "bistreamd is stopping, or the session has ended"};

    ret->owner = BS_OWNER_UNKNOWN;
    ret->reason = strdup("");
    if (!in)
        return ret->reason ? 0 : error_set(err, ENOMEM, "no memory for an answer");
    atomic_store(&in->arriving,
                 true); /* before looking at closing: peer_session.c does the reverse */
    pthread_mutex_lock(&in->lock);
    switch (in->state) {
    case INCOMING_PREPARED:
        if (atomic_load(&in->closing)) /* nobody will hear the answer: it must not be "mine" */
            finish_failed(in, false, &closing, ret);
        else
            finish(in, ret);
        break;
    case INCOMING_RUNNING:
        ret->owner = BS_OWNER_MINE;
        break;
    case INCOMING_NOT_MINE:
        ret->owner = BS_OWNER_NOT_MINE;
        break;
    case INCOMING_MINE: /* it may have run, and nobody could find out */
        ret->owner = BS_OWNER_LOST;
        break;
    case INCOMING_PREPARING: /* never seen: calls of a session run one after the other */
        break;
    }
    pthread_mutex_unlock(&in->lock);
    return ret->reason ? 0 : error_set(err, ENOMEM, "no memory for an answer");
}

/* ---- Settle and the end of the session ------------------------------------------------------ */

static void settle_theirs(struct incoming *in)
{
    for (size_t i = 0; i < in->volume_count; i++) {
        struct error err = ERROR_INIT;

        if (volume_settle(&in->volumes[i], &err) < 0)
            log_warning("migration %s in: %s", in->hex, err.text);
    }
}

int incoming_handle_settle(void *opaque, const void *args_, void *ret, struct error *err)
{
    const struct bs_migrate_settle_args *args = args_;
    struct incoming *in = entry_of(opaque, args->id);
    int r = 0;

    (void)ret;
    if (args->settle != BS_SETTLE_OURS && args->settle != BS_SETTLE_THEIRS)
        return error_set(err, EINVAL, "a migration can't be settled as %u", args->settle);
    if (!in)
        return 0;
    pthread_mutex_lock(&in->lock);
    if (in->state == INCOMING_PREPARED)
        r = fence(in, err);
    else if (in->state == INCOMING_RUNNING && args->settle == BS_SETTLE_THEIRS)
        settle_theirs(in);
    else if (in->state == INCOMING_RUNNING || in->state == INCOMING_MINE)
        r = error_set(err, EBUSY, "the guest is here since migration %s; both sides claim it",
                      in->hex);
    pthread_mutex_unlock(&in->lock);
    return r;
}

bool incoming_is_arriving(struct peer_session *session)
{
    struct incoming *in = session->incoming;

    return in && atomic_load(&in->arriving);
}

void incoming_session_closing(struct peer_session *session)
{
    struct incoming *in = session->incoming;

    if (in)
        atomic_store(&in->closing, true);
}

void incoming_session_ended(struct peer_session *session)
{
    struct incoming *in = session->incoming;
    struct error err = ERROR_INIT;

    if (!in)
        return;
    pthread_mutex_lock(&in->lock);
    if (in->state == INCOMING_PREPARED || in->state == INCOMING_PREPARING) {
        log_info("migration %s in: its session ended before Finish", in->hex);
        if (fence(in, &err) < 0)
            log_error("migration %s in: %s", in->hex, err.text);
    }
    pthread_mutex_unlock(&in->lock);
    session->incoming = NULL;
    entry_unref(in);
}
