/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* daemon/memory_port.h: the connection with the id is found among those that say nothing or something
 * else, and nobody keeps it out. */
#include "config.h"

#include "tests/unit/unit.h"

#include "common/loop.h"
#include "daemon/memory_port.h"
#include "io/net.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 10000, MANY = 40 };

static const uint8_t id[BS_ID_SIZE] = "0123456789abcde";

struct guard {
    struct memory_port *port;
    unsigned number;
    int admitted;  /* eventfd */
    atomic_int fd; /* what was admitted, a duplicate; -1: nothing yet */
};

static void admit(void *opaque, int fd)
{
    struct guard *guard = opaque;

    guard->fd = dup(fd);
    eventfd_write(guard->admitted, 1);
}

static unsigned free_port(void)
{
    const struct net_address any = {.host = "127.0.0.1", .port = "0"};
    struct error err = ERROR_INIT;
    int fd = net_listen(&any, &err), port;

    assert_true(fd >= 0);
    port = net_local_port(fd);
    close(fd);
    return (unsigned)port;
}

static void open_port(struct guard *guard, const char *host)
{
    struct error err = ERROR_INIT;

    *guard = (struct guard){.number = free_port(), .admitted = eventfd(0, EFD_CLOEXEC), .fd = -1};
    guard->port = memory_port_open(host, guard->number, id, admit, guard, &err);
    if (!guard->port)
        fail_msg("%s", err.text);
}

static void close_port(struct guard *guard)
{
    memory_port_close(guard->port);
    close(guard->admitted);
    if (guard->fd >= 0)
        close(guard->fd);
}

static int call(const struct guard *guard)
{
    struct net_address address = {.host = "127.0.0.1"};
    struct error err = ERROR_INIT;
    int fd;

    snprintf(address.port, sizeof address.port, "%u", guard->number);
    fd = net_dial(&address, WAIT_MS, -1, &err);
    if (fd < 0)
        fail_msg("%s", err.text);
    return fd;
}

static void say(int fd, const void *bytes, size_t length)
{
    assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
}

/* The other end closes the connection, which had been open until now. */
static void expect_end(int fd)
{
    char byte;

    assert_int_equal(net_wait(fd, POLLIN, loop_clock() + WAIT_MS * LOOP_MS, -1), 0);
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
}

/* FD is the one that was admitted, and what follows the id is still to be read. */
static void expect_admitted(struct guard *guard, int fd)
{
    char rest[4];

    assert_int_equal(net_wait(guard->admitted, POLLIN, loop_clock() + WAIT_MS * LOOP_MS, -1), 0);
    say(fd, "rest", 4);
    assert_int_equal(net_wait(guard->fd, POLLIN, loop_clock() + WAIT_MS * LOOP_MS, -1), 0);
    assert_int_equal(recv(guard->fd, rest, sizeof rest, MSG_WAITALL), 4);
    assert_memory_equal(rest, "rest", 4);
    close(fd);
}

static void test_strangers(void **state)
{
    uint8_t wrong[BS_ID_SIZE];
    struct guard guard;
    int silent, slow, liar, fd;

    (void)state;
    open_port(&guard, "127.0.0.1");
    silent = call(&guard);
    slow = call(&guard);
    say(slow, id, BS_ID_SIZE - 1);
    close(call(&guard));
    liar = call(&guard);
    memcpy(wrong, id, sizeof wrong);
    wrong[0] ^= 1;
    say(liar, wrong, 1); /* is not told that it was wrong */
    assert_int_equal(poll(&(struct pollfd){.fd = liar, .events = POLLIN}, 1, 50), 0);
    say(liar, wrong + 1, sizeof wrong - 1);
    expect_end(liar);
    fd = call(&guard);
    say(fd, id, sizeof id);
    expect_admitted(&guard, fd);
    expect_end(silent);
    expect_end(slow);
    close_port(&guard);
}

static void test_an_id_in_pieces(void **state)
{
    struct guard guard;
    int fd;

    (void)state;
    open_port(&guard, "localhost");
    fd = call(&guard);
    for (size_t i = 0; i < sizeof id; i++) {
        assert_int_equal(poll(&(struct pollfd){.fd = guard.admitted, .events = POLLIN}, 1, 1), 0);
        say(fd, &id[i], 1);
    }
    expect_admitted(&guard, fd);
    close_port(&guard);
}

/* More of them than are heard at a time. */
static void test_many(void **state)
{
    int silent[MANY], fd;
    struct guard guard;

    (void)state;
    open_port(&guard, "127.0.0.1");
    for (size_t i = 0; i < MANY; i++)
        silent[i] = call(&guard);
    expect_end(silent[0]);
    fd = call(&guard);
    say(fd, id, sizeof id);
    expect_admitted(&guard, fd);
    for (size_t i = 1; i < MANY; i++)
        expect_end(silent[i]);
    close_port(&guard);
}

static void test_nobody(void **state)
{
    struct error err = ERROR_INIT;
    struct guard guard;
    int silent;

    (void)state;
    open_port(&guard, "127.0.0.1");
    assert_null(memory_port_open("127.0.0.1", guard.number, id, admit, &guard, &err));
    assert_int_equal(err.code, EADDRINUSE);
    assert_null(memory_port_open("192.0.2.1", guard.number, id, admit, &guard, &err));
    assert_int_equal(err.code, EADDRNOTAVAIL);
    silent = call(&guard);
    close_port(&guard);
    expect_end(silent);
    assert_int_equal(guard.fd, -1);
    memory_port_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_an_id_in_pieces),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
