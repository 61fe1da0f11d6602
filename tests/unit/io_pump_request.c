/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* What other threads ask of the pump: a cap on what is sent, and how long the peer lets us wait. */
#include "config.h"

#include "common/loop.h"
#include "tests/unit/pump_pair.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RATE = 4000000 };

struct writer {
    pthread_t thread;
    int fd;
    size_t length;
};

static void *write_zeros(void *opaque)
{
    const struct writer *writer = opaque;
    uint8_t *zeros = calloc(1, writer->length);

    assert_non_null(zeros);
    write_all(writer->fd, zeros, writer->length);
    free(zeros);
    return NULL;
}

static uint64_t time_to_carry(int from, int to, size_t length)
{
    struct writer writer = {.fd = from, .length = length};
    uint8_t *buffer = malloc(length);
    uint64_t begun = loop_clock();

    assert_non_null(buffer);
    assert_int_equal(pthread_create(&writer.thread, NULL, write_zeros, &writer), 0);
    read_all(to, buffer, length);
    pthread_join(writer.thread, NULL);
    free(buffer);
    return loop_clock() - begun;
}

static void a_cap_holds_and_goes(void **state)
{
    struct pair pair;
    int near, far;

    (void)state;
    pair_start(&pair, NULL, NULL, true);
    pair_join(&pair, "a", &near, &far);
    assert_int_equal(pump_set_bandwidth(pair.near.pump, RATE), 0);
    assert_true(time_to_carry(near, far, RATE) > LOOP_SECOND * 8 / 10);
    assert_true(time_to_carry(far, near, RATE) < LOOP_SECOND * 8 / 10); /* it is one side's own */
    assert_int_equal(pump_set_bandwidth(pair.near.pump, 0), 0);
    assert_true(time_to_carry(near, far, RATE) < LOOP_SECOND * 8 / 10);
    pump_close(pair.near.pump, BS_CLOSE_CANCELLED, "enough", 5000);
    assert_int_equal(pump_set_bandwidth(pair.near.pump, RATE), -ECONNRESET);
    close(near);
    close(far);
    pair_stop(&pair);
}

static struct pump_stats stats_of(struct pump *pump, const char *endpoint)
{
    struct pump_stats stats;

    pump_get_stats(pump, endpoint, &stats);
    return stats;
}

/* Polls, at most 20 s, until SILENT or WAITING is above LEAST. */
static void await_waiting(struct pump *pump, const char *endpoint, uint64_t least)
{
    const struct timespec pause = {.tv_nsec = 5000000};

    for (int i = 0; i < 4000 && stats_of(pump, endpoint).waiting < least; i++)
        nanosleep(&pause, NULL);
    assert_true(stats_of(pump, endpoint).waiting >= least);
}

static void await_silent(struct pump *pump, uint64_t least)
{
    const struct timespec pause = {.tv_nsec = 5000000};

    for (int i = 0; i < 4000 && stats_of(pump, NULL).silent < least; i++)
        nanosleep(&pause, NULL);
    assert_true(stats_of(pump, NULL).silent >= least);
}

static void requests_without_an_answer(void **state)
{
    struct pair pair;
    int near, far, other_near, other_far;
    char bytes[8];

    (void)state;
    pair_start(&pair, NULL, NULL, true);
    pair_join(&pair, "a", &near, &far);
    pair_join(&pair, "b", &other_near, &other_far);
    assert_int_equal(stats_of(pair.near.pump, "a").waiting, 0);
    write_all(near, "request", 7);
    read_all(far, bytes, 7);
    await_waiting(pair.near.pump, "a", 50 * LOOP_MS);
    assert_int_equal(stats_of(pair.near.pump, "b").waiting, 0);
    assert_true(stats_of(pair.near.pump, NULL).waiting >= 50 * LOOP_MS);
    write_all(near, "another", 7); /* the first one still waits */
    read_all(far, bytes, 7);
    assert_true(stats_of(pair.near.pump, "a").waiting >= 50 * LOOP_MS);

    write_all(far, "answer", 6);
    read_all(near, bytes, 6);
    assert_int_equal(stats_of(pair.near.pump, "a").waiting, 0);
    close(near);
    close(far);
    close(other_near);
    close(other_far);
    pair_stop(&pair);
}

static void a_silent_link(void **state)
{
    struct error err = ERROR_INIT;
    struct pair pair;
    uint8_t ping[28] = {0, 0, 0, 28, 0x6b, 0x65, 0x65, 0x70, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2};
    uint64_t before;

    (void)state;
    pair_start(&pair, NULL, NULL, false);
    await_silent(pair.near.pump, 1100 * LOOP_MS); /* the first PING gets no answer */
    before = stats_of(pair.near.pump, NULL).silent;
    assert_true(stats_of(pair.near.pump, NULL).silent_total >= before);
    assert_int_equal(tls_send_wait(pair.far.link, ping, sizeof ping, 5000, -1, &err), 0);
    for (int i = 0; i < 4000 && stats_of(pair.near.pump, NULL).silent >= before; i++)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    assert_true(stats_of(pair.near.pump, NULL).silent < before);
    assert_true(stats_of(pair.near.pump, NULL).silent_total >= before);
    pair_stop(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cap_holds_and_goes),
        cmocka_unit_test(requests_without_an_answer),
        cmocka_unit_test(a_silent_link),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
