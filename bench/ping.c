/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * How long it takes: 64 bytes there and back on one stream, alone or beside busy ones; and connections
 * one after the other, one byte there and back on each.  Both ends block, each in a thread of its own.
 */
#include "config.h"

#include "bench/die.h"
#include "bench/load.h"
#include "bench/stamp.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PING_SIZE = 64, PINGS_MAX = 1 << 22 };

/* ---- ping-pong ------------------------------------------------------------------------------- */

static void *echo_pings(void *opaque)
{
    const struct flow *flow = opaque;
    uint8_t data[PING_SIZE];
    ssize_t n;

    while ((n = recv(flow->far, data, sizeof data, MSG_WAITALL)) == sizeof data)
        flow_send(flow->far, data, sizeof data);
    if (n != 0)
        die(n < 0 ? errno : 0, "the far end of the ping-pong was broken off");
    return NULL;
}

/* One there and back; its seconds. */
static float ping(struct flow *flow)
{
    uint8_t data[PING_SIZE];
    double begun;

    stamp_fill(flow->number, flow->sent, data, sizeof data);
    begun = clock_now();
    flow_send(flow->near, data, sizeof data);
    flow_receive(flow->near, data, sizeof data);
    flow_check(flow, flow->sent, data, sizeof data);
    flow->sent += sizeof data;
    return (float)(clock_now() - begun);
}

static int compare(const void *a, const void *b)
{
    float left = *(const float *)a, right = *(const float *)b;

    return (left > right) - (left < right);
}

/* Microseconds that the fraction PART of all pings stays below. */
static double quantile(const float *sorted, size_t count, double part)
{
    return (double)sorted[(size_t)((double)(count - 1) * part)] * 1e6;
}

/* Pings for the time that was asked for.  Returns how many, in *RET in rising order. */
static size_t ping_pong(struct load *load, struct flow *flow, float **ret)
{
    float *times = malloc(PINGS_MAX * sizeof *times);
    double until = clock_now() + load->seconds;
    size_t count = 0;
    pthread_t echo;

    if (!times)
        die(ENOMEM, "can't keep times");
    if (pthread_create(&echo, NULL, echo_pings, flow) != 0)
        die(errno, "can't start a thread");
    while (count < PINGS_MAX && clock_now() < until)
        times[count++] = ping(flow);
    shutdown(flow->near, SHUT_WR);
    pthread_join(echo, NULL);
    qsort(times, count, sizeof *times, compare);
    *ret = times;
    return count;
}

json_t *run_ping(struct load *load)
{
    struct flow flow, *flows = calloc(load->streams + 1, sizeof *flows);
    struct bulk *bulk = NULL;
    uint64_t bytes = 0;
    double rate = 0;
    float *times;
    size_t count;
    json_t *result;

    if (!flows)
        die(ENOMEM, "can't open streams");
    flow_open(load, &flow);
    for (unsigned i = 0; i < load->streams; i++)
        flow_open(load, &flows[i]);
    if (load->streams > 0)
        bulk = bulk_start(flows, load->streams, false);
    count = ping_pong(load, &flow, &times);
    if (bulk)
        rate = bulk_stop(bulk, &bytes);
    result = json_pack("{s:I, s:f, s:I, s:f, s:f, s:f}", "bytes", (json_int_t)bytes, "rate", rate,
                       "pings", (json_int_t)count, "p50", quantile(times, count, 0.50), "p99",
                       quantile(times, count, 0.99), "max", quantile(times, count, 1));
    for (unsigned i = 0; i < load->streams; i++)
        flow_close(&flows[i]);
    flow_close(&flow);
    free(flows);
    free(times);
    return result;
}

/* ---- connections ----------------------------------------------------------------------------- */

static void *serve_connections(void *opaque)
{
    const struct load *load = opaque;

    for (unsigned i = 0; i < load->count; i++) {
        int fd = flow_accept(load->listener);
        uint8_t byte;

        flow_receive(fd, &byte, 1);
        flow_send(fd, &byte, 1);
        close(fd);
    }
    return NULL;
}

json_t *run_connect(struct load *load)
{
    double begun = clock_now();
    pthread_t far;

    if (pthread_create(&far, NULL, serve_connections, load) != 0)
        die(errno, "can't start a thread");
    for (unsigned i = 0; i < load->count; i++) {
        int fd = flow_dial(load->near);
        uint8_t byte = (uint8_t)i, back;

        flow_send(fd, &byte, 1);
        flow_receive(fd, &back, 1);
        if (back != byte)
            die(0, "connection %u: byte %u came back as %u", i, byte, back);
        close(fd);
    }
    pthread_join(far, NULL);
    return json_pack("{s:I, s:f}", "connections", (json_int_t)load->count, "seconds",
                     clock_now() - begun);
}
