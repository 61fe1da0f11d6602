/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Two pumps in one process, with TLS over loopback between them, and programs at their UNIX
 * sockets that the test itself plays with blocking calls.
 */
#ifndef TESTS_UNIT_PUMP_PAIR_H
#define TESTS_UNIT_PUMP_PAIR_H

#include "io/pump.h"
#include "io/tls.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* The default of a bistreamd, but for the ping. */
#define PAIR_DEFAULTS                                                                        \
    (struct pump_config)                                                                     \
    {                                                                                        \
        .name = "test", .serial = 7, .local = {.first_window = 16384, .channels = 256},      \
        .remote = {.first_window = 16384, .channels = 256}, .memory = 64 << 20,              \
        .ping_interval = 5 * UINT64_C(1000000000), .ping_timeout = 15 * UINT64_C(1000000000) \
    }

/* One end, and what its pump has told. */
struct pair_side {
    struct pump *pump; /* NULL: the test plays this end itself, over link */
    struct tls *link;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int ended; /* how often */
    struct error why;
    int resets; /* how often channel_reset() came; the last one: */
    char reset_endpoint[64], reset_text[256];
    uint64_t reset_code;
    int lost, resumed; /* how often link_lost() and link_resumed() came */
};

struct pair {
    struct pair_side near, far; /* near is the opener and listens, far dials */
    char dir[64];               /* of the sockets; far resolves "NAME" to dir/NAME */
    int link_fd, far_fd;        /* each end's first */
    int fds;                    /* open descriptors before */
};

/* Descriptors that this process has open. */
int count_fds(void);

/* Another TLS connection: blocking handshakes, then non-blocking. */
void pair_make_links(struct tls **ret_near, struct tls **ret_far);

/* Starts both pumps; CONFIG NULL: PAIR_DEFAULTS.  PROGRAM: for both.  FAR_PUMP false: only the near
 * one, and far.link is the test's. */
void pair_start(struct pair *pair, const struct pump_config *config,
                const struct rpc_program *program, bool far_pump);
/* Frees both pumps, and asserts that each has told its end once and that no descriptor is left. */
void pair_stop(struct pair *pair);

/* A listener at the near pump for NAME. */
void pair_listen(struct pair *pair, const char *name);
/* A server's socket at the far side for NAME; the caller closes it. */
int pair_serve(struct pair *pair, const char *name);
/* A program that connects to the near listener for NAME. */
int pair_connect(struct pair *pair, const char *name);
/* The next connection on SERVER; blocking descriptors. */
int pair_accept(int server);
/* All three for one NAME. */
void pair_join(struct pair *pair, const char *name, int *ret_near, int *ret_far);

/* Waits, at most 10 s, until the side has told COUNT resets, or its end. */
void side_wait_resets(struct pair_side *side, int count);
void side_wait_ended(struct pair_side *side);
/* Until its link came back COUNT times. */
void side_wait_resumed(struct pair_side *side, int count);

/* Blocking I/O of whole buffers, at most 20 s; fails the test otherwise. */
void write_all(int fd, const void *data, size_t length);
void read_all(int fd, void *data, size_t length);
/* The next read(2) must see the end, or a reset connection. */
void read_end(int fd);

#endif
