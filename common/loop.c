/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A poll loop over epoll(7): see loop.h.
 *
 * A round: wait; read the clock; posted work; timers that are due; file descriptors; what was
 * removed is freed (so a callback may remove any watch, also one whose event waits in this very
 * round); before_wait; changed event masks go to the kernel.  A mask that flips and flips back
 * within a round costs nothing.  A timer fires once per round at the most, so one that sets itself
 * again to a time gone by doesn't keep the others from their turn.
 */
#include "config.h"

#include "common/loop.h"
#include "common/cleanup.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>

enum { EVENTS_PER_WAIT = 16 };

struct loop_fd {
    struct loop *loop;
    int fd;
    uint32_t wanted, known; /* known: what the kernel was told; 0: not in the epoll set */
    bool removed, changed;
    void (*callback)(void *opaque, uint32_t events);
    void *opaque;
    TAILQ_ENTRY(loop_fd) link;
    STAILQ_ENTRY(loop_fd) change;
};

struct loop_timer {
    struct loop *loop;
    uint64_t when;
    uint64_t fired; /* the round in which it did last */
    void (*callback)(void *opaque);
    void *opaque;
    TAILQ_ENTRY(loop_timer) link;
};

struct loop {
    int epoll, wake;
    bool stopped; /* under lock */
    uint64_t now, round;
    void (*before_wait)(void *opaque);
    void *before_wait_opaque;
    TAILQ_HEAD(, loop_fd) fds, removed;
    STAILQ_HEAD(, loop_fd) changed;
    TAILQ_HEAD(, loop_timer) timers;
    pthread_mutex_t lock; /* posted work and stopped; a leaf, nothing is called under it */
    struct loop_work *posted, **posted_end;
};

uint64_t loop_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * LOOP_SECOND + (uint64_t)now.tv_nsec;
}

struct loop *loop_new(void)
{
    struct loop *loop = calloc(1, sizeof *loop);
    struct epoll_event event = {.events = EPOLLIN};

    if (!loop)
        return NULL;
    loop->wake = -1;
    TAILQ_INIT(&loop->fds);
    TAILQ_INIT(&loop->removed);
    STAILQ_INIT(&loop->changed);
    TAILQ_INIT(&loop->timers);
    loop->posted_end = &loop->posted;
    pthread_mutex_init(&loop->lock, NULL);
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll < 0)
        goto fail;
    loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake < 0 || epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake, &event) < 0)
        goto fail;
    loop->now = loop_clock();
    return loop;
fail:
    loop_free(loop);
    return NULL;
}

static void free_removed(struct loop *loop)
{
    struct loop_fd *watch;

    while ((watch = TAILQ_FIRST(&loop->removed))) {
        TAILQ_REMOVE(&loop->removed, watch, link);
        free(watch);
    }
}

void loop_free(struct loop *loop)
{
    struct loop_timer *timer;
    int saved = errno;

    if (!loop)
        return;
    while (!TAILQ_EMPTY(&loop->fds))
        loop_fd_remove(TAILQ_FIRST(&loop->fds));
    free_removed(loop);
    while ((timer = TAILQ_FIRST(&loop->timers)))
        loop_timer_free(timer);
    cleanup_close(&loop->epoll);
    cleanup_close(&loop->wake);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
    errno = saved;
}

uint64_t loop_now(const struct loop *loop)
{
    return loop->now;
}

void loop_set_before_wait(struct loop *loop, void (*before_wait)(void *opaque), void *opaque)
{
    loop->before_wait = before_wait;
    loop->before_wait_opaque = opaque;
}

struct loop_fd *loop_fd_add(struct loop *loop, int fd, uint32_t events,
                            void (*callback)(void *opaque, uint32_t events), void *opaque)
{
    struct loop_fd *watch = calloc(1, sizeof *watch);
    struct epoll_event event = {.events = events, .data.ptr = watch};

    if (!watch)
        return NULL;
    if (events && epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        free(watch);
        return NULL;
    }
    watch->loop = loop;
    watch->fd = fd;
    watch->wanted = watch->known = events;
    watch->callback = callback;
    watch->opaque = opaque;
    TAILQ_INSERT_TAIL(&loop->fds, watch, link);
    return watch;
}

void loop_fd_want(struct loop_fd *watch, uint32_t events)
{
    watch->wanted = events;
    if (watch->wanted != watch->known && !watch->changed) {
        watch->changed = true;
        STAILQ_INSERT_TAIL(&watch->loop->changed, watch, change);
    }
}

void loop_fd_remove(struct loop_fd *watch)
{
    if (!watch)
        return;
    if (watch->known)
        epoll_ctl(watch->loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
    if (watch->changed)
        STAILQ_REMOVE(&watch->loop->changed, watch, loop_fd, change);
    watch->removed = true;
    TAILQ_REMOVE(&watch->loop->fds, watch, link);
    TAILQ_INSERT_TAIL(&watch->loop->removed, watch, link);
}

static int apply_changes(struct loop *loop)
{
    struct loop_fd *watch;

    while ((watch = STAILQ_FIRST(&loop->changed))) {
        struct epoll_event event = {.events = watch->wanted, .data.ptr = watch};
        int operation = !watch->known    ? EPOLL_CTL_ADD
                        : !watch->wanted ? EPOLL_CTL_DEL
                                         : EPOLL_CTL_MOD;

        STAILQ_REMOVE_HEAD(&loop->changed, change);
        watch->changed = false;
        if (watch->wanted == watch->known)
            continue;
        if (epoll_ctl(loop->epoll, operation, watch->fd, &event) < 0)
            return -errno;
        watch->known = watch->wanted;
    }
    return 0;
}

struct loop_timer *loop_timer_new(struct loop *loop, void (*callback)(void *opaque), void *opaque)
{
    struct loop_timer *timer = calloc(1, sizeof *timer);

    if (!timer)
        return NULL;
    timer->loop = loop;
    timer->when = LOOP_NEVER;
    timer->callback = callback;
    timer->opaque = opaque;
    TAILQ_INSERT_TAIL(&loop->timers, timer, link);
    return timer;
}

void loop_timer_set(struct loop_timer *timer, uint64_t when)
{
    timer->when = when;
}

void loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    TAILQ_REMOVE(&timer->loop->timers, timer, link);
    free(timer);
}

/* The timer that is due first; there are a handful per loop. */
static struct loop_timer *first_timer(const struct loop *loop)
{
    struct loop_timer *timer, *first = NULL;

    TAILQ_FOREACH(timer, &loop->timers, link)
    {
        if (timer->when != LOOP_NEVER && (!first || timer->when < first->when))
            first = timer;
    }
    return first;
}

/* The timer that is due and hasn't fired in this round. */
static struct loop_timer *due_timer(const struct loop *loop)
{
    struct loop_timer *timer, *first = NULL;

    TAILQ_FOREACH(timer, &loop->timers, link)
    {
        if (timer->when <= loop->now && timer->fired != loop->round &&
            (!first || timer->when < first->when))
            first = timer;
    }
    return first;
}

static void run_timers(struct loop *loop)
{
    struct loop_timer *timer;

    loop->round++;
    while ((timer = due_timer(loop))) {
        timer->when = LOOP_NEVER;
        timer->fired = loop->round;
        timer->callback(timer->opaque);
    }
}

static int wait_ms(const struct loop *loop)
{
    const struct loop_timer *timer = first_timer(loop);
    uint64_t now, ms;

    if (!timer)
        return -1;
    now = loop_clock();
    if (timer->when <= now)
        return 0;
    ms = (timer->when - now - 1) / LOOP_MS + 1; /* rounded up, whatever WHEN is */
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

void loop_post(struct loop *loop, struct loop_work *work)
{
    work->next = NULL;
    pthread_mutex_lock(&loop->lock);
    *loop->posted_end = work;
    loop->posted_end = &work->next;
    eventfd_write(loop->wake, 1);
    pthread_mutex_unlock(&loop->lock);
}

void loop_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stopped = true;
    eventfd_write(loop->wake, 1);
    pthread_mutex_unlock(&loop->lock);
}

/* Runs what other threads have posted.  Returns false when the loop has been stopped. */
static bool run_posted(struct loop *loop)
{
    struct loop_work *work, *next;
    bool stopped;

    pthread_mutex_lock(&loop->lock);
    work = loop->posted;
    loop->posted = NULL;
    loop->posted_end = &loop->posted;
    stopped = loop->stopped;
    loop->stopped = false;
    pthread_mutex_unlock(&loop->lock);
    for (; work; work = next) {
        next = work->next; /* the poster may free it as soon as it has run */
        work->run(work);
    }
    return !stopped;
}

int loop_run(struct loop *loop)
{
    struct epoll_event events[EVENTS_PER_WAIT];
    eventfd_t ignored;

    for (;;) {
        int n, r;

        if (loop->before_wait)
            loop->before_wait(loop->before_wait_opaque);
        r = apply_changes(loop);
        if (r < 0)
            return r;
        free_removed(loop);
        n = epoll_wait(loop->epoll, events, EVENTS_PER_WAIT, wait_ms(loop));
        if (n < 0 && errno != EINTR)
            return -errno;
        loop->now = loop_clock();
        for (int i = 0; i < n; i++) {
            if (!events[i].data.ptr) {
                eventfd_read(loop->wake, &ignored);
                if (!run_posted(loop))
                    return 0;
            }
        }
        run_timers(loop);
        for (int i = 0; i < n; i++) {
            struct loop_fd *watch = events[i].data.ptr;

            if (watch && !watch->removed)
                watch->callback(watch->opaque, events[i].events);
        }
    }
}

struct call {
    struct loop_work work;
    int (*function)(void *opaque);
    void *opaque;
    int result;
    bool done;
    pthread_mutex_t lock;
    pthread_cond_t finished;
};

static void run_call(struct loop_work *work)
{
    struct call *call = (struct call *)work;
    int result = call->function(call->opaque);

    pthread_mutex_lock(&call->lock);
    call->result = result;
    call->done = true;
    pthread_cond_signal(&call->finished);
    pthread_mutex_unlock(&call->lock);
}

int loop_call(struct loop *loop, int (*function)(void *opaque), void *opaque)
{
    struct call call = {.work.run = run_call, .function = function, .opaque = opaque};

    pthread_mutex_init(&call.lock, NULL);
    pthread_cond_init(&call.finished, NULL);
    loop_post(loop, &call.work);
    pthread_mutex_lock(&call.lock);
    while (!call.done)
        pthread_cond_wait(&call.finished, &call.lock);
    pthread_mutex_unlock(&call.lock);
    pthread_cond_destroy(&call.finished);
    pthread_mutex_destroy(&call.lock);
    return call.result;
}
