/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * relay PORT FILE THERE BACK [ADDRESS:]FROM [RATE]: a TCP relay from port FROM of 127.0.0.1 or ADDRESS
 * (0: a free port), written to FILE, to PORT of 127.0.0.1.
 * What goes there is kept for THERE milliseconds, what comes back for BACK, so that a test can cut
 * the line (kill the relay) between a message and its answer, and the bench has a long link.  After
 * SIGUSR1 nothing comes back any more.
 *
 * One thread per direction reads pieces, each with the time when it is due, and hands them to
 * another that waits and writes: a delay, not a smaller rate.  With RATE, in megabytes per second each
 * way, a piece leaves when those before it have left and its own bytes took their time; the reader
 * takes no more from the sender than would wait for QUEUE.  Nor does it when the other end is slow, and
 * HELD_MAX bytes are on their way.
 */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define QUEUE (10 * MS)
#define HELD_MAX (64 << 20)

struct piece {
    STAILQ_ENTRY(piece) link;
    uint64_t due;   /* ns */
    ssize_t length; /* 0: the end */
    uint8_t data[65536];
};

struct direction {
    int from, to;
    bool back;
    uint64_t delay; /* ns */
    uint64_t free;  /* when the line will have sent what was read: the reader's */
    pthread_mutex_t lock;
    pthread_cond_t came, went;
    STAILQ_HEAD(, piece) pieces;
    ssize_t bytes; /* in them */
};

static atomic_bool held;
static double rate; /* bytes per ns; 0: no limit */

static void on_signal(int number)
{
    (void)number;
    atomic_store(&held, true);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

static void wait_until(uint64_t due)
{
    const struct timespec until = {.tv_sec = (time_t)(due / (1000 * MS)),
                                   .tv_nsec = (long)(due % (1000 * MS))};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

static void die(const char *what)
{
    fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* When a piece of LENGTH bytes, read now, has left for the other end. */
static uint64_t departure(struct direction *direction, ssize_t length)
{
    uint64_t now = now_ns();

    if (direction->free < now)
        direction->free = now;
    if (rate > 0 && length > 0)
        direction->free += (uint64_t)((double)length / rate);
    return direction->free;
}

static void *read_pieces(void *opaque)
{
    struct direction *direction = opaque;
    struct piece *piece;
    bool more = true;

    while (more) {
        piece = malloc(sizeof *piece);
        if (!piece)
            die("no memory");
        piece->length = read(direction->from, piece->data, sizeof piece->data);
        piece->due = departure(direction, piece->length) + direction->delay;
        more = piece->length > 0;
        pthread_mutex_lock(&direction->lock);
        while (direction->bytes >= HELD_MAX)
            pthread_cond_wait(&direction->went, &direction->lock);
        STAILQ_INSERT_TAIL(&direction->pieces, piece, link);
        direction->bytes += more ? piece->length : 0;
        pthread_cond_signal(&direction->came);
        pthread_mutex_unlock(&direction->lock);
        wait_until(direction->free - QUEUE);
    }
    return NULL;
}

static struct piece *next_piece(struct direction *direction)
{
    struct piece *piece;

    pthread_mutex_lock(&direction->lock);
    while (!(piece = STAILQ_FIRST(&direction->pieces)))
        pthread_cond_wait(&direction->came, &direction->lock);
    STAILQ_REMOVE_HEAD(&direction->pieces, link);
    direction->bytes -= piece->length > 0 ? piece->length : 0;
    pthread_cond_signal(&direction->went);
    pthread_mutex_unlock(&direction->lock);
    return piece;
}

/* Returns false when the other side takes no more. */
static bool write_all(int fd, const uint8_t *data, ssize_t length)
{
    while (length > 0) {
        ssize_t n = send(fd, data, (size_t)length, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        data += n;
        length -= n;
    }
    return true;
}

static void *write_pieces(void *opaque)
{
    struct direction *direction = opaque;
    bool more = true;

    while (more) {
        struct piece *piece = next_piece(direction);

        wait_until(piece->due);
        while (direction->back && atomic_load(&held))
            pause();
        more = piece->length > 0 && write_all(direction->to, piece->data, piece->length);
        free(piece);
    }
    shutdown(direction->to, SHUT_WR);
    return NULL;
}

static void start_direction(int from, int to, bool back, uint64_t delay)
{
    struct direction *direction = calloc(1, sizeof *direction);
    pthread_t thread;

    if (!direction)
        die("no memory");
    direction->from = from;
    direction->to = to;
    direction->back = back;
    direction->delay = delay * MS;
    pthread_mutex_init(&direction->lock, NULL);
    pthread_cond_init(&direction->came, NULL);
    pthread_cond_init(&direction->went, NULL);
    STAILQ_INIT(&direction->pieces);
    if (pthread_create(&thread, NULL, read_pieces, direction) != 0 ||
        pthread_create(&thread, NULL, write_pieces, direction) != 0)
        die("no threads");
}

static int dial(uint16_t port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        die("can't connect");
    return fd;
}

/* Listens at FROM, and writes the port to FILE. */
static int listen_at(const char *file, const char *from)
{
    const char *colon = strchr(from, ':');
    char *host = strndup(from, colon ? (size_t)(colon - from) : 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(colon ? colon + 1 : from)),
                                  .sin_addr.s_addr =
                                      colon && host ? inet_addr(host) : htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    FILE *out;

    free(host);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 8) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        die("can't listen");
    out = fopen(file, "we");
    if (!out || fprintf(out, "%d\n", ntohs(address.sin_port)) < 0 || fclose(out) != 0)
        die("can't write the port");
    return fd;
}

int main(int argc, char **argv)
{
    int listener, in, out;

    if (argc != 6 && argc != 7) {
        fputs("usage: relay PORT FILE THERE BACK [ADDRESS:]FROM [RATE]\n", stderr);
        return 2;
    }
    rate = argc == 7 ? strtod(argv[6], NULL) / 1000 : 0;
    signal(SIGUSR1, on_signal);
    listener = listen_at(argv[2], argv[5]);
    while ((in = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        out = dial((uint16_t)atoi(argv[1]));
        start_direction(in, out, false, strtoull(argv[3], NULL, 10));
        start_direction(out, in, true, strtoull(argv[4], NULL, 10));
    }
    die("can't accept");
}
