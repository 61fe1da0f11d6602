/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What is measured of busy streams: their rate, alone, as requests, beside a stream that nobody reads;
 * and streams that are just there, for a look at the tunnel's memory.
 */
#include "config.h"

#include "bench/die.h"
#include "bench/load.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void sleep_for(double seconds)
{
    const struct timespec time = {.tv_sec = (time_t)seconds,
                                  .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};

    nanosleep(&time, NULL);
}

static struct flow *open_flows(struct load *load, unsigned count)
{
    struct flow *flows = calloc(count, sizeof *flows);

    if (!flows)
        die(ENOMEM, "can't open %u streams", count);
    for (unsigned i = 0; i < count; i++)
        flow_open(load, &flows[i]);
    return flows;
}

static void close_flows(struct flow *flows, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        flow_close(&flows[i]);
    free(flows);
}

/* Busy streams for the time that was asked for.  Returns their rate together in bytes per second. */
static double measure(struct load *load, unsigned count, bool requests, uint64_t *ret_bytes)
{
    struct flow *flows = open_flows(load, count);
    struct bulk *bulk = bulk_start(flows, count, requests);
    double rate;

    if (load->warm_up > 0) {
        sleep_for(load->warm_up);
        bulk_mark(bulk);
    }
    sleep_for(load->seconds);
    rate = bulk_stop(bulk, ret_bytes);
    close_flows(flows, count);
    return rate;
}

json_t *run_bulk(struct load *load)
{
    uint64_t bytes;
    double rate = measure(load, load->streams, false, &bytes);

    return json_pack("{s:I, s:f}", "bytes", (json_int_t)bytes, "rate", rate);
}

json_t *run_nbd(struct load *load)
{
    uint64_t bytes;
    double rate = measure(load, load->streams, true, &bytes);

    return json_pack("{s:I, s:f}", "bytes", (json_int_t)bytes, "rate", rate);
}

/* ---- streams that nobody reads --------------------------------------------------------------- */

/* Runs for a while, so that the tunnel trusts it with as much as it would, and then writes until the
 * tunnel has taken nothing for a while. */
static void fill(struct flow *flow, uint8_t *buffer)
{
    enum { RUN = 32 << 20 /* bytes */, PATIENCE = 300 /* ms */ };
    struct pollfd wait = {.fd = flow->near, .events = POLLOUT};

    flow_set_blocking(flow->near, false);
    flow_set_blocking(flow->far, false);
    while (flow->received < RUN) {
        flow_push(flow, buffer, CHUNK_SIZE);
        flow_pull(flow, buffer);
    }
    flow_set_blocking(flow->far, true);
    while (poll(&wait, 1, PATIENCE) > 0)
        flow_push(flow, buffer, CHUNK_SIZE);
}

/* Reads all of it in the end. */
static void empty(struct flow *flow, uint8_t *buffer)
{
    shutdown(flow->near, SHUT_WR);
    while (flow_pull(flow, buffer))
        ;
    flow_total(flow);
}

/* A stream alone, and beside one that is stalled. */
json_t *run_stalled(struct load *load)
{
    uint64_t bytes, both;
    double alone = measure(load, 1, false, &bytes), beside;
    struct flow *stalled = open_flows(load, 1);
    uint8_t *buffer = flow_buffer();
    uint64_t held;

    fill(stalled, buffer);
    beside = measure(load, 1, false, &both);
    held = stalled->sent - stalled->received;
    empty(stalled, buffer);
    close_flows(stalled, 1);
    free(buffer);
    return json_pack("{s:I, s:f, s:f, s:f, s:I}", "bytes", (json_int_t)(bytes + both), "rate",
                     beside, "alone", alone, "ratio", beside / alone, "held", (json_int_t)held);
}

/* Streams that are there, idle or full, until standard input ends; "ready" says that they are. */
json_t *run_hold(struct load *load)
{
    struct flow *flows = open_flows(load, load->streams);
    uint8_t *buffer = flow_buffer();
    uint64_t held = 0;

    for (unsigned i = 0; load->fill && i < load->streams; i++) {
        fill(&flows[i], buffer);
        held += flows[i].sent - flows[i].received;
    }
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    for (unsigned i = 0; load->fill && i < load->streams; i++)
        empty(&flows[i], buffer);
    close_flows(flows, load->streams);
    free(buffer);
    return json_pack("{s:I}", "held", (json_int_t)held);
}
