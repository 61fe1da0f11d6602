/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A peer that comes in and says things without end that want no answer: the main loop has others to
 * look after.
 */
#include "config.h"

#include "daemon/peer.h"
#include "io/net.h"
#include "rpc/message.h"
#include "tests/unit/test_pki.h"
#include "tests/unit/unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum { FLOOD_SECONDS = 60 }; /* at the most: a loop that it holds up would never end it */

static char name[] = "host", *allowed[] = {name, NULL};
static const struct config config = {.allowed_peers = allowed, .session_memory = 64 << 20};
static struct daemon host = {.config = &config, .hostname = "b.test"};
static struct net_address address = {.host = "127.0.0.1", .port = "0"};
static atomic_bool enough;

/* Sends keepalive's PONG, which nobody has asked for. */
static void *flood(void *opaque)
{
    const struct bs_header pong = {.prog = BS_KEEPALIVE_PROGRAM,
                                   .vers = BS_KEEPALIVE_VERSION,
                                   .procedure = BS_KEEPALIVE_PONG,
                                   .type = BS_EVENT};
    uint64_t *ret_time = opaque, begin = loop_clock();
    uint8_t pongs[RPC_HEAD_SIZE * 512], greeting;
    struct error err = ERROR_INIT;
    struct tls *tls =
        tls_new_client(host.tls, net_dial(&address, 5000, -1, &err), "localhost", &err);

    for (size_t at = 0; at < sizeof pongs; at += RPC_HEAD_SIZE)
        rpc_head_encode(pongs + at, &pong, 0);
    assert_int_equal(tls_handshake_wait(tls, 5000, -1, &err), 0);
    assert_int_equal(tls_receive_wait(tls, &greeting, 1, 5000, -1, &err), 1);
    while (!enough && loop_clock() - begin < FLOOD_SECONDS * LOOP_SECOND &&
           tls_send_wait(tls, pongs, sizeof pongs, 1000, -1, &err) == 0)
        ; /* nobody reads any more when the loop has stopped */
    *ret_time = loop_clock() - begin;
    tls_free(tls);
    return NULL;
}

/* Comes from time to time, while the flood lasts. */
struct ticks {
    struct loop_timer *timer;
    int left;
};

static void tick(void *opaque)
{
    struct ticks *ticks = opaque;

    loop_timer_set(ticks->timer, loop_now(host.loop) + 20 * LOOP_MS);
    if (--ticks->left > 0)
        return;
    enough = true;
    loop_stop(host.loop);
}

static void a_flood_stops_nobody_else(void **state)
{
    static const struct rpc_program nothing = {NULL, 0};
    struct error err = ERROR_INIT;
    struct ticks ticks = {.left = 30};
    int listener = net_listen(&address, &err);
    struct peers *peers;
    uint64_t flooded;
    pthread_t thread;

    (void)state;
    snprintf(address.port, sizeof address.port, "%d", net_local_port(listener));
    peers = peers_start(&host, listener, &nothing, &err);
    assert_non_null(peers);
    ticks.timer = loop_timer_new(host.loop, tick, &ticks);
    tick(&ticks);
    pthread_create(&thread, NULL, flood, &flooded);
    assert_int_equal(loop_run(host.loop), 0);
    pthread_join(thread, NULL);
    assert_true(flooded < FLOOD_SECONDS * LOOP_SECOND);
    loop_timer_free(ticks.timer);
    peers_stop(peers);
    peers_free(peers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flood_stops_nobody_else),
    };
    struct test_ca *ca = test_ca_new("test CA");
    char *pki = test_pki_dir(ca, NULL);
    struct error err = ERROR_INIT;
    int failed;

    host.tls = tls_context_new(pki, &err);
    host.loop = loop_new();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    loop_free(host.loop);
    tls_context_free(host.tls);
    test_pki_remove(pki);
    test_ca_free(ca);
    return failed;
}
