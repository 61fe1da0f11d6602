/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The old protocol's one stream: it arrives whole wherever the link is cut, is held up end to end, and
 * is confirmed; calls go on beside it; a peer that is silent is told from one that is held back.
 */
#include "config.h"

#include "mux/internal.h"
#include "tests/unit/tunnel_pair.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

/* ---- the stream -------------------------------------------------------------------------------- */

static void test_whole_life(void **state)
{
    struct tunnel *t = tunnel_new(0);
    struct mux_channel_stats stats;
    uint32_t channel;

    (void)state;
    assert_int_equal(mux_channel_open(t->near.session, "migration", &channel), -EMFILE);
    assert_int_equal(mux_channel_open(t->near.session, "nbd/vda", &channel), -EINVAL);
    tunnel_call(&t->near, BS_PROC_MIGRATE_PREPARE_TUNNEL, TUNNEL_SERIAL, "prepare");
    tunnel_run(t);
    assert_int_equal(mux_channel_open(t->far.session, "migration", &channel), -EBUSY);
    tunnel_open(t);
    assert_int_equal(mux_channel_open(t->near.session, "migration", &channel), -EBUSY);

    tunnel_write(t, 0, 100000);
    tunnel_run(t);
    tunnel_expect(&t->far, "opened\n");
    assert_int_equal(t->far.received, 100000);
    assert_int_equal(mux_channel_space(t->far.session, 1), 0);
    mux_channel_get_stats(t->near.session, 1, &stats);
    assert_int_equal(stats.sent, 100000);

    mux_channel_end(t->near.session, 1);
    tunnel_run(t);
    tunnel_expect(&t->far, "eof\n");
    /* Nothing is confirmed before the local socket has taken the end. */
    tunnel_expect(&t->near, "");
    mux_channel_eof_taken(t->far.session, 1);
    tunnel_run(t);
    tunnel_expect(&t->far, "forgotten\n");
    tunnel_expect(&t->near, "forgotten\n");
    assert_int_equal(mux_channel_open(t->near.session, "migration", &channel), -EBUSY);

    assert_int_equal(mux_session_close(t->near.session, BS_CLOSE_DONE, ""), 0);
    tunnel_run(t);
    tunnel_expect(&t->near, "closed 0 \n");
    assert_true(mux_session_hangup(t->far.session));
    tunnel_expect(&t->far, "closed 0 \n");
    tunnel_free(t);
}

static void test_every_cut(void **state)
{
    (void)state;
    for (size_t cut = 1; cut < 120; cut++) {
        struct tunnel *t = tunnel_new(SECOND);
        const size_t before = RPC_HEAD_SIZE + strlen("prepare");

        t->cut = cut;
        tunnel_call(&t->near, BS_PROC_MIGRATE_PREPARE_TUNNEL, TUNNEL_SERIAL, "prepare");
        tunnel_run(t);
        tunnel_open(t);
        tunnel_write(t, 0, 20000);
        tunnel_call(&t->near, BS_PROC_MIGRATE_STATUS, TUNNEL_SERIAL + 1, "status");
        tunnel_run(t);
        mux_channel_end(t->near.session, 1);
        tunnel_call(&t->far, BS_PROC_HOST_INFO, 1, "who");
        tunnel_run(t);
        mux_channel_eof_taken(t->far.session, 1);
        tunnel_run(t);
        tunnel_expect(&t->near, "forgotten\n");
        tunnel_expect(&t->far, "opened\neof\nforgotten\n");
        assert_int_equal(t->far.received, 20000);
        assert_int_equal(t->far.calls_used, before + RPC_HEAD_SIZE + strlen("status"));
        assert_memory_equal(t->far.calls + before + RPC_HEAD_SIZE, "status", 6);
        assert_int_equal(t->near.calls_used, RPC_HEAD_SIZE + strlen("who"));
        tunnel_free(t);
    }
}

/* A call that comes in parts, since the pump hands over what there is room for, is never split by a
 * message of another kind. */
static void test_calls_are_not_interleaved(void **state)
{
    struct tunnel *t = tunnel_prepared(0);
    char payload[10000];
    uint8_t message[BS_FRAME_MESSAGE_MAX];
    size_t length, before = t->far.calls_used;
    uint64_t written = 0;

    (void)state;
    memset(payload, 'p', sizeof payload - 1);
    payload[sizeof payload - 1] = '\0';
    length = tunnel_message(message, BS_CALL, BS_PROC_MIGRATE_STATUS, 10, BS_OK, payload);
    tunnel_open(t);
    for (size_t done = 0; done < length;) {
        size_t n = min_size(17, length - done);

        written = tunnel_write(t, written, written + 1);
        assert_int_equal(mux_channel_write(t->near.session, 0, message + done, n), (int64_t)n);
        tunnel_run(t);
        done += n;
        if (done < length)
            assert_int_equal(t->far.received, 0);
    }
    assert_int_equal(t->far.calls_used - before, length);
    assert_memory_equal(t->far.calls + before, message, length);
    assert_true(t->far.received == written && written > 0);
    tunnel_free(t);
}

static void test_back_pressure(void **state)
{
    struct tunnel *t = tunnel_prepared(0);
    const uint64_t all = 5 << 20;
    uint64_t written = 0;

    (void)state;
    tunnel_open(t);
    t->far.take = 1000;
    for (int i = 0; i < 10; i++) {
        written = tunnel_write(t, written, all);
        tunnel_run(t);
    }
    assert_int_equal(t->far.received, 1000);
    assert_false(mux_session_wants_receive(t->far.session));
    assert_in_range(written, 2 << 20, (2 << 20) + 20000); /* 1 MiB at each end */

    /* What comes the other way is heard: a call, and the end that may come at any time. */
    tunnel_call(&t->far, BS_PROC_HOST_INFO, 1, "who");
    tunnel_run(t);
    assert_int_equal(t->near.calls_used, RPC_HEAD_SIZE + 3);

    while (t->far.received < all) {
        tunnel_drain(&t->far);
        t->far.take = 0;
        assert_true(mux_session_wants_receive(t->far.session));
        written = tunnel_write(t, written, all);
        if (written == all)
            mux_channel_end(t->near.session, 1);
        tunnel_run(t);
    }
    tunnel_drain(&t->far);
    tunnel_expect(&t->far, "opened\neof\n");
    assert_int_equal(t->far.received, all);
    tunnel_free(t);
}

/* The cap counts the stream and holds up no call. */
static void test_cap(void **state)
{
    struct tunnel *t = tunnel_prepared(0);
    uint64_t written = 0, begun = t->now;

    (void)state;
    tunnel_open(t);
    mux_session_set_bandwidth(t->near.session, 1000000, t->now);
    while (t->now < begun + 3 * SECOND) {
        written = tunnel_write(t, written, 50 << 20);
        tunnel_run(t);
        t->now = max_u64(t->now, mux_session_deadline(t->near.session));
        mux_session_tick(t->near.session, t->now);
    }
    assert_in_range(t->far.received, 2900000, 3100000);
    tunnel_run(t);
    tunnel_call(&t->near, BS_PROC_MIGRATE_STATUS, 10, "status");
    tunnel_run(t);
    assert_memory_equal(t->far.calls + t->far.calls_used - 6, "status", 6);
    tunnel_free(t);
}

static void test_an_empty_stream(void **state)
{
    struct tunnel *t = tunnel_prepared(0);

    (void)state;
    tunnel_open(t);
    tunnel_run(t);
    tunnel_expect(&t->far, "");
    mux_channel_end(t->near.session, 1);
    tunnel_run(t);
    tunnel_expect(&t->far, "opened\neof\n");
    tunnel_free(t);
}

/* ---- keepalive ---------------------------------------------------------------------------------- */

static int tick_to(struct tunnel *t, struct tunnel_end *end, uint64_t now)
{
    int r = 0;

    while (r == 0 && mux_session_deadline(end->session) <= now) {
        t->now = max_u64(t->now, mux_session_deadline(end->session));
        r = mux_session_tick(end->session, t->now);
        tunnel_run(t);
    }
    t->now = now;
    return r;
}

static void test_keepalive(void **state)
{
    struct tunnel *t = tunnel_prepared(SECOND);
    struct mux_session_stats stats;

    (void)state;
    assert_int_equal(tick_to(t, &t->near, t->now + 20 * SECOND), 0); /* PINGs are answered */
    mux_session_get_stats(t->near.session, &stats);
    assert_true(stats.round_trip > 0);

    /* Nothing comes any more. */
    for (t->now += SECOND; mux_session_deadline(t->far.session) <= t->now; t->now += SECOND) {
        uint8_t buffer[BS_FRAME_MESSAGE_MAX];
        bool urgent;

        if (mux_session_tick(t->far.session, t->now) < 0)
            break;
        mux_session_send(t->far.session, buffer, sizeof buffer, t->now, &urgent);
    }
    assert_int_equal(mux_session_tick(t->far.session, t->now), -ETIMEDOUT);
    tunnel_free(t);
}

/* A stream that is held back at its end is not a peer that is silent, for neither side. */
static void test_held_back_is_not_dead(void **state)
{
    struct tunnel *t = tunnel_prepared(SECOND);
    uint64_t written = 0, total;

    (void)state;
    tunnel_open(t);
    t->far.take = 0;
    for (int i = 0; i < 5; i++) {
        written = tunnel_write(t, written, 5 << 20);
        tunnel_run(t);
    }
    assert_false(mux_session_wants_receive(t->far.session));
    for (int i = 0; i < 60; i++) {
        assert_int_equal(tick_to(t, &t->near, t->now + SECOND / 2), 0);
        assert_int_equal(tick_to(t, &t->far, t->now + SECOND / 2), 0);
        assert_int_equal(mux_session_silent(t->far.session, t->now, &total), 0);
        assert_in_range(mux_session_silent(t->near.session, t->now, &total), 0, 2 * SECOND);
    }
    tunnel_drain(&t->far); /* and now it can be heard again */
    assert_int_equal(mux_session_tick(t->far.session, t->now), 0);
    assert_true(mux_session_deadline(t->far.session) > t->now);
    t->now += 4 * SECOND;
    assert_int_equal(mux_session_tick(t->far.session, t->now), -ETIMEDOUT);
    tunnel_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_life),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_calls_are_not_interleaved),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_cap),
        cmocka_unit_test(test_an_empty_stream),
        cmocka_unit_test(test_keepalive),
        cmocka_unit_test(test_held_back_is_not_dead),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
