/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Links that break: at every byte of a session, and in random schedules, in which links are lost by
 * one side or both, fall silent in one direction, and are resumed by attempts that are late, lost,
 * answered for nothing, or cross each other.  Everything is checked that mux_random.c checks.
 *
 * SEED=n replays from that one on (it is printed), COUNT=n sets how many are run.
 */
#include "config.h"

#include "tests/unit/mux_relink.h"
#include "tests/unit/mux_users.h"
#include "common/checked.h"

/* ---- at every byte ---------------------------------------------------------------------------- */

/* What is said in one session: several channels from both sides, some with more than a window, one
 * reset, an empty one. */
static struct relink *make_session(void)
{
    const struct mux_config config = {
        .serial = 9,
        .local = {300, 3},
        .remote = {200, 3},
        .memory = 4000,
    };
    struct pair *pair = pair_new(&config, 4000);

    pair->sides[0].users[0].plan = 450;
    pair->sides[1].users[0].plan = 170;
    assert_int_equal(pair_open(&pair->sides[0], 700, 900), 1);
    assert_int_equal(pair_open(&pair->sides[0], 0, 900), 3);
    assert_int_equal(pair_open(&pair->sides[1], 250, 100), 2);
    return relink_new(pair);
}

/* One step of each side; at most *LEFT bytes arrive. */
static bool step_until(struct relink *r, uint64_t *left)
{
    bool did = false;

    for (int i = 0; i < 2; i++) {
        struct pair_side *side = &r->pair->sides[i];
        size_t before;

        for (uint32_t c = 0; c <= side->highest; c++) {
            did |= pair_write(side, c, 64);
            did |= pair_read(side, c, 50);
        }
        if (side->users[3].written + side->users[3].read > 100)
            pair_reset(side, 3);
        did |= relink_tick(r, i);
        did |= relink_send(r, i, BS_FRAME_MESSAGE_MAX);
        before = side->link_used;
        did |= relink_deliver(r, i, min_u64(*left, before));
        *left -= before - side->link_used;
    }
    r->pair->now += 1000000;
    return did;
}

/* Breaks the link after BYTES, as WHO (bits) notices.  Returns false when the session was over by then. */
static bool break_after(uint64_t bytes, unsigned who)
{
    struct relink *r = make_session();
    bool broken;
    int idle = 0;

    while (bytes > 0 && idle < 200)
        idle = step_until(r, &bytes) ? 0 : idle + 1;
    broken = bytes == 0;
    for (int i = 0; i < 2; i++)
        if (who & 1U << i)
            relink_lose(r, i);
    for (int i = 0; i < 100; i++) { /* sockets go on, and what the opener sent may arrive */
        bytes = who & 4 ? UINT64_MAX : 0;
        step_until(r, &bytes);
        pair_check(r->pair);
    }
    relink_mend(r);
    relink_run(r);
    pair_check(r->pair);
    pair_check_finished(r->pair);
    assert_int_equal(mux_session_close(r->pair->sides[0].session, BS_CLOSE_DONE, ""), 0);
    relink_run(r);
    assert_true(r->pair->sides[0].closed && r->pair->sides[1].closed);
    relink_free(r);
    return broken;
}

static void test_broken_at_every_byte(void **state)
{
    (void)state;
    for (unsigned who = 1; who < 8; who++) {
        uint64_t bytes = 0;

        while (break_after(bytes, who))
            bytes++;
        assert_in_range(bytes, 4000, 100000);
    }
}

/* ---- random schedules ------------------------------------------------------------------------- */

struct schedule {
    struct users users;
    struct relink *relink;
    unsigned breaks; /* in a thousand steps */
};

static void some_link_step(struct schedule *s)
{
    struct relink *r = s->relink;
    int i = (int)below(RELINK_CALLS);

    switch (below(8)) {
    case 0:
    case 1:
        if (below(1000) < s->breaks)
            relink_lose(r, (int)below(2));
        break;
    case 2:
        if (below(1000) < s->breaks)
            r->silent[below(2)] = true;
        break;
    case 3:
        if (!r->waiting || below(20) == 0)
            relink_call(r);
        break;
    case 4:
        if (below(1000) < s->breaks)
            relink_drop(below(2) ? &r->calls[i] : &r->replies[i]);
        break;
    case 5:
    case 6:
        relink_deliver_call(r, i);
        break;
    default:
        relink_deliver_reply(r, i);
    }
}

static void some_step(struct schedule *s)
{
    int i = (int)below(2);

    switch (below(10)) {
    case 0:
        relink_send(s->relink, i, BS_FRAME_MESSAGE_MAX + below(20000));
        break;
    case 1:
    case 2:
        relink_deliver(s->relink, i, any_size(40000));
        break;
    case 3:
        s->users.pair->now += below(2) ? below(1000000) : below(100000000);
        relink_tick(s->relink, i);
        break;
    case 4:
    case 5:
        some_link_step(s);
        break;
    default:
        users_step(&s->users, &s->users.pair->sides[i]);
    }
}

static void make_pair(struct schedule *s)
{
    static const uint32_t windows[] = {1, 2, 7, 100, 1000, 16384};
    struct mux_config config = {
        .serial = 9,
        .local = {windows[below(6)], 1 + (uint32_t)below(4)},
        .remote = {windows[below(6)], 1 + (uint32_t)below(4)},
        .ping_interval = 30000000 + below(2) * 30000000,
    };
    uint64_t channels = config.local.channels + config.remote.channels + 1;
    uint64_t here = channels * config.local.first_window;
    uint64_t there = channels * config.remote.first_window;

    config.ping_timeout = 10 * config.ping_interval;
    config.memory = here + below(2) * below(4 * here);
    s->users.pair = pair_new(&config, there + below(2) * below(4 * there));
    s->users.pair->take = users_take_some;
    s->relink = relink_new(s->users.pair);
    s->users.most = 40 * min_u64(config.local.first_window, config.remote.first_window);
    s->users.pair->sides[0].users[0].plan = below(s->users.most);
    s->users.pair->sides[1].users[0].plan = below(s->users.most);
    for (int i = 0; i < 2; i++) { /* a session from which no frame came would end with its link */
        relink_send(s->relink, i, BS_FRAME_MESSAGE_MAX);
        relink_deliver(s->relink, i, SIZE_MAX);
    }
}

/* The opener's answer to the acceptor's CLOSE may be lost with its link: then the acceptor waits in vain,
 * until the grace time is over. */
static void give_up_waiting(struct schedule *s)
{
    struct pair_side *acceptor = &s->users.pair->sides[1];

    if (s->users.pair->sides[0].closed && !acceptor->closed)
        mux_session_abandon(acceptor->session, acceptor->pair->sides[0].close_code, "enough");
}

/* A link that is whole stays: what was not said when it was resumed must not be said by the next one. */
static void run_to_the_end(struct schedule *s)
{
    const struct relink *r = s->relink;

    if (!r->on[0] || !r->on[1] || r->link[0] != r->link[1] || r->silent[0] || r->silent[1])
        relink_mend(s->relink);
    relink_run(s->relink);
    if (!r->on[0] && !s->users.pair->sides[0].closed) /* only now it was found dead */
        run_to_the_end(s);
}

static void finish(struct schedule *s)
{
    struct pair *pair = s->users.pair;
    struct pair_side *closer = &pair->sides[below(2)];

    run_to_the_end(s);
    for (; s->users.opens_left > 0; s->users.opens_left--) {
        struct pair_side *side = &pair->sides[below(2)];

        if (pair_open(side, below(s->users.most), below(s->users.most)))
            continue;
        run_to_the_end(s);
        pair_check_finished(pair);
        assert_true(pair_open(side, below(s->users.most), below(s->users.most)) > 0);
    }
    run_to_the_end(s);
    pair_check(pair);
    pair_check_finished(pair);
    assert_int_equal(mux_session_close(closer->session, BS_CLOSE_DONE, ""), 0);
    if (below(2))
        assert_int_equal(
            mux_session_close(pair->sides[closer == pair->sides].session, BS_CLOSE_DONE, ""), 0);
    for (uint64_t i = below(60); i > 0; i--)
        some_step(s);
    run_to_the_end(s);
    give_up_waiting(s);
    for (int i = 0; i < 2; i++) {
        assert_true(pair->sides[i].closed);
        assert_int_equal(pair->sides[i].close_code, BS_CLOSE_DONE);
    }
}

/* In the middle of everything, with or without a link. */
static void cancel(struct schedule *s)
{
    struct pair *pair = s->users.pair;

    s->users.opens_left = 0;
    assert_int_equal(mux_session_close(pair->sides[below(2)].session, BS_CLOSE_CANCELLED, "enough"),
                     0);
    for (uint64_t i = below(60); i > 0; i--)
        some_step(s);
    run_to_the_end(s);
    give_up_waiting(s);
    for (int i = 0; i < 2; i++) {
        struct mux_session_stats stats;

        assert_true(pair->sides[i].closed);
        assert_int_equal(pair->sides[i].close_code, BS_CLOSE_CANCELLED);
        mux_session_get_stats(pair->sides[i].session, &stats);
        assert_int_equal(stats.channels, 0);
    }
}

static unsigned resumed, stale;

static void run_schedule(void)
{
    struct schedule s = {0};
    size_t steps;

    make_pair(&s);
    s.users.opens_left = 1 + (unsigned)below(12);
    s.users.resets = below(2) ? (unsigned)below(50) : 0;
    s.breaks = (unsigned)below(500);
    steps = below(3000);
    for (size_t i = 0; i < steps; i++) {
        some_step(&s);
        pair_check(s.users.pair);
    }
    if (below(5))
        finish(&s);
    else
        cancel(&s);
    resumed += s.relink->resumed;
    stale += s.relink->stale;
    relink_free(s.relink);
}

static void test_random_schedules(void **state)
{
    uint64_t count = users_run(run_schedule, 3000);

    (void)state;
    print_message("resumed %u times, %u stale attempts\n", resumed, stale);
    if (count >= 1000)
        assert_true(resumed > count && stale > count / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken_at_every_byte),
        cmocka_unit_test_teardown(test_random_schedules, users_name_seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
