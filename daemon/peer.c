/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Peers that come in: see peer.h.
 *
 * Everything here happens in the main loop and blocks nowhere: shake hands; look whether one of the
 * certificate's names may come in; greet with the byte 1; answer calls (HOST_INFO any number of
 * times, keepalive) until BISTREAM_OPEN, whose reply is the last thing that is written here: the
 * link then belongs to a session with threads of its own.  BISTREAM_RESUME hands it to one that there is, which answers.  So it does from the first call about a
 * migration on, with which a peer from before BISTREAM_OPEN begins, and which the session answers.  A peer that may not come in gets an
 * error for its first call, which says what its operator has to ask for, and is then left.
 *
 * Links are few and have a time to live in each state, looked after by one timer.  When there are
 * too many, the oldest that is not an allowed peer's has to go: strangers can't keep peers out.
 */
#include "config.h"

#include "daemon/peer.h"
#include "daemon/access.h"
#include "rpc/inbox.h"
#include "daemon/entrance.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "rpc/error.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

enum {
    LINKS_MAX = 128,     /* without a session: they last a moment each */
    READ_SIZE = 16384,   /* one TLS record */
    READS_MAX = 16,      /* in one round of the loop, which others wait for */
    UNSENT_MAX = 131072, /* of answers to a peer that does not read them */
};
#define SWEEP LOOP_SECOND

enum state {
    SHAKING,   /* nothing is known of the other side */
    WELCOME,   /* an allowed peer: may call */
    UNWELCOME, /* authenticated but not allowed: its first call gets an error */
    LEAVING,   /* what was written is sent, then the link ends */
};
#define STATES (LEAVING + 1)

static const struct {
    const char *name;
    unsigned next;     /* states that may follow, 1 << state */
    uint64_t lifetime; /* ns without a call */
} states[] = {
    [SHAKING] = {"shaking hands", 1 << WELCOME | 1 << UNWELCOME, 10 * LOOP_SECOND},
    [WELCOME] = {"welcome", 1 << WELCOME, 60 * LOOP_SECOND},
    [UNWELCOME] = {"not allowed", 1 << LEAVING, 10 * LOOP_SECOND},
    [LEAVING] = {"leaving", 0, 5 * LOOP_SECOND},
};
static_assert(sizeof states / sizeof states[0] == STATES, "a row for each state");

struct connection {
    struct peer_link link; /* first: handlers get this */
    struct peers *peers;
    enum state state;
    uint64_t deadline;
    char address[INET6_ADDRSTRLEN + 16]; /* for the log */
    struct tls *tls;
    struct loop_fd *watch;
    struct rpc_inbox inbox;
    TAILQ_ENTRY(connection) entry;
};

struct peers {
    struct daemon *daemon;
    const struct rpc_program *program;
    struct entrance *entrance;
    struct loop_timer *sweep;
    struct peer_sessions *sessions;
    TAILQ_HEAD(, connection) connections; /* in the order in which they came */
    unsigned count;
};

/* ---- one link -------------------------------------------------------------------------------- */

static void set_state(struct connection *connection, enum state state)
{
    if (!(states[connection->state].next & 1U << state)) {
        log_error("peer %s: can't go from \"%s\" to \"%s\"", connection->address,
                  states[connection->state].name, states[state].name);
        state = LEAVING;
    }
    connection->state = state;
    connection->deadline = loop_now(connection->peers->daemon->loop) + states[state].lifetime;
}

static void drop(struct connection *connection)
{
    struct peers *peers = connection->peers;

    TAILQ_REMOVE(&peers->connections, connection, entry);
    if (--peers->count == 0)
        loop_timer_set(peers->sweep, LOOP_NEVER);
    loop_fd_remove(connection->watch);
    tls_free(connection->tls);
    xdr_free((xdrproc_t)xdr_bs_resume_state, (char *)&connection->link.resume.state);
    rpc_inbox_clear(&connection->inbox);
    free(connection);
}

/* Hands have been shaken.  Returns 0, or a negative errno with ERR. */
static int greet(struct connection *connection, struct error *err)
{
    const struct config *config = connection->peers->daemon->config;
    const char *subject = tls_peer_subject(connection->tls);
    static const uint8_t greeting = 1;
    ssize_t n;

    connection->link.peer = access_peer(config->allowed_peers, tls_peer_names(connection->tls));
    if (connection->link.peer) {
        log_info("peer %s: welcome as %s (%s)", connection->address, connection->link.peer,
                 subject);
        set_state(connection, WELCOME);
    } else {
        log_warning("peer %s: refused: no name of the certificate %s matches allowed_peers",
                    connection->address, subject);
        set_state(connection, UNWELCOME);
    }
    n = tls_write(connection->tls, &greeting, 1, err);
    return n < 0 ? (int)n : 0;
}

/* The call that begins a tunnel, and LENGTH bytes of DATA that came behind it, as they came. */
static uint8_t *put_call_back(const struct rpc_message *call, const uint8_t *data, size_t length,
                              size_t *ret_length)
{
    uint8_t *all = malloc(RPC_HEAD_SIZE + call->length + length);

    if (!all)
        return NULL;
    rpc_head_encode(all, &call->header, call->length);
    if (call->length)
        memcpy(all + RPC_HEAD_SIZE, call->payload, call->length);
    memcpy(all + RPC_HEAD_SIZE + call->length, data, length);
    *ret_length = RPC_HEAD_SIZE + call->length + length;
    return all;
}

/* Makes a session of the link; bytes of DATA came behind the call.  The connection is gone
 * afterwards. */
static void open_session(struct connection *connection, const uint8_t *data, size_t length)
{
    struct peer_session_open *open = &connection->link.open;
    CLEANUP_FREE uint8_t *all = NULL;
    struct error err = ERROR_INIT;

    if (open->tunnel) {
        all = put_call_back(connection->link.call, data, length, &length);
        data = all;
    }
    open->early = data;
    open->early_length = length;
    if (!data) {
        log_error("peer %s: no memory for its call", connection->address);
        drop(connection);
        return;
    }
    loop_fd_remove(connection->watch);
    connection->watch = NULL;
    if (peer_session_start(connection->peers->sessions, take_ptr(connection->tls), open, &err) < 0)
        log_error("peer %s: can't open a session: %s", connection->address, err.text);
    drop(connection);
}

/* Hands the link to the session that it resumes; bytes of DATA came behind the call.  The connection is
 * gone afterwards. */
static void resume_session(struct connection *connection, const uint8_t *data, size_t length)
{
    struct pump_resume *resume = &connection->link.resume;

    loop_fd_remove(connection->watch);
    connection->watch = NULL;
    resume->link = take_ptr(connection->tls);
    resume->early = data;
    resume->early_length = length;
    peer_session_resume(connection->peers->sessions, connection->link.session, resume);
    drop(connection);
}

/* What a peer that isn't allowed hears, whatever it calls. */
static int refuse(struct connection *connection, uint8_t **ret_data, size_t *ret_length)
{
    struct error err = ERROR_INIT;

    error_set(&err, EACCES,
              "%s does not let \"%s\" in: have a name of its certificate added to allowed_peers in "
              "the configuration there",
              connection->peers->daemon->hostname, tls_peer_subject(connection->tls));
    set_state(connection, LEAVING);
    return rpc_error_encode(&connection->inbox.message.header, &err, ret_data, ret_length);
}

/* Answers a call, or has a session answer it.  Returns 0 or a negative errno. */
static int answer(struct connection *connection, uint8_t **ret_data, size_t *ret_length)
{
    const struct rpc_message *call = &connection->inbox.message;
    struct peer_link *link = &connection->link;
    struct error err = ERROR_INIT;

    link->call = call;
    link->tls = connection->tls;
    if (connection->state == UNWELCOME)
        return refuse(connection, ret_data, ret_length);
    if (rpc_program_has(connection->peers->program, RPC_CALLER_LINK, &call->header) ||
        !rpc_program_has(connection->peers->program, RPC_CALLER_TUNNEL, &call->header))
        return rpc_dispatch(connection->peers->program, RPC_CALLER_LINK, link, call, ret_data,
                            ret_length);
    if (peer_open_tunnel(link, &err) < 0)
        return rpc_error_encode(&call->header, &err, ret_data, ret_length);
    return 0;
}

/* Answers one message.  Returns 0, or a negative errno with ERR. */
static int handle_message(struct connection *connection, struct error *err)
{
    const struct rpc_message *message = &connection->inbox.message;
    CLEANUP_FREE uint8_t *reply = NULL;
    size_t length = 0;
    ssize_t n;
    int r = 0;

    if (!rpc_inbox_is_keepalive(message, &reply, &length)) {
        if (message->header.type != BS_CALL)
            return error_set(err, EPROTO, "it sent what is no call");
        r = answer(connection, &reply, &length);
        if (r < 0)
            return error_set_errno(err, -r, "can't answer a call");
        if (connection->link.resumed) {
            free(reply);
            reply = NULL;
        }
        if (connection->state == WELCOME)
            set_state(connection, WELCOME); /* it lives */
    }
    n = reply ? tls_write(connection->tls, reply, length, err) : 0;
    return n < 0 ? (int)n : 0;
}

/* Reads and answers for a while, if there is something to read and the peer takes its answers.
 * Returns 1, 0 when the connection has ended or become a session and is gone, or a negative errno
 * with ERR. */
static int serve(struct connection *connection, struct error *err)
{
    for (int i = 0;
         i < READS_MAX && connection->state != LEAVING && tls_unsent(connection->tls) < UNSENT_MAX;
         i++) {
        uint8_t buffer[READ_SIZE];
        ssize_t n = tls_read(connection->tls, buffer, sizeof buffer, err);
        size_t used = 0;
        int r = 1;

        if (n == -EAGAIN)
            break;
        if (n < 0)
            return (int)n;
        if (n == 0) {
            log_debug("peer %s: has gone", connection->address);
            drop(connection);
            return 0;
        }
        while (r > 0 && connection->state != LEAVING) {
            size_t step = 0;

            r = rpc_inbox_feed(&connection->inbox, buffer + used, (size_t)n - used, &step);
            used += step;
            if (r < 0)
                return error_set(err, -r, "it sent what is no message of this protocol");
            if (r > 0 && handle_message(connection, err) < 0)
                return -err->code;
            if (connection->link.opened) {
                open_session(connection, buffer + used, (size_t)n - used);
                return 0;
            }
            if (connection->link.resumed) {
                resume_session(connection, buffer + used, (size_t)n - used);
                return 0;
            }
        }
    }
    return 1;
}

/* One step of whatever is to be done.  As serve(). */
static int step(struct connection *connection, struct error *err)
{
    int r;

    if (connection->state == SHAKING) {
        r = tls_handshake(connection->tls, err);
        if (r < 0)
            return r;
        if (r > 0 && (r = greet(connection, err)) < 0)
            return r;
        if (connection->state == SHAKING)
            return 1;
    }
    r = serve(connection, err);
    if (r <= 0)
        return r;
    r = tls_flush(connection->tls, err);
    if (r < 0 && r != -EAGAIN)
        return r;
    if (r == 0 && connection->state == LEAVING) {
        drop(connection);
        return 0;
    }
    return 1;
}

static void on_event(void *opaque, uint32_t events)
{
    struct connection *connection = opaque;
    struct error err = ERROR_INIT;
    uint32_t wanted;
    int r;

    (void)events;
    r = step(connection, &err);
    if (r == 0)
        return;
    if (r < 0) {
        log_warning("peer %s: %s: %s", connection->address, states[connection->state].name,
                    err.text);
        drop(connection);
        return;
    }
    wanted = tls_events(connection->tls);
    if (connection->state != SHAKING && tls_unsent(connection->tls) > 0)
        wanted |= EPOLLOUT;
    if (connection->state == WELCOME || connection->state == UNWELCOME) {
        if (tls_unsent(connection->tls) < UNSENT_MAX)
            wanted |= EPOLLIN;
        if (tls_pending(connection->tls)) /* it stopped in between: go on in the next round */
            wanted |= EPOLLOUT;
    }
    loop_fd_want(connection->watch, wanted);
}

/* ---- all links ------------------------------------------------------------------------------- */

static void on_sweep(void *opaque)
{
    struct peers *peers = opaque;
    uint64_t now = loop_now(peers->daemon->loop);
    struct connection *connection, *next;

    loop_timer_set(peers->sweep, now + SWEEP);
    for (connection = TAILQ_FIRST(&peers->connections); connection; connection = next) {
        next = TAILQ_NEXT(connection, entry);
        if (connection->deadline > now)
            continue;
        log_warning("peer %s: %s: nothing came for %d s: closed", connection->address,
                    states[connection->state].name,
                    (int)(states[connection->state].lifetime / LOOP_SECOND));
        drop(connection);
    }
}

/* Makes room for one more link.  Returns false when all are those of allowed peers. */
static bool make_room(struct peers *peers)
{
    struct connection *connection;

    if (peers->count < LINKS_MAX)
        return true;
    TAILQ_FOREACH(connection, &peers->connections, entry)
    {
        if (connection->state != WELCOME) {
            log_warning("peer %s (%s): has to make room for others", connection->address,
                        states[connection->state].name);
            drop(connection);
            return true;
        }
    }
    return false;
}

static void describe_address(int fd, char *ret, size_t size)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char host[INET6_ADDRSTRLEN], port[8];

    if (getpeername(fd, (struct sockaddr *)&address, &length) < 0 ||
        getnameinfo((struct sockaddr *)&address, length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(ret, size, "(gone)");
    else
        snprintf(ret, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static void on_accepted(void *opaque, int fd)
{
    struct peers *peers = opaque;
    struct connection *connection = NULL;
    struct error err = ERROR_INIT;
    char address[sizeof connection->address];

    describe_address(fd, address, sizeof address);
    if (make_room(peers))
        connection = calloc(1, sizeof *connection);
    if (!connection) {
        log_warning("peer %s: refused: %u links are open or memory is short", address,
                    peers->count);
        close(fd);
        return;
    }
    connection->peers = peers;
    connection->link.daemon = peers->daemon;
    connection->link.sessions = peers->sessions;
    memcpy(connection->address, address, sizeof address);
    connection->deadline = loop_now(peers->daemon->loop) + states[SHAKING].lifetime;
    if (peers->count++ == 0)
        loop_timer_set(peers->sweep, loop_now(peers->daemon->loop) + SWEEP);
    TAILQ_INSERT_TAIL(&peers->connections, connection, entry);
    connection->tls = tls_new_server(peers->daemon->tls, fd, &err);
    if (connection->tls)
        connection->watch = loop_fd_add(peers->daemon->loop, tls_fd(connection->tls), EPOLLIN,
                                        on_event, connection);
    if (!connection->watch) {
        log_error("peer %s: can't be served: %s", address, err.code ? err.text : strerror(errno));
        drop(connection);
    }
}

struct peers *peers_start(struct daemon *daemon, int listener, const struct rpc_program *program,
                          struct error *err)
{
    struct peers *peers = calloc(1, sizeof *peers);

    if (!peers) {
        close(listener);
        error_set(err, ENOMEM, "can't serve peers: memory is short");
        return NULL;
    }
    peers->daemon = daemon;
    peers->program = program;
    TAILQ_INIT(&peers->connections);
    peers->entrance = entrance_new(daemon->loop, listener, "TLS port", on_accepted, peers, err);
    if (!peers->entrance)
        goto fail;
    peers->sweep = loop_timer_new(daemon->loop, on_sweep, peers);
    peers->sessions = peer_sessions_new(daemon);
    if (peers->sweep && peers->sessions)
        return peers;
    error_set(err, ENOMEM, "can't serve peers: memory is short");
fail:
    peers_free(peers);
    return NULL;
}

void peers_stop(struct peers *peers)
{
    entrance_free(peers->entrance);
    peers->entrance = NULL;
    while (!TAILQ_EMPTY(&peers->connections))
        drop(TAILQ_FIRST(&peers->connections));
    peer_sessions_stop(peers->sessions);
}

void peers_free(struct peers *peers)
{
    if (!peers)
        return;
    entrance_free(peers->entrance);
    if (peers->sweep)
        loop_timer_free(peers->sweep);
    peer_sessions_free(peers->sessions);
    free(peers);
}
