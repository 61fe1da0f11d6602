/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Memory: each allocation failing in turn, what an idle channel costs, and what is given back. */
#include "config.h"

#include "tests/unit/failmalloc.h"
#include "tests/unit/mux_pair.h"
#include "tests/unit/mux_wire.h"
#include "tests/unit/unit.h"

#include "mux/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- each allocation failing ----------------------------------------------------------------------- */

/* Does with W what takes memory.  Returns whether the session lived through it; where a call said
 * -ENOMEM, it is as if the call had not been made. */
static bool use_memory(struct wire *w)
{
    static const uint8_t bytes[50];
    struct iovec iov[2];
    uint32_t channel = 0;
    int r = mux_channel_open(w->session, "nbd/vda", &channel);

    assert_true(r == 0 || r == -ENOMEM);
    if (r == 0) {
        int64_t n = mux_channel_write(w->session, channel, bytes, sizeof bytes);

        assert_true(n == sizeof bytes || n == -ENOMEM);
        r = mux_channel_reserve(w->session, channel, 50, iov);
        assert_true(r >= 1 || r == -ENOMEM);
        if (r >= 1)
            mux_channel_commit(w->session, channel, 50);
        wire_frames(w);
        mux_channel_reset(w->session, channel, BS_RESET_CANCELLED, "a text that is kept");
        assert_non_null(strstr(wire_frames(w), "RESET 1 code 1"));
    }
    w->take = 0;
    r = wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "a");
    if (r == 0)
        r = wire_say_data(w, 2, 0, 50);
    if (r == 0)
        r = wire_say_data(w, 0, 0, 50);
    return r == 0;
}

static void test_each_allocation_fails(void **state)
{
    bool failed = true;
    int ends = 0;

    (void)state;
    if (!failmalloc_works())
        skip();
    for (size_t n = 0; failed; n++) {
        struct wire *w = wire_prepare();
        long live = failmalloc_live();
        bool started, lived;

        failmalloc_arm(n);
        started = wire_start(w, wire_config(true));
        lived = started && use_memory(w);
        failed = failmalloc_disarm();
        assert_true(lived || failed);
        if (started && !lived) {
            ends++;
            assert_non_null(strstr(wire_events(w), "closed code 3 no memory for "));
            assert_non_null(strstr(wire_frames(w), "CLOSE code 3 no memory for "));
        }
        mux_session_free(w->session);
        w->session = NULL;
        assert_int_equal(failmalloc_live(), live);
        wire_free(w);
    }
    assert_int_equal(ends, 3); /* the peer's channel, and what came for two */
}

/* A ring that can't grow leaves what it holds alone, and the next try finds it. */
static void test_write_fails_and_succeeds_later(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t c = wire_open(w);

    (void)state;
    if (!failmalloc_works()) {
        wire_free(w);
        skip();
    }
    failmalloc_arm(0);
    assert_int_equal(mux_channel_write(w->session, c, "0123456789", 10), -ENOMEM);
    assert_true(failmalloc_disarm());
    assert_false(mux_session_wants_send(w->session));
    wire_write(w, c, 10);
    assert_string_equal(wire_frames(w), "DATA 1 @0 +10\n");
    wire_free(w);
}

/* ---- idle channels ----------------------------------------------------------------------------------- */

static struct pair *pair_with_channels(uint32_t channels, uint64_t plan)
{
    const struct mux_config config = {
        .local = {16384, 1000}, .remote = {16384, 1000}, .memory = 64 << 20};
    struct pair *pair = pair_new(&config, config.memory);

    for (uint32_t i = 0; i < channels; i++)
        assert_true(pair_open(&pair->sides[0], plan, plan) > 0);
    return pair;
}

static bool has_rings(const struct pair_side *side)
{
    for (uint32_t c = 0; c <= side->highest; c++) {
        const struct mux_channel *channel = mux_channel_find(side->session, c);

        if (channel && (channel->in.data || channel->out.data))
            return true;
    }
    return false;
}

static void test_1000_idle_channels_cost_little(void **state)
{
    size_t before;
    struct pair *pair;

    (void)state;
    if (!failmalloc_works())
        skip();
    pair = pair_with_channels(0, 0);
    before = failmalloc_bytes();
    for (int i = 0; i < 1000; i++)
        assert_true(pair_open(&pair->sides[0], UINT64_MAX, UINT64_MAX) > 0);
    assert_true(failmalloc_bytes() - before < 1000 * 512);
    pair_free(pair);
}

/* Busy ones have rings; once they are quiet, neither side has any. */
static void test_quiet_channels_give_their_rings_back(void **state)
{
    struct pair *pair = pair_with_channels(100, 100000);
    const struct pair_side *a = &pair->sides[0], *b = &pair->sides[1];
    uint64_t end;

    (void)state;
    for (uint32_t c = 1; c < 200; c += 2)
        pair_write(&pair->sides[0], c, 10);
    assert_true(has_rings(a));
    pair_send(&pair->sides[0], 1 << 20);
    pair_deliver(&pair->sides[0], SIZE_MAX);
    end = pair->now + 1000000000;
    while (pair->now < end) {
        uint64_t next = min_u64(mux_session_deadline(a->session), mux_session_deadline(b->session));

        pair->now = min_u64(next, end);
        for (int i = 0; i < 2; i++) {
            pair_tick(&pair->sides[i]);
            pair_send(&pair->sides[i], 1 << 20);
            pair_deliver(&pair->sides[i], SIZE_MAX);
        }
    }
    assert_false(has_rings(a) || has_rings(b));
    assert_true(mux_session_deadline(a->session) == UINT64_MAX);
    assert_true(mux_session_deadline(b->session) == UINT64_MAX);
    pair_check(pair);

    pair_run(pair);
    pair_check_finished(pair);
    pair_free(pair);
}

/* A thousand at once, both ways, with every byte checked. */
static void test_1000_channels(void **state)
{
    struct pair *pair = pair_with_channels(1000, 20000);

    (void)state;
    pair_run(pair);
    pair_check(pair);
    pair_check_finished(pair);
    pair_free(pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_allocation_fails),
        cmocka_unit_test(test_write_fails_and_succeeds_later),
        cmocka_unit_test(test_1000_idle_channels_cost_little),
        cmocka_unit_test(test_quiet_channels_give_their_rings_back),
        cmocka_unit_test(test_1000_channels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
