/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The acceptor's side of a session: see peer_session.h.
 *
 * Each session has a keeper: a thread that waits for its end and then clears up in a straight line:
 * joins the pump's threads (a handler that runs is waited for), has undone what was prepared and
 * never finished, forgets the session.  That takes as long as a QEMU takes to die, and holds up
 * neither the main loop nor other sessions.
 *
 * Of a session that could have been resumed its id and how it ended are kept for a while, so that a peer
 * that comes back too late hears that it is over.
 */
#include "config.h"

#include "daemon/peer_session.h"
#include "daemon/access.h"
#include "daemon/incoming.h"
#include "daemon/services.h"
#include "common/log.h"
#include "io/net.h"
#include "io/proof.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

enum {
    PING_TIMEOUTS = 3,       /* PINGs without an answer after which the link is dead */
    DIAL_TIMEOUT_MS = 10000, /* that a peer's last attempt within the grace time may take */
    OVER_MAX = 256,          /* sessions that are remembered */
    STOP_TIMEOUT_MS = 2000,  /* for the peer's answer to CLOSE when the daemon stops */
    ARRIVAL_TIMEOUT_S = 30,  /* for Finish and Settle of a guest that arrives when it stops */
};

/* By what a session is resumed. */
struct key {
    uint8_t id[BS_ID_SIZE];
    uint8_t secret[BS_SECRET_SIZE];
    uint8_t fingerprint[TLS_FINGERPRINT_SIZE]; /* of the certificate that opened it */
};

/* A session that is over. */
struct over {
    struct key key;
    uint64_t code;  /* BS_CLOSE_* */
    uint64_t until; /* loop_clock(): it is remembered */
    TAILQ_ENTRY(over) link;
};

struct session {
    struct peer_session public; /* first: handlers get this */
    struct key key;
    uint64_t grace; /* ns; 0: it ends with its link */
    bool leaving;   /* its pump is to be freed; under sessions->lock */
    struct peer_sessions *sessions;
    struct pump *pump;
    bool ended; /* under sessions->lock, with why */
    struct error why;
    LIST_ENTRY(session) link; /* under sessions->lock */
};

struct peer_sessions {
    struct daemon *daemon;
    pthread_mutex_t lock; /* nothing is called under it but pump_resume(), which only posts */
    pthread_cond_t changed;
    LIST_HEAD(, session) list;
    TAILQ_HEAD(, over) over; /* oldest first */
    unsigned over_count;
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
    OPENSSL_cleanse(&session->key, sizeof session->key);
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

static void forget_oldest(struct peer_sessions *sessions)
{
    struct over *over = TAILQ_FIRST(&sessions->over);

    TAILQ_REMOVE(&sessions->over, over, link);
    sessions->over_count--;
    OPENSSL_cleanse(&over->key, sizeof over->key);
    free(over);
}

/* BS_CLOSE_* of one that is over, or will be at once. */
static uint64_t over_code(const struct session *session)
{
    return session->ended && session->why.code == 0 ? BS_CLOSE_DONE : BS_CLOSE_CANCELLED;
}

/* Under the lock.  Without memory the peer hears that no such session is known, which is as final. */
static void remember(const struct session *session)
{
    struct peer_sessions *sessions = session->sessions;
    struct over *over = session->grace > 0 ? calloc(1, sizeof *over) : NULL;

    if (!over)
        return;
    over->key = session->key;
    over->code = over_code(session);
    over->until = loop_clock() + session->grace;
    TAILQ_INSERT_TAIL(&sessions->over, over, link);
    if (++sessions->over_count > OVER_MAX)
        forget_oldest(sessions);
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
    session->leaving = true;
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
    remember(session);
    free_session(session);
    pthread_cond_broadcast(&sessions->changed);
    pthread_mutex_unlock(&sessions->lock);
    return NULL;
}

/* ---- the sessions --------------------------------------------------------------------------- */

/* How long to wait here: what the peer announced, and for what its last attempt may take. */
static uint64_t grace_of(const struct config *config, const struct peer_session_open *open)
{
    if (open->tunnel || open->grace_ms == 0 || config->grace_ms == 0)
        return 0;
    return (open->grace_ms + (uint64_t)PING_TIMEOUTS * config->ping_ms + DIAL_TIMEOUT_MS) * LOOP_MS;
}

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
    memcpy(session->key.id, open->id, sizeof open->id);
    memcpy(session->key.secret, open->secret, sizeof open->secret);
    session->grace = grace_of(sessions->daemon->config, open);
    if (session->grace > 0 && tls_peer_fingerprint(link, session->key.fingerprint) < 0)
        session->grace = 0;
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
        .grace = session->grace,
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

/* ---- resuming ------------------------------------------------------------------------------- */

/* Whether it is the peer that opened the session of KEY. */
static int check_key(const struct key *key, const struct tls *link,
                     const struct bs_bistream_resume_args *args, struct error *err)
{
    uint8_t fingerprint[TLS_FINGERPRINT_SIZE], proof[BS_PROOF_SIZE];

    if (tls_peer_fingerprint(link, fingerprint) < 0 ||
        memcmp(fingerprint, key->fingerprint, sizeof fingerprint) != 0)
        return error_set(err, EACCES,
                         "the session was opened with another certificate than that of \"%s\"",
                         tls_peer_subject(link));
    if (proof_make(link, PROOF_CALL, key->secret, key->id, args->attempt, proof, err) < 0)
        return -err->code;
    if (!proof_equal(proof, args->proof))
        return error_set(err, EKEYREJECTED, "the proof of knowing the session's secret is wrong");
    return 0;
}

/* Under the lock. */
static const struct key *find_key(struct peer_sessions *sessions, const char *id, bool *ret_over,
                                  uint64_t *ret_code)
{
    const struct session *session;
    const struct over *over;

    LIST_FOREACH(session, &sessions->list, link)
    {
        if (session->grace == 0 || memcmp(session->key.id, id, BS_ID_SIZE) != 0)
            continue;
        *ret_over = session->leaving;
        *ret_code = over_code(session);
        return &session->key;
    }
    *ret_over = true;
    while ((over = TAILQ_FIRST(&sessions->over)) && over->until < loop_clock())
        forget_oldest(sessions);
    TAILQ_FOREACH(over, &sessions->over, link)
    {
        *ret_code = over->code;
        if (memcmp(over->key.id, id, BS_ID_SIZE) == 0)
            return &over->key;
    }
    return NULL;
}

int peer_sessions_find(struct peer_sessions *sessions, const struct tls *link,
                       const struct bs_bistream_resume_args *args,
                       struct bs_bistream_resume_ret *ret, struct error *err)
{
    const struct key *found;
    struct key key;
    bool over;
    uint64_t code = 0;
    int r;

    pthread_mutex_lock(&sessions->lock);
    found = find_key(sessions, args->session, &over, &code);
    if (found)
        key = *found;
    pthread_mutex_unlock(&sessions->lock);
    if (!found)
        return error_set(err, ENOENT, "%s knows no such session that could be resumed",
                         sessions->daemon->hostname);
    r = check_key(&key, link, args, err);
    if (r == 0)
        r = proof_make(link, PROOF_REPLY, key.secret, key.id, args->attempt, (uint8_t *)ret->proof,
                       err);
    if (r < 0)
        log_warning("session %02x%02x%02x: attempt %u of %s to resume it is refused: %s", key.id[0],
                    key.id[1], key.id[2], args->attempt, tls_peer(link), err->text);
    OPENSSL_cleanse(&key, sizeof key);
    ret->outcome = BS_RESUME_CLOSED;
    ret->close_code = code;
    return r < 0 ? r : !over;
}

void peer_session_resume(struct peer_sessions *sessions, const uint8_t id[BS_ID_SIZE],
                         struct pump_resume *resume)
{
    struct session *session;

    pthread_mutex_lock(&sessions->lock);
    LIST_FOREACH(session, &sessions->list, link)
    {
        if (!session->leaving && memcmp(session->key.id, id, BS_ID_SIZE) == 0)
            break;
    }
    if (session)
        pump_resume(session->pump, resume); /* only posts it; the pump can't be freed meanwhile */
    else
        tls_free(resume->link);
    pthread_mutex_unlock(&sessions->lock);
}

/* ---- all of them ---------------------------------------------------------------------------- */

struct peer_sessions *peer_sessions_new(struct daemon *daemon)
{
    struct peer_sessions *sessions = calloc(1, sizeof *sessions);

    if (!sessions)
        return NULL;
    sessions->daemon = daemon;
    LIST_INIT(&sessions->list);
    TAILQ_INIT(&sessions->over);
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
    while (!TAILQ_EMPTY(&sessions->over))
        forget_oldest(sessions);
    pthread_cond_destroy(&sessions->changed);
    pthread_mutex_destroy(&sessions->lock);
    free(sessions);
}
