/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* What goes out next, how much of it at once, and what is said once instead of often. */
#include "config.h"

#include "tests/unit/mux_wire.h"
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

enum { FULL = BS_FRAME_MESSAGE_MAX - RPC_FRAME_OVERHEAD }; /* bytes in the largest message */

/* Windows wide enough for what follows, and four channels: 1, 3, 5, 7. */
static struct wire *wire_with_channels(void)
{
    struct mux_config config = wire_config(true);
    struct wire *w;

    config.remote.first_window = 1000000;
    config.memory = 64 << 20;
    w = wire_new_with(config);
    for (int i = 0; i < 4; i++)
        wire_open(w);
    return w;
}

/* A small message has just gone out: turns are short. */
static struct wire *wire_with_small(void)
{
    struct wire *w = wire_with_channels();

    wire_write(w, 7, 64);
    wire_frames(w);
    return w;
}

static void test_message_fits_a_record(void **state)
{
    struct wire *w = wire_with_channels();

    (void)state;
    wire_write(w, 1, FULL + 1);
    assert_string_equal(wire_frames(w), "DATA 1 @0 +16332\nDATA 1 @16332 +1\n");
    wire_free(w);
}

static void test_bulk_takes_turns(void **state)
{
    struct wire *w = wire_with_small();

    (void)state;
    wire_write(w, 1, 2 * FULL);
    wire_write(w, 3, FULL + 9);
    wire_write(w, 5, 2 * FULL);
    assert_string_equal(wire_frames(w), "DATA 1 @0 +16332\n"
                                        "DATA 3 @0 +16332\n"
                                        "DATA 5 @0 +16332\n"
                                        "DATA 1 @16332 +16332\n"
                                        "DATA 3 @16332 +9\n"
                                        "DATA 5 @16332 +16332\n");
    assert_false(w->urgent);
    wire_free(w);
}

/* Where nobody waits for small messages. */
static void test_long_turns(void **state)
{
    struct wire *w = wire_with_channels();

    (void)state;
    wire_write(w, 1, 7 * FULL);
    wire_write(w, 3, 2 * FULL);
    wire_write(w, 5, 6 * FULL);
    assert_string_equal(wire_frames_within(w, 8 * BS_FRAME_MESSAGE_MAX), "DATA 1 @0 +16332\n"
                                                                         "DATA 1 @16332 +16332\n"
                                                                         "DATA 1 @32664 +16332\n"
                                                                         "DATA 1 @48996 +16332\n"
                                                                         "DATA 1 @65328 +16332\n"
                                                                         "DATA 3 @0 +16332\n"
                                                                         "DATA 3 @16332 +16332\n"
                                                                         "DATA 5 @0 +16332\n");
    wire_free(w);
}

static void test_a_small_message_cuts_a_turn_short(void **state)
{
    struct wire *w = wire_with_channels();

    (void)state;
    wire_write(w, 1, 4 * FULL);
    wire_write(w, 5, 2 * FULL);
    assert_string_equal(wire_frames_within(w, BS_FRAME_MESSAGE_MAX), "DATA 1 @0 +16332\n");
    wire_write(w, 7, 64);
    assert_string_equal(wire_frames_within(w, 4 * BS_FRAME_MESSAGE_MAX), "DATA 7 @0 +64\n"
                                                                         "DATA 1 @16332 +16332\n");
    assert_string_equal(wire_frames_within(w, 2 * BS_FRAME_MESSAGE_MAX), "DATA 5 @0 +16332\n"
                                                                         "DATA 1 @32664 +16332\n");
    wire_free(w);
}

/* No more bulk is under way then than the link is known to need. */
static void test_bulk_is_held_beside_small_messages(void **state)
{
    struct wire *w = wire_with_small();

    (void)state;
    wire_write(w, 1, 24 * FULL);
    wire_frames(w); /* 256 KiB and a bit: the link may need them */
    assert_string_equal(wire_frames(w), "");
    assert_false(mux_session_wants_send(w->session));
    wire_write(w, 3, 64);
    assert_string_equal(wire_frames(w), "DATA 3 @0 +64\n");
    w->now += 5 * MS;
    wire_say(w, BS_FRAME_PONG, 0, 1, 0, NULL); /* to a PING that went out before all that */
    assert_string_equal(wire_frames(w), "PING 2\nDATA 1 @277644 +16332\n"); /* on time: more */
    wire_say(w, BS_FRAME_PONG, 0, 2, 0, NULL); /* so all of it has arrived */
    assert_true(mux_session_wants_send(w->session));
    assert_string_equal(wire_frames_within(w, BS_FRAME_MESSAGE_MAX), "DATA 1 @293976 +16332\n");
    wire_free(w);
}

/* Many channels together take no more ahead of the link than stays in the cache. */
static void test_taken_ahead(void **state)
{
    struct mux_config config = wire_config(true);
    struct wire *w;

    (void)state;
    config.remote = (struct mux_limits){.first_window = 1000000, .channels = 8};
    config.memory = 64 << 20;
    w = wire_new_with(config);
    for (uint32_t c = 1; c <= 11; c += 2)
        assert_int_equal(wire_open(w), c);
    for (uint32_t c = 1; c <= 9; c += 2)
        wire_write(w, c, 900000);
    assert_int_equal(mux_channel_space(w->session, 9), 0);
    assert_int_equal(mux_channel_space(w->session, 11), 64 << 10);
    wire_write(w, 11, 64 << 10);
    assert_int_equal(mux_channel_space(w->session, 11), 0);
    wire_events(w);
    while (*wire_frames_within(w, BS_FRAME_MESSAGE_MAX))
        ;
    assert_non_null(strstr(wire_events(w), "writable 11\n"));
    assert_int_equal(mux_channel_space(w->session, 11), 1000000 - (64 << 10));
    wire_free(w);
}

/* Only whole messages, and the turn of what didn't fit comes next time. */
static void test_buffer_ends(void **state)
{
    struct wire *w = wire_with_small();

    (void)state;
    wire_write(w, 1, 2 * FULL);
    wire_write(w, 3, 2 * FULL);
    assert_string_equal(wire_frames_within(w, BS_FRAME_MESSAGE_MAX), "DATA 1 @0 +16332\n");
    assert_string_equal(wire_frames_within(w, 3 * BS_FRAME_MESSAGE_MAX - 1),
                        "DATA 3 @0 +16332\nDATA 1 @16332 +16332\n");
    assert_string_equal(wire_frames(w), "DATA 3 @16332 +16332\n");
    wire_free(w);
}

static void test_newly_busy_overtakes_bulk(void **state)
{
    struct wire *w = wire_with_channels();

    (void)state;
    wire_write(w, 1, 10 * FULL);
    wire_frames_within(w, 2 * BS_FRAME_MESSAGE_MAX);
    wire_write(w, 3, 64);
    assert_string_equal(wire_frames(w), "DATA 3 @0 +64\nDATA 1 @32664 +16332\n");
    assert_true(w->urgent);
    /* with more than a quantum it is bulk itself */
    wire_write(w, 5, FULL + 1);
    wire_frames_within(w, BS_FRAME_MESSAGE_MAX);
    assert_string_equal(wire_frames_within(w, BS_FRAME_MESSAGE_MAX), "DATA 5 @0 +16332\n");
    wire_free(w);
}

/* One turn, then to the back: a channel that always has a little must not starve the bulk. */
static void test_newly_busy_gets_one_turn(void **state)
{
    struct wire *w = wire_with_small();

    (void)state;
    wire_write(w, 1, 5 * FULL);
    wire_write(w, 3, 5 * FULL);
    wire_write(w, 5, 10000);
    assert_string_equal(wire_frames_within(w, BS_FRAME_MESSAGE_MAX), "DATA 5 @0 +10000\n");
    wire_write(w, 5, 10000);
    assert_string_equal(wire_frames_within(w, 3 * BS_FRAME_MESSAGE_MAX),
                        "DATA 1 @0 +16332\nDATA 3 @0 +16332\nDATA 5 @10000 +10000\n");
    wire_free(w);
}

static void test_channel_0_overtakes(void **state)
{
    struct wire *w = wire_with_channels();

    (void)state;
    wire_write(w, 1, 3 * FULL);
    wire_write(w, 3, 64);
    wire_write(w, 0, FULL + 10);
    assert_string_equal(wire_frames(w), "DATA 0 @0 +16332\n"
                                        "DATA 0 @16332 +10\n"
                                        "DATA 3 @0 +64\n"
                                        "DATA 1 @0 +16332\n");
    assert_true(w->urgent);
    assert_string_equal(wire_frames(w), "DATA 1 @16332 +16332\nDATA 1 @32664 +16332\n");
    assert_false(w->urgent);
    wire_free(w);
}

static void test_control_goes_first(void **state)
{
    struct mux_config config = wire_config(true);
    struct wire *w;
    uint32_t c;

    (void)state;
    config.remote = (struct mux_limits){.first_window = 1000000, .channels = 10};
    config.memory = 64 << 20;
    w = wire_new_with(config);
    for (int i = 0; i < 3; i++)
        wire_open(w);
    wire_write(w, 0, 10);
    wire_write(w, 1, 3 * FULL);
    mux_channel_end(w->session, 1);
    mux_channel_end(w->session, 3);
    wire_say_data(w, 5, 0, 50);
    assert_int_equal(mux_channel_open(w->session, "b", &c), 0);
    mux_channel_reset(w->session, 3, BS_RESET_CANCELLED, "enough");
    wire_say(w, BS_FRAME_PING, 0, 123, 0, NULL);
    assert_string_equal(wire_frames(w), "PONG 123\n"
                                        "LIMIT 5 received 50 limit 150\n"
                                        "OPEN 7 b\n"
                                        "RESET 3 code 1 enough\n"
                                        "DATA 0 @0 +10\n"
                                        "DATA 1 @0 +16332\n");
    assert_string_equal(wire_frames(w), "DATA 1 @16332 +16332\n"
                                        "DATA 1 @32664 +16332\n"
                                        "EOF 1 @48996\n");
    wire_free(w);
}

/* A LIMIT accompanies bulk the other way: it doesn't make writes small. */
static void test_limit_is_not_urgent(void **state)
{
    struct wire *w = wire_with_channels();

    (void)state;
    wire_write(w, 1, 3 * FULL);
    wire_say_data(w, 1, 0, 50);
    assert_string_equal(wire_frames(w), "LIMIT 1 received 50 limit 150\n"
                                        "DATA 1 @0 +16332\n"
                                        "DATA 1 @16332 +16332\n"
                                        "DATA 1 @32664 +16332\n");
    assert_false(w->urgent);
    wire_free(w);
}

static void test_opens_go_in_rising_order(void **state)
{
    struct wire *w = wire_new(false);
    uint32_t c;

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(mux_channel_open(w->session, "a", &c), 0);
    mux_channel_reset(w->session, 4, BS_RESET_CANCELLED, "");
    mux_channel_end(w->session, 2);
    assert_string_equal(wire_frames(w), "OPEN 2 a\nEOF 2 @0\nOPEN 6 a\nOPEN 8 a\n");
    wire_free(w);
}

/* Reading never waits for writing, and needs no memory for it: what is answered is a flag. */
static void test_newest_pong_only(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    for (uint64_t token = 100; token < 1100; token++)
        wire_say(w, BS_FRAME_PING, 0, token, 0, NULL);
    assert_string_equal(wire_frames(w), "PONG 1099\n");
    assert_true(w->urgent);
    wire_free(w);
}

static void test_keepalive_is_answered(void **state)
{
    static const uint8_t ping[28] = {0, 0, 0, 28, 0x6b, 0x65, 0x65, 0x70, 0, 0,
                                     0, 1, 0, 0,  0,    1,    0,    0,    0, 2};
    static const uint8_t pong[28] = {0, 0, 0, 28, 0x6b, 0x65, 0x65, 0x70, 0, 0,
                                     0, 1, 0, 0,  0,    2,    0,    0,    0, 2};
    struct wire *w = wire_new(true);

    (void)state;
    assert_int_equal(wire_say_bytes(w, ping, sizeof ping), 0);
    assert_int_equal(wire_say_bytes(w, ping, sizeof ping), 0);
    assert_string_equal(wire_frames(w), "KEEPALIVE\n");
    assert_int_equal(wire_say_bytes(w, pong, sizeof pong), 0);
    assert_string_equal(wire_frames(w), "");
    assert_string_equal(wire_events(w), "");
    wire_free(w);
}

/* 1 MiB; 32 KiB for 100 ms after a small message. */
static void test_gather(void **state)
{
    struct wire *w = wire_with_channels();

    (void)state;
    wire_write(w, 1, 300000);
    assert_int_equal(mux_session_gather(w->session, w->now), 1 << 20);
    wire_write(w, 5, 64);
    wire_frames(w);
    assert_int_equal(mux_session_gather(w->session, w->now), 32 << 10);
    assert_int_equal(mux_session_gather(w->session, w->now + 99 * MS), 32 << 10);
    assert_int_equal(mux_session_gather(w->session, w->now + 100 * MS), 1 << 20);
    wire_free(w);
}

/* The number of the last PING that went out with what is due now; 0: none did. */
static uint64_t ping_in_frames(struct wire *w)
{
    const char *ping = strstr(wire_frames(w), "PING ");

    return ping ? strtoull(ping + 5, NULL, 10) : 0;
}

/* Where a round trip takes less than a millisecond, 64 KiB are the least that may be under way. */
static void test_less_is_held_on_a_near_link(void **state)
{
    struct wire *w = wire_with_small();
    uint64_t ping, sent;
    struct mux_channel_stats stats;

    (void)state;
    w->now += MS / 10;
    wire_say(w, BS_FRAME_PONG, 0, 1, 0, NULL); /* the shortest round trip */
    for (int i = 0; i < 6; i++) { /* and longer ones, in which bulk stands in a queue */
        wire_write(w, 3, 64);
        wire_write(w, 1, 3 * FULL);
        while ((ping = ping_in_frames(w))) {
            w->now += MS / 2;
            wire_say(w, BS_FRAME_PONG, 0, ping, 0, NULL);
        }
    }
    mux_channel_get_stats(w->session, 1, &stats);
    sent = stats.sent;
    wire_write(w, 3, 64);
    wire_write(w, 1, 12 * FULL);
    while (*wire_frames(w))
        ;
    mux_channel_get_stats(w->session, 1, &stats);
    assert_in_range(stats.sent - sent, FULL, 5 * FULL); /* 256 KiB would have let all of it pass */
    assert_false(mux_session_wants_send(w->session));
    wire_free(w);
}

/* The end of bulk is no small message. */
static void test_end_of_bulk_is_not_small(void **state)
{
    struct wire *w = wire_with_channels();

    (void)state;
    wire_write(w, 1, FULL + 10);
    wire_frames(w);
    assert_false(w->urgent);
    assert_int_equal(mux_session_gather(w->session, w->now), 1 << 20);
    wire_free(w);
}

/* More frames are due than fit: the rest comes next. */
static void test_many_controls(void **state)
{
    struct mux_config config = wire_config(true);
    struct wire *w;
    uint32_t c;
    size_t opens = 0;

    (void)state;
    config.remote.channels = 1000;
    config.memory = 1 << 20;
    w = wire_new_with(config);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(mux_channel_open(w->session, "nbd/vda", &c), 0);
    while (mux_session_wants_send(w->session)) {
        const char *frames = wire_frames_within(w, BS_FRAME_MESSAGE_MAX);

        for (const char *line = frames; *line; line = strchr(line, '\n') + 1)
            opens++;
    }
    assert_int_equal(opens, 1000);
    wire_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_fits_a_record),
        cmocka_unit_test(test_bulk_takes_turns),
        cmocka_unit_test(test_long_turns),
        cmocka_unit_test(test_a_small_message_cuts_a_turn_short),
        cmocka_unit_test(test_bulk_is_held_beside_small_messages),
        cmocka_unit_test(test_taken_ahead),
        cmocka_unit_test(test_buffer_ends),
        cmocka_unit_test(test_newly_busy_overtakes_bulk),
        cmocka_unit_test(test_newly_busy_gets_one_turn),
        cmocka_unit_test(test_channel_0_overtakes),
        cmocka_unit_test(test_control_goes_first),
        cmocka_unit_test(test_limit_is_not_urgent),
        cmocka_unit_test(test_opens_go_in_rising_order),
        cmocka_unit_test(test_newest_pong_only),
        cmocka_unit_test(test_keepalive_is_answered),
        cmocka_unit_test(test_less_is_held_on_a_near_link),
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_end_of_bulk_is_not_small),
        cmocka_unit_test(test_many_controls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
