/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* A link that is lost, and the next one: what is said again, and what can't be true. */
#include "config.h"

#include "tests/unit/mux_wire.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define ALL(array) array, ARRAY_LENGTH(array)

static struct error err;

/* A session from which something was heard, whose PING is answered. */
static struct wire *start(bool opener)
{
    struct wire *w = wire_new(opener);

    assert_int_equal(wire_say(w, BS_FRAME_PONG, 0, 1, 0, NULL), 0);
    err = (struct error)ERROR_INIT;
    return w;
}

static void lose(struct wire *w)
{
    assert_true(mux_session_link_lost(w->session, w->now));
    assert_string_equal(wire_frames(w), "");
}

/* What this side says in its RESUME. */
static const char *say_state(struct wire *w)
{
    static char text[1024];
    struct bs_resume_state state;
    int n;

    assert_int_equal(mux_session_resume_state(w->session, &state), 0);
    n = snprintf(text, sizeof text, "highest %u", state.highest);
    for (u_int i = 0; i < state.channels.channels_len; i++) {
        const struct bs_resume_channel *c = &state.channels.channels_val[i];

        n += snprintf(text + n, sizeof text - (size_t)n, ", %u: %llu %llu%s", c->channel,
                      (unsigned long long)c->received, (unsigned long long)c->limit,
                      c->flags == BS_RESUME_RESET ? " reset" : "");
    }
    xdr_free((xdrproc_t)xdr_bs_resume_state, (char *)&state);
    return text;
}

static struct bs_resume_state peer_state(uint32_t highest, const struct bs_resume_channel *channels,
                                         size_t count)
{
    return (struct bs_resume_state){
        highest, {(u_int)count, (struct bs_resume_channel *)(uintptr_t)channels}};
}

/* The peer says that, and the link is back.  The PING that follows is taken off. */
static const char *resume(struct wire *w, uint32_t highest,
                          const struct bs_resume_channel *channels, size_t count)
{
    const struct bs_resume_state peer = peer_state(highest, channels, count);
    const char *frames;

    if (mux_session_resume(w->session, WIRE_SERIAL, &peer, w->now, &err) < 0)
        fail_msg("%s", err.text);
    frames = wire_frames(w);
    return strncmp(frames, "PING 2\n", 7) == 0 ? frames + 7 : frames;
}

/* ---- what is said again ----------------------------------------------------------------------- */

static void test_what_came_is_said(void **state)
{
    struct wire *w = start(true);

    (void)state;
    w->take = 3;
    wire_open(w);
    wire_say(w, BS_FRAME_OPEN, 4, 0, 0, "nbd/vda");
    wire_say_data(w, 4, 0, 10);
    wire_say(w, BS_FRAME_OPEN, 6, 0, 0, "nbd/vda");
    wire_say(w, BS_FRAME_EOF, 6, 0, 0, NULL);
    mux_channel_eof_taken(w->session, 6);
    wire_say(w, BS_FRAME_RESET, 1, 0, BS_RESET_BROKEN, NULL);
    lose(w);
    assert_string_equal(say_state(w), "highest 6, 0: 0 100, 1: 0 100 reset, 4: 10 103, 6: 1 100");
    wire_free(w);
}

static void test_half_a_frame_counts_as_far_as_it_came(void **state)
{
    struct wire *w = start(false);
    const struct bs_frame frame = {BS_FRAME_DATA, 1, 0, 0};
    uint8_t message[BS_FRAME_MESSAGE_MAX];

    (void)state;
    wire_say(w, BS_FRAME_OPEN, 1, 0, 0, "nbd/vda");
    wire_encode(message, &frame, "0123456789", 10);
    wire_say_bytes(w, message, RPC_FRAME_OVERHEAD + 7);
    lose(w);
    assert_string_equal(say_state(w), "highest 1, 0: 0 100, 1: 7 107");
    resume(w, 0, ALL(((struct bs_resume_channel[]){{0, 0, 100, 0}, {1, 0, 100, 0}})));
    assert_int_equal(wire_say_data(w, 1, 7, 3), 0);
    wire_free(w);
}

static void test_bytes_and_ends_are_said_again(void **state)
{
    struct wire *w = start(true);

    (void)state;
    for (int i = 0; i < 3; i++) {
        uint32_t c = wire_open(w);

        wire_write(w, c, 60);
        mux_channel_end(w->session, c);
    }
    wire_frames(w);
    lose(w);
    say_state(w);
    assert_string_equal(resume(w, 3,
                               ALL(((struct bs_resume_channel[]){
                                   {0, 0, 100, 0}, {1, 20, 150, 0}, {3, 60, 100, 0}}))),
                        "EOF 3 @60\nOPEN 5 nbd/vda\nDATA 1 @20 +40\nEOF 1 @60\n");
    assert_string_equal(wire_frames(w),
                        "DATA 5 @0 +60\nEOF 5 @60\n"); /* bulk behind what is urgent */
    assert_int_equal(wire_say(w, BS_FRAME_LIMIT, 1, 61, 150, NULL), 0);
    wire_free(w);
}

static void test_what_came_about_counts_as_acknowledged(void **state)
{
    struct wire *w = start(true);
    uint32_t c = wire_open(w);

    (void)state;
    wire_write(w, c, 60);
    mux_channel_end(w->session, c);
    wire_frames(w);
    lose(w);
    say_state(w);
    assert_string_equal(
        resume(w, 1, ALL(((struct bs_resume_channel[]){{0, 0, 100, 0}, {1, 61, 160, 0}}))), "");
    assert_int_equal(wire_say(w, BS_FRAME_EOF, c, 0, 0, NULL), 0);
    mux_channel_eof_taken(w->session, c);
    assert_string_equal(wire_frames(w), "LIMIT 1 received 1 limit 100\n");
    assert_string_equal(wire_events(w), "eof 1\nforgotten 1\n");
    wire_free(w);
}

/* Sockets go on while RESUME is on its way. */
static void test_what_changed_since_is_said(void **state)
{
    struct wire *w = start(true);

    (void)state;
    w->take = 0;
    for (uint32_t c = 2; c <= 4; c += 2) {
        wire_say(w, BS_FRAME_OPEN, c, 0, 0, "nbd/vda");
        wire_say_data(w, c, 0, 90);
    }
    wire_say(w, BS_FRAME_EOF, 4, 90, 0, NULL);
    wire_frames(w);
    lose(w);
    assert_string_equal(say_state(w), "highest 4, 0: 0 100, 2: 90 100, 4: 90 100");
    mux_channel_consume(w->session, 2, 80);
    mux_channel_consume(w->session, 4, 90);
    mux_channel_eof_taken(w->session, 4);
    assert_string_equal(
        resume(w, 0,
               ALL(((struct bs_resume_channel[]){{0, 0, 100, 0}, {2, 0, 100, 0}, {4, 0, 100, 0}}))),
        "LIMIT 2 received 90 limit 180\nLIMIT 4 received 91 limit 100\n");
    wire_free(w);
}

/* ---- the count of channels -------------------------------------------------------------------- */

/* As many as are allowed. */
static void open_four(struct wire *w)
{
    for (uint32_t c = 1; c <= 7; c += 2)
        assert_int_equal(wire_say(w, BS_FRAME_OPEN, c, 0, 0, "nbd/vda"), 0);
}

/* The peer has got our RESET, its answer was due when the link broke.  Were ours said again, the answer
 * would look like a RESET that crosses it, and channel 1 count when the peer opens the next. */
static void test_reset_that_came_is_not_said_again(void **state)
{
    struct wire *w = start(false);

    (void)state;
    open_four(w);
    mux_channel_reset(w->session, 1, BS_RESET_CANCELLED, "");
    mux_channel_reset(w->session, 3, BS_RESET_CANCELLED, "");
    wire_frames(w);
    lose(w);
    say_state(w);
    wire_events(w);
    assert_int_equal(
        mux_session_resume(w->session, WIRE_SERIAL,
                           &(const struct bs_resume_state){
                               0,
                               {5, (struct bs_resume_channel[]){{0, 0, 100, 0},
                                                                {1, 0, 100, BS_RESUME_RESET},
                                                                {3, 0, 100, 0},
                                                                {5, 0, 100, 0},
                                                                {7, 0, 100, 0}}}},
                           w->now, &err),
        0);
    assert_int_equal(wire_say(w, BS_FRAME_RESET, 1, 0, BS_RESET_CANCELLED, NULL), 0);
    assert_int_equal(wire_say(w, BS_FRAME_OPEN, 9, 0, 0, "nbd/vda"), 0);
    assert_string_equal(wire_events(w), "forgotten 1\nopened 9 nbd/vda\n");
    assert_string_equal(wire_frames(w), "PING 2\nRESET 3 code 1 \n");
    wire_free(w);
}

/* By what the reply acknowledged the peer has forgotten channel 1, and opens another in its place. */
static void test_what_was_said_makes_room(void **state)
{
    struct wire *w = start(false);

    (void)state;
    open_four(w);
    wire_say(w, BS_FRAME_EOF, 1, 0, 0, NULL);
    mux_channel_end(w->session, 1);
    wire_frames(w);
    assert_int_equal(wire_say(w, BS_FRAME_LIMIT, 1, 1, 100, NULL), 0);
    wire_events(w);
    lose(w);
    mux_channel_eof_taken(w->session, 1);
    assert_string_equal(say_state(w),
                        "highest 7, 0: 0 100, 1: 1 100, 3: 0 100, 5: 0 100, 7: 0 100");
    assert_string_equal(
        resume(
            w, 0,
            ALL(((struct bs_resume_channel[]){
                {0, 0, 100, 0}, {1, 1, 100, 0}, {3, 0, 100, 0}, {5, 0, 100, 0}, {7, 0, 100, 0}}))),
        "");
    assert_string_equal(wire_events(w), "forgotten 1\n");
    assert_int_equal(wire_say(w, BS_FRAME_OPEN, 9, 0, 0, "nbd/vda"), 0);
    wire_free(w);
}

/* ---- what the peer has forgotten -------------------------------------------------------------- */

static void test_what_the_peer_has_forgotten(void **state)
{
    static const struct bs_resume_channel zero[] = {{0, 0, 100, 0}};
    struct wire *w = start(true);
    uint32_t reset = wire_open(w), ended = wire_open(w);

    (void)state;
    mux_channel_reset(w->session, reset, BS_RESET_CANCELLED, "");
    mux_channel_end(w->session, ended);
    wire_frames(w);
    wire_say(w, BS_FRAME_EOF, ended, 0, 0, NULL);
    wire_say(w, BS_FRAME_LIMIT, ended, 0, 100, NULL);
    mux_channel_eof_taken(w->session, ended);
    wire_frames(w);
    wire_events(w);
    lose(w);
    say_state(w);
    assert_string_equal(resume(w, 3, ALL(zero)), "");
    assert_string_equal(wire_events(w), "forgotten 1\nforgotten 3\n");
    assert_int_equal(mux_session_close(w->session, BS_CLOSE_DONE, ""), 0);
    wire_free(w);
}

/* An OPEN whose RESET was due as well: the peer never heard of either. */
static void test_a_channel_nobody_heard_of(void **state)
{
    static const struct bs_resume_channel zero[] = {{0, 0, 100, 0}};
    struct wire *w = start(true);

    (void)state;
    mux_channel_reset(w->session, wire_open(w), BS_RESET_CANCELLED, "");
    lose(w);
    say_state(w);
    assert_string_equal(resume(w, 0, ALL(zero)), "");
    assert_string_equal(wire_events(w), "forgotten 1\n");
    wire_free(w);
}

/* What stands for a channel before its OPEN is said again is about a channel that was never opened, also
 * when half of it comes before this side forgets the channel, and half after. */
static void test_frames_before_the_open_that_is_said_again(void **state)
{
    static const struct bs_resume_channel zero[] = {{0, 0, 100, 0}};
    const struct bs_resume_state peer = peer_state(0, ALL(zero));
    struct bs_frame frame = {BS_FRAME_DATA, 1, 0, 0};
    uint8_t message[BS_FRAME_MESSAGE_MAX];
    struct wire *w = start(true);

    (void)state;
    frame.channel = wire_open(w);
    lose(w);
    mux_channel_reset(w->session, frame.channel, BS_RESET_BROKEN, "");
    say_state(w);
    assert_int_equal(mux_session_resume(w->session, WIRE_SERIAL, &peer, w->now, &err), 0);
    wire_encode(message, &frame, "0123456789", 10);
    wire_say_bytes(w, message, RPC_FRAME_OVERHEAD + 5);
    wire_frames(w);
    assert_int_equal(wire_say_bytes(w, message + RPC_FRAME_OVERHEAD + 5, 5), -EPROTO);
    wire_free(w);
}

/* ---- what can't be true ----------------------------------------------------------------------- */

static void test_refused(void **state)
{
    static const struct {
        uint32_t highest;
        struct bs_resume_channel channels[4];
        size_t count;
        const char *why;
    } wrong[] = {
        {3,
         {{0, 0, 100, 0}, {1, 61, 160, 0}, {3, 0, 100, 0}},
         3,
         "channel 1: received 61 is above the 60 ever sent"},
        {3,
         {{0, 0, 100, 0}, {1, 19, 160, 0}, {3, 0, 100, 0}},
         3,
         "channel 1: received 19 is below the 20 said before"},
        {3,
         {{0, 0, 100, 0}, {1, 30, 119, 0}, {3, 0, 100, 0}},
         3,
         "channel 1: the limit shrinks from 120 to 119"},
        {3, {{0, 0, 100, 0}, {1, 30, 120, 0}}, 2, "channel 3 is missing, but has not ended"},
        {3, {{1, 30, 120, 0}, {3, 0, 100, 0}}, 2, "channel 0 is missing, but has not ended"},
        {1,
         {{0, 0, 100, 0}, {1, 30, 120, 0}, {3, 0, 100, 0}},
         3,
         "channel 3 is known there, but 1 is the highest seen"},
        {0, {{0, 0, 100, 0}}, 1, "channel 1 is known there, but 0 is the highest seen"},
        {5, {{0, 0, 100, 0}, {1, 30, 120, 0}, {3, 0, 100, 0}}, 3, "channel 5 was never opened"},
        {2, {{0, 0, 100, 0}, {1, 30, 120, 0}, {3, 0, 100, 0}}, 3, "channel 2 was never opened"},
        {3,
         {{0, 0, 100, 0}, {1, 30, 120, 0}, {3, 0, 100, 0}, {5, 0, 100, 0}},
         4,
         "channel 5 was never opened"},
        {3,
         {{0, 0, 100, 0}, {1, 30, 120, 0}, {1, 30, 120, 0}, {3, 0, 100, 0}},
         4,
         "channel 1 is listed behind channel 1"},
    };
    static const struct bs_resume_channel right[] = {
        {0, 0, 100, 0}, {1, 30, 120, 0}, {2, 0, 100, 0}, {3, 0, 100, 0}};
    struct wire *w = start(true);
    uint32_t c = wire_open(w);

    (void)state;
    wire_write(w, c, 60);
    wire_open(w);
    wire_say(w, BS_FRAME_LIMIT, c, 20, 120, NULL);
    for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++) {
        const struct bs_resume_state peer =
            peer_state(wrong[i].highest, wrong[i].channels, wrong[i].count);

        err = (struct error)ERROR_INIT;
        assert_int_equal(mux_session_resume_check(w->session, &peer, &err), -EPROTO);
        assert_string_equal(err.text, wrong[i].why);
    }
    wire_write(w, c, 5); /* the session is unharmed */
    assert_string_equal(wire_frames(w), "DATA 1 @60 +5\n");
    lose(w);
    say_state(w);
    for (size_t i = 1; i < ARRAY_LENGTH(wrong); i++) {
        const struct bs_resume_state peer =
            peer_state(wrong[i].highest, wrong[i].channels, wrong[i].count);

        assert_int_equal(mux_session_resume(w->session, 5, &peer, w->now, &err), -EPROTO);
        assert_false(mux_session_wants_send(w->session));
    }
    /* Channel 2 is the peer's: its OPEN has yet to come. */
    assert_string_equal(resume(w, 3, ALL(right)), "DATA 1 @30 +35\n");
    assert_string_equal(wire_events(w), "");
    wire_free(w);
}

/* What has to be said again can't have been acknowledged before that. */
static void test_acknowledged_too_early(void **state)
{
    static const struct bs_resume_channel seen[] = {{0, 0, 100, 0}, {1, 59, 100, 0}};
    struct wire *w = start(true);
    uint32_t c = wire_open(w);

    (void)state;
    wire_write(w, c, 60);
    mux_channel_end(w->session, c);
    wire_frames(w);
    lose(w);
    say_state(w);
    assert_int_equal(mux_session_resume(w->session, WIRE_SERIAL,
                                        &(const struct bs_resume_state){
                                            1, {2, (struct bs_resume_channel *)(uintptr_t)seen}},
                                        w->now, &err),
                     0);
    assert_int_equal(wire_say(w, BS_FRAME_LIMIT, c, 60, 100, NULL), -EPROTO);
    wire_free(w);
}

/* ---- without a link --------------------------------------------------------------------------- */

static void test_back_pressure_and_nothing_else(void **state)
{
    struct mux_config config = wire_config(true);
    struct wire *w;
    struct mux_session_stats stats;
    uint64_t total;
    uint32_t c;

    (void)state;
    config.ping_interval = SECOND;
    config.ping_timeout = 3 * SECOND;
    w = wire_new_with(config);
    assert_int_equal(wire_say(w, BS_FRAME_PONG, 0, 1, 0, NULL), 0);
    c = wire_open(w);
    lose(w);
    for (int i = 0; i < 100; i++) { /* it isn't dead, however long that takes */
        w->now += SECOND;
        assert_int_equal(mux_session_tick(w->session, w->now), 0);
        assert_string_equal(wire_frames(w), "");
    }
    assert_true(mux_session_silent(w->session, w->now, &total) == 100 * SECOND);
    assert_int_equal(mux_channel_space(w->session, c), 100);
    wire_write(w, c, 100);
    assert_int_equal(mux_channel_space(w->session, c), 0);
    mux_session_get_stats(w->session, &stats);
    assert_int_equal(stats.send_pool, 100);
    say_state(w);
    assert_string_equal(
        resume(w, 1, ALL(((struct bs_resume_channel[]){{0, 0, 100, 0}, {1, 0, 200, 0}}))),
        "DATA 1 @0 +100\n");
    assert_string_equal(wire_events(w), "writable 1\n");
    wire_say(w, BS_FRAME_PONG, 0, 2, 0, NULL);
    assert_true(mux_session_silent(w->session, w->now, &total) == 0);
    assert_true(total == 100 * SECOND);
    w->now += 4 * SECOND;
    assert_int_equal(mux_session_tick(w->session, w->now), -ETIMEDOUT);
    wire_free(w);
}

static void test_ends_with_its_link(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    assert_false(mux_session_link_lost(w->session, w->now)); /* no frame ever came */
    wire_say(w, BS_FRAME_PING, 0, 1, 0, NULL);
    assert_true(mux_session_link_lost(w->session, w->now));
    assert_true(mux_session_link_lost(w->session, w->now));
    mux_session_abandon(w->session, BS_CLOSE_TIMEOUT, "for too long");
    assert_string_equal(wire_events(w), "closed code 4 for too long\n");
    assert_false(mux_session_link_lost(w->session, w->now));
    wire_free(w);
}

/* ---- the end ---------------------------------------------------------------------------------- */

/* Whoever gives the session up without a link comes back in order to say so. */
static void test_close_is_said_later(void **state)
{
    static const struct bs_resume_channel seen[] = {{0, 0, 100, 0}, {1, 0, 100, 0}};
    struct wire *w = start(true);

    (void)state;
    wire_write(w, wire_open(w), 10);
    lose(w);
    assert_int_equal(mux_session_close(w->session, BS_CLOSE_CANCELLED, "enough"), 0);
    for (int i = 0; i < 2; i++) { /* the answer may be lost, too */
        assert_string_equal(say_state(w), "highest 0");
        assert_string_equal(resume(w, 1, ALL(seen)), "CLOSE code 1 enough\n");
        lose(w);
    }
    mux_session_closed_there(w->session, BS_CLOSE_CANCELLED);
    assert_string_equal(wire_events(w), "reset 1 code 5 enough\nclosed code 1 enough\n");
    assert_string_equal(wire_frames(w), "");
    wire_free(w);
}

static void test_peer_comes_back_to_say_close(void **state)
{
    struct wire *w = start(true);

    (void)state;
    wire_write(w, wire_open(w), 10);
    wire_frames(w);
    lose(w);
    say_state(w);
    assert_string_equal(resume(w, 0, NULL, 0), "");
    assert_int_equal(wire_say(w, BS_FRAME_CLOSE, 0, 0, BS_CLOSE_CANCELLED, "enough"), 0);
    assert_string_equal(wire_events(w), "reset 1 code 5 enough\nclosed code 1 enough\n");
    assert_string_equal(wire_frames(w), "CLOSE code 1 \n");
    wire_free(w);
}

/* "Done" goes behind channel 0, as before. */
static void test_done_is_said_again(void **state)
{
    static const struct bs_resume_channel seen[] = {{0, 20, 100, 0}};
    struct wire *w = start(true);

    (void)state;
    wire_write(w, 0, 60);
    mux_session_close(w->session, BS_CLOSE_DONE, "");
    assert_string_equal(wire_frames(w), "DATA 0 @0 +60\nCLOSE code 0 \n");
    lose(w);
    assert_string_equal(say_state(w), "highest 0, 0: 0 100");
    assert_string_equal(resume(w, 0, ALL(seen)), "DATA 0 @20 +40\nCLOSE code 0 \n");
    wire_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_came_is_said),
        cmocka_unit_test(test_half_a_frame_counts_as_far_as_it_came),
        cmocka_unit_test(test_bytes_and_ends_are_said_again),
        cmocka_unit_test(test_what_came_about_counts_as_acknowledged),
        cmocka_unit_test(test_what_changed_since_is_said),
        cmocka_unit_test(test_reset_that_came_is_not_said_again),
        cmocka_unit_test(test_what_was_said_makes_room),
        cmocka_unit_test(test_what_the_peer_has_forgotten),
        cmocka_unit_test(test_a_channel_nobody_heard_of),
        cmocka_unit_test(test_frames_before_the_open_that_is_said_again),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_acknowledged_too_early),
        cmocka_unit_test(test_back_pressure_and_nothing_else),
        cmocka_unit_test(test_ends_with_its_link),
        cmocka_unit_test(test_close_is_said_later),
        cmocka_unit_test(test_peer_comes_back_to_say_close),
        cmocka_unit_test(test_done_is_said_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
