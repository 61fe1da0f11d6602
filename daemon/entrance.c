/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A listening socket in the main loop: see entrance.h.
 *
 * When descriptors or memory run out, the connection that can't be accepted stays in the kernel's
 * queue and the socket stays readable: asking again at once would only burn the processor, so the
 * entrance rests for a while.
 */
#include "config.h"

#include "daemon/entrance.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define REST LOOP_SECOND
enum { ACCEPTS_PER_ROUND = 16 };

struct entrance {
    struct loop *loop;
    int fd;
    const char *name;
    struct loop_fd *watch;
    struct loop_timer *rest;
    void (*accepted)(void *opaque, int fd);
    void *opaque;
};

/* Returns whether there may be more. */
static bool accept_one(struct entrance *entrance)
{
    int fd = accept4(entrance->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        entrance->accepted(entrance->opaque, fd);
        return true;
    }
    switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        log_error("%s: can't accept a connection: %s; trying again in a second", entrance->name,
                  strerror(errno));
        loop_fd_want(entrance->watch, 0);
        loop_timer_set(entrance->rest, loop_now(entrance->loop) + REST);
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
    struct entrance *entrance = opaque;

    loop_fd_want(entrance->watch, EPOLLIN);
}

struct entrance *entrance_new(struct loop *loop, int fd, const char *name,
                              void (*accepted)(void *opaque, int fd), void *opaque,
                              struct error *err)
{
    struct entrance *entrance = calloc(1, sizeof *entrance);

    if (!entrance) {
        error_set_errno(err, errno, "can't watch the listening socket of %s", name);
        close(fd);
        return NULL;
    }
    *entrance = (struct entrance){
        .loop = loop, .fd = fd, .name = name, .accepted = accepted, .opaque = opaque};
    entrance->watch = loop_fd_add(loop, fd, EPOLLIN, on_connection, entrance);
    entrance->rest = loop_timer_new(loop, on_rested, entrance);
    if (entrance->watch && entrance->rest)
        return entrance;
    error_set_errno(err, errno, "can't watch the listening socket of %s", name);
    entrance_free(entrance);
    return NULL;
}

void entrance_free(struct entrance *entrance)
{
    if (!entrance)
        return;
    loop_fd_remove(entrance->watch);
    if (entrance->rest)
        loop_timer_free(entrance->rest);
    cleanup_close(&entrance->fd);
    free(entrance);
}
