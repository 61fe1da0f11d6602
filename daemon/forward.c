/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Forwards: see forward.h.
 *
 * Begin: one session to the peer, one listening socket per pair, and the pump does all the rest.
 * End: each forward has a keeper, a thread that waits for a reason (the session ended, its control
 * connection ended, stopped by the operator or by the daemon's end) and clears up in a straight
 * line: session closed, sockets removed, the client told.
 *
 * A forward is reference counted, since it may end while it is being listed; whoever drops the last
 * reference frees the pump, which the pump's own thread never does.
 */
#include "config.h"

#include "daemon/forward.h"
#include "daemon/control.h"
#include "daemon/forward_socket.h"
#include "daemon/link.h"
#include "common/log.h"
#include "io/tls.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { CLOSE_TIMEOUT_MS = 2000 }; /* for the peer's answer to CLOSE */

struct forward {
    struct forwards *forwards;
    unsigned id;
    char *destination;
    struct forward_socket *sockets;
    unsigned socket_count;
    struct pump *pump;
    struct control_connection *connection; /* a reference; NULL: detached */
    struct control_hook hook;

    /* under forwards->lock: */
    unsigned references;
    bool ending, gone;
    struct error why; /* it is ending */
    TAILQ_ENTRY(forward) link;
};

struct forwards {
    struct daemon *daemon;
    pthread_mutex_t lock; /* a leaf: nothing is called under it.  Taken under a connection's. */
    pthread_cond_t changed;
    TAILQ_HEAD(, forward) list;
    unsigned last_id, count; /* count: not yet freed */
};

/* ---- a forward's life ----------------------------------------------------------------------- */

static void unref(struct forward *forward)
{
    struct forwards *forwards = forward->forwards;
    bool last;

    pthread_mutex_lock(&forwards->lock);
    last = --forward->references == 0;
    pthread_mutex_unlock(&forwards->lock);
    if (!last)
        return;
    pump_free(forward->pump);
    forward_sockets_free(forward->sockets, forward->socket_count);
    if (forward->connection)
        control_unref(forward->connection);
    free(forward->destination);
    free(forward);
    tls_thread_end(); /* often the keeper's last deed */

    pthread_mutex_lock(&forwards->lock);
    forwards->count--;
    pthread_cond_broadcast(&forwards->changed);
    pthread_mutex_unlock(&forwards->lock);
}

/* The first reason counts. */
static void end_forward_locked(struct forward *forward, int code, const char *why)
{
    if (forward->ending)
        return;
    forward->ending = true;
    error_set(&forward->why, code, "%s", why);
    pthread_cond_broadcast(&forward->forwards->changed);
}

static void end_forward(struct forward *forward, int code, const char *why)
{
    pthread_mutex_lock(&forward->forwards->lock);
    end_forward_locked(forward, code, why);
    pthread_mutex_unlock(&forward->forwards->lock);
}

static void on_connection_ended(struct control_hook *hook)
{
    struct forward *forward =
        (struct forward *)(void *)((char *)hook - offsetof(struct forward, hook));

    end_forward(forward, ECONNRESET, "the client that asked for it has ended");
}

static void on_session_ended(void *opaque, const struct error *why)
{
    end_forward(opaque, why->code, why->code ? why->text : "the peer closed the session");
}

static void on_channel_reset(void *opaque, const char *endpoint, uint64_t code, const char *text)
{
    const struct forward *forward = opaque;

    log_warning("forward %u channel to %s: reset (%llu): %s", forward->id, endpoint,
                (unsigned long long)code, text);
}

static void tell_client(const struct forward *forward)
{
    char reason[ERROR_TEXT_MAX];
    struct bs_forward_ended body = {.id = forward->id, .reason = reason};

    memcpy(reason, forward->why.text, sizeof reason);
    control_send_event(forward->connection, BS_PROC_EVENT_FORWARD_ENDED,
                       (xdrproc_t)xdr_bs_forward_ended, &body);
}

/* Takes over one reference. */
static void *keep(void *opaque)
{
    struct forward *forward = opaque;
    struct forwards *forwards = forward->forwards;

    pthread_mutex_lock(&forwards->lock);
    while (!forward->ending)
        pthread_cond_wait(&forwards->changed, &forwards->lock);
    pthread_mutex_unlock(&forwards->lock);

    pump_close(forward->pump, BS_CLOSE_CANCELLED, forward->why.text, CLOSE_TIMEOUT_MS);
    forward_sockets_remove(forward->sockets, forward->socket_count);
    log_info("forward %u to %s: ended: %s", forward->id, forward->destination, forward->why.text);
    if (forward->connection) {
        control_hook_remove(forward->connection, &forward->hook);
        tell_client(forward);
    }

    pthread_mutex_lock(&forwards->lock);
    forward->gone = true;
    TAILQ_REMOVE(&forwards->list, forward, link);
    pthread_cond_broadcast(&forwards->changed);
    pthread_mutex_unlock(&forwards->lock);
    unref(forward);
    return NULL;
}

/* ---- start ---------------------------------------------------------------------------------- */

static struct forward *new_forward(struct control_connection *connection,
                                   const struct bs_forward_start_args *args, struct error *err)
{
    struct forwards *forwards = connection->daemon->forwards;
    struct forward *forward = calloc(1, sizeof *forward);

    if (!forward) {
        error_set(err, ENOMEM, "memory is short");
        return NULL;
    }
    forward->forwards = forwards;
    forward->references = 1;
    forward->hook.ended = on_connection_ended;
    pthread_mutex_lock(&forwards->lock);
    forward->id = ++forwards->last_id;
    forwards->count++;
    pthread_mutex_unlock(&forwards->lock);
    if (!args->detach) {
        control_ref(connection);
        forward->connection = connection;
    }
    forward->destination = strdup(args->destination);
    forward->socket_count = args->pairs.pairs_len;
    if (forward->destination)
        forward->sockets = forward_sockets_new(args->pairs.pairs_val, args->pairs.pairs_len, err);
    else
        error_set(err, ENOMEM, "memory is short");
    if (forward->sockets)
        return forward;
    unref(forward);
    return NULL;
}

/* Opens the session and the sockets. */
static int open_forward(struct forward *forward, const struct bs_forward_start_args *args,
                        struct error *err)
{
    const struct pump_handlers handlers = {
        .channel_reset = on_channel_reset, .ended = on_session_ended, .opaque = forward};
    struct daemon *daemon = forward->forwards->daemon;
    struct forward_owner owner;
    int r;

    r = forward_owner_find(args->socket_user, args->socket_mode, &owner, err);
    if (r < 0)
        return r;
    forward->pump =
        link_open_session(daemon, args->destination, BS_PURPOSE_FORWARD, &handlers, -1, err);
    if (!forward->pump)
        return -err->code;
    return forward_sockets_listen(forward->sockets, forward->socket_count, &owner, forward->pump,
                                  err);
}

/* From here on the keeper sees to the forward's end. */
static int hand_to_keeper(struct forward *forward, struct error *err)
{
    struct forwards *forwards = forward->forwards;
    pthread_t thread;
    int r;

    if (forward->connection && control_hook_add(forward->connection, &forward->hook) < 0)
        return error_set(err, ECONNRESET, "the client has ended");
    pthread_mutex_lock(&forwards->lock);
    forward->references++;
    TAILQ_INSERT_TAIL(&forwards->list, forward, link);
    r = pthread_create(&thread, NULL, keep, forward);
    if (r != 0) {
        TAILQ_REMOVE(&forwards->list, forward, link);
        forward->references--;
    }
    pthread_mutex_unlock(&forwards->lock);
    if (r == 0) {
        pthread_detach(thread);
        return 0;
    }
    if (forward->connection)
        control_hook_remove(forward->connection, &forward->hook);
    return error_set_errno(err, r, "can't start the thread of a forward");
}

int forward_handle_start(void *opaque, const void *args_, void *ret_, struct error *err)
{
    struct control_connection *connection = opaque;
    const struct bs_forward_start_args *args = args_;
    struct bs_forward_start_ret *ret = ret_;
    struct forward *forward = new_forward(connection, args, err);
    int r;

    if (!forward)
        return -err->code;
    r = open_forward(forward, args, err);
    if (r == 0)
        r = hand_to_keeper(forward, err);
    if (r < 0) {
        if (forward->pump)
            pump_close(forward->pump, BS_CLOSE_CANCELLED, err->text, 0);
        forward_sockets_remove(forward->sockets, forward->socket_count);
    } else {
        log_info("forward %u to %s: %u socket(s), first %s", forward->id, forward->destination,
                 forward->socket_count, args->pairs.pairs_val[0].local);
        ret->id = forward->id;
    }
    unref(forward);
    return r;
}

/* ---- list and stop -------------------------------------------------------------------------- */

/* References to all forwards, up to BS_FORWARDS_MAX, in *RET (malloc'ed). */
static int take_all(struct forwards *forwards, struct forward ***ret, unsigned *ret_count)
{
    struct forward *forward;
    unsigned count = 0;

    *ret = calloc(BS_FORWARDS_MAX, sizeof(struct forward *));
    if (!*ret)
        return -ENOMEM;
    pthread_mutex_lock(&forwards->lock);
    TAILQ_FOREACH(forward, &forwards->list, link)
    {
        if (count == BS_FORWARDS_MAX)
            break;
        forward->references++;
        (*ret)[count++] = forward;
    }
    pthread_mutex_unlock(&forwards->lock);
    *ret_count = count;
    return 0;
}

static int describe(const struct forward *forward, struct bs_forward *ret)
{
    struct pump_stats stats;

    pump_get_stats(forward->pump, NULL, &stats);
    ret->id = forward->id;
    ret->channels = stats.channels;
    ret->sent = stats.sent;
    ret->received = stats.received;
    ret->destination = strdup(forward->destination);
    ret->pairs.pairs_val = calloc(forward->socket_count, sizeof *ret->pairs.pairs_val);
    if (!ret->destination || !ret->pairs.pairs_val)
        return -ENOMEM;
    ret->pairs.pairs_len = forward->socket_count;
    return forward_sockets_describe(forward->sockets, forward->socket_count, ret->pairs.pairs_val);
}

int forward_handle_list(void *opaque, const void *args, void *ret_, struct error *err)
{
    const struct control_connection *connection = opaque;
    struct bs_forward_list_ret *ret = ret_;
    struct forward **all;
    unsigned count;
    int r;

    (void)args;
    if (take_all(connection->daemon->forwards, &all, &count) < 0)
        return error_set(err, ENOMEM, "memory is short");
    ret->forwards.forwards_val = calloc(count + 1, sizeof *ret->forwards.forwards_val);
    r = ret->forwards.forwards_val ? 0 : -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        if (r == 0) {
            ret->forwards.forwards_len = i + 1;
            r = describe(all[i], &ret->forwards.forwards_val[i]);
        }
        unref(all[i]);
    }
    free(all);
    return r < 0 ? error_set(err, ENOMEM, "memory is short") : 0;
}

int forward_handle_stop(void *opaque, const void *args_, void *ret, struct error *err)
{
    const struct control_connection *connection = opaque;
    const struct bs_forward_stop_args *args = args_;
    struct forwards *forwards = connection->daemon->forwards;
    struct forward *forward;

    (void)ret;
    pthread_mutex_lock(&forwards->lock);
    TAILQ_FOREACH(forward, &forwards->list, link)
    {
        if (forward->id == args->id)
            break;
    }
    if (forward) {
        forward->references++;
        end_forward_locked(forward, ECANCELED, "stopped by its operator");
        while (!forward->gone)
            pthread_cond_wait(&forwards->changed, &forwards->lock);
    }
    pthread_mutex_unlock(&forwards->lock);
    if (!forward)
        return error_set(err, EINVAL,
                         "no forward has the id %u; \"bistream forward --list\" shows them",
                         args->id);
    unref(forward);
    return 0;
}

/* ---- all forwards --------------------------------------------------------------------------- */

struct forwards *forwards_new(struct daemon *daemon)
{
    struct forwards *forwards = calloc(1, sizeof *forwards);

    if (!forwards)
        return NULL;
    forwards->daemon = daemon;
    TAILQ_INIT(&forwards->list);
    pthread_mutex_init(&forwards->lock, NULL);
    pthread_cond_init(&forwards->changed, NULL);
    return forwards;
}

void forwards_stop(struct forwards *forwards)
{
    struct forward *forward;

    pthread_mutex_lock(&forwards->lock);
    TAILQ_FOREACH(forward, &forwards->list, link)
    {
        end_forward_locked(forward, ESHUTDOWN, "bistreamd is stopping");
    }
    while (forwards->count > 0)
        pthread_cond_wait(&forwards->changed, &forwards->lock);
    pthread_mutex_unlock(&forwards->lock);
}

void forwards_free(struct forwards *forwards)
{
    if (!forwards)
        return;
    pthread_cond_destroy(&forwards->changed);
    pthread_mutex_destroy(&forwards->lock);
    free(forwards);
}
