/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The end of a session by CLOSE or with its link, and what time brings about until then. */
#include "config.h"

#include "tests/unit/mux_wire.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#define MS UINT64_C(1000000)

/* ---- CLOSE ------------------------------------------------------------------------------------------- */

static void test_done(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t channel;

    (void)state;
    assert_int_equal(mux_session_close(w->session, BS_CLOSE_DONE, "all done"), 0);
    assert_string_equal(wire_frames(w), "CLOSE code 0 all done\n");
    assert_true(w->urgent);
    assert_int_equal(mux_channel_open(w->session, "a", &channel), -EPIPE);
    assert_string_equal(wire_events(w), "");
    assert_int_equal(wire_say(w, BS_FRAME_CLOSE, 0, 0, BS_CLOSE_DONE, NULL), 0);
    assert_string_equal(wire_events(w), "closed code 0 all done\n");
    assert_string_equal(wire_frames(w), "");
    wire_free(w);
}

static void test_done_waits_for_channels(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t c = wire_open(w);

    (void)state;
    assert_int_equal(mux_session_close(w->session, BS_CLOSE_DONE, ""), -EBUSY);
    mux_channel_reset(w->session, c, BS_RESET_CANCELLED, "");
    wire_frames(w);
    assert_int_equal(mux_session_close(w->session, BS_CLOSE_DONE, ""), -EBUSY);
    wire_say(w, BS_FRAME_RESET, c, 0, BS_RESET_CANCELLED, NULL);
    assert_int_equal(mux_session_close(w->session, BS_CLOSE_DONE, ""), 0);
    assert_string_equal(wire_frames(w), "CLOSE code 0 \n");
    wire_free(w);
}

static void test_done_goes_behind_channel_0(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    wire_write(w, 0, 60);
    mux_session_close(w->session, BS_CLOSE_DONE, "");
    assert_int_equal(mux_channel_write(w->session, 0, "x", 1), -EPIPE);
    assert_string_equal(wire_frames(w), "DATA 0 @0 +60\nCLOSE code 0 \n");
    wire_free(w);
}

/* Any other CLOSE goes at once, and resets the rest. */
static void test_cancelled(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t c = wire_open(w);

    (void)state;
    wire_write(w, c, 60);
    wire_write(w, 0, 60);
    wire_say(w, BS_FRAME_PING, 0, 5, 0, NULL);
    assert_int_equal(mux_session_close(w->session, BS_CLOSE_CANCELLED, "given up"), 0);
    assert_string_equal(wire_events(w), "reset 1 code 5 given up\n");
    assert_string_equal(wire_frames(w), "CLOSE code 1 given up\n");

    /* what the peer said before our CLOSE came is skipped */
    assert_int_equal(wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "a"), 0);
    assert_int_equal(wire_say_data(w, c, 0, 100), 0);
    assert_int_equal(wire_say_data(w, 2, 0, 100), 0);
    assert_int_equal(wire_say(w, BS_FRAME_PING, 0, 6, 0, NULL), 0);
    assert_string_equal(wire_frames(w), "");
    assert_string_equal(wire_events(w), "");
    assert_int_equal(wire_say(w, BS_FRAME_CLOSE, 0, 0, BS_CLOSE_CANCELLED, NULL), 0);
    assert_string_equal(wire_events(w), "closed code 1 given up\n");
    wire_free(w);
}

static void test_close_is_answered_by_close(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t c = wire_open(w);

    (void)state;
    wire_write(w, c, 60);
    assert_int_equal(wire_say(w, BS_FRAME_CLOSE, 0, 0, BS_CLOSE_RESOURCES, "no\tmemory"), 0);
    assert_string_equal(wire_events(w), "reset 1 code 5 no?memory\nclosed code 3 no?memory\n");
    assert_string_equal(wire_frames(w), "CLOSE code 3 \n");
    assert_string_equal(wire_frames(w), "");
    assert_int_equal(mux_session_close(w->session, BS_CLOSE_DONE, ""), 0);
    assert_string_equal(wire_frames(w), "");
    wire_free(w);
}

static void test_done_from_the_peer(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t c = wire_open(w);

    (void)state;
    /* of this channel the peer can't have known when it said so */
    wire_write(w, c, 60);
    assert_int_equal(wire_say(w, BS_FRAME_CLOSE, 0, 0, BS_CLOSE_DONE, NULL), 0);
    assert_string_equal(wire_events(w), "reset 1 code 5 \nclosed code 0 \n");
    assert_string_equal(wire_frames(w), "CLOSE code 0 \n");
    wire_free(w);
}

static void test_closes_cross(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    mux_session_close(w->session, BS_CLOSE_DONE, "");
    assert_string_equal(wire_frames(w), "CLOSE code 0 \n");
    wire_say(w, BS_FRAME_CLOSE, 0, 0, BS_CLOSE_CANCELLED, "given up");
    assert_string_equal(wire_events(w), "closed code 1 given up\n");
    assert_string_equal(wire_frames(w), "");
    wire_free(w);

    /* ours has not gone out yet: it still does, and says the same to the peer */
    w = wire_new(true);
    mux_session_close(w->session, BS_CLOSE_TIMEOUT, "waited too long");
    wire_say(w, BS_FRAME_CLOSE, 0, 0, BS_CLOSE_CANCELLED, "given up");
    assert_string_equal(wire_events(w), "closed code 1 given up\n");
    assert_string_equal(wire_frames(w), "CLOSE code 4 waited too long\n");
    wire_free(w);
}

/* What came just before CLOSE can still be read from channel 0. */
static void test_channel_0_is_readable_after_the_end(void **state)
{
    struct wire *w = wire_new(true);
    struct iovec iov[2];

    (void)state;
    w->take = 0;
    wire_say_data(w, 0, 0, 30);
    wire_say(w, BS_FRAME_CLOSE, 0, 0, BS_CLOSE_DONE, NULL);
    assert_int_equal(mux_channel_peek(w->session, 0, iov), 1);
    assert_int_equal(iov[0].iov_len, 30);
    mux_channel_consume(w->session, 0, 30);
    assert_int_equal(mux_channel_peek(w->session, 0, iov), 0);
    assert_string_equal(wire_frames(w), "CLOSE code 0 \n");
    wire_free(w);
}

static void test_abandon(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    wire_open(w);
    wire_say(w, BS_FRAME_PING, 0, 1, 0, NULL);
    mux_session_abandon(w->session, BS_CLOSE_TIMEOUT, "silent for 30 s");
    assert_string_equal(wire_events(w), "reset 1 code 5 silent for 30 s\n"
                                        "closed code 4 silent for 30 s\n");
    assert_string_equal(wire_frames(w), "");
    assert_int_equal(wire_say(w, BS_FRAME_PING, 0, 1, 0, NULL), -EPROTO);
    mux_session_abandon(w->session, BS_CLOSE_TIMEOUT, "again");
    assert_string_equal(wire_events(w), "");
    assert_int_equal(mux_session_tick(w->session, UINT64_MAX), 0);
    wire_free(w);
}

/* The link breaks while we wait for the answer. */
static void test_abandon_while_closing(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    mux_session_close(w->session, BS_CLOSE_DONE, "");
    mux_session_abandon(w->session, BS_CLOSE_TIMEOUT, "link broke");
    assert_string_equal(wire_events(w), "closed code 4 link broke\n");
    assert_string_equal(wire_frames(w), "");
    wire_free(w);
}

/* The session is closed in the middle of a message that is being received. */
static void test_close_within_a_message(void **state)
{
    const struct bs_frame frame = {.type = BS_FRAME_DATA, .channel = 1};
    struct wire *w = wire_new(true);
    uint8_t message[100];
    size_t length = wire_encode(message, &frame, "0123456789", 10);

    (void)state;
    wire_open(w);
    assert_int_equal(wire_say_bytes(w, message, length - 5), 0);
    assert_string_equal(wire_events(w), "data 1 +5\n");
    mux_session_close(w->session, BS_CLOSE_CANCELLED, "enough");
    assert_int_equal(wire_say_bytes(w, message + length - 5, 5), 0);
    assert_string_equal(wire_events(w), "reset 1 code 5 enough\n");
    wire_say(w, BS_FRAME_CLOSE, 0, 0, BS_CLOSE_CANCELLED, NULL);
    assert_string_equal(wire_events(w), "closed code 1 enough\n");
    wire_free(w);
}

/* A channel is reset in the middle of a message for it. */
static void test_reset_within_a_message(void **state)
{
    const struct bs_frame frame = {.type = BS_FRAME_DATA, .channel = 1};
    struct wire *w = wire_new(true);
    uint8_t message[100];
    size_t length = wire_encode(message, &frame, "0123456789", 10);

    (void)state;
    wire_open(w);
    assert_int_equal(wire_say_bytes(w, message, length - 5), 0);
    mux_channel_reset(w->session, 1, BS_RESET_CANCELLED, "enough");
    wire_frames(w);
    assert_int_equal(wire_say_bytes(w, message + length - 5, 5), 0);
    wire_say(w, BS_FRAME_RESET, 1, 0, BS_RESET_CANCELLED, NULL);
    assert_string_equal(wire_events(w), "data 1 +5\nforgotten 1\n");
    wire_free(w);
}

/* ---- time -------------------------------------------------------------------------------------------- */

static struct wire *wire_with_ping(void)
{
    struct mux_config config = wire_config(true);

    config.ping_interval = 5000 * MS;
    config.ping_timeout = 15000 * MS;
    return wire_new_with(config);
}

static void test_ping_when_nothing_came(void **state)
{
    struct wire *w = wire_with_ping();
    uint64_t start = w->now;

    (void)state;
    assert_int_equal(mux_session_deadline(w->session), start + 5000 * MS);
    w->now = start + 4000 * MS;
    wire_say(w, BS_FRAME_PING, 0, 9, 0, NULL);
    assert_string_equal(wire_frames(w), "PONG 9\n");
    assert_int_equal(mux_session_deadline(w->session), start + 9000 * MS);
    w->now = start + 9000 * MS;
    assert_int_equal(mux_session_tick(w->session, w->now), 0);
    /* as long as it can't go out there is no deadline for another */
    assert_int_equal(mux_session_deadline(w->session), start + 19000 * MS);
    w->now += 1000 * MS;
    assert_string_equal(wire_frames(w), "PING 2\n");
    assert_int_equal(mux_session_deadline(w->session), start + 15000 * MS);
    wire_free(w);
}

static void test_silence_is_the_end(void **state)
{
    struct wire *w = wire_with_ping();

    (void)state;
    while (mux_session_tick(w->session, w->now) == 0) {
        wire_frames(w);
        assert_true(mux_session_deadline(w->session) > w->now);
        w->now = mux_session_deadline(w->session);
    }
    assert_int_equal(w->now, 1000 * MS + 15000 * MS);
    assert_int_equal(mux_session_tick(w->session, w->now), -ETIMEDOUT);
    assert_string_equal(wire_events(w), ""); /* it may come back on another link */
    wire_free(w);
}

static void test_silence_instead_of_an_answer(void **state)
{
    struct wire *w = wire_with_ping();

    (void)state;
    mux_session_close(w->session, BS_CLOSE_DONE, "");
    wire_frames(w);
    assert_int_equal(mux_session_deadline(w->session), w->now + 15000 * MS);
    w->now += 15000 * MS;
    assert_int_equal(mux_session_tick(w->session, w->now), -ETIMEDOUT);
    wire_free(w);
}

static void test_without_ping_there_is_no_deadline(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    assert_true(mux_session_deadline(w->session) == UINT64_MAX);
    assert_int_equal(mux_session_tick(w->session, UINT64_MAX - 1), 0);
    wire_free(w);
}

static void test_round_trip(void **state)
{
    struct wire *w = wire_new(true);
    struct mux_session_stats stats;

    (void)state;
    mux_session_get_stats(w->session, &stats);
    assert_int_equal(stats.round_trip, 0);
    w->now += 8 * MS;
    assert_int_equal(wire_say(w, BS_FRAME_PONG, 0, 1, 0, NULL), 0);
    mux_session_get_stats(w->session, &stats);
    assert_int_equal(stats.round_trip, 8 * MS);
    w->now += 100 * MS;
    assert_int_equal(wire_say(w, BS_FRAME_PONG, 0, 1, 0, NULL), 0); /* again: says nothing new */

    /* DATA comes, so the round trip should be known: one PING at a time, and not for every frame */
    wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "a");
    wire_say_data(w, 2, 0, 10);
    assert_string_equal(wire_frames(w), "PING 2\n");
    w->now += 50 * MS;
    wire_say_data(w, 2, 10, 10);
    assert_string_equal(wire_frames(w), "");
    w->now += 50 * MS;
    wire_say(w, BS_FRAME_PONG, 0, 2, 0, NULL);
    mux_session_get_stats(w->session, &stats);
    assert_int_equal(stats.round_trip, 8 * MS - 2 * MS + 25 * MS);
    wire_say_data(w, 2, 20, 1);
    assert_string_equal(wire_frames(w), "PING 3\n");
    wire_say(w, BS_FRAME_PONG, 0, 3, 0, NULL);
    w->now += 1 * MS;
    wire_say_data(w, 2, 21, 1);
    assert_string_equal(wire_frames(w), "");
    wire_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_done),
        cmocka_unit_test(test_done_waits_for_channels),
        cmocka_unit_test(test_done_goes_behind_channel_0),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_close_is_answered_by_close),
        cmocka_unit_test(test_done_from_the_peer),
        cmocka_unit_test(test_closes_cross),
        cmocka_unit_test(test_channel_0_is_readable_after_the_end),
        cmocka_unit_test(test_abandon),
        cmocka_unit_test(test_abandon_while_closing),
        cmocka_unit_test(test_close_within_a_message),
        cmocka_unit_test(test_reset_within_a_message),
        cmocka_unit_test(test_ping_when_nothing_came),
        cmocka_unit_test(test_silence_is_the_end),
        cmocka_unit_test(test_silence_instead_of_an_answer),
        cmocka_unit_test(test_without_ping_there_is_no_deadline),
        cmocka_unit_test(test_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
