/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A path that can fall silent: see relay.h.
 *
 * One thread and poll(2).  A write may block until the far QEMU reads, which it does; an order
 * comes as a byte through a socket pair, and is answered by one when it has been carried out.
 */
#include "config.h"

#include "tests/qemu/relay.h"
#include "qemu/qmp_socket.h"
#include "tests/unit/unit.h"

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 8, ORDER_SILENCE = 's', ORDER_END = 'e' };

struct relay {
    struct sockaddr_un from, to;
    int listener;
    int order[2]; /* the test's end, the thread's end */
    pthread_t thread;
    /* The thread's: descriptors 2i and 2i + 1 belong together, -1 when gone. */
    int fds[2 * CONNECTIONS_MAX];
    size_t count;
    bool silent, one_way;
};

static void accept_one(struct relay *relay)
{
    int near = accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC);
    int far = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(near >= 0 && far >= 0 && relay->count < CONNECTIONS_MAX);
    assert_int_equal(connect(far, (struct sockaddr *)&relay->to, sizeof relay->to), 0);
    relay->fds[2 * relay->count] = near;
    relay->fds[2 * relay->count + 1] = far;
    relay->count++;
}

/* Carries what descriptor I has to say to its partner; an end is an end for both. */
static void carry(struct relay *relay, size_t i)
{
    char buffer[1 << 16];
    int from = relay->fds[i], to = relay->fds[i ^ 1];
    ssize_t n = read(from, buffer, sizeof buffer), sent = 0;

    if (relay->one_way && i % 2 == 1 && n > 0)
        return;
    while (n > 0 && sent < n) {
        ssize_t part = send(to, buffer + sent, (size_t)(n - sent), MSG_NOSIGNAL);

        if (part < 0)
            n = -1;
        else
            sent += part;
    }
    if (n > 0)
        return;
    close(from);
    close(to);
    relay->fds[i] = relay->fds[i ^ 1] = -1;
}

/* Waits for something to do, and does it.  Returns false when the end was ordered. */
static bool run_once(struct relay *relay)
{
    struct pollfd fds[2 + 2 * CONNECTIONS_MAX];
    size_t count = relay->silent ? 1 : 2 + 2 * relay->count;
    char order = 0;

    fds[0] = (struct pollfd){.fd = relay->order[1], .events = POLLIN};
    fds[1] = (struct pollfd){.fd = relay->listener, .events = POLLIN};
    for (size_t i = 0; i < 2 * relay->count; i++)
        fds[2 + i] = (struct pollfd){.fd = relay->fds[i], .events = POLLIN};
    assert_true(poll(fds, count, -1) > 0);
    if (fds[0].revents) {
        assert_int_equal(read(relay->order[1], &order, 1), 1);
        relay->silent = true;
        assert_int_equal(write(relay->order[1], &order, 1), 1);
        return order != ORDER_END;
    }
    for (size_t i = 2; i < count; i++) {
        if (fds[i].revents && relay->fds[i - 2] >= 0)
            carry(relay, i - 2);
    }
    if (fds[1].revents)
        accept_one(relay);
    return true;
}

static void *run_relay(void *opaque)
{
    struct relay *relay = opaque;

    while (run_once(relay))
        ;
    return NULL;
}

static struct relay *new (const char *from, const char *to, bool one_way)
{
    struct relay *relay = calloc(1, sizeof *relay);

    assert_non_null(relay);
    relay->one_way = one_way;
    assert_int_equal(qmp_socket_address(from, &relay->from, NULL), 0);
    assert_int_equal(qmp_socket_address(to, &relay->to, NULL), 0);
    relay->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(relay->listener, (struct sockaddr *)&relay->from, sizeof relay->from), 0);
    assert_int_equal(listen(relay->listener, CONNECTIONS_MAX), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, relay->order), 0);
    assert_int_equal(pthread_create(&relay->thread, NULL, run_relay, relay), 0);
    return relay;
}

struct relay *relay_new(const char *from, const char *to)
{
    return new (from, to, false);
}

struct relay *relay_new_one_way(const char *from, const char *to)
{
    return new (from, to, true);
}

static void order(struct relay *relay, char what)
{
    assert_int_equal(write(relay->order[0], &what, 1), 1);
    assert_int_equal(read(relay->order[0], &what, 1), 1);
}

void relay_silence(struct relay *relay)
{
    order(relay, ORDER_SILENCE);
}

void relay_free(struct relay *relay)
{
    order(relay, ORDER_END);
    pthread_join(relay->thread, NULL);
    for (size_t i = 0; i < 2 * relay->count; i++) {
        if (relay->fds[i] >= 0)
            close(relay->fds[i]);
    }
    close(relay->listener);
    close(relay->order[0]);
    close(relay->order[1]);
    unlink(relay->from.sun_path);
    free(relay);
}
