/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Random schedules: everything that users, links and the clock can do, in any order, with windows
 * and pools from tiny to large.  Every byte is checked, the caps after every step, and in the end
 * that everything was delivered and forgotten.
 *
 * SEED=n replays from that one on (it is printed), COUNT=n sets how many are run.
 */
#include "config.h"

#include "tests/unit/mux_users.h"

static void some_step(struct users *s)
{
    struct pair_side *side = &s->pair->sides[below(2)];

    switch (below(8)) {
    case 0:
        pair_send(side, BS_FRAME_MESSAGE_MAX + below(20000));
        break;
    case 1:
    case 2:
        pair_deliver(side, any_size(40000));
        break;
    case 3:
        s->pair->now += below(2) ? below(1000000) : below(100000000);
        pair_tick(side);
        break;
    default:
        users_step(s, side);
    }
}

static struct pair *make_pair(struct users *s)
{
    static const uint32_t windows[] = {1, 2, 7, 100, 1000, 16384};
    struct mux_config config = {
        .serial = 9,
        .local = {windows[below(6)], 1 + (uint32_t)below(6)},
        .remote = {windows[below(6)], 1 + (uint32_t)below(6)},
        .ping_interval = below(2) * 30000000,
    };
    uint64_t channels = config.local.channels + config.remote.channels + 1;
    uint64_t here = channels * config.local.first_window;
    uint64_t there = channels * config.remote.first_window;
    struct pair *pair;

    config.memory = here + below(2) * below(4 * here);
    pair = pair_new(&config, there + below(2) * below(4 * there));
    pair->take = users_take_some;
    s->most =
        40 * (config.local.first_window < config.remote.first_window ? config.local.first_window
                                                                     : config.remote.first_window);
    pair->sides[0].users[0].plan = below(s->most);
    pair->sides[1].users[0].plan = below(s->most);
    return pair;
}

/* Nothing has been said about the end yet. */
static void finish(struct users *s)
{
    struct pair *pair = s->pair;
    struct pair_side *closer = &pair->sides[below(2)];

    for (; s->opens_left > 0; s->opens_left--) {
        struct pair_side *side = &pair->sides[below(2)];

        if (pair_open(side, below(s->most), below(s->most)))
            continue;
        pair_run(pair);
        pair_check_finished(pair);
        assert_true(pair_open(side, below(s->most), below(s->most)) > 0);
    }
    pair_run(pair);
    pair_check(pair);
    pair_check_finished(pair);
    assert_int_equal(mux_session_close(closer->session, BS_CLOSE_DONE, ""), 0);
    if (below(2))
        assert_int_equal(mux_session_close(pair_other(closer)->session, BS_CLOSE_DONE, ""), 0);
    pair_run(pair);
    assert_true(pair->sides[0].closed && pair->sides[1].closed);
    assert_int_equal(pair->sides[0].close_code, BS_CLOSE_DONE);
    assert_int_equal(pair->sides[1].close_code, BS_CLOSE_DONE);
}

/* In the middle of everything. */
static void cancel(struct users *s)
{
    struct pair *pair = s->pair;

    assert_int_equal(mux_session_close(pair->sides[below(2)].session, BS_CLOSE_CANCELLED, "enough"),
                     0);
    for (int i = 0; i < 20; i++)
        some_step(s);
    pair_run(pair);
    for (int i = 0; i < 2; i++) {
        struct mux_session_stats stats;

        assert_true(pair->sides[i].closed);
        assert_int_equal(pair->sides[i].close_code, BS_CLOSE_CANCELLED);
        assert_string_equal(pair->sides[i].close_text, "enough");
        mux_session_get_stats(pair->sides[i].session, &stats);
        assert_int_equal(stats.channels, 0);
    }
}

static void run_schedule(void)
{
    struct users s = {0};
    size_t steps;

    s.pair = make_pair(&s);
    s.opens_left = 1 + (unsigned)below(12);
    s.resets = below(2) ? (unsigned)below(50) : 0;
    steps = below(1500);
    for (size_t i = 0; i < steps; i++) {
        some_step(&s);
        pair_check(s.pair);
    }
    if (below(5))
        finish(&s);
    else {
        s.opens_left = 0;
        cancel(&s);
    }
    pair_free(s.pair);
}

static void test_random_schedules(void **state)
{
    (void)state;
    users_run(run_schedule, 4000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_random_schedules, users_name_seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
