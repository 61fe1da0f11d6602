/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bulk LOCAL REMOTE CHANNELS MEGABYTES: sends data over CHANNELS connections at a time through
 * something that carries connections to the UNIX socket LOCAL to the UNIX socket REMOTE, half of it
 * in each direction, and compares every byte.
 *
 * Both ends are here.  A connection's first eight bytes name it; from them follows the stream of
 * random words that each side sends and the other expects.  Four threads per connection: nobody
 * waits for anybody but the socket.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CHANNELS_MAX = 4096, PIECE_WORDS = 8192 };

enum side { DIALLED, ACCEPTED };

/* One direction of one connection, as one of its ends sees it. */
struct flow {
    int fd;
    uint64_t channel;
    enum side sender;
    uint64_t words;
};

static void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("bulk: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

/* splitmix64 */
static void fill(uint64_t *words, size_t count, uint64_t *state)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        words[i] = z ^ z >> 31;
    }
}

static uint64_t first_state(const struct flow *flow)
{
    return flow->channel << 40 | (uint64_t)flow->sender << 39;
}

static void send_all(int fd, const void *data, size_t length)
{
    const char *at = data;

    while (length > 0) {
        ssize_t n = send(fd, at, length, MSG_NOSIGNAL);

        if (n < 0)
            die("can't send: %s", strerror(errno));
        at += n;
        length -= (size_t)n;
    }
}

static void receive_all(int fd, void *data, size_t length, uint64_t channel)
{
    char *at = data;

    while (length > 0) {
        ssize_t n = recv(fd, at, length, 0);

        if (n <= 0)
            die("channel %" PRIu64 " ends early: %s", channel, n < 0 ? strerror(errno) : "end");
        at += n;
        length -= (size_t)n;
    }
}

static void *run_sender(void *opaque)
{
    struct flow *flow = opaque;
    uint64_t state = first_state(flow), left = flow->words;
    uint64_t *piece = malloc(PIECE_WORDS * sizeof *piece);

    if (!piece)
        die("no memory");
    while (left > 0) {
        size_t count = left < PIECE_WORDS ? (size_t)left : PIECE_WORDS;

        fill(piece, count, &state);
        send_all(flow->fd, piece, count * sizeof *piece);
        left -= count;
    }
    if (shutdown(flow->fd, SHUT_WR) < 0)
        die("can't end channel %" PRIu64 ": %s", flow->channel, strerror(errno));
    free(piece);
    free(flow);
    return NULL;
}

static void compare(const struct flow *flow, const uint64_t *came, const uint64_t *expected,
                    size_t count, uint64_t done)
{
    for (size_t i = 0; i < count; i++)
        if (came[i] != expected[i])
            die("channel %" PRIu64 ", sent by the side that %s: byte %" PRIu64 " differs",
                flow->channel, flow->sender == DIALLED ? "dialled" : "accepted", 8 * (done + i));
}

static void *run_receiver(void *opaque)
{
    struct flow *flow = opaque;
    uint64_t state = first_state(flow), done = 0;
    uint64_t *pieces = malloc(2 * PIECE_WORDS * sizeof *pieces);
    char more;

    if (!pieces)
        die("no memory");
    while (done < flow->words) {
        uint64_t left = flow->words - done;
        size_t count = left < PIECE_WORDS ? (size_t)left : PIECE_WORDS;

        receive_all(flow->fd, pieces, count * sizeof *pieces, flow->channel);
        fill(pieces + PIECE_WORDS, count, &state);
        compare(flow, pieces, pieces + PIECE_WORDS, count, done);
        done += count;
    }
    if (recv(flow->fd, &more, 1, 0) != 0)
        die("channel %" PRIu64 " goes on after its end", flow->channel);
    free(pieces);
    free(flow);
    return NULL;
}

/* ---- connections ------------------------------------------------------------------------------ */

static struct flow *new_flow(int fd, uint64_t channel, enum side sender, uint64_t words)
{
    struct flow *flow = malloc(sizeof *flow);

    if (!flow)
        die("no memory");
    *flow = (struct flow){.fd = fd, .channel = channel, .sender = sender, .words = words};
    return flow;
}

/* Both directions at the end that is SIDE. */
static void start_end(int fd, uint64_t channel, enum side side, uint64_t words,
                      pthread_t ret_threads[2])
{
    const enum side other = side == DIALLED ? ACCEPTED : DIALLED;

    if (pthread_create(&ret_threads[0], NULL, run_sender, new_flow(fd, channel, side, words)) ||
        pthread_create(&ret_threads[1], NULL, run_receiver, new_flow(fd, channel, other, words)))
        die("can't start threads");
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof address.sun_path)
        die("%s is too long", path);
    strcpy(address.sun_path, path);
    return address;
}

static int listen_at(const char *path)
{
    const struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
        listen(fd, CHANNELS_MAX) < 0)
        die("can't listen at %s: %s", path, strerror(errno));
    return fd;
}

static int dial(const char *path)
{
    const struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        die("can't connect to %s: %s", path, strerror(errno));
    return fd;
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    static pthread_t threads[CHANNELS_MAX][2][2];
    uint64_t channels, words, name;
    int listener, fd;
    double begun;

    channels = argc == 5 ? strtoull(argv[3], NULL, 10) : 0;
    if (channels == 0 || channels > CHANNELS_MAX) {
        fputs("usage: bulk LOCAL REMOTE CHANNELS MEGABYTES\n", stderr);
        return 2;
    }
    words = strtoull(argv[4], NULL, 10) * 1000000 / channels / 2 / sizeof words;
    listener = listen_at(argv[2]);
    begun = seconds();
    for (uint64_t i = 0; i < channels; i++) {
        fd = dial(argv[1]);
        send_all(fd, &i, sizeof i);
        start_end(fd, i, DIALLED, words, threads[i][0]);
    }
    for (uint64_t i = 0; i < channels; i++) {
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            die("can't accept: %s", strerror(errno));
        receive_all(fd, &name, sizeof name, i);
        start_end(fd, name, ACCEPTED, words, threads[i][1]);
    }
    for (uint64_t i = 0; i < 4 * channels; i++)
        pthread_join(threads[i / 4][i / 2 % 2][i % 2], NULL);
    unlink(argv[2]);
    printf("%.1f GB on %" PRIu64 " channels in %.1f s, every byte compared\n",
           (double)(words * sizeof words * 2 * channels) / 1e9, channels, seconds() - begun);
    return 0;
}
