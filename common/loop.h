/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A poll loop for one thread: file descriptors, timers, and work handed over by other threads.
 * Everything but loop_post(), loop_call() and loop_stop() belongs to the loop's own thread.
 * Callbacks may add and remove anything, also themselves.
 */
#ifndef COMMON_LOOP_H
#define COMMON_LOOP_H

#include <stdint.h>
#include <sys/epoll.h>

struct loop;
struct loop_fd;
struct loop_timer;

#define LOOP_SECOND UINT64_C(1000000000)
#define LOOP_MS UINT64_C(1000000)
#define LOOP_NEVER UINT64_MAX

/* CLOCK_MONOTONIC in nanoseconds; any thread. */
uint64_t loop_clock(void);

/* Returns NULL with errno set. */
struct loop *loop_new(void);
/* Frees the loop with the fds (not closed) and timers still in it.  NULL is fine. */
void loop_free(struct loop *loop);

/* Runs until loop_stop().  Returns 0, or a negative errno when waiting itself failed. */
int loop_run(struct loop *loop);
/* Ends loop_run() as soon as it waits the next time; what was posted before is still run.  Any
 * thread. */
void loop_stop(struct loop *loop);

/* The clock as read once in this round. */
uint64_t loop_now(const struct loop *loop);

/* BEFORE_WAIT is called once per round, after all callbacks and right before the loop waits. */
void loop_set_before_wait(struct loop *loop, void (*before_wait)(void *opaque), void *opaque);

/* Watches FD, which stays the caller's, for EVENTS (EPOLLIN, EPOLLOUT, EPOLLRDHUP).  EPOLLERR and
 * EPOLLHUP are reported whenever EVENTS isn't 0; with EVENTS 0 the fd is not watched at all.
 * Returns NULL with errno set. */
struct loop_fd *loop_fd_add(struct loop *loop, int fd, uint32_t events,
                            void (*callback)(void *opaque, uint32_t events), void *opaque);
/* Changes what is waited for; reaches the kernel once per round at the most. */
void loop_fd_want(struct loop_fd *watch, uint32_t events);
/* Before close(2) of the fd.  NULL is fine. */
void loop_fd_remove(struct loop_fd *watch);

/* A timer that is not set.  Returns NULL with errno set. */
struct loop_timer *loop_timer_new(struct loop *loop, void (*callback)(void *opaque), void *opaque);
/* Fires once, at WHEN on loop_clock()'s scale; LOOP_NEVER unsets it. */
void loop_timer_set(struct loop_timer *timer, uint64_t when);
void loop_timer_free(struct loop_timer *timer);

/* Work for the loop's thread; the memory is the poster's and must live until RUN was called. */
struct loop_work {
    void (*run)(struct loop_work *work);
    struct loop_work *next;
};

/* Has WORK->run called in the loop's thread.  Any thread; order is kept. */
void loop_post(struct loop *loop, struct loop_work *work);

/* Runs FUNCTION in the loop's thread and waits for it.  Returns what it returns.  Any thread but
 * the loop's own; the loop must be running. */
int loop_call(struct loop *loop, int (*function)(void *opaque), void *opaque);

#endif
