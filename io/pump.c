/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The pump: see pump.h.
 *
 * One thread runs one loop over the link and the local sockets of all channels; nothing in it
 * blocks.  A round goes like this: what is readable is read, what is writable is written; the
 * session's callbacks do what needs no call of the session and mark the rest.  Then, once, right
 * before the loop waits again, prepare_to_wait() settles what was marked, hands over what waits for
 * channel 0, sends what the session has to say, and sets the timer and what to wait for.  Whenever so much
 * was read that it would leave the processor's cache, what there is is sent before that.
 *
 *   pump.c          threads, the timer, how a session ends
 *   pump_link.c     the link
 *   pump_channel.c  channels and their sockets
 *   pump_listen.c   where channels begin
 *   pump_call.c     channel 0 and the worker
 *   pump_resume.c   the session without its link, and with another one
 *   pump_redial.c   how an opener comes to that
 *   pump_request.c  what other threads ask for besides
 *
 * Other threads reach the pump's by loop_call() and loop_post() only.  The loop runs until
 * pump_free(), also when the session has long ended, so that this always works.
 *
 * The end.  However a session ends (the peer's CLOSE, ours, a broken rule, a broken link), it comes
 * down to the session's closed(), which is the only way into PUMP_ENDING; there the last words go
 * out, for a moment at most, and pump_end() closes the rest.
 */
#include "config.h"

#include "io/pump_internal.h"
#include "common/checked.h"
#include "common/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define LAST_WORDS LOOP_SECOND          /* for what is still to be sent when the session is over */
#define FAULT_TIMEOUT (2 * LOOP_SECOND) /* for the peer's answer to a CLOSE that names its fault */

/* ---- the state -------------------------------------------------------------------------------- */

static const char *const state_names[] = {
    [PUMP_RUNNING] = "running",
    [PUMP_CLOSING] = "closing",
    [PUMP_ENDING] = "ending",
    [PUMP_ENDED] = "ended",
};

/* The one setter of pump->state: it only ever moves on. */
static bool set_state(struct pump *pump, enum pump_state state)
{
    if (state <= pump->state)
        return false;
    log_debug("session %s: %s", pump->name, state_names[state]);
    pump->state = state;
    return true;
}

/* ---- how it ends ------------------------------------------------------------------------------ */

/* Keeps the first reason. */
static void set_why(struct pump *pump, const struct error *why)
{
    if (pump->why_known)
        return;
    pump->why_known = true;
    pump->why = *why;
}

static int close_errno(uint64_t code)
{
    switch (code) {
    case BS_CLOSE_DONE:
        return 0;
    case BS_CLOSE_PROTOCOL:
        return EPROTO;
    case BS_CLOSE_RESOURCES:
        return ENOMEM;
    case BS_CLOSE_TIMEOUT:
        return ETIMEDOUT;
    default:
        return ECANCELED;
    }
}

/* The session's callback.  CODE and TEXT may be the peer's. */
static void session_closed(void *opaque, uint64_t code, const char *text)
{
    struct pump *pump = opaque;
    struct error why = ERROR_INIT;

    error_set(&why, close_errno(code), "%s", *text ? text : "no reason was given");
    set_why(pump, &why);
    pump->session_over = true;
}

void pump_abandon(struct pump *pump, const struct error *why)
{
    pump->link_mute = true;
    if (pump->session_over)
        return;
    set_why(pump, why);
    mux_session_abandon(pump->session,
                        why->code == ETIMEDOUT ? BS_CLOSE_TIMEOUT : BS_CLOSE_CANCELLED, why->text);
}

void pump_break(struct pump *pump, const struct error *why)
{
    if (pump->session_over || !pump_outlives_link(pump, why))
        pump_abandon(pump, why);
}

void pump_fault(struct pump *pump, uint64_t code, const char *text)
{
    if (pump->fault)
        return;
    pump->fault_code = code;
    pump->fault = text;
}

void pump_close_sockets(struct pump *pump, const struct pump_endpoint *endpoint)
{
    struct pump_listener *listener, *next;
    struct pump_channel *channel;

    TAILQ_FOREACH(channel, &pump->channels, link)
    {
        if (!endpoint || channel->endpoint == endpoint)
            channel_close(channel);
    }
    for (listener = TAILQ_FIRST(&pump->listeners); listener; listener = next) {
        next = TAILQ_NEXT(listener, link);
        if (!endpoint || listener->endpoint == endpoint)
            pump_listener_free(listener);
    }
}

/* Says CLOSE, behind what waits for channel 0; "done" has to wait until the last channel is
 * forgotten. */
static void try_close(struct pump *pump)
{
    if (pump->close_said)
        return;
    calls_flush(pump);
    pump->close_said = mux_session_close(pump->session, pump->close_code,
                                         pump->close_text ? pump->close_text : "") != -EBUSY;
}

static void begin_close(struct pump *pump, uint64_t code, const char *text, uint64_t deadline)
{
    struct pump_listener *listener;

    if (pump->state == PUMP_CLOSING)
        pump->state_deadline = min_u64(pump->state_deadline, deadline);
    if (pump->session_over || !set_state(pump, PUMP_CLOSING))
        return;
    pump->state_deadline = deadline;
    pump->close_code = code;
    pump->close_text = strdup(text); /* without memory there is a CLOSE without a text */
    if (code != BS_CLOSE_DONE)
        pump_close_sockets(pump, NULL);
    while ((listener = TAILQ_FIRST(&pump->listeners)))
        pump_listener_free(listener);
    try_close(pump);
}

static void end(struct pump *pump)
{
    struct pump_channel *channel;

    if (!set_state(pump, PUMP_ENDED))
        return;
    pump_close_sockets(pump, NULL);
    while ((channel = TAILQ_FIRST(&pump->channels)))
        channel_free(channel);
    loop_fd_remove(pump->link_watch);
    pump->link_watch = NULL;
    tls_free(pump->link);
    pump->link = NULL;
    pump->away_total += pump_away(pump);
    pump->away_since = LOOP_NEVER;
    loop_timer_set(pump->timer, LOOP_NEVER);
    calls_end(pump);
    if (pump->handlers.ended)
        pump->handlers.ended(pump->handlers.opaque, &pump->why);
    pthread_mutex_lock(&pump->lock);
    pump->ended = true;
    pthread_cond_broadcast(&pump->ended_changed);
    pthread_mutex_unlock(&pump->lock);
}

/* The time for an orderly end is over: what can be said at once is said, then the link is closed. */
static void cut_short(struct pump *pump)
{
    struct error why = ERROR_INIT;

    if (pump->state == PUMP_ENDED)
        return;
    if (!pump->close_said && !pump->session_over) {
        mux_session_close(pump->session, BS_CLOSE_CANCELLED, "channels were still open");
        pump->close_said = true;
    }
    link_send(pump);
    error_set(&why, close_errno(pump->close_code),
              "the session with %s was closed here, and no answer came in time: %s", pump->peer,
              pump->close_text ? pump->close_text : "");
    pump_abandon(pump, &why);
    end(pump);
}

/* ---- a round of the loop ---------------------------------------------------------------------- */

static void settle(struct pump *pump)
{
    struct pump_channel *channel;

    if (pump->broken > 0)
        TAILQ_FOREACH(channel, &pump->channels, link)
        {
            if (channel->out == CHANNEL_OUT_BROKEN)
                channel_touch(channel);
        }
    while ((channel = TAILQ_FIRST(&pump->touched))) {
        TAILQ_REMOVE(&pump->touched, channel, touch);
        channel->touched = false;
        channel_settle(channel);
    }
    if (pump->fault) {
        begin_close(pump, pump->fault_code, pump->fault, loop_now(pump->loop) + FAULT_TIMEOUT);
        pump->fault = NULL;
    }
    if (pump->state == PUMP_RUNNING)
        listeners_resume(pump);
    if (pump->state == PUMP_CLOSING && !pump->session_over)
        try_close(pump);
    if (pump->session_over && set_state(pump, PUMP_ENDING)) {
        pump_close_sockets(pump, NULL);
        pump->state_deadline = loop_now(pump->loop) + LAST_WORDS;
    }
}

static void set_timer(struct pump *pump)
{
    uint64_t when =
        min_u64(mux_session_deadline(pump->session), rpc_calls_deadline(pump->calls.table));

    when = min_u64(when, min_u64(pump->accept_again, pump->dial_again));
    when = min_u64(when, pump->state_deadline);
    if (pump->away_since != LOOP_NEVER)
        when = min_u64(when, pump->away_since + pump->grace);
    if (pump->link_more || pump->link_held)
        when = 0;
    loop_timer_set(pump->timer, when);
}

void pump_send(struct pump *pump)
{
    calls_flush(pump);
    link_send(pump);
}

/* The loop's before_wait. */
static void prepare_to_wait(void *opaque)
{
    struct pump *pump = opaque;

    do {
        if (pump->state == PUMP_ENDED)
            return;
        settle(pump);
        pump_send(pump);
        if (pump->state == PUMP_ENDING && link_is_done(pump))
            end(pump);
    } while (!TAILQ_EMPTY(&pump->touched) || pump->fault ||
             (pump->session_over && pump->state < PUMP_ENDING));
    if (pump->state == PUMP_ENDED)
        return;
    link_want(pump);
    set_timer(pump);
}

static void time_came(void *opaque)
{
    struct pump *pump = opaque;
    uint64_t now = loop_now(pump->loop);

    if (pump->state == PUMP_ENDED)
        return;
    rpc_calls_tick(pump->calls.table, now);
    listeners_tick(pump, now);
    if (now >= pump->state_deadline) {
        cut_short(pump);
        return;
    }
    pump_away_tick(pump, now);
    if (!pump->session_over && mux_session_tick(pump->session, now) == -ETIMEDOUT) {
        struct error why = ERROR_INIT;

        error_set(&why, ETIMEDOUT, "nothing came from %s for %llu ms; is it up, and the way to it?",
                  pump->peer, (unsigned long long)(pump->ping_timeout / LOOP_MS));
        pump_break(pump, &why);
    }
    if (pump->link_more)
        link_read(pump, LINK_READ_BUDGET);
}

static void *run(void *opaque)
{
    struct pump *pump = opaque;
    int r;

    if (pump->early_length > 0)
        mux_session_receive(pump->session, pump->early, pump->early_length, loop_now(pump->loop));
    free(pump->early);
    pump->early = NULL;
    while ((r = loop_run(pump->loop)) < 0) {
        struct error why = ERROR_INIT;

        /* The kernel has no memory for what is to be watched: without the sockets the loop can
         * still serve its callers. */
        error_set_errno(&why, -r, "can't watch the sockets of session %s", pump->name);
        if (pump->state != PUMP_ENDED) {
            pump_abandon(pump, &why);
            end(pump);
        }
    }
    return NULL;
}

/* ---- starting and freeing --------------------------------------------------------------------- */

static const struct mux_callbacks session_callbacks = {
    .opened = channel_opened,
    .data = channel_data,
    .eof = channel_eof,
    .writable = channel_writable,
    .reset = channel_was_reset,
    .forgotten = channel_forgotten,
    .closed = session_closed,
};

int pump_thread_create(pthread_t *ret, void *(*function)(void *opaque), void *opaque)
{
    sigset_t all, old;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(ret, NULL, function, opaque);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -r;
}

static struct pump *pump_new(struct tls *link, const struct pump_config *config,
                             const struct pump_handlers *handlers)
{
    struct pump *pump = calloc(1, sizeof *pump);

    if (!pump)
        return NULL;
    pump->link = link;
    pump->handlers = *handlers;
    pump->tunnel = config->tunnel;
    pump->ping_timeout = config->ping_timeout;
    pump->grace = config->tunnel ? 0 : config->grace;
    pump->redial.how = config->redial;
    pump->redial.abort_fd = -1;
    pump->away_since = LOOP_NEVER;
    pump->accept_again = pump->dial_again = pump->state_deadline = LOOP_NEVER;
    TAILQ_INIT(&pump->channels);
    TAILQ_INIT(&pump->touched);
    TAILQ_INIT(&pump->endpoints);
    TAILQ_INIT(&pump->listeners);
    TAILQ_INIT(&pump->calls.queue);
    pthread_mutex_init(&pump->lock, NULL);
    pthread_cond_init(&pump->ended_changed, NULL);
    pthread_mutex_init(&pump->calls.lock, NULL);
    pthread_cond_init(&pump->calls.wake, NULL);
    return pump;
}

static void release(struct pump *pump)
{
    struct pump_endpoint *endpoint;

    calls_stop(pump);
    calls_release(pump);
    redial_release(pump);
    mux_session_free(pump->session);
    loop_timer_free(pump->timer);
    loop_fd_remove(pump->link_watch);
    tls_free(pump->link);
    loop_free(pump->loop);
    while ((endpoint = TAILQ_FIRST(&pump->endpoints))) {
        TAILQ_REMOVE(&pump->endpoints, endpoint, link);
        free(endpoint->name);
        free(endpoint);
    }
    pthread_cond_destroy(&pump->ended_changed);
    pthread_mutex_destroy(&pump->lock);
    free(pump->early);
    free(pump->close_text);
    free(pump->peer);
    free(pump->name);
    free(pump);
}

/* Everything but the threads.  Returns 0 or -ENOMEM. */
static int set_up(struct pump *pump, const struct pump_config *config)
{
    const struct mux_config session = {
        .opener = config->opener,
        .tunnel = config->tunnel,
        .serial = config->serial,
        .local = config->local,
        .remote = config->remote,
        .memory = config->memory,
        .ping_interval = config->ping_interval,
        .ping_timeout = config->ping_timeout,
        .callbacks = &session_callbacks,
        .opaque = pump,
    };

    pump->name = strdup(config->name);
    pump->peer = strdup(tls_peer(pump->link));
    pump->early_length = config->early_length;
    pump->early = malloc(config->early_length + 1);
    pump->loop = loop_new();
    if (!pump->name || !pump->peer || !pump->early || !pump->loop)
        return -ENOMEM;
    if (config->early_length > 0)
        memcpy(pump->early, config->early, config->early_length);
    if (pump->grace > 0)
        tls_set_patience(pump->link, (unsigned)(pump->ping_timeout / LOOP_MS));
    loop_set_before_wait(pump->loop, prepare_to_wait, pump);
    pump->timer = loop_timer_new(pump->loop, time_came, pump);
    pump->link_watch = loop_fd_add(pump->loop, tls_fd(pump->link), 0, link_ready, pump);
    pump->session = mux_session_new(&session, loop_now(pump->loop));
    return pump->timer && pump->link_watch && pump->session ? 0 : -ENOMEM;
}

struct pump *pump_start(struct tls *link, const struct pump_config *config,
                        const struct pump_handlers *handlers, struct error *err)
{
    struct pump *pump = pump_new(link, config, handlers);
    int r = -ENOMEM;

    if (!pump) {
        tls_free(link);
        if (config->redial.free)
            config->redial.free(config->redial.opaque);
        error_set_errno(err, ENOMEM, "can't start session %s", config->name);
        return NULL;
    }
    if (set_up(pump, config) < 0) {
        error_set(err, ENOMEM,
                  "can't start session %s: memory is short, or session_memory (%llu bytes) is too "
                  "small for %u channels",
                  config->name, (unsigned long long)config->memory, config->local.channels);
        goto fail;
    }
    r = calls_start(pump);
    if (r == 0)
        r = pump_thread_create(&pump->thread, run, pump);
    if (r == 0)
        return pump;
    error_set_errno(err, -r, "can't start the threads of session %s", config->name);
fail:
    release(pump);
    return NULL;
}

static int close_at_once(void *opaque)
{
    struct pump *pump = opaque;

    begin_close(pump, BS_CLOSE_CANCELLED, "the session was given up", loop_now(pump->loop));
    cut_short(pump);
    return 0;
}

void pump_free(struct pump *pump)
{
    if (!pump)
        return;
    loop_call(pump->loop, close_at_once, pump);
    redial_stop(pump);
    calls_stop(pump);
    loop_stop(pump->loop);
    pthread_join(pump->thread, NULL);
    release(pump);
}

/* ---- closing ---------------------------------------------------------------------------------- */

struct close_request {
    struct pump *pump;
    uint64_t code;
    const char *text;
    int timeout_ms;
};

static int close_session(void *opaque)
{
    const struct close_request *request = opaque;
    uint64_t patience = request->timeout_ms > 0 ? (uint64_t)request->timeout_ms * LOOP_MS : 0;

    begin_close(request->pump, request->code, request->text,
                loop_now(request->pump->loop) + patience);
    return 0;
}

void pump_close(struct pump *pump, uint64_t code, const char *text, int timeout_ms)
{
    struct close_request request = {pump, code, text, timeout_ms};

    loop_call(pump->loop, close_session, &request);
    pthread_mutex_lock(&pump->lock);
    while (!pump->ended) /* the state's deadline sees to it */
        pthread_cond_wait(&pump->ended_changed, &pump->lock);
    pthread_mutex_unlock(&pump->lock);
}
