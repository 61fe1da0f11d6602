/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* daemon/ports.h: no port is handed out twice, nor one that anybody else has. */
#include "config.h"

#include "tests/unit/unit.h"

#include "daemon/ports.h"
#include "io/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RANGE = 4 };

/* As QEMU listens: with SO_REUSEADDR. */
static int listen_at(const char *host, unsigned port)
{
    struct net_address address;
    struct error err = ERROR_INIT;
    int fd;

    snprintf(address.host, sizeof address.host, "%s", host);
    snprintf(address.port, sizeof address.port, "%u", port);
    fd = net_listen(&address, &err);
    if (fd < 0 && fd != -EADDRINUSE)
        fail_msg("%s", err.text);
    return fd;
}

/* The first of RANGE ports that nobody else has at this moment. */
static unsigned find_range(void)
{
    for (unsigned first = 20000 + (unsigned)getpid() % 10000;; first += RANGE) {
        unsigned n = 0;

        assert_true(first < 65000);
        while (n < RANGE) {
            int fd = listen_at("::", first + n);

            if (fd < 0)
                break;
            close(fd);
            n++;
        }
        if (n == RANGE)
            return first;
    }
}

static void test_each_is_handed_out_once(void **state)
{
    unsigned first = find_range();
    struct ports *ports = ports_new(first, first + RANGE - 1);
    struct error err = ERROR_INIT;

    (void)state;
    for (unsigned i = 0; i < RANGE; i++)
        assert_int_equal(ports_take(ports, "127.0.0.1", &err), first + i);
    assert_int_equal(ports_take(ports, "127.0.0.1", &err), -EADDRINUSE);
    assert_non_null(strstr(err.text, "direct_ports"));
    ports_give_back(ports, (int)first + 2);
    assert_int_equal(ports_take(ports, "127.0.0.1", &err), first + 2);
    ports_free(ports);
}

/* One that was given back rests as long as there are others. */
static void test_they_take_turns(void **state)
{
    unsigned first = find_range();
    struct ports *ports = ports_new(first, first + RANGE - 1);
    struct error err = ERROR_INIT;

    (void)state;
    for (unsigned i = 0; i < 3 * RANGE; i++) {
        int port = ports_take(ports, "127.0.0.1", &err);

        assert_int_equal(port, first + i % RANGE);
        ports_give_back(ports, port);
    }
    ports_free(ports);
}

/* LISTENER is somebody else's address, HOST where ours shall listen. */
static void check_in_use(const char *listener, const char *host, bool in_use)
{
    unsigned first = find_range();
    struct ports *ports = ports_new(first, first + RANGE - 1);
    struct error err = ERROR_INIT;
    int fd = listen_at(listener, first);

    assert_true(fd >= 0);
    assert_int_equal(ports_take(ports, host, &err), in_use ? first + 1 : first);
    close(fd);
    ports_free(ports);
}

static void test_listeners_are_left_alone(void **state)
{
    (void)state;
    check_in_use("127.0.0.1", "127.0.0.1", true);
    check_in_use("127.0.0.1", "::", true);
    check_in_use("127.0.0.1", "0.0.0.0", true);
    check_in_use("::", "127.0.0.1", true);
    check_in_use("0.0.0.0", "127.0.0.1", true);
    check_in_use("127.0.0.1", "localhost", true); /* one of its addresses */
    check_in_use("127.0.0.2", "127.0.0.1", false);
}

/* As after each migration: the side that closed first keeps the port in TIME_WAIT for a minute, and
 * QEMU can listen on it nevertheless. */
static void test_a_closed_connection_blocks_nothing(void **state)
{
    unsigned first = find_range();
    struct ports *ports = ports_new(first, first + RANGE - 1);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)first),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct error err = ERROR_INIT;
    int server, yes = 1;
    char byte;

    (void)state;
    assert_int_equal(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes), 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    server = accept(listener, NULL, NULL);
    close(server);
    assert_int_equal(read(client, &byte, 1), 0);
    close(client);
    close(listener);
    assert_int_equal(ports_take(ports, "127.0.0.1", &err), first);
    ports_give_back(ports, (int)first);
    ports_free(ports);
}

static void test_what_cannot_be(void **state)
{
    struct ports *none = ports_new(0, 0), *some = ports_new(20000, 20001);
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(ports_take(none, "::", &err), -EOPNOTSUPP);
    assert_non_null(strstr(err.text, "direct_ports is empty"));
    assert_int_equal(ports_take(some, "192.0.2.1", &err), -EADDRNOTAVAIL);
    assert_non_null(strstr(err.text, "192.0.2.1"));
    assert_int_equal(ports_take(some, "no such host", &err), -EADDRNOTAVAIL);
    ports_free(none);
    ports_free(some);
    ports_free(NULL);
}

enum { THREADS = 4, ROUNDS = 500 };

struct shared {
    struct ports *ports;
    unsigned first;
    _Atomic unsigned holders[RANGE];
};

static void *take_and_give_back(void *opaque)
{
    struct shared *shared = opaque;

    for (int i = 0; i < ROUNDS; i++) {
        int port = ports_take(shared->ports, "127.0.0.1", NULL);

        if (port < 0)
            return shared; /* as many threads as ports: there is one for each */
        if (shared->holders[(unsigned)port - shared->first]++ != 0)
            return shared;
        shared->holders[(unsigned)port - shared->first]--;
        ports_give_back(shared->ports, port);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct shared shared = {.first = find_range()};
    pthread_t threads[THREADS];
    void *failed;

    (void)state;
    shared.ports = ports_new(shared.first, shared.first + RANGE - 1);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give_back, &shared), 0);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    ports_free(shared.ports);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_is_handed_out_once),
        cmocka_unit_test(test_they_take_turns),
        cmocka_unit_test(test_listeners_are_left_alone),
        cmocka_unit_test(test_a_closed_connection_blocks_nothing),
        cmocka_unit_test(test_what_cannot_be),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
