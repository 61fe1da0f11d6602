/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The port that memory comes in at: see memory_port.h.
 *
 * One thread polls whoever listens and whoever has called.  A caller may take its time; when there are too
 * many of them the oldest has to go, so that those who say nothing keep nobody out.  An id is compared
 * when all of it is there: a caller must not learn how much of it was right.
 */
#include "config.h"

#include "daemon/memory_port.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "common/loop.h"
#include "io/net.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum {
    ADDRESSES_MAX = 8,
    CALLERS_MAX = 16,
    SHORT_OF_FDS_MS = 100, /* before accept(2) is tried again */
};

struct caller {
    int fd;
    size_t got;
    uint8_t id[BS_ID_SIZE];
};

struct memory_port {
    uint8_t id[BS_ID_SIZE];
    void (*admit)(void *opaque, int fd);
    void *opaque;
    pthread_t thread;
    int stop; /* readable: the thread is to end */
    int listeners[ADDRESSES_MAX];
    size_t listener_count;
    struct caller callers[CALLERS_MAX]; /* the oldest first */
    size_t caller_count;
};

/* ---- listening ------------------------------------------------------------------------------- */

static int listen_at(const struct addrinfo *at, const struct net_address *named, struct error *err)
{
    struct net_address address = *named;

    if (getnameinfo(at->ai_addr, at->ai_addrlen, address.host, sizeof address.host, NULL, 0,
                    NI_NUMERICHOST) != 0)
        return error_set(err, EADDRNOTAVAIL, "can't listen at %s", named->host);
    return net_listen(&address, err);
}

/* At those addresses of the host that there are here: one is enough. */
static int listen_all(struct memory_port *port, const struct net_address *address,
                      struct error *err)
{
    struct addrinfo *list;
    int r = net_look_up(address, AI_PASSIVE, &list, err);

    if (r < 0)
        return r;
    for (const struct addrinfo *at = list; at && port->listener_count < ADDRESSES_MAX;
         at = at->ai_next) {
        r = listen_at(at, address, err);
        if (r >= 0)
            port->listeners[port->listener_count++] = r;
        else if (r != -EADDRNOTAVAIL && r != -EAFNOSUPPORT)
            break;
    }
    freeaddrinfo(list);
    return r >= 0 || ((r == -EADDRNOTAVAIL || r == -EAFNOSUPPORT) && port->listener_count) ? 0 : r;
}

/* ---- callers --------------------------------------------------------------------------------- */

/* Takes out caller I and returns its connection. */
static int take_caller(struct memory_port *port, size_t i)
{
    int fd = port->callers[i].fd;

    port->caller_count--;
    memmove(&port->callers[i], &port->callers[i + 1],
            (port->caller_count - i) * sizeof port->callers[0]);
    return fd;
}

static void close_all(struct memory_port *port)
{
    while (port->listener_count)
        close(port->listeners[--port->listener_count]);
    while (port->caller_count)
        close(take_caller(port, port->caller_count - 1));
}

static void welcome(struct memory_port *port, int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            net_wait(port->stop, POLLIN, loop_clock() + SHORT_OF_FDS_MS * LOOP_MS, -1);
        return;
    }
    if (port->caller_count == CALLERS_MAX)
        close(take_caller(port, 0));
    port->callers[port->caller_count++] = (struct caller){.fd = fd};
}

/* 1: it is the one; 0: it may say more; -1: it is none. */
static int hear(const struct memory_port *port, struct caller *caller)
{
    ssize_t n = recv(caller->fd, caller->id + caller->got, BS_ID_SIZE - caller->got, 0);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    caller->got += (size_t)n;
    if (n == 0)
        return -1;
    if (caller->got < BS_ID_SIZE)
        return 0;
    return CRYPTO_memcmp(caller->id, port->id, BS_ID_SIZE) == 0 ? 1 : -1;
}

/* EVENTS has one entry per caller.  Returns the connection that is awaited, or -1. */
static int hear_all(struct memory_port *port, const struct pollfd *events)
{
    for (size_t i = port->caller_count; i-- > 0;) {
        int r = events[i].revents ? hear(port, &port->callers[i]) : 0;

        if (r == 1)
            return take_caller(port, i);
        if (r < 0)
            close(take_caller(port, i));
    }
    return -1;
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Returns the connection that is awaited, or -1 when there shall be none. */
static int await(struct memory_port *port)
{
    struct pollfd events[CALLERS_MAX + ADDRESSES_MAX + 1];

    for (;;) {
        struct pollfd *end = events;
        const struct pollfd *listening;
        int fd;

        for (size_t i = 0; i < port->caller_count; i++)
            *end++ = (struct pollfd){.fd = port->callers[i].fd, .events = POLLIN};
        listening = end;
        for (size_t i = 0; i < port->listener_count; i++)
            *end++ = (struct pollfd){.fd = port->listeners[i], .events = POLLIN};
        *end++ = (struct pollfd){.fd = port->stop, .events = POLLIN};
        if (poll(events, (nfds_t)(end - events), -1) < 0 && errno != EINTR) {
            log_error("nobody is awaited any more at the port that memory comes in at: %s",
                      strerror(errno));
            return -1;
        }
        if (end[-1].revents)
            return -1;
        fd = hear_all(port, events);
        if (fd >= 0)
            return fd;
        for (size_t i = 0; i < port->listener_count; i++)
            if (listening[i].revents)
                welcome(port, port->listeners[i]);
    }
}

static void *run(void *opaque)
{
    struct memory_port *port = opaque;
    CLEANUP_CLOSE int fd = await(port);

    close_all(port);
    if (fd >= 0)
        port->admit(port->opaque, fd);
    return NULL;
}

struct memory_port *memory_port_open(const char *host, unsigned number,
                                     const uint8_t id[BS_ID_SIZE],
                                     void (*admit)(void *opaque, int fd), void *opaque,
                                     struct error *err)
{
    struct memory_port *port = calloc(1, sizeof *port);
    struct net_address address;
    int r;

    if (!port) {
        error_set(err, ENOMEM, "no memory for the port that memory comes in at");
        return NULL;
    }
    memcpy(port->id, id, BS_ID_SIZE);
    port->admit = admit;
    port->opaque = opaque;
    snprintf(address.host, sizeof address.host, "%s", host);
    snprintf(address.port, sizeof address.port, "%u", number);
    port->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = port->stop < 0 ? error_set_errno(err, errno, "can't listen at %s", host)
                       : listen_all(port, &address, err);
    if (r == 0) {
        r = pthread_create(&port->thread, NULL, run, port);
        if (r != 0)
            error_set_errno(err, r, "can't start the thread of the port that memory comes in at");
    }
    if (r == 0)
        return port;
    close_all(port);
    if (port->stop >= 0)
        close(port->stop);
    free(port);
    return NULL;
}

void memory_port_close(struct memory_port *port)
{
    if (!port)
        return;
    eventfd_write(port->stop, 1);
    pthread_join(port->thread, NULL);
    close(port->stop);
    free(port);
}
