/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Credit: when a LIMIT goes out and what it says, how windows grow and shrink, and both pools. */
#include "config.h"

#include "tests/unit/mux_pair.h"
#include "tests/unit/mux_wire.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)

static struct mux_session_stats stats_of(const struct mux_session *session)
{
    struct mux_session_stats stats;

    mux_session_get_stats(session, &stats);
    return stats;
}

/* The limit that the last LIMIT in FRAMES says. */
static uint64_t limit_in(const char *frames)
{
    const char *limit = NULL;
    unsigned long long value;

    for (const char *next = frames; (next = strstr(next, "limit ")); next++)
        limit = next;
    assert_non_null(limit);
    assert_int_equal(sscanf(limit, "limit %llu", &value), 1);
    return value;
}

/* ---- making ---------------------------------------------------------------------------------------- */

static void test_first_windows_must_fit(void **state)
{
    static const struct mux_callbacks none;
    struct mux_config config = wire_config(true);
    struct mux_session *session;

    (void)state;
    config.callbacks = &none;
    config.memory = 9 * 100; /* four channels from each side, and channel 0 */
    session = mux_session_new(&config, 0);
    assert_non_null(session);
    mux_session_free(session);
    config.memory--;
    assert_null(mux_session_new(&config, 0));

    config = wire_config(true);
    config.callbacks = &none;
    config.local.first_window = 0;
    assert_null(mux_session_new(&config, 0));
    config.local = (struct mux_limits){UINT32_MAX, UINT32_MAX};
    config.remote = config.local;
    assert_null(mux_session_new(&config, 0));
    mux_session_free(NULL);
}

/* ---- LIMIT ----------------------------------------------------------------------------------------- */

static void test_limit_after_a_quarter(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "a");
    wire_say_data(w, 2, 0, 24);
    assert_string_equal(wire_frames(w), "");
    wire_say_data(w, 2, 24, 1);
    assert_string_equal(wire_frames(w), "LIMIT 2 received 25 limit 125\n");
    assert_false(w->urgent);
    wire_say_data(w, 2, 25, 24);
    assert_string_equal(wire_frames(w), "");
    wire_say_data(w, 2, 49, 70);
    assert_string_equal(wire_frames(w), "LIMIT 2 received 119 limit 219\n");
    wire_free(w);
}

/* A flag, not a queue: however much came, one LIMIT tells the newest. */
static void test_limit_is_the_newest(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "a");
    for (uint64_t i = 0; i < 3; i++)
        wire_say_data(w, 2, 30 * i, 30);
    assert_string_equal(wire_frames(w), "LIMIT 2 received 90 limit 190\n");
    wire_free(w);
}

/* What came is acknowledged, but credit is given only for what the socket has taken. */
static void test_slow_reader_gets_no_credit(void **state)
{
    struct wire *w = wire_new(true);
    struct iovec iov[2];

    (void)state;
    w->take = 0;
    wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "a");
    wire_say_data(w, 2, 0, 100);
    assert_string_equal(wire_frames(w), "LIMIT 2 received 100 limit 100\n");
    assert_int_equal(stats_of(w->session).receive_pool, 200);
    assert_int_equal(mux_channel_peek(w->session, 2, iov), 1);
    assert_int_equal(iov[0].iov_len, 100);
    mux_channel_consume(w->session, 2, 24);
    assert_string_equal(wire_frames(w), "");
    mux_channel_consume(w->session, 2, 1);
    assert_string_equal(wire_frames(w), "LIMIT 2 received 100 limit 125\n");
    wire_free(w);
}

/* Something queued keeps data() from being called: bytes stay in order. */
static void test_data_waits_behind_what_is_queued(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    w->take = 4;
    wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "a");
    wire_say_data(w, 2, 0, 10);
    wire_say_data(w, 2, 10, 10);
    assert_string_equal(wire_events(w), "opened 2 a\ndata 2 +10\n");
    mux_channel_consume(w->session, 2, 16);
    wire_say_data(w, 2, 20, 3);
    assert_string_equal(wire_events(w), "data 2 +3\n");
    wire_free(w);
}

/* No more credit once EOF came, and what was granted beyond it is free. */
static void test_no_credit_behind_eof(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    w->take = 0;
    wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "a");
    wire_say_data(w, 2, 0, 60);
    wire_say(w, BS_FRAME_EOF, 2, 60, 0, NULL);
    assert_int_equal(stats_of(w->session).receive_pool, 160);
    assert_string_equal(wire_frames(w), "LIMIT 2 received 60 limit 100\n");
    mux_channel_consume(w->session, 2, 60);
    assert_string_equal(wire_frames(w), "");
    assert_int_equal(stats_of(w->session).receive_pool, 100);
    wire_free(w);
}

/*
 * What is less than a quarter is said once the channel is quiet.  The schedule that shows why: a sender
 * whose pool is smaller than the receiver's quarter of a window has its pool full of bytes that have
 * arrived, may send no more, and the receiver waits for more before it says so.
 */
static void test_the_rest_is_acknowledged_when_quiet(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "a");
    wire_say_data(w, 2, 0, 10);
    assert_string_equal(wire_frames(w), "");
    for (int i = 0; i < 2; i++) {
        uint64_t deadline = mux_session_deadline(w->session);

        assert_in_range(deadline, w->now + 1, w->now + 100 * MS);
        w->now = deadline;
        assert_int_equal(mux_session_tick(w->session, w->now), 0);
    }
    assert_string_equal(wire_frames(w), "LIMIT 2 received 10 limit 110\n");
    assert_true(mux_session_deadline(w->session) == UINT64_MAX);
    wire_free(w);
}

static void test_small_sender_and_large_receiver(void **state)
{
    const struct mux_config config = {
        .local = {100, 1}, .remote = {100000, 1}, .memory = 300, /* of the sender */
    };
    struct pair *pair = pair_new(&config, 10000000);
    uint32_t c = pair_open(&pair->sides[0], 5000, 0);

    (void)state;
    pair->sides[0].users[0].plan = 1000;
    pair_run(pair);
    pair_check(pair);
    assert_int_equal(pair->sides[1].users[c].read, 5000);
    assert_int_equal(pair->sides[1].users[0].read, 1000);
    pair_check_finished(pair);
    pair_free(pair);
}

/* ---- windows ----------------------------------------------------------------------------------------- */

/* A session with a first window of 1000 that knows its round trip: 20 ms. */
static struct wire *wire_with_round_trip(uint64_t memory)
{
    struct mux_config config = wire_config(true);
    struct wire *w;

    config.local.first_window = 1000;
    config.memory = memory;
    w = wire_new_with(config);
    w->now += 20 * MS;
    wire_say(w, BS_FRAME_PONG, 0, 1, 0, NULL);
    assert_int_equal(stats_of(w->session).round_trip, 20 * MS);
    wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "a");
    return w;
}

/* Sends LENGTH bytes in 20 ms. */
static const char *one_round_trip(struct wire *w, uint64_t *offset, size_t length)
{
    w->now += 20 * MS;
    wire_say_data(w, 2, *offset, length);
    *offset += length;
    return wire_frames(w);
}

static void test_window_grows_by_rate_and_round_trip(void **state)
{
    struct wire *w = wire_with_round_trip(1000000);
    uint64_t offset = 0;

    (void)state;
    /* as much as the window allows, so it is what limits: twice as much */
    assert_int_equal(limit_in(one_round_trip(w, &offset, 1000)), 1000 + 2000);
    assert_int_equal(limit_in(one_round_trip(w, &offset, 2000)), 3000 + 4000);
    /* less than half of it: it doesn't limit, and stays */
    assert_int_equal(limit_in(one_round_trip(w, &offset, 1500)), 4500 + 4000);
    wire_free(w);
}

static void test_slow_socket_lets_no_window_grow(void **state)
{
    struct wire *w = wire_with_round_trip(1000000);
    uint64_t offset = 0;

    (void)state;
    w->take = 0;
    assert_int_equal(limit_in(one_round_trip(w, &offset, 1000)), 1000);
    w->now += 40 * MS;
    mux_channel_consume(w->session, 2, 800);
    assert_int_equal(limit_in(wire_frames(w)), 800 + 1000);
    wire_free(w);
}

/* A window shrinks by its limit not advancing; the limit itself never goes back. */
static void test_window_shrinks_without_the_limit(void **state)
{
    struct wire *w = wire_with_round_trip(1000000);
    uint64_t offset = 0, limit;

    (void)state;
    one_round_trip(w, &offset, 1000);
    one_round_trip(w, &offset, 2000);
    limit = limit_in(one_round_trip(w, &offset, 4000));
    assert_int_equal(limit, 7000 + 8000);
    for (int i = 0; i < 2; i++) {
        w->now = mux_session_deadline(w->session);
        mux_session_tick(w->session, w->now);
    }
    /* quiet for long: its window is the first one again */
    w->now += 10000 * MS;
    wire_say_data(w, 2, offset, 7000);
    offset += 7000;
    assert_int_equal(limit_in(wire_frames(w)), limit);
    w->now += 1 * MS;
    wire_say_data(w, 2, offset, 800);
    assert_int_equal(limit_in(wire_frames(w)), offset + 800 + 1000);
    wire_free(w);
}

/* Lets the window grow as far as the pool allows, to 9000.  Returns the limit. */
static uint64_t grow_window(struct wire *w, uint64_t *offset)
{
    uint64_t limit = 1000;

    for (int i = 0; i < 12; i++)
        limit =
            limit_in(one_round_trip(w, offset, limit - *offset < 8000 ? limit - *offset : 8000));
    return limit;
}

/* One channel gets at most four times what then stays free of the pool. */
static void test_window_takes_four_fifths(void **state)
{
    struct wire *w = wire_with_round_trip(9 * 1000 + 10000);
    uint64_t offset = 0, limit = grow_window(w, &offset);

    (void)state;
    assert_int_equal(limit - offset, 1000 + 8000);
    assert_int_equal(stats_of(w->session).receive_pool, 1000 + 9000);
    wire_free(w);
}

/* The window wants far more than the pool has: LIMITs come by what it can be, not by what it wants. */
static void test_quarter_of_what_the_window_can_be(void **state)
{
    struct wire *w = wire_with_round_trip(9 * 1000);
    uint64_t offset = 0;

    (void)state;
    for (int i = 0; i < 10; i++) {
        uint64_t limit = limit_in(one_round_trip(w, &offset, 1000));

        assert_int_equal(limit, offset + 1000);
    }
    wire_say_data(w, 2, offset, 250);
    assert_int_equal(limit_in(wire_frames(w)), offset + 250 + 1000);
    wire_free(w);
}

/* However much one channel has, every other that may ever be has its first window. */
static void test_first_windows_are_set_aside(void **state)
{
    struct wire *w = wire_with_round_trip(9 * 1000 + 10000);
    uint64_t offset = 0;

    (void)state;
    grow_window(w, &offset);
    for (uint32_t c = 4; c <= 8; c += 2)
        wire_say(w, BS_FRAME_OPEN, c, 0, 0, "a");
    for (int i = 0; i < 4; i++)
        wire_open(w);
    assert_in_range(stats_of(w->session).receive_pool, 9 * 1000 + 8000, 9 * 1000 + 10000);
    w->take = 0;
    for (uint32_t c = 4; c <= 8; c += 2)
        assert_int_equal(wire_say_data(w, c, 0, 1000), 0);
    assert_in_range(stats_of(w->session).receive_pool, 9 * 1000 + 8000, 9 * 1000 + 10000);
    wire_free(w);
}

/* A channel that is reset leaves nothing behind in either pool. */
static void test_reset_hands_credit_back(void **state)
{
    struct wire *w = wire_with_round_trip(9 * 1000 + 10000);
    uint64_t offset = 0;

    (void)state;
    grow_window(w, &offset);
    wire_write(w, 2, 100);
    assert_int_equal(stats_of(w->session).send_pool, 100);
    assert_int_equal(stats_of(w->session).receive_pool, 1000 + 9000);
    mux_channel_reset(w->session, 2, BS_RESET_CANCELLED, "");
    assert_int_equal(stats_of(w->session).send_pool, 0);
    assert_int_equal(stats_of(w->session).receive_pool, 1000);
    /* what comes in the meantime is dropped, and takes nothing from anybody */
    assert_int_equal(wire_say_data(w, 2, offset, 9000), 0);
    assert_int_equal(stats_of(w->session).receive_pool, 1000);
    wire_say(w, BS_FRAME_RESET, 2, 0, 1, NULL);
    wire_frames(w);
    wire_say(w, BS_FRAME_RESET, 2, 0, 1, NULL);
    assert_int_equal(stats_of(w->session).channels, 0);
    wire_free(w);
}

/* ---- sending ---------------------------------------------------------------------------------------- */

static void test_space_and_writable(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t c = wire_open(w);

    (void)state;
    assert_int_equal(mux_channel_space(w->session, c), 100);
    wire_write(w, c, 100);
    assert_int_equal(mux_channel_space(w->session, c), 0);
    assert_int_equal(mux_channel_write(w->session, c, "x", 1), 0);
    wire_frames(w);
    assert_string_equal(wire_events(w), "");
    wire_say(w, BS_FRAME_LIMIT, c, 100, 100, NULL); /* received, but not more credit */
    assert_string_equal(wire_events(w), "");
    wire_say(w, BS_FRAME_LIMIT, c, 100, 130, NULL);
    wire_say(w, BS_FRAME_LIMIT, c, 100, 140, NULL);
    assert_string_equal(wire_events(w), "writable 1\n");
    assert_int_equal(mux_channel_space(w->session, c), 40);
    wire_free(w);
}

/* What was sent is kept until the peer has received it, whatever its limit says. */
static void test_sent_bytes_are_kept(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t c = wire_open(w);
    struct mux_channel_stats stats;

    (void)state;
    wire_write(w, c, 80);
    wire_frames(w);
    assert_int_equal(stats_of(w->session).send_pool, 80);
    wire_say(w, BS_FRAME_LIMIT, c, 30, 130, NULL);
    assert_int_equal(stats_of(w->session).send_pool, 50);
    assert_int_equal(mux_channel_get_stats(w->session, c, &stats), 0);
    assert_int_equal(stats.sent, 80);
    assert_int_equal(stats.acked, 30);
    wire_free(w);
}

/* The peer's credit can be more than our memory: the send pool stops it, fairly. */
static void test_send_pool(void **state)
{
    struct mux_config config = wire_config(true);
    struct wire *w;
    uint32_t a, b;

    (void)state;
    config.memory = 9 * 100 + 1000;
    w = wire_new_with(config);
    a = wire_open(w);
    b = wire_open(w);
    wire_say(w, BS_FRAME_LIMIT, a, 0, 1000000, NULL);
    wire_say(w, BS_FRAME_LIMIT, b, 0, 1000000, NULL);
    assert_int_equal(mux_channel_space(w->session, a), 100 + 800);
    wire_write(w, a, 900);
    assert_int_equal(mux_channel_space(w->session, a), 0);
    assert_int_equal(mux_channel_space(w->session, b), 100 + 160);
    wire_write(w, b, 260);
    wire_frames(w);
    wire_say(w, BS_FRAME_LIMIT, a, 500, 1000000, NULL);
    assert_string_equal(wire_events(w), "writable 1\n");
    assert_true(stats_of(w->session).send_pool <= config.memory);
    wire_free(w);
}

/* A link that takes nothing: what waits for it is bounded, too. */
static void test_no_more_unsent_than_one_write(void **state)
{
    struct mux_config config = wire_config(true);
    struct wire *w;
    uint32_t c;

    (void)state;
    config.memory = 64 << 20;
    w = wire_new_with(config);
    c = wire_open(w);
    wire_say(w, BS_FRAME_LIMIT, c, 0, UINT64_MAX, NULL);
    assert_int_equal(mux_channel_space(w->session, c), 1 << 20);
    wire_write(w, c, 1 << 20);
    assert_int_equal(mux_channel_space(w->session, c), 0);
    wire_frames_within(w, 200000);
    assert_string_equal(wire_events(w), "writable 1\n");
    wire_free(w);
}

static size_t take_nothing(struct pair_side *side, uint32_t channel, size_t length)
{
    (void)side;
    (void)channel;
    (void)length;
    return 0;
}

/* Both sides fill all that they may send, and neither socket takes anything before that: with one
 * pool for both directions nobody could send any more. */
static void test_both_directions_full(void **state)
{
    const struct mux_config config = {.local = {1000, 3}, .remote = {1000, 3}, .memory = 7000};
    struct pair *pair = pair_new(&config, 7000);

    (void)state;
    pair->take = take_nothing;
    for (int i = 0; i < 6; i++)
        assert_true(pair_open(&pair->sides[i % 2], 20000, 20000) > 0);
    for (int i = 0; i < 4; i++)
        for (int s = 0; s < 2; s++) {
            for (uint32_t c = 1; c <= 6; c++)
                pair_write(&pair->sides[s], c, SIZE_MAX);
            pair_send(&pair->sides[s], 65536);
            pair_deliver(&pair->sides[s], SIZE_MAX);
            pair_check(pair);
        }
    pair_run(pair);
    pair_check_finished(pair);
    pair_free(pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_windows_must_fit),
        cmocka_unit_test(test_limit_after_a_quarter),
        cmocka_unit_test(test_limit_is_the_newest),
        cmocka_unit_test(test_slow_reader_gets_no_credit),
        cmocka_unit_test(test_data_waits_behind_what_is_queued),
        cmocka_unit_test(test_no_credit_behind_eof),
        cmocka_unit_test(test_the_rest_is_acknowledged_when_quiet),
        cmocka_unit_test(test_small_sender_and_large_receiver),
        cmocka_unit_test(test_window_grows_by_rate_and_round_trip),
        cmocka_unit_test(test_slow_socket_lets_no_window_grow),
        cmocka_unit_test(test_window_shrinks_without_the_limit),
        cmocka_unit_test(test_window_takes_four_fifths),
        cmocka_unit_test(test_quarter_of_what_the_window_can_be),
        cmocka_unit_test(test_first_windows_are_set_aside),
        cmocka_unit_test(test_reset_hands_credit_back),
        cmocka_unit_test(test_space_and_writable),
        cmocka_unit_test(test_sent_bytes_are_kept),
        cmocka_unit_test(test_send_pool),
        cmocka_unit_test(test_no_more_unsent_than_one_write),
        cmocka_unit_test(test_both_directions_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
