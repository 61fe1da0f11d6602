/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The acceptor's side of a session: see peer_session.h.
 *
 * Each session has a keeper: a thread that waits for its end and then clears up in a straight line:
 * joins the pump's threads (a handler that runs is waited for), has undone what was prepared and
 * never finished, forgets the session.  That takes as long as a QEMU takes to die, and holds up
 * neither the main loop nor other sessions.
 */
#include "config.h"

#include "daemon/peer_session.h"
#include "daemon/access.h"
#include "daemon/incoming.h"
#include "daemon/services.h"
#include "common/log.h"
#include "io/net.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

enum {
    PING_TIMEOUTS = 3,      /* PINGs without an answer after which the link is dead */
    STOP_TIMEOUT_MS = 2000, /* for the peer's answer to CLOSE when the daemon stops */
    ARRIVAL_TIMEOUT_S = 30, /* for Finish and Settle of a guest that arrives when it stops */
};

struct session {
    struct peer_session public; /* first: handlers get this */
    struct peer_sessions *sessions;
    struct pump *pump;
    bool ended; /* under sessions->lock, with why */
    struct error why;
    LIST_ENTRY(session) link; /* under sessions->lock */
};

struct peer_sessions {
    struct daemon *daemon;
    pthread_mutex_t lock; /* nothing is called under it */
    pthread_cond_t changed;
    LIST_HEAD(, session) list;
    bool stopping;
};

static const char unix_prefix[] = "unix:";

/* ---- the pump's questions, on its thread ---------------------------------------------------- */

static int resolve_forward(const struct session *session, const char *endpoint, char **ret_path,
                           struct error *err)
{
    const struct daemon *daemon = session->public.daemon;
    const char *path = endpoint + sizeof unix_prefix - 1;

    if (strncmp(endpoint, unix_prefix, sizeof unix_prefix - 1) != 0)
        return error_set(err, ENOENT, "there is no endpoint \"%s\" in a forward", endpoint);
    if (!access_forward(daemon->config->forward_allow, path))
        return error_set(err, EACCES,
                         "%s lets no forward reach %s: have it added to forward_allow in the "
                         "configuration there",
                         daemon->hostname, path);
    *ret_path = strdup(path);
    return *ret_path ? 0 : error_set(err, ENOMEM, "memory is short");
}

static int resolve(void *opaque, const char *endpoint, char **ret_path, struct error *err)
{
    struct session *session = opaque;

    switch (session->public.purpose) {
    case BS_PURPOSE_FORWARD:
        return resolve_forward(session, endpoint, ret_path, err);
    case BS_PURPOSE_MIGRATION:
        return incoming_resolve(&session->public, endpoint, ret_path, err);
    default:
        return error_set(err, ENOENT, "there is no endpoint \"%s\" in this session", endpoint);
    }
}

static void on_ended(void *opaque, const struct error *why)
{
    struct session *session = opaque;
    struct peer_sessions *sessions = session->sessions;

    pthread_mutex_lock(&sessions->lock);
    incoming_session_closing(&session->public);
    session->ended = true;
    session->why = *why;
    pthread_cond_broadcast(&sessions->changed);
    pthread_mutex_unlock(&sessions->lock);
}

/* ---- the keeper ----------------------------------------------------------------------------- */

static void free_session(struct session *session)
{
    free(session->public.peer);
    free(session->public.name);
    free(session);
}

/* The daemon stops while a guest arrives: the source ends the session as soon as it knows that. */
static void await_end(struct session *session)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ARRIVAL_TIMEOUT_S;
    while (!session->ended && pthread_cond_timedwait(&session->sessions->changed,
                                                     &session->sessions->lock, &until) == 0)
        ;
}

static void *keep(void *opaque)
{
    struct session *session = opaque;
    struct peer_sessions *sessions = session->sessions;
    bool ended;

    pthread_mutex_lock(&sessions->lock);
    while (!session->ended && !sessions->stopping)
        pthread_cond_wait(&sessions->changed, &sessions->lock);
    incoming_session_closing(&session->public); /* no Finish begins any more ... */
    if (incoming_is_arriving(&session->public))
        await_end(session); /* ... and one that has begun is heard */
    ended = session->ended;
    pthread_mutex_unlock(&sessions->lock);

    if (!ended)
        pump_close(session->pump, BS_CLOSE_CANCELLED, "bistreamd is stopping", STOP_TIMEOUT_MS);
    incoming_session_closing(&session->public);
    pump_free(session->pump);
    incoming_session_ended(&session->public);
    if (session->why.code && session->public.purpose != BS_PURPOSE_PROBE) /* that one just goes */
        log_warning("session %s: ended: %s", session->public.name, session->why.text);
    else
        log_info("session %s: ended", session->public.name);

    tls_thread_end();
    pthread_mutex_lock(&sessions->lock);
    LIST_REMOVE(session, link);
    free_session(session);
    pthread_cond_broadcast(&sessions->changed);
    pthread_mutex_unlock(&sessions->lock);
    return NULL;
}

/* ---- the sessions --------------------------------------------------------------------------- */

static struct session *new_session(struct peer_sessions *sessions, const struct tls *link,
                                   const struct peer_session_open *open)
{
    struct session *session = calloc(1, sizeof *session);

    if (!session)
        return NULL;
    session->sessions = sessions;
    session->public.daemon = sessions->daemon;
    session->public.purpose = open->purpose;
    net_local_address(tls_fd(link), session->public.local_address);
    memcpy(session->public.id, open->id, sizeof open->id);
    session->public.peer = strdup(open->peer);
    if (asprintf(&session->public.name, "%02x%02x%02x", open->id[0], open->id[1], open->id[2]) < 0)
        session->public.name = NULL;
    if (session->public.peer && session->public.name)
        return session;
    free_session(session);
    return NULL;
}

/* Starts pump and keeper.  LINK is taken over also on failure. */
static int start_session(struct session *session, struct tls *link,
                         const struct peer_session_open *open, struct error *err)
{
    const struct config *config = session->public.daemon->config;
    const uint64_t ping = config->ping_ms * LOOP_MS;
    const struct pump_config pump_config = {
        .name = session->public.name,
        .tunnel = open->tunnel,
        .serial = open->serial,
        .local = open->local,
        .remote = open->remote,
        .memory = config->session_memory,
        .ping_interval = ping,
        .ping_timeout = PING_TIMEOUTS * ping,
        .early = open->early,
        .early_length = open->early_length,
    };
    const struct pump_handlers handlers = {
        .resolve = resolve,
        .program = open->purpose == BS_PURPOSE_MIGRATION ? services_program(config) : NULL,
        .ended = on_ended,
        .opaque = session,
    };
    pthread_t thread;
    int r;

    session->pump = pump_start(link, &pump_config, &handlers, err);
    if (!session->pump)
        return -err->code;
    r = pthread_create(&thread, NULL, keep, session);
    if (r != 0) {
        pump_free(session->pump);
        return error_set_errno(err, r, "can't start the thread of a session");
    }
    pthread_detach(thread);
    return 0;
}

int peer_session_start(struct peer_sessions *sessions, struct tls *link,
                       const struct peer_session_open *open, struct error *err)
{
    struct session *session = new_session(sessions, link, open);
    int r;

    if (!session) {
        tls_free(link);
        return error_set(err, ENOMEM, "memory is short");
    }
    pthread_mutex_lock(&sessions->lock);
    LIST_INSERT_HEAD(&sessions->list, session, link);
    pthread_mutex_unlock(&sessions->lock);
    log_info("session %s: opened by %s for %s%s", session->public.name, session->public.peer,
             open->tunnel ? "the calls and the stream of " : "",
             open->purpose == BS_PURPOSE_MIGRATION ? "a migration"
             : open->purpose == BS_PURPOSE_FORWARD ? "a forward"
                                                   : "a probe");
    r = start_session(session, link, open, err);
    if (r < 0) {
        pthread_mutex_lock(&sessions->lock);
        LIST_REMOVE(session, link);
        pthread_mutex_unlock(&sessions->lock);
        free_session(session);
    }
    return r;
}

int peer_sessions_check(struct peer_sessions *sessions, const char *peer, struct error *err)
{
    const struct session *session;
    unsigned all = 0, its = 0;

    pthread_mutex_lock(&sessions->lock);
    LIST_FOREACH(session, &sessions->list, link)
    {
        all++;
        its += strcmp(session->public.peer, peer) == 0;
    }
    pthread_mutex_unlock(&sessions->lock);
    if (its >= BS_SESSIONS_PEER_MAX)
        return error_set(err, EBUSY, "%u sessions of %s are open at %s already; let some end first",
                         its, peer, sessions->daemon->hostname);
    if (all >= BS_SESSIONS_MAX)
        return error_set(err, EBUSY, "%u sessions are open at %s already; try again later", all,
                         sessions->daemon->hostname);
    return 0;
}

struct peer_sessions *peer_sessions_new(struct daemon *daemon)
{
    struct peer_sessions *sessions = calloc(1, sizeof *sessions);

    if (!sessions)
        return NULL;
    sessions->daemon = daemon;
    LIST_INIT(&sessions->list);
    pthread_mutex_init(&sessions->lock, NULL);
    pthread_cond_init(&sessions->changed, NULL);
    return sessions;
}

void peer_sessions_stop(struct peer_sessions *sessions)
{
    pthread_mutex_lock(&sessions->lock);
    sessions->stopping = true;
    pthread_cond_broadcast(&sessions->changed);
    while (!LIST_EMPTY(&sessions->list))
        pthread_cond_wait(&sessions->changed, &sessions->lock);
    pthread_mutex_unlock(&sessions->lock);
}

void peer_sessions_free(struct peer_sessions *sessions)
{
    if (!sessions)
        return;
    pthread_cond_destroy(&sessions->changed);
    pthread_mutex_destroy(&sessions->lock);
    free(sessions);
}
