/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A peer that answers a call by keepalive without end: the caller's patience ends all the same.  The file
 * is part of this one for the sake of a patience that is over already.
 */
#include "daemon/link.c" // NOLINT: see above

#include "tests/unit/test_pki.h"
#include "tests/unit/unit.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum { PONGS = 1000 };

static const struct config config = {.session_memory = 64 << 20};
static struct daemon host = {.config = &config, .stop_fd = -1};
static struct net_address address = {.host = "127.0.0.1", .port = "0"};
static int listener;

/* Returns the connection when all of them are on their way. */
static void *say_pongs(void *opaque)
{
    const struct bs_header pong = {.prog = BS_KEEPALIVE_PROGRAM,
                                   .vers = BS_KEEPALIVE_VERSION,
                                   .procedure = BS_KEEPALIVE_PONG,
                                   .type = BS_EVENT};
    uint8_t pongs[RPC_HEAD_SIZE * PONGS];
    struct error err = ERROR_INIT;
    struct tls *tls;

    (void)opaque;
    assert_int_equal(net_wait(listener, POLLIN, loop_clock() + 5 * LOOP_SECOND, -1), 0);
    tls = tls_new_server(host.tls, accept(listener, NULL, NULL), &err);
    for (size_t at = 0; at < sizeof pongs; at += RPC_HEAD_SIZE)
        rpc_head_encode(pongs + at, &pong, 0);
    assert_int_equal(tls_handshake_wait(tls, 5000, -1, &err), 0);
    assert_int_equal(tls_send_wait(tls, "\1", 1, 5000, -1, &err), 0);
    assert_int_equal(tls_send_wait(tls, pongs, sizeof pongs, 5000, -1, &err), 0);
    return tls;
}

static void patience_ends(void **state)
{
    const struct bs_header call = {.type = BS_CALL};
    struct error err = ERROR_INIT;
    pthread_t thread;
    struct link *link;
    void *tls;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, say_pongs, NULL), 0);
    link = link_dial_address(&host, &address, 10000, -1, &err);
    assert_non_null(link);
    pthread_join(thread, &tls);
    assert_int_equal(net_wait(tls_fd(link->tls), POLLIN, loop_clock() + 5 * LOOP_SECOND, -1), 0);
    assert_int_equal(receive_reply(link, &call, loop_clock(), &err), -ETIMEDOUT);
    assert_true(link->start < link->end ||
                recv(tls_fd(link->tls), &(char){0}, 1, MSG_PEEK | MSG_DONTWAIT) == 1);
    link_free(link);
    tls_free(tls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patience_ends),
    };
    struct test_ca *ca = test_ca_new("test CA");
    char *pki = test_pki_dir(ca, NULL);
    struct error err = ERROR_INIT;
    int failed;

    host.tls = tls_context_new(pki, &err);
    host.stop_fd = eventfd(0, EFD_CLOEXEC);
    listener = net_listen(&address, &err);
    snprintf(address.port, sizeof address.port, "%d", net_local_port(listener));
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    close(listener);
    close(host.stop_fd);
    tls_context_free(host.tls);
    test_pki_remove(pki);
    test_ca_free(ca);
    return failed;
}
