/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The tables of daemon/ownership.h, walked as a model: every state of both sides that can be reached
 * when messages are lost, repeated or late, sessions end and daemons are restarted at any step.
 * Never do two guests run; and from everywhere there is a way to an end in which exactly one does
 * and nobody has anything left to remember.
 */
#include "config.h"

#include "daemon/ownership.h"
#include "tests/unit/unit.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* ---- the model ------------------------------------------------------------------------------- */

struct world {
    enum outgoing_state source;
    enum incoming_state destination;
    bool runs_here;  /* at the source */
    bool runs_there; /* at the destination, or its `cont` is on its way */
    bool finish_out; /* Finish has been sent: it may arrive at any time, and more than once */
    bool session;    /* the one that Prepare was called in lives */
};

enum { WORLDS = OUTGOING_STATES * INCOMING_STATES * 16, STEPS_MAX = 32 };

static size_t number_of(const struct world *w)
{
    return (((((size_t)w->source * INCOMING_STATES + w->destination) * 2 + w->runs_here) * 2 +
             w->runs_there) *
                2 +
            w->finish_out) *
               2 +
           w->session;
}

struct steps {
    struct world next[STEPS_MAX];
    size_t count;
};

static void may_become(struct steps *steps, struct world w)
{
    assert_true(steps->count < STEPS_MAX);
    assert_false(w.runs_here && w.runs_there);
    steps->next[steps->count++] = w;
}

/* What the source does with an answer, or without one. */
static void hear(struct steps *steps, struct world w, enum outgoing_event event)
{
    w.source = outgoing_next(w.source, event);
    if (w.source == OUTGOING_OURS && event == OUTGOING_HEARS_NOT_MINE)
        w.runs_here = true;
    may_become(steps, w);
}

static void answer(struct steps *steps, struct world w, enum outgoing_event event)
{
    may_become(steps, w); /* lost */
    if (w.source == OUTGOING_FINISH_ASKED)
        hear(steps, w, event);
}

static void fence(struct world *w)
{
    assert_false(w->runs_there); /* nothing that may have run is ever fenced */
    w->destination = INCOMING_NOT_MINE;
}

/* MESSAGE reaches the destination. */
static void deliver(struct steps *steps, struct world w, enum incoming_message message)
{
    switch (incoming_action(w.destination, message)) {
    case INCOMING_IGNORE:
    case INCOMING_CONFLICT:
        may_become(steps, w);
        break;
    case INCOMING_SAY_UNKNOWN:
    case INCOMING_SAY_LOST:
        answer(steps, w, OUTGOING_HEARS_NOTHING);
        break;
    case INCOMING_DECIDE: {
        struct world fenced = w;

        fence(&fenced);
        answer(steps, fenced, OUTGOING_HEARS_NOT_MINE);
        w.destination = INCOMING_MINE;
        w.runs_there = true;  /* from the rename on it must be taken for running */
        may_become(steps, w); /* the daemon dies here */
        w.destination = INCOMING_RUNNING;
        answer(steps, w, OUTGOING_HEARS_MINE);
        break;
    }
    case INCOMING_TAKE_UP:
        w.destination = INCOMING_RUNNING;
        w.runs_there = true;
        answer(steps, w, OUTGOING_HEARS_MINE);
        break;
    case INCOMING_SAY_MINE:
        answer(steps, w, OUTGOING_HEARS_MINE);
        break;
    case INCOMING_SAY_NOT_MINE:
        answer(steps, w, OUTGOING_HEARS_NOT_MINE);
        break;
    case INCOMING_FENCE:
        fence(&w);
        answer(steps, w, OUTGOING_HEARS_NOT_MINE);
        break;
    case INCOMING_FENCE_REMOVE:
        fence(&w);
        w.destination = INCOMING_NONE;
        may_become(steps, w);
        break;
    case INCOMING_REMOVE:
    case INCOMING_CLEAN:
        w.destination = INCOMING_NONE;
        may_become(steps, w);
        break;
    }
}

static void settle(struct steps *steps, struct world w)
{
    struct steps delivered = {.count = 0};

    deliver(&delivered, w,
            w.source == OUTGOING_OURS ? INCOMING_SETTLE_OURS : INCOMING_SETTLE_THEIRS);
    for (size_t i = 0; i < delivered.count; i++) {
        may_become(steps, delivered.next[i]); /* the answer is lost */
        hear(steps, delivered.next[i], OUTGOING_HEARS_SETTLED);
    }
}

static void restart_source(struct steps *steps, struct world w)
{
    w.session = false;
    w.source = outgoing_next(w.source, OUTGOING_RESTARTS);
    if (w.source == OUTGOING_OURS)
        w.runs_here = true;
    may_become(steps, w);
}

/* Everything that can happen next. */
static void step(const struct world *w, struct steps *steps)
{
    struct world next = *w;

    steps->count = 0;
    if (w->source == OUTGOING_BEGUN) {
        if (w->destination == INCOMING_NONE && w->session) { /* Prepare */
            next.destination = INCOMING_PREPARED;
            may_become(steps, next);
        }
        next = *w;
        next.source = outgoing_next(w->source, OUTGOING_FAILS);
        may_become(steps, next);
    }
    if (w->source == OUTGOING_BEGUN && w->destination != INCOMING_NONE) {
        next = *w; /* completed: it stands, and Finish is sent */
        next.runs_here = false;
        next.source = outgoing_next(w->source, OUTGOING_SENDS_FINISH);
        next.finish_out = true;
        may_become(steps, next);
    }
    if (w->finish_out && w->session)
        deliver(steps, *w, INCOMING_FINISH);
    if (w->source == OUTGOING_FINISH_ASKED) {
        deliver(steps, *w, INCOMING_STATUS);
        may_become(steps, *w);
        /* An abort comes too late. */
        assert_int_equal(outgoing_next(w->source, OUTGOING_FAILS), OUTGOING_FINISH_ASKED);
    }
    if (w->source == OUTGOING_OURS || w->source == OUTGOING_THEIRS)
        settle(steps, *w);
    if (w->session) {
        next = *w;
        next.session = false;
        deliver(steps, next, INCOMING_SESSION_LOST);
    }
    next = *w;
    next.session = false;
    deliver(steps, next, INCOMING_RESTART);
    restart_source(steps, *w);
}

/* ---- the walk -------------------------------------------------------------------------------- */

static const struct world first = {
    .source = OUTGOING_BEGUN, .destination = INCOMING_NONE, .runs_here = true, .session = true};

static bool is_end(const struct world *w)
{
    return w->source == OUTGOING_NONE && w->runs_here != w->runs_there;
}

static struct world reached[WORLDS];
static size_t reached_count;

static void walk(void)
{
    static bool seen[WORLDS];
    struct steps steps;

    memset(seen, 0, sizeof seen);
    reached_count = 0;
    reached[reached_count++] = first;
    seen[number_of(&first)] = true;
    for (size_t i = 0; i < reached_count; i++) {
        step(&reached[i], &steps);
        for (size_t k = 0; k < steps.count; k++) {
            if (seen[number_of(&steps.next[k])])
                continue;
            seen[number_of(&steps.next[k])] = true;
            reached[reached_count++] = steps.next[k];
        }
    }
}

static void test_never_two(void **state)
{
    (void)state;
    walk(); /* may_become() looks at each */
    assert_true(reached_count > 30);
}

static void test_always_an_end(void **state)
{
    static bool good[WORLDS];
    bool more = true;

    (void)state;
    walk();
    while (more) {
        more = false;
        for (size_t i = 0; i < reached_count; i++) {
            struct steps steps;
            bool is_good = is_end(&reached[i]);

            if (good[number_of(&reached[i])])
                continue;
            step(&reached[i], &steps);
            for (size_t k = 0; k < steps.count; k++)
                is_good |= good[number_of(&steps.next[k])];
            good[number_of(&reached[i])] = is_good;
            more |= is_good;
        }
    }
    for (size_t i = 0; i < reached_count; i++)
        if (!good[number_of(&reached[i])])
            fail_msg("no end from: source %s, destination %s, runs here %d there %d",
                     outgoing_state_name(reached[i].source),
                     incoming_state_name(reached[i].destination), reached[i].runs_here,
                     reached[i].runs_there);
}

/* Settled as ours means that the guest is nowhere else, and the other way round. */
static void test_settled_is_true(void **state)
{
    (void)state;
    walk();
    for (size_t i = 0; i < reached_count; i++) {
        if (reached[i].source == OUTGOING_OURS)
            assert_false(reached[i].runs_there);
        if (reached[i].source == OUTGOING_THEIRS)
            assert_false(reached[i].runs_here);
    }
}

static void test_steps_are_allowed(void **state)
{
    (void)state;
    assert_true(incoming_may_follow(INCOMING_NONE, INCOMING_PREPARED));
    assert_true(incoming_may_follow(INCOMING_PREPARED, INCOMING_MINE));
    assert_false(incoming_may_follow(INCOMING_NOT_MINE, INCOMING_MINE));
    assert_false(incoming_may_follow(INCOMING_RUNNING, INCOMING_NOT_MINE));
    assert_false(incoming_may_follow(INCOMING_NONE, INCOMING_MINE));
    assert_false(incoming_may_follow(INCOMING_LOST, INCOMING_RUNNING));
}

static void test_operator(void **state)
{
    (void)state;
    assert_int_equal(outgoing_next(OUTGOING_FINISH_ASKED, OUTGOING_TOLD_KEEP), OUTGOING_OURS);
    assert_int_equal(outgoing_next(OUTGOING_FINISH_ASKED, OUTGOING_TOLD_GIVE_UP), OUTGOING_THEIRS);
    assert_int_equal(outgoing_next(OUTGOING_BEGUN, OUTGOING_TOLD_KEEP), OUTGOING_BEGUN);
    assert_int_equal(outgoing_next(OUTGOING_THEIRS, OUTGOING_TOLD_KEEP), OUTGOING_THEIRS);
    assert_int_equal(outgoing_next(OUTGOING_FINISH_ASKED, OUTGOING_HEARS_NOTHING),
                     OUTGOING_FINISH_ASKED);
}

static void test_names(void **state)
{
    (void)state;
    for (int i = 1; i < INCOMING_STATES; i++)
        assert_int_equal(incoming_state_by_name(incoming_state_name((enum incoming_state)i)), i);
    for (int i = 1; i < OUTGOING_STATES; i++)
        assert_int_equal(outgoing_state_by_name(outgoing_state_name((enum outgoing_state)i)), i);
    assert_int_equal(incoming_state_by_name("nonsense"), INCOMING_NONE);
    assert_int_equal(outgoing_state_by_name(NULL), OUTGOING_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_two),       cmocka_unit_test(test_always_an_end),
        cmocka_unit_test(test_settled_is_true), cmocka_unit_test(test_steps_are_allowed),
        cmocka_unit_test(test_operator),        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
