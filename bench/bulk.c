/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Streams that are as busy as can be: one thread sends on all of them, another receives and checks, so
 * that the load takes no more than it must of two cores.  All flows are sent from one buffer that stays
 * in the cache, stamped for each write(2).  When it is time to stop, each flow is shut down, and the
 * receiver goes on to the end of each.
 *
 * With requests a write is (the rest of) one request.  The far side answers each that has wholly
 * arrived; the near side sends only while fewer than REQUESTS_IN_FLIGHT are unanswered, and stops when
 * all are answered.
 */
#include "config.h"

#include "bench/die.h"
#include "bench/load.h"
#include "bench/stamp.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 64 };

struct bulk {
    struct flow *flows;
    unsigned count;
    bool requests;
    atomic_bool stop;
    pthread_t source, sink;
    double begun, ended;
    atomic_ullong arrived; /* bytes; the sink's to change */
    uint64_t before;       /* those that don't count */
};

static int watch_all(struct bulk *bulk, bool near)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    if (epoll < 0)
        die(errno, "can't wait for sockets");
    for (unsigned i = 0; i < bulk->count; i++) {
        struct flow *flow = &bulk->flows[i];
        struct epoll_event event = {.events = near ? EPOLLOUT : EPOLLIN, .data.ptr = flow};
        int fd = near ? flow->near : flow->far;

        flow_set_blocking(fd, false);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
            die(errno, "can't wait for a socket");
    }
    return epoll;
}

static int wait_for_events(int epoll, struct epoll_event events[EVENTS_MAX])
{
    int count = epoll_wait(epoll, events, EVENTS_MAX, -1);

    if (count < 0 && errno != EINTR)
        die(errno, "can't wait for sockets");
    return count;
}

/* ---- the source ------------------------------------------------------------------------------ */

static unsigned in_flight(const struct flow *flow)
{
    return (unsigned)(flow->sent / REQUEST_SIZE - flow->answered / ANSWER_SIZE);
}

static void want_answers(int epoll, struct flow *flow, bool want)
{
    struct epoll_event event = {.events = want ? EPOLLIN : EPOLLOUT, .data.ptr = flow};

    if (flow->reading_answers == want)
        return;
    flow->reading_answers = want;
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, flow->near, &event) < 0)
        die(errno, "can't wait for a socket");
}

/* All answers that are there. */
static void read_answers(struct flow *flow)
{
    uint8_t data[REQUESTS_IN_FLIGHT * ANSWER_SIZE];
    ssize_t n = recv(flow->near, data, sizeof data, 0);

    if (n == 0 || (n < 0 && errno != EAGAIN))
        die(n < 0 ? errno : 0, "stream %u: the tunnel ended it", flow->number);
    if (n > 0) {
        flow_check(flow, flow->answered, data, (size_t)n);
        flow->answered += (size_t)n;
    }
}

/* What keeps the flow from sending: answers that are awaited, or the end. */
static bool may_send(struct bulk *bulk, int epoll, struct flow *flow)
{
    bool stop = atomic_load(&bulk->stop);

    if (!bulk->requests)
        return !stop;
    if (flow->sent % REQUEST_SIZE != 0)
        return true;
    read_answers(flow);
    want_answers(epoll, flow,
                 in_flight(flow) > 0 && (stop || in_flight(flow) == REQUESTS_IN_FLIGHT));
    return !stop && !flow->reading_answers;
}

/* One write, or what keeps it from that.  Returns false when the flow has ended. */
static bool feed(struct bulk *bulk, int epoll, struct flow *flow, uint8_t *buffer)
{
    if (may_send(bulk, epoll, flow)) {
        flow_push(flow, buffer,
                  bulk->requests ? REQUEST_SIZE - flow->sent % REQUEST_SIZE : CHUNK_SIZE);
        return true;
    }
    if (flow->reading_answers)
        return true;
    epoll_ctl(epoll, EPOLL_CTL_DEL, flow->near, NULL);
    shutdown(flow->near, SHUT_WR);
    return false;
}

static void *run_source(void *opaque)
{
    struct bulk *bulk = opaque;
    struct epoll_event events[EVENTS_MAX];
    unsigned running = bulk->count;
    uint8_t *buffer = flow_buffer();
    int epoll = watch_all(bulk, true);

    while (running > 0) {
        int count = wait_for_events(epoll, events);

        for (int i = 0; i < count; i++)
            if (!feed(bulk, epoll, events[i].data.ptr, buffer))
                running--;
    }
    close(epoll);
    free(buffer);
    return NULL;
}

/* ---- the sink -------------------------------------------------------------------------------- */

/* Answers the requests that the bytes up to FLOW->received complete. */
static void answer(struct flow *flow, uint64_t before)
{
    uint64_t from = before / REQUEST_SIZE, to = flow->received / REQUEST_SIZE;
    uint8_t data[REQUESTS_IN_FLIGHT * ANSWER_SIZE];
    size_t length = (size_t)(to - from) * ANSWER_SIZE;

    if (length > sizeof data)
        die(0, "stream %u: more requests than were sent", flow->number);
    if (length == 0)
        return;
    stamp_fill(flow->number, from * ANSWER_SIZE, data, length);
    if (send(flow->far, data, length, MSG_NOSIGNAL) != (ssize_t)length)
        die(errno, "stream %u: can't answer", flow->number);
}

/* One read.  Returns false at the end. */
static bool drain(struct bulk *bulk, int epoll, struct flow *flow, uint8_t *buffer)
{
    uint64_t before = flow->received;

    if (!flow_pull(flow, buffer)) {
        epoll_ctl(epoll, EPOLL_CTL_DEL, flow->far, NULL);
        return false;
    }
    atomic_fetch_add_explicit(&bulk->arrived, flow->received - before, memory_order_relaxed);
    if (bulk->requests)
        answer(flow, before);
    return true;
}

static void *run_sink(void *opaque)
{
    struct bulk *bulk = opaque;
    struct epoll_event events[EVENTS_MAX];
    unsigned running = bulk->count;
    uint8_t *buffer = flow_buffer();
    int epoll = watch_all(bulk, false);

    while (running > 0) {
        int count = wait_for_events(epoll, events);

        for (int i = 0; i < count; i++)
            if (!drain(bulk, epoll, events[i].data.ptr, buffer))
                running--;
    }
    bulk->ended = clock_now();
    close(epoll);
    free(buffer);
    return NULL;
}

/* ---- both ------------------------------------------------------------------------------------ */

struct bulk *bulk_start(struct flow *flows, unsigned count, bool requests)
{
    struct bulk *bulk = calloc(1, sizeof *bulk);

    if (!bulk)
        die(ENOMEM, "can't start");
    bulk->flows = flows;
    bulk->count = count;
    bulk->requests = requests;
    bulk->begun = clock_now();
    if (pthread_create(&bulk->sink, NULL, run_sink, bulk) != 0 ||
        pthread_create(&bulk->source, NULL, run_source, bulk) != 0)
        die(errno, "can't start threads");
    return bulk;
}

void bulk_mark(struct bulk *bulk)
{
    bulk->before = atomic_load(&bulk->arrived);
    bulk->begun = clock_now();
}

double bulk_stop(struct bulk *bulk, uint64_t *ret_bytes)
{
    double rate;

    atomic_store(&bulk->stop, true);
    pthread_join(bulk->source, NULL);
    pthread_join(bulk->sink, NULL);
    *ret_bytes = 0;
    for (unsigned i = 0; i < bulk->count; i++)
        *ret_bytes += flow_total(&bulk->flows[i]);
    rate = (double)(*ret_bytes - bulk->before) / (bulk->ended - bulk->begun);
    free(bulk);
    return rate;
}
