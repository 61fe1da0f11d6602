/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Silence: it is told from a peer that has nothing to say, and from one that answers. */
#include "config.h"

#include "tests/unit/mux_wire.h"
#include "tests/unit/unit.h"

#define SECOND UINT64_C(1000000000)

static uint64_t total;

static uint64_t silent(const struct wire *w)
{
    return mux_session_silent(w->session, w->now, &total);
}

/* A session whose first PING has been answered: nothing is owed. */
static struct wire *start(void)
{
    struct wire *w = wire_new(true);

    assert_int_equal(wire_say(w, BS_FRAME_PONG, 0, 1, 0, NULL), 0);
    return w;
}

static void test_who_owes_nothing_is_not_silent(void **state)
{
    struct wire *w = start();

    (void)state;
    w->now += 100 * SECOND;
    assert_int_equal(silent(w), 0);
    assert_int_equal(total, 0);
    wire_open(w);
    w->now += 100 * SECOND;
    assert_int_equal(silent(w), 0); /* nothing answers an OPEN */
    wire_free(w);
}

static void test_bytes_are_to_be_acknowledged(void **state)
{
    struct wire *w = start();
    uint32_t channel = wire_open(w);

    (void)state;
    wire_write(w, channel, 60);
    w->now += 10 * SECOND;
    assert_int_equal(silent(w), 0); /* it can't know of them yet */
    wire_frames(w);
    assert_int_equal(silent(w), 0);
    w->now += 3 * SECOND;
    assert_int_equal(silent(w), 3 * SECOND);
    assert_int_equal(total, 3 * SECOND);
    wire_write(w, channel, 10); /* more of it begins no new silence */
    wire_frames(w);
    w->now += SECOND;
    assert_int_equal(silent(w), 4 * SECOND);

    wire_say(w, BS_FRAME_PING, 0, 5, 0, NULL); /* anything that comes ends it */
    assert_int_equal(silent(w), 0);
    assert_int_equal(total, 4 * SECOND);
    w->now += 2 * SECOND; /* but the acknowledgement is still owed */
    assert_int_equal(silent(w), 2 * SECOND);
    wire_say(w, BS_FRAME_LIMIT, channel, 70, 170, NULL);
    assert_int_equal(total = 0, 0);
    w->now += 100 * SECOND;
    assert_int_equal(silent(w), 0);
    assert_int_equal(total, 6 * SECOND);
    wire_free(w);
}

static void test_short_ones_do_not_count(void **state)
{
    struct wire *w = start();
    uint32_t channel = wire_open(w);

    (void)state;
    for (uint64_t i = 1; i <= 50; i++) {
        wire_write(w, channel, 1);
        wire_frames(w);
        w->now += SECOND / 2;
        assert_int_equal(silent(w), SECOND / 2);
        wire_say(w, BS_FRAME_LIMIT, channel, i, 100 + i, NULL);
    }
    assert_int_equal(silent(w), 0);
    assert_int_equal(total, 0);
    wire_free(w);
}

static void test_a_ping_is_to_be_answered(void **state)
{
    struct mux_config config = wire_config(true);
    struct wire *w;

    (void)state;
    config.ping_interval = 5 * SECOND;
    config.ping_timeout = 15 * SECOND;
    w = wire_new_with(config);
    wire_say(w, BS_FRAME_PONG, 0, 1, 0, NULL);
    w->now = mux_session_deadline(w->session);
    assert_int_equal(mux_session_tick(w->session, w->now), 0);
    assert_string_equal(wire_frames(w), "PING 2\n");
    w->now += 4 * SECOND;
    assert_int_equal(silent(w), 4 * SECOND);
    wire_say(w, BS_FRAME_PONG, 0, 2, 0, NULL);
    assert_int_equal(silent(w), 0);
    assert_int_equal(total, 4 * SECOND);
    wire_free(w);
}

/* What was given up need not be acknowledged. */
static void test_reset(void **state)
{
    struct wire *w = start();
    uint32_t channel = wire_open(w);

    (void)state;
    wire_write(w, channel, 60);
    wire_frames(w);
    mux_channel_reset(w->session, channel, BS_RESET_CANCELLED, "x");
    w->now += 5 * SECOND;
    assert_int_equal(silent(w), 0);
    wire_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_owes_nothing_is_not_silent),
        cmocka_unit_test(test_bytes_are_to_be_acknowledged),
        cmocka_unit_test(test_short_ones_do_not_count),
        cmocka_unit_test(test_a_ping_is_to_be_answered),
        cmocka_unit_test(test_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
