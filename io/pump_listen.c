/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Where channels begin: local listeners on the side that opens them, dialling on the side that
 * accepts them, and the endpoints by which both are counted.
 *
 * Three things can be short for a while, and none may cost a busy loop or a lost connection.
 * Channels: the connection that got none is held, and its listener waits until a channel is
 * forgotten.  Descriptors: all listeners wait a moment, since accept(2) would fail again at once.
 * A program that is slow to accept: connect(2) says EAGAIN, where a blocking one would wait, so it
 * is tried again for some seconds.
 */
#include "config.h"

#include "io/net.h"
#include "io/pump_internal.h"
#include "common/checked.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_PAUSE (100 * LOOP_MS)
#define DIAL_PAUSE (2 * LOOP_MS)
#define DIAL_TIMEOUT (5 * LOOP_SECOND)

enum {
    ACCEPT_BURST = 64,    /* per round, so that channels get their turn */
    ENDPOINTS_KEPT = 256, /* names are the peer's to choose: the figures of old ones are dropped */
};

/* ---- endpoints -------------------------------------------------------------------------------- */

static void drop_unused_endpoint(struct pump *pump)
{
    struct pump_endpoint *endpoint;

    TAILQ_FOREACH(endpoint, &pump->endpoints, link)
    {
        if (endpoint->channels > 0 || endpoint->listeners > 0)
            continue;
        TAILQ_REMOVE(&pump->endpoints, endpoint, link);
        pump->endpoint_count--;
        free(endpoint->name);
        free(endpoint);
        return;
    }
}

struct pump_endpoint *endpoint_get(struct pump *pump, const char *name)
{
    struct pump_endpoint *endpoint;

    TAILQ_FOREACH(endpoint, &pump->endpoints, link)
    {
        if (strcmp(endpoint->name, name) == 0)
            return endpoint;
    }
    if (pump->endpoint_count >= ENDPOINTS_KEPT)
        drop_unused_endpoint(pump);
    endpoint = calloc(1, sizeof *endpoint);
    if (!endpoint)
        return NULL;
    endpoint->name = strdup(name);
    if (!endpoint->name) {
        free(endpoint);
        return NULL;
    }
    endpoint->waiting_since = LOOP_NEVER;
    TAILQ_INSERT_TAIL(&pump->endpoints, endpoint, link);
    pump->endpoint_count++;
    return endpoint;
}

/* ---- listening -------------------------------------------------------------------------------- */

/* Gives FD a channel, or holds it while there is none.  Takes FD over. */
static void open_channel(struct pump_listener *listener, int fd)
{
    struct pump *pump = listener->pump;
    const char *name = listener->endpoint->name;
    uint32_t number;
    int r = mux_channel_open(pump->session, name, &number);

    if (r == -EMFILE) {
        listener->held = fd;
        return;
    }
    if (r < 0) {
        log_warning("session %s can't open a channel to %s: %s", pump->name, name,
                    r == -EBUSY ? "a tunnel carries one stream, and no other" : strerror(-r));
        close(fd);
        return;
    }
    if (!channel_new(pump, number, name, fd)) {
        log_warning("session %s can't open a channel to %s: %s", pump->name, name,
                    strerror(ENOMEM));
        mux_channel_reset(pump->session, number, BS_RESET_BROKEN, "there is not enough memory");
        close(fd);
    }
}

static void listener_want(struct pump_listener *listener)
{
    bool wait = listener->held >= 0 || listener->pump->accept_again != LOOP_NEVER;

    loop_fd_want(listener->watch, wait ? 0 : EPOLLIN);
}

static void pause_accepting(struct pump *pump, int code)
{
    struct pump_listener *listener;

    if (!pump->accept_warned)
        log_warning("session %s can't accept connections: %s; trying again until it can",
                    pump->name, strerror(code));
    pump->accept_warned = true;
    pump->accept_again = loop_now(pump->loop) + ACCEPT_PAUSE;
    TAILQ_FOREACH(listener, &pump->listeners, link)
    {
        listener_want(listener);
    }
}

static void listener_ready(void *opaque, uint32_t events)
{
    struct pump_listener *listener = opaque;

    (void)events;
    for (int i = 0; i < ACCEPT_BURST && listener->held < 0; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            listener->pump->accept_warned = false;
            open_channel(listener, fd);
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            pause_accepting(listener->pump, errno);
            break;
        }
    }
    listener_want(listener);
}

struct listen_request {
    struct pump *pump;
    const char *endpoint;
    int fd;
    struct error *err;
};

static int start_listening(void *opaque)
{
    const struct listen_request *request = opaque;
    struct pump *pump = request->pump;
    struct pump_listener *listener;

    if (pump->state != PUMP_RUNNING)
        return error_set(request->err, ECONNRESET, "the session has ended: %s", pump->why.text);
    listener = calloc(1, sizeof *listener);
    if (!listener)
        return error_set_errno(request->err, ENOMEM, "can't listen for %s", request->endpoint);
    listener->pump = pump;
    listener->held = -1;
    listener->endpoint = endpoint_get(pump, request->endpoint);
    listener->watch = loop_fd_add(pump->loop, request->fd, EPOLLIN, listener_ready, listener);
    if (!listener->endpoint || !listener->watch) {
        loop_fd_remove(listener->watch);
        free(listener);
        return error_set_errno(request->err, ENOMEM, "can't listen for %s", request->endpoint);
    }
    listener->fd = request->fd;
    listener->endpoint->listeners++;
    TAILQ_INSERT_TAIL(&pump->listeners, listener, link);
    return 0;
}

int pump_listen(struct pump *pump, int listener, const char *endpoint, struct error *err)
{
    struct listen_request request = {pump, endpoint, listener, err};
    int r = loop_call(pump->loop, start_listening, &request);

    if (r < 0)
        close(listener);
    return r;
}

void pump_listener_free(struct pump_listener *listener)
{
    loop_fd_remove(listener->watch);
    close(listener->fd);
    if (listener->held >= 0)
        close(listener->held);
    listener->endpoint->listeners--;
    TAILQ_REMOVE(&listener->pump->listeners, listener, link);
    free(listener);
}

void listeners_resume(struct pump *pump)
{
    struct pump_listener *listener;

    TAILQ_FOREACH(listener, &pump->listeners, link)
    {
        int fd = listener->held;

        if (fd < 0)
            continue;
        listener->held = -1;
        open_channel(listener, fd);
        listener_want(listener);
    }
}

/* ---- dialling --------------------------------------------------------------------------------- */

static int resolve(struct pump_channel *channel, struct error *err)
{
    const struct pump_handlers *handlers = &channel->pump->handlers;
    const char *name = channel->endpoint->name;

    if (!handlers->resolve)
        return error_set(err, ENOENT, "there is no endpoint %s", name);
    return handlers->resolve(handlers->opaque, name, &channel->path, err);
}

void channel_dial(struct pump_channel *channel)
{
    struct pump *pump = channel->pump;
    struct error err = ERROR_INIT;
    uint64_t now = loop_now(pump->loop);
    int fd;

    if (!channel->path) {
        if (resolve(channel, &err) < 0) {
            channel_fail(channel, BS_RESET_NO_ENDPOINT, err.text);
            return;
        }
        channel->dial_end = now + DIAL_TIMEOUT;
    }
    fd = net_dial_unix(channel->path, &err);
    if (fd == -EAGAIN && now < channel->dial_end) {
        pump->dial_again = now + DIAL_PAUSE;
        return;
    }
    if (fd < 0) {
        channel_fail(channel, BS_RESET_REFUSED, err.text);
        return;
    }
    if (channel_attach(channel, fd) < 0) {
        close(fd);
        channel_fail(channel, BS_RESET_REFUSED, "there is not enough memory for its socket");
        return;
    }
    free(channel->path);
    channel->path = NULL;
    channel_touch(channel);
}

static void dial_waiting(struct pump *pump)
{
    struct pump_channel *channel;

    TAILQ_FOREACH(channel, &pump->channels, link)
    {
        if (channel->state == CHANNEL_DIALLING && channel->path)
            channel_dial(channel);
    }
}

void listeners_tick(struct pump *pump, uint64_t now)
{
    struct pump_listener *listener;

    if (now >= pump->accept_again) {
        pump->accept_again = LOOP_NEVER;
        TAILQ_FOREACH(listener, &pump->listeners, link)
        {
            listener_want(listener);
        }
    }
    if (now >= pump->dial_again) {
        pump->dial_again = LOOP_NEVER;
        dial_waiting(pump);
    }
}
