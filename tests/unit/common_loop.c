/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The poll loop: descriptors that come and go while their events wait, timers, and work that other
 * threads hand over.
 */
#include "config.h"

#include "common/loop.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- descriptors ---------------------------------------------------------------------------- */

/* Two pipes that can be read; whichever comes first takes both out. */
struct pair {
    struct loop *loop;
    struct loop_fd *watches[2];
    int called;
};

static void on_pair(void *opaque, uint32_t events)
{
    struct pair *pair = opaque;

    assert_true(events & EPOLLIN);
    pair->called++;
    loop_fd_remove(pair->watches[0]);
    loop_fd_remove(pair->watches[1]);
    loop_stop(pair->loop);
}

static void test_remove_while_an_event_waits(void **state)
{
    struct loop *loop = loop_new();
    struct pair pair = {.loop = loop};
    int pipes[2][2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        assert_int_equal(write(pipes[i][1], "x", 1), 1);
        pair.watches[i] = loop_fd_add(loop, pipes[i][0], EPOLLIN, on_pair, &pair);
        assert_non_null(pair.watches[i]);
    }
    assert_int_equal(loop_run(loop), 0);
    assert_int_equal(pair.called, 1);
    loop_free(loop);
    for (int i = 0; i < 4; i++)
        close(pipes[i / 2][i % 2]);
}

/* A descriptor that is wanted, not wanted, and wanted again. */
struct wanted {
    struct loop *loop;
    struct loop_fd *watch;
    struct loop_timer *timer;
    int called;
};

static void on_wanted(void *opaque, uint32_t events)
{
    struct wanted *wanted = opaque;

    (void)events;
    wanted->called++;
    loop_fd_want(wanted->watch, 0);
    if (wanted->called == 2)
        loop_stop(wanted->loop);
    else
        loop_timer_set(wanted->timer, loop_now(wanted->loop) + 5 * LOOP_MS);
}

static void on_wanted_timer(void *opaque)
{
    struct wanted *wanted = opaque;

    assert_int_equal(wanted->called, 1); /* it could be read all the time */
    loop_fd_want(wanted->watch, EPOLLIN);
    loop_fd_want(wanted->watch, 0);
    loop_fd_want(wanted->watch, EPOLLIN);
}

static void test_want(void **state)
{
    struct loop *loop = loop_new();
    struct wanted wanted = {.loop = loop};
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    wanted.timer = loop_timer_new(loop, on_wanted_timer, &wanted);
    wanted.watch = loop_fd_add(loop, ends[0], 0, on_wanted, &wanted);
    loop_fd_want(wanted.watch, EPOLLIN);
    assert_int_equal(loop_run(loop), 0);
    assert_int_equal(wanted.called, 2);
    loop_fd_want(wanted.watch, EPOLLIN); /* a change that is still to be made */
    loop_fd_remove(wanted.watch);
    loop_fd_remove(NULL);
    loop_free(loop);
    close(ends[0]);
    close(ends[1]);
}

static void test_bad_descriptor(void **state)
{
    struct loop *loop = loop_new();

    (void)state;
    errno = 0;
    assert_null(loop_fd_add(loop, -1, EPOLLIN, on_pair, NULL));
    assert_int_equal(errno, EBADF);
    loop_free(loop);
    loop_free(NULL);
}

/* ---- timers --------------------------------------------------------------------------------- */

struct ticks {
    struct loop *loop;
    struct loop_timer *first, *second, *third;
    char order[8];
    size_t count;
    int rounds;
};

static void on_first(void *opaque)
{
    struct ticks *ticks = opaque;

    ticks->order[ticks->count++] = '1';
}

static void on_second(void *opaque)
{
    struct ticks *ticks = opaque;

    ticks->order[ticks->count++] = '2';
    loop_timer_free(ticks->third); /* due as well */
    loop_timer_free(ticks->second);
    loop_stop(ticks->loop);
}

static void on_third(void *opaque)
{
    (void)opaque;
    fail_msg("a timer that was freed has fired");
}

static void count_round(void *opaque)
{
    struct ticks *ticks = opaque;

    ticks->rounds++;
}

static void test_timers_in_order(void **state)
{
    struct loop *loop = loop_new();
    struct ticks ticks = {.loop = loop};
    uint64_t now = loop_clock();

    (void)state;
    ticks.third = loop_timer_new(loop, on_third, &ticks);
    ticks.second = loop_timer_new(loop, on_second, &ticks);
    ticks.first = loop_timer_new(loop, on_first, &ticks);
    loop_timer_set(ticks.third, 3);
    loop_timer_set(ticks.second, 2);
    loop_timer_set(ticks.first, 1);
    assert_int_equal(loop_run(loop), 0);
    assert_string_equal(ticks.order, "12"); /* each once */
    assert_true(loop_now(loop) >= now);
    loop_free(loop);
}

static void on_stop(void *opaque)
{
    loop_stop(opaque);
}

/* Waiting for a time that never comes is no busy loop, and an unset timer doesn't fire. */
static void test_far_away(void **state)
{
    struct loop *loop = loop_new();
    struct ticks ticks = {.loop = loop};
    struct loop_timer *far, *unset, *stop;

    (void)state;
    far = loop_timer_new(loop, on_third, NULL);
    unset = loop_timer_new(loop, on_third, NULL);
    stop = loop_timer_new(loop, on_stop, loop);
    loop_set_before_wait(loop, count_round, &ticks);
    loop_timer_set(unset, 1);
    loop_timer_set(unset, LOOP_NEVER);
    loop_timer_set(far, LOOP_NEVER - 1);
    loop_timer_set(stop, loop_clock() + 20 * LOOP_MS);
    assert_int_equal(loop_run(loop), 0);
    assert_in_range(ticks.rounds, 1, 4);
    loop_free(loop); /* with the timers in it */
}

/* The longest wait that epoll knows, once the far timer is alone: another thread ends it. */
static void *stop_from_outside(void *opaque)
{
    struct ticks *ticks = opaque;

    loop_stop(ticks->loop);
    return NULL;
}

static void test_far_away_alone(void **state)
{
    struct loop *loop = loop_new();
    struct ticks ticks = {.loop = loop};
    pthread_t thread;

    (void)state;
    loop_timer_set(loop_timer_new(loop, on_third, NULL), LOOP_NEVER - 1);
    loop_set_before_wait(loop, count_round, &ticks);
    assert_int_equal(pthread_create(&thread, NULL, stop_from_outside, &ticks), 0);
    assert_int_equal(loop_run(loop), 0);
    pthread_join(thread, NULL);
    assert_int_equal(ticks.rounds, 1);
    loop_free(loop);
}

struct impatient {
    struct loop *loop;
    struct loop_timer *timer;
    int fired;
};

static void on_impatient(void *opaque)
{
    struct impatient *impatient = opaque;

    assert_true(impatient->fired++ < 1000);
    loop_timer_set(impatient->timer, 0);
}

static void on_readable(void *opaque, uint32_t events)
{
    (void)events;
    loop_stop(opaque);
}

/* A timer that sets itself again to a time gone by leaves the descriptors their turn. */
static void test_impatient_timer(void **state)
{
    struct loop *loop = loop_new();
    struct impatient impatient = {.loop = loop};
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    impatient.timer = loop_timer_new(loop, on_impatient, &impatient);
    loop_timer_set(impatient.timer, 0);
    assert_non_null(loop_fd_add(loop, ends[0], EPOLLIN, on_readable, loop));
    assert_int_equal(loop_run(loop), 0);
    assert_in_range(impatient.fired, 1, 3);
    loop_free(loop);
    close(ends[0]);
    close(ends[1]);
}

/* ---- other threads -------------------------------------------------------------------------- */

enum { POSTERS = 4, POSTS = 500 };

struct post {
    struct loop_work work;
    struct poster *poster;
    int number;
};

struct poster {
    struct loop *loop;
    pthread_t thread;
    int next; /* the number that must come next: touched in the loop's thread alone */
    int *all;
};

static void run_post(struct loop_work *work)
{
    struct post *post = (struct post *)work;
    struct poster *poster = post->poster;

    assert_int_equal(post->number, poster->next++);
    free(post);
    if (++*poster->all == POSTERS * POSTS)
        loop_stop(poster->loop);
}

static void *post_many(void *opaque)
{
    struct poster *poster = opaque;

    for (int i = 0; i < POSTS; i++) {
        struct post *post = malloc(sizeof *post);

        *post = (struct post){.work.run = run_post, .poster = poster, .number = i};
        loop_post(poster->loop, &post->work);
    }
    return NULL;
}

static void test_posts_of_several_threads(void **state)
{
    struct loop *loop = loop_new();
    struct poster posters[POSTERS];
    int all = 0;

    (void)state;
    for (int i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){.loop = loop, .all = &all};
        assert_int_equal(pthread_create(&posters[i].thread, NULL, post_many, &posters[i]), 0);
    }
    assert_int_equal(loop_run(loop), 0);
    for (int i = 0; i < POSTERS; i++) {
        pthread_join(posters[i].thread, NULL);
        assert_int_equal(posters[i].next, POSTS);
    }
    loop_free(loop);
}

struct called {
    struct loop *loop;
    pthread_t loops_thread;
    int times, sum;
};

static int in_the_loop(void *opaque)
{
    struct called *called = opaque;

    assert_true(pthread_equal(pthread_self(), called->loops_thread));
    return ++called->times;
}

static void *call_often(void *opaque)
{
    struct called *called = opaque;

    for (int i = 0; i < 100; i++)
        called->sum += loop_call(called->loop, in_the_loop, called);
    loop_stop(called->loop);
    return NULL;
}

static void test_call(void **state)
{
    struct loop *loop = loop_new();
    struct called called = {.loop = loop, .loops_thread = pthread_self()};
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, call_often, &called), 0);
    assert_int_equal(loop_run(loop), 0);
    pthread_join(thread, NULL);
    assert_int_equal(called.times, 100);
    assert_int_equal(called.sum, 5050);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remove_while_an_event_waits),
        cmocka_unit_test(test_want),
        cmocka_unit_test(test_bad_descriptor),
        cmocka_unit_test(test_timers_in_order),
        cmocka_unit_test(test_far_away),
        cmocka_unit_test(test_far_away_alone),
        cmocka_unit_test(test_impatient_timer),
        cmocka_unit_test(test_posts_of_several_threads),
        cmocka_unit_test(test_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
