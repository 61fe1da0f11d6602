/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What the files of the load generator share.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct load {
    const char *near, *far; /* sockets: the tunnel's, and ours where it dials */
    int listener;           /* at FAR */
    unsigned streams;
    unsigned count;     /* connections one after the other */
    double seconds;     /* that a measurement takes */
    double warm_up;     /* bulk: seconds before it begins */
    bool fill;          /* hold: streams that are full, instead of idle ones */
    unsigned connected; /* flows so far: the number of the next */
};

/* ---- connections (flow.c) -------------------------------------------------------------------- */

/* One stream: a connection to the tunnel, and the one that the tunnel has made for it. */
struct flow {
    unsigned number; /* the stamps' */
    int near, far;
    uint64_t sent, received; /* NEAR's thread's and FAR's */
    uint64_t answered;       /* bytes of answers, which FAR has sent and NEAR has read */
    bool reading_answers;    /* NEAR waits for those, and not to write */
};

/* Listens at FAR. */
int flow_listen(const char *path);
/* Connects, and returns when the first bytes have arrived at the other end: setting it up is no part
 * of what is measured. */
void flow_open(struct load *load, struct flow *flow);
void flow_close(struct flow *flow);

/* What flow_push() and flow_pull() need. */
enum { CHUNK_SIZE = 256 * 1024 };
uint8_t *flow_buffer(void);
/* One write(2) of up to LENGTH stamped bytes (at most CHUNK_SIZE), none if it would block. */
void flow_push(struct flow *flow, uint8_t *buffer, size_t length);
/* One read(2), checked.  Returns false at the end of the stream. */
bool flow_pull(struct flow *flow, uint8_t *buffer);
/* Ends the program unless all that was sent has arrived; how many bytes that is. */
uint64_t flow_total(const struct flow *flow);

int flow_dial(const char *path);
int flow_accept(int listener);
void flow_set_blocking(int fd, bool blocking);
/* Wholly, on blocking sockets. */
void flow_send(int fd, const void *data, size_t length);
void flow_receive(int fd, void *data, size_t length);
/* Ends the program unless DATA is what stands there in the flow's stream. */
void flow_check(const struct flow *flow, uint64_t position, const uint8_t *data, size_t length);

/* ---- streams that are as busy as can be (bulk.c) --------------------------------------------- */

enum {
    REQUEST_SIZE = 64 * 1024 + 32, /* as a write of 64 KiB with its header in NBD */
    ANSWER_SIZE = 16,
    REQUESTS_IN_FLIGHT = 16,
};

struct bulk;

/* Sends on all FLOWS, from one thread, and has them received in another.  REQUESTS: in pieces of
 * REQUEST_SIZE, each acknowledged, no more than REQUESTS_IN_FLIGHT on their way. */
struct bulk *bulk_start(struct flow *flows, unsigned count, bool requests);
/* What has arrived before this doesn't count. */
void bulk_mark(struct bulk *bulk);
/* Ends the streams and waits until all has arrived.  Returns the rate in bytes per second, from the start
 * (or the mark) to the last byte, and in *RET_BYTES all that was carried. */
double bulk_stop(struct bulk *bulk, uint64_t *ret_bytes);

/* ---- what is measured: each returns its result as an object ------------------------------------ */

json_t *run_bulk(struct load *load);
json_t *run_nbd(struct load *load);
json_t *run_ping(struct load *load);
json_t *run_stalled(struct load *load);
json_t *run_connect(struct load *load);
json_t *run_hold(struct load *load);

#endif
