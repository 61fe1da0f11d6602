/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A listening socket in the main loop: see listener.h.
 *
 * When descriptors or memory run out, the connection that can't be accepted stays in the kernel's
 * queue and the socket stays readable: asking again at once would only burn the processor, so the
 * listener rests for a while.
 */
#include "config.h"

#include "daemon/listener.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define REST LOOP_SECOND
enum { ACCEPTS_PER_ROUND = 16 };

struct listener {
    struct loop *loop;
    int fd;
    const char *name;
    struct loop_fd *watch;
    struct loop_timer *rest;
    void (*accepted)(void *opaque, int fd);
    void *opaque;
};

/* Returns whether there may be more. */
static bool accept_one(struct listener *listener)
{
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        listener->accepted(listener->opaque, fd);
        return true;
    }
    switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        log_error("%s: can't accept a connection: %s; trying again in a second", listener->name,
                  strerror(errno));
        loop_fd_want(listener->watch, 0);
        loop_timer_set(listener->rest, loop_now(listener->loop) + REST);
        return false;
    case EAGAIN:
        return false;
    default: /* that one connection broke while it waited */
        return true;
    }
}

static void on_connection(void *opaque, uint32_t events)
{
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_ROUND && accept_one(opaque); i++)
        ;
}

static void on_rested(void *opaque)
{
    struct listener *listener = opaque;

    loop_fd_want(listener->watch, EPOLLIN);
}

struct listener *listener_new(struct loop *loop, int fd, const char *name,
                              void (*accepted)(void *opaque, int fd), void *opaque,
                              struct error *err)
{
    struct listener *listener = calloc(1, sizeof *listener);

    if (!listener) {
        close(fd);
        goto no_memory;
    }
    *listener = (struct listener){
        .loop = loop, .fd = fd, .name = name, .accepted = accepted, .opaque = opaque};
    listener->watch = loop_fd_add(loop, fd, EPOLLIN, on_connection, listener);
    listener->rest = loop_timer_new(loop, on_rested, listener);
    if (listener->watch && listener->rest)
        return listener;
    listener_free(listener);
no_memory:
    error_set_errno(err, errno, "can't watch the listening socket of %s", name);
    return NULL;
}

void listener_free(struct listener *listener)
{
    if (!listener)
        return;
    loop_fd_remove(listener->watch);
    if (listener->rest)
        loop_timer_free(listener->rest);
    cleanup_close(&listener->fd);
    free(listener);
}
