/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The cap on what is sent: it holds, changes at once, allows no long burst, and holds up nobody who
 * has little to say. */
#include "config.h"

#include "tests/unit/mux_wire.h"
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define MILLISECOND UINT64_C(1000000)

enum { MIB = 1024 * 1024 };

/* A session whose peer takes all that comes: `open` channels, without a limit. */
struct load {
    struct wire *w;
    uint32_t channels[4];
    uint64_t sent[8]; /* by number of the channel */
};

static struct load *load_new(int channels)
{
    struct mux_config config = wire_config(true);
    struct load *load = calloc(1, sizeof *load);

    assert_non_null(load);
    config.memory = 64 * MIB;
    load->w = wire_new_with(config);
    for (int i = 0; i < channels; i++) {
        load->channels[i] = wire_open(load->w);
        wire_say(load->w, BS_FRAME_LIMIT, load->channels[i], 0, UINT64_MAX, NULL);
    }
    wire_say(load->w, BS_FRAME_LIMIT, 0, 0, UINT64_MAX, NULL);
    return load;
}

static void load_free(struct load *load)
{
    wire_free(load->w);
    free(load);
}

static void fill(struct load *load, int which, size_t most)
{
    size_t space = mux_channel_space(load->w->session, load->channels[which]);

    wire_write(load->w, load->channels[which], space < most ? space : most);
}

/* Sends and acknowledges what goes out now.  Returns the bytes that did, of all channels but 0. */
static uint64_t send_now(struct load *load)
{
    struct wire *w = load->w;
    uint64_t sum = 0;

    while (mux_session_wants_send(w->session)) {
        const char *line = wire_frames(w);
        uint64_t before = sum;

        for (; *line; line = strchr(line, '\n') + 1) {
            unsigned long channel;
            char *rest;

            if (strncmp(line, "DATA ", 5) != 0)
                continue;
            channel = strtoul(line + 5, &rest, 10);
            assert_true(channel < 8);
            rest = strchr(rest, '+') + 1;
            load->sent[channel] += strtoul(rest, NULL, 10);
            sum += channel == 0 ? 0 : strtoul(rest, NULL, 10);
        }
        if (sum == before)
            break;
    }
    for (uint32_t c = 1; c < 8; c += 2)
        if (load->sent[c] > 0)
            wire_say(w, BS_FRAME_LIMIT, c, load->sent[c], UINT64_MAX, NULL);
    wire_events(w);
    return sum;
}

/* Lets TIME pass, the first CHANNELS channels being full all the time.  Returns the bytes sent. */
static uint64_t run(struct load *load, int channels, uint64_t time)
{
    struct wire *w = load->w;
    uint64_t until = w->now + time, sum = 0;
    int idle = 0; /* rounds in which nothing happened, also not to the clock */

    while (idle < 3) {
        uint64_t next, before = sum;

        for (int i = 0; i < channels; i++)
            fill(load, i, MIB);
        sum += send_now(load);
        next = mux_session_deadline(w->session);
        if (next > until)
            break;
        idle = next <= w->now && sum == before ? idle + 1 : 0;
        w->now = next > w->now ? next : w->now;
        assert_int_equal(mux_session_tick(w->session, w->now), 0);
    }
    assert_true(idle < 3); /* no busy loop */
    w->now = until;
    return sum;
}

static void expect_about(uint64_t bytes, uint64_t expected)
{
    if (bytes < expected - expected / 50 || bytes > expected + expected / 50)
        fail_msg("%llu bytes instead of %llu", (unsigned long long)bytes,
                 (unsigned long long)expected);
}

/* ---- tests ------------------------------------------------------------------------------------- */

static void test_the_rate_holds(void **state)
{
    static const uint64_t rates[] = {1000, 50000, 1000000, 12345678, 100000000};

    (void)state;
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++)
        for (int channels = 1; channels <= 3; channels += 2) {
            struct load *load = load_new(channels);

            mux_session_set_bandwidth(load->w->session, rates[i], load->w->now);
            expect_about(run(load, channels, 10 * SECOND), 10 * rates[i]);
            if (channels == 3)
                expect_about(load->sent[load->channels[2]], 10 * rates[i] / 3);
            load_free(load);
        }
}

static void test_a_cap_that_is_hardly_one(void **state)
{
    struct load *load = load_new(1);

    (void)state;
    mux_session_set_bandwidth(load->w->session, 1, load->w->now);
    assert_in_range(run(load, 1, 20 * SECOND), 19, 21);
    mux_session_set_bandwidth(load->w->session, UINT64_MAX, load->w->now);
    fill(load, 0, MIB);
    assert_in_range(send_now(load), MIB - 100, MIB);
    load_free(load);
}

static void test_changes_count_at_once(void **state)
{
    struct load *load = load_new(1);
    struct mux_session *session = load->w->session;

    (void)state;
    mux_session_set_bandwidth(session, 1000000, load->w->now);
    expect_about(run(load, 1, 2 * SECOND), 2000000);
    assert_false(mux_session_wants_send(session));
    mux_session_set_bandwidth(session, 50000000, load->w->now);
    expect_about(run(load, 1, SECOND), 50000000);
    mux_session_set_bandwidth(session, 200000, load->w->now);
    expect_about(run(load, 1, 2 * SECOND), 400000);

    mux_session_set_bandwidth(session, 0, load->w->now);
    assert_true(mux_session_wants_send(session));
    fill(load, 0, MIB);
    assert_true(send_now(load) > MIB / 2);
    load_free(load);
}

static void test_no_long_burst(void **state)
{
    struct load *load = load_new(1);

    (void)state;
    mux_session_set_bandwidth(load->w->session, 5000000, load->w->now);
    load->w->now += 60 * SECOND;
    fill(load, 0, MIB);
    assert_in_range(send_now(load), 200000, 500000); /* 100 ms worth at the most */
    assert_in_range(run(load, 1, 100 * MILLISECOND), 400000, 600000);
    load_free(load);
}

static void test_little_things_are_not_held_up(void **state)
{
    struct load *load = load_new(2);
    struct wire *w = load->w;

    (void)state;
    mux_session_set_bandwidth(w->session, 1000000, w->now);
    run(load, 1, SECOND);
    assert_false(mux_session_wants_send(w->session));

    wire_write(w, 0, 50000);
    assert_true(mux_session_wants_send(w->session));
    send_now(load);
    assert_int_equal(load->sent[0], 50000);

    wire_say(w, BS_FRAME_PING, 0, 99, 0, NULL);
    assert_string_equal(wire_frames(w), "PONG 99\n");
    wire_write(w, load->channels[1], 100);
    assert_string_equal(wire_frames(w), "DATA 3 @0 +100\n");
    mux_channel_reset(w->session, load->channels[1], BS_RESET_CANCELLED, "x");
    assert_string_equal(wire_frames(w), "RESET 3 code 1 x\n");
    assert_false(mux_session_wants_send(w->session));
    load_free(load);
}

/* A channel that turned busy with a message just below a quantum waits, and those behind it that have
 * little to say don't. */
static void test_what_waits_stands_before_nobody(void **state)
{
    struct load *load = load_new(3);
    struct wire *w = load->w;

    (void)state;
    mux_session_set_bandwidth(w->session, 1000000, w->now);
    run(load, 1, SECOND);
    wire_write(w, load->channels[1], 16000);
    wire_write(w, load->channels[2], 100);
    assert_string_equal(wire_frames(w), "DATA 5 @0 +100\n");
    load_free(load);
}

/* Many small messages are not a way around it. */
static void test_small_messages_count(void **state)
{
    struct load *load = load_new(2);
    uint64_t sum = 0;

    (void)state;
    mux_session_set_bandwidth(load->w->session, 1000000, load->w->now);
    for (int i = 0; i < 50000; i++) {
        if (mux_channel_space(load->w->session, load->channels[0]) >= 1000)
            fill(load, 0, 1000);
        sum += send_now(load);
        load->w->now += MILLISECOND / 10;
        mux_session_tick(load->w->session, load->w->now);
    }
    assert_in_range(sum, 4800000, 5200000);
    load_free(load);
}

/* The end of a capped channel comes behind its last byte. */
static void test_the_end_waits_too(void **state)
{
    struct load *load = load_new(1);
    struct wire *w = load->w;
    const char *frames;

    (void)state;
    mux_session_set_bandwidth(w->session, 100000, w->now);
    w->now += SECOND;
    fill(load, 0, 20000);
    mux_channel_end(w->session, 1);
    while (!strstr(frames = wire_frames(w), "EOF")) {
        assert_true(mux_session_deadline(w->session) < 100 * SECOND);
        w->now = mux_session_deadline(w->session);
        mux_session_tick(w->session, w->now);
    }
    assert_true(w->now >= 2 * SECOND + 2 * SECOND / 20);
    assert_non_null(strstr(frames, "EOF 1 @20000\n"));
    load_free(load);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_rate_holds),
        cmocka_unit_test(test_a_cap_that_is_hardly_one),
        cmocka_unit_test(test_changes_count_at_once),
        cmocka_unit_test(test_no_long_burst),
        cmocka_unit_test(test_little_things_are_not_held_up),
        cmocka_unit_test(test_what_waits_stands_before_nobody),
        cmocka_unit_test(test_small_messages_count),
        cmocka_unit_test(test_the_end_waits_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
