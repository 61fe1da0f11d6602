/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Migrations that come in: the table of them, and the calls about them.
 *
 * An entry is known by its migration id and belongs to the peer that prepared it; it outlives its
 * session and this daemon (incoming_journal.c), until the source has said that it is settled.  One
 * lock per id orders Prepare, Finish, Status, Settle and the end of the session, so that none meets
 * another half way; what each of them does in which state stands in ownership.c's table.
 */
#include "config.h"

#include "daemon/incoming.h"
#include "daemon/incoming_private.h"
#include "daemon/journal.h"
#include "daemon/peer_session.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- the table ------------------------------------------------------------------------------- */

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
    struct incoming *in;

    if (!all)
        return;
    while ((in = LIST_FIRST(&all->list))) { /* their journals stay */
        LIST_REMOVE(in, link);
        incoming_free_entry(in);
    }
    pthread_mutex_destroy(&all->lock);
    free(all);
}

struct incoming *incoming_new_entry(struct daemon *daemon)
{
    struct incoming *in = calloc(1, sizeof *in);

    if (!in)
        return NULL;
    in->daemon = daemon;
    pthread_mutex_init(&in->lock, NULL);
    return in;
}

void incoming_free_entry(struct incoming *in)
{
    incoming_direct_shut(in);
    for (size_t i = 0; i < in->volume_count; i++)
        volume_clear(&in->volumes[i]);
    free(in->volumes);
    definition_free(in->definition);
    if (in->domain)
        domain_unref(in->domain);
    free(in->folder);
    free(in->nbd_socket);
    free(in->migration_socket);
    free(in->peer);
    free(in->name);
    pthread_mutex_destroy(&in->lock);
    free(in);
}

/* With a reference of the table's own, which entry_release() gives back for a settled one. */
static int entry_insert(struct incoming *in, struct error *err)
{
    struct incoming_migrations *all = in->daemon->incoming;
    struct incoming *other;
    bool taken = false;

    pthread_mutex_lock(&all->lock);
    LIST_FOREACH(other, &all->list, link)
    {
        taken |= memcmp(other->id, in->id, BS_ID_SIZE) == 0;
    }
    if (!taken) {
        in->references++;
        LIST_INSERT_HEAD(&all->list, in, link);
    }
    pthread_mutex_unlock(&all->lock);
    return taken ? error_set(err, EEXIST, "migration %s is known already", in->hex) : 0;
}

/* The entry that PEER prepared under ID, with a reference and locked; NULL: none. */
static struct incoming *entry_lock(struct incoming_migrations *all, const char *peer,
                                   const void *id)
{
    struct incoming *in;

    pthread_mutex_lock(&all->lock);
    LIST_FOREACH(in, &all->list, link)
    {
        if (memcmp(in->id, id, BS_ID_SIZE) == 0 && strcmp(in->peer, peer) == 0) {
            in->references++;
            break;
        }
    }
    pthread_mutex_unlock(&all->lock);
    if (in)
        pthread_mutex_lock(&in->lock);
    return in;
}

void incoming_unref(struct incoming *in, bool settled)
{
    struct incoming_migrations *all = in->daemon->incoming;
    bool last;

    pthread_mutex_lock(&all->lock);
    if (settled && !in->removed) {
        in->removed = true;
        LIST_REMOVE(in, link);
        in->references--;
    }
    last = --in->references == 0;
    pthread_mutex_unlock(&all->lock);
    if (last)
        incoming_free_entry(in);
}

/* Unlocks, and drops the reference; a settled entry leaves the table. */
static void entry_release(struct incoming *in)
{
    bool settled = in->state == INCOMING_NONE;

    pthread_mutex_unlock(&in->lock);
    incoming_unref(in, settled);
}

/* ---- Prepare --------------------------------------------------------------------------------- */

/* A migration of PEER's guest UUID that is under way, referenced; each is found once. */
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

/* A new attempt for the same guest ends the old ones, whose sessions may not know yet that they are
 * dead. */
static int end_earlier_attempts(struct peer_session *session, const void *uuid, struct error *err)
{
    struct incoming *in;
    int r = 0;

    while (r == 0 && (in = find_earlier(session->daemon->incoming, session->peer, uuid))) {
        pthread_mutex_lock(&in->lock);
        if (incoming_action(in->state, INCOMING_SESSION_LOST) == INCOMING_FENCE)
            r = incoming_fence(in, err);
        entry_release(in);
    }
    return r;
}

static struct incoming *entry_for(struct peer_session *session,
                                  const struct bs_migrate_prepare_args *args, struct error *err)
{
    struct incoming *in = incoming_new_entry(session->daemon);

    if (!in || !(in->peer = strdup(session->peer)) || !(in->name = strdup(args->name))) {
        if (in)
            incoming_free_entry(in);
        error_set(err, ENOMEM, "no memory for a migration");
        return NULL;
    }
    memcpy(in->id, args->id, sizeof in->id);
    memcpy(in->uuid, args->uuid, sizeof in->uuid);
    journal_id_to_text(in->id, in->hex);
    in->running = args->cookie.flags & BS_COOKIE_RUNNING;
    in->in_stream = args->cookie.flags & BS_COOKIE_BLOCK;
    in->persistent = args->cookie.flags & BS_COOKIE_PERSISTENT;
    in->cookie = &args->cookie;
    in->references = 1; /* the session's */
    if (entry_insert(in, err) < 0) {
        incoming_free_entry(in);
        return NULL;
    }
    return in;
}

/* Returns 0 with the entry's lock held; or a negative errno with ERR, and nothing is left. */
static int prepare(struct peer_session *session, const struct bs_migrate_prepare_args *args,
                   const struct bs_migrate_prepare_direct_args *direct, bool offline,
                   struct error *err)
{
    struct error fencing = ERROR_INIT;
    struct incoming *in;
    int r;

    if (session->purpose != BS_PURPOSE_MIGRATION)
        return error_set(err, EACCES, "this session was not opened for a migration");
    if (session->incoming)
        return error_set(err, EBUSY, "a migration was prepared in this session already");
    r = end_earlier_attempts(session, args->uuid, err);
    if (r < 0)
        return r;
    incoming_prune(session->daemon->incoming);
    in = entry_for(session, args, err);
    if (!in)
        return -err->code;
    log_info("migration %s (%s) in from %s: preparing", in->hex, in->name, session->peer);
    pthread_mutex_lock(&in->lock);
    session->incoming = in;
    in->local_address = session->local_address;
    in->offline = offline;
    r = incoming_prepare(in, args, direct, err);
    if (r == 0)
        return 0;
    in->cookie = NULL;
    log_warning("migration %s (%s) in: refused: %s", in->hex, in->name, err->text);
    if (incoming_fence(in, &fencing) < 0)
        log_error("migration %s in: %s", in->hex, fencing.text);
    pthread_mutex_unlock(&in->lock);
    return r;
}

/* Its channels, if any, may come. */
static void prepared(struct incoming *in)
{
    in->cookie = NULL;
    atomic_store(&in->ready, true);
    pthread_mutex_unlock(&in->lock);
}

static int prepare_with_channels(struct peer_session *session,
                                 const struct bs_migrate_prepare_args *args,
                                 struct bs_migrate_prepare_ret *ret, bool offline,
                                 struct error *err)
{
    int r = prepare(session, args, NULL, offline, err);

    if (r < 0)
        return r;
    r = incoming_fill_cookie(session->incoming, &ret->cookie, err);
    prepared(session->incoming);
    return r;
}

int incoming_handle_prepare(void *opaque, const void *args, void *ret, struct error *err)
{
    return prepare_with_channels(opaque, args, ret, false, err);
}

int incoming_handle_prepare_offline(void *opaque, const void *args, void *ret, struct error *err)
{
    return prepare_with_channels(opaque, args, ret, true, err);
}

int incoming_handle_prepare_tunnel(void *opaque, const void *args_, void *ret, struct error *err)
{
    struct peer_session *session = opaque;
    const struct bs_migrate_prepare_tunnel_args *args = args_;
    int r = prepare(session, &args->prepare, NULL, false, err);

    (void)ret;
    if (r == 0)
        prepared(session->incoming);
    return r;
}

int incoming_handle_prepare_direct(void *opaque, const void *args_, void *ret_, struct error *err)
{
    struct peer_session *session = opaque;
    const struct bs_migrate_prepare_direct_args *args = args_;
    struct bs_migrate_prepare_direct_ret *ret = ret_;
    int r = prepare(session, &args->prepare, args, false, err);

    if (r < 0)
        return r;
    ret->migration_port = session->incoming->migration_port;
    ret->nbd_port = session->incoming->nbd_port;
    prepared(session->incoming);
    return 0;
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

/* ---- Finish, Status, Settle -------------------------------------------------------------------- */

/* Does what the table says.  Returns 0, or a negative errno with ERR. */
static int act(struct incoming *in, enum incoming_message message,
               struct bs_migrate_finish_ret *ret, struct error *err)
{
    int r;

    switch (incoming_action(in->state, message)) {
    case INCOMING_IGNORE:
    case INCOMING_SAY_UNKNOWN:
        return 0;
    case INCOMING_DECIDE:
        incoming_decide(in, ret);
        return 0;
    case INCOMING_SAY_MINE:
        incoming_say_mine(in, ret);
        return 0;
    case INCOMING_TAKE_UP:
        incoming_take_up(in, ret);
        if (message == INCOMING_SETTLE_THEIRS && in->state == INCOMING_RUNNING)
            return incoming_settled(in, true, err);
        return 0;
    case INCOMING_SAY_LOST:
        ret->owner = BS_OWNER_LOST;
        return 0;
    case INCOMING_SAY_NOT_MINE:
        ret->owner = BS_OWNER_NOT_MINE;
        return 0;
    case INCOMING_FENCE:
        incoming_explain(in, ret);
        r = incoming_fence(in, err);
        if (r == 0)
            ret->owner = BS_OWNER_NOT_MINE;
        return r;
    case INCOMING_FENCE_REMOVE:
        r = incoming_fence(in, err);
        if (r == 0 && atomic_load(&in->kept)) /* known until the guest comes again */
            return 0;
        if (r == 0 && in->volume_count)
            r = error_set(err, EIO, "%s can't be deleted; the log says why", in->volumes[0].path);
        if (r == 0 && in->state != INCOMING_NOT_MINE) /* told again when it can be */
            r = error_set(err, EIO, "the journal can't be written; the log says why");
        return r == 0 ? incoming_settled(in, false, err) : r;
    case INCOMING_REMOVE:
        return incoming_settled(in, true, err);
    case INCOMING_CLEAN:
        return incoming_settled(in, false, err);
    case INCOMING_CONFLICT:
        return error_set(err, EBUSY, "the guest is here since migration %s; both sides claim it",
                         in->hex);
    }
    return 0;
}

static int handle_question(struct peer_session *session, const void *id, unsigned wait_ms,
                           enum incoming_message message, struct bs_migrate_finish_ret *ret,
                           struct error *err)
{
    struct incoming *in;
    int r;

    ret->owner = BS_OWNER_UNKNOWN;
    ret->reason = strdup("");
    if (!ret->reason)
        return error_set(err, ENOMEM, "no memory for an answer");
    in = entry_lock(session->daemon->incoming, session->peer, id);
    if (!in)
        return 0;
    in->wait_ms = wait_ms;
    r = act(in, message, ret, err);
    entry_release(in);
    return r;
}

int incoming_handle_finish(void *opaque, const void *args_, void *ret_, struct error *err)
{
    struct peer_session *session = opaque;
    const struct bs_migrate_finish_args *args = args_;
    struct incoming *in = session->incoming;

    if (in) /* before looking at closing: peer_session.c does the reverse */
        atomic_store(&in->arriving, true);
    return handle_question(session, args->id, args->wait_ms, INCOMING_FINISH, ret_, err);
}

int incoming_handle_status(void *opaque, const void *args_, void *ret_, struct error *err)
{
    const struct bs_migrate_status_args *args = args_;

    return handle_question(opaque, args->id, 0, INCOMING_STATUS, ret_, err);
}

int incoming_handle_settle(void *opaque, const void *args_, void *ret, struct error *err)
{
    struct peer_session *session = opaque;
    const struct bs_migrate_settle_args *args = args_;
    struct bs_migrate_finish_ret answer = {.reason = NULL};
    struct incoming *in;
    int r;

    (void)ret;
    if (args->settle < BS_SETTLE_OURS || args->settle > BS_SETTLE_OURS_KEEP)
        return error_set(err, EINVAL, "a migration can't be settled as %u", args->settle);
    in = entry_lock(session->daemon->incoming, session->peer, args->id);
    if (!in)
        return 0;
    in->keep = in->keep && args->settle == BS_SETTLE_OURS_KEEP;
    r = act(in, args->settle == BS_SETTLE_THEIRS ? INCOMING_SETTLE_THEIRS : INCOMING_SETTLE_OURS,
            &answer, err);
    entry_release(in);
    free(answer.reason);
    return r;
}

/* ---- sessions and restarts --------------------------------------------------------------------- */

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
    struct bs_migrate_finish_ret answer = {.reason = NULL};
    struct incoming *in = session->incoming;
    struct error err = ERROR_INIT;

    if (!in)
        return;
    session->incoming = NULL;
    pthread_mutex_lock(&in->lock);
    if (act(in, INCOMING_SESSION_LOST, &answer, &err) < 0)
        log_error("migration %s in: %s", in->hex, err.text);
    free(answer.reason);
    entry_release(in);
}

static void recover(void *opaque, const char *hex)
{
    struct bs_migrate_finish_ret answer = {.reason = NULL};
    struct daemon *daemon = opaque;
    struct error err = ERROR_INIT;
    struct incoming *in = incoming_journal_read(daemon, hex, &err);

    if (!in) {
        log_error("migration %s in: its journal can't be used: %s", hex, err.text);
        return;
    }
    log_info("migration %s (%s) in from %s: known from before as '%s'", hex, in->name, in->peer,
             incoming_state_name(in->state));
    if (entry_insert(in, &err) < 0) {
        incoming_free_entry(in);
        return;
    }
    if (act(in, INCOMING_RESTART, &answer, &err) < 0)
        log_error("migration %s in: %s", hex, err.text);
    free(answer.reason);
}

int incoming_recover(struct daemon *daemon, struct error *err)
{
    int r = journal_each(daemon->journal, JOURNAL_DESTINATION, recover, daemon, err);

    incoming_prune(daemon->incoming);
    return r;
}
