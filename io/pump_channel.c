/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Channels and their local sockets.
 *
 * Bytes that come from the link are written to the socket right where they were decrypted.  What a
 * full socket doesn't take stays in the session, and credit for it isn't given until it has gone.
 * In the other direction a socket is read only while there is credit, straight into the session's
 * memory.  So a program that stalls holds up its own channel and nothing else.
 *
 * The session's callbacks may not call the session.  They do what needs no call, "touch" the
 * channel, and channel_settle() does the rest before the loop waits.
 *
 * How a channel ends.  Each direction ends on its own: end of file from the program becomes the
 * peer's end of file, and the peer's becomes shutdown(2) once everything before it was written.
 * A RESET is close(2): a program that is stuck in a full socket wakes up from nothing less.
 *
 * A program that has closed its socket altogether looks like one that has only ended its half,
 * until something has to be written to it.  That fails then, but what the program sent before may
 * still be on its way, and the far program is entitled to all of it, as it would be on one host.
 * So what comes for the dead socket is thrown away (holding it back could block the far program
 * in its write and keep it from reading), and RESET is said when the peer has acknowledged the end.
 *
 * EPOLLHUP and EPOLLERR say nothing that read and write don't say better: they count as readable
 * and writable, and a socket for which neither is wanted isn't watched at all, so that they can't
 * keep the loop busy.
 */
#include "config.h"

#include "io/pump_internal.h"
#include "common/checked.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_MIN = 4 * 1024,
    READ_MAX = 256 * 1024, /* more than a UNIX socket holds by default */
    SOCKET_ROOM = 1024 * 1024, /* for what is decrypted at once, and the next while that is read */
    RESETS_LOGGED = 200,   /* of one session: a peer could fill the disk with them */
};

/* ---- making and freeing ---------------------------------------------------------------------- */

static struct pump_channel *find(const struct pump *pump, uint32_t number)
{
    struct pump_channel *channel;

    LIST_FOREACH(channel, &pump->buckets[number % PUMP_BUCKETS], bucket)
    {
        if (channel->number == number)
            return channel;
    }
    return NULL;
}

static void read_socket(struct pump_channel *channel);

struct pump_channel *channel_new(struct pump *pump, uint32_t number, const char *endpoint, int fd)
{
    struct pump_channel *channel = calloc(1, sizeof *channel);

    if (!channel)
        return NULL;
    channel->pump = pump;
    channel->number = number;
    channel->fd = -1;
    channel->read_size = READ_MIN;
    channel->endpoint = endpoint_get(pump, endpoint);
    if (!channel->endpoint || (fd >= 0 && channel_attach(channel, fd) < 0)) {
        free(channel);
        return NULL;
    }
    channel->endpoint->channels++;
    TAILQ_INSERT_TAIL(&pump->channels, channel, link);
    LIST_INSERT_HEAD(&pump->buckets[number % PUMP_BUCKETS], channel, bucket);
    channel_touch(channel);
    if (fd >= 0)
        read_socket(channel); /* a program that speaks first has spoken: that goes out with the OPEN */
    return channel;
}

void channel_free(struct pump_channel *channel)
{
    struct pump *pump = channel->pump;

    channel_close(channel);
    if (channel->touched)
        TAILQ_REMOVE(&pump->touched, channel, touch);
    TAILQ_REMOVE(&pump->channels, channel, link);
    LIST_REMOVE(channel, bucket);
    if (--channel->endpoint->channels == 0)
        channel->endpoint->waiting_since = LOOP_NEVER;
    free(channel);
}

void channel_touch(struct pump_channel *channel)
{
    if (channel->touched)
        return;
    channel->touched = true;
    TAILQ_INSERT_TAIL(&channel->pump->touched, channel, touch);
}

void channel_close(struct pump_channel *channel)
{
    if (channel->state == CHANNEL_DEAD)
        return;
    if (channel->out == CHANNEL_OUT_BROKEN)
        channel->pump->broken--;
    channel->state = CHANNEL_DEAD;
    loop_fd_remove(channel->watch);
    channel->watch = NULL;
    if (channel->fd >= 0)
        close(channel->fd);
    channel->fd = -1;
    free(channel->path);
    channel->path = NULL;
}

static void tell_reset(struct pump_channel *channel, uint64_t code, const char *text)
{
    struct pump *pump = channel->pump;

    if (pump->resets < RESETS_LOGGED)
        log_info("session %s channel %u (%s) reset: %s", pump->name, channel->number,
                 channel->endpoint->name, text);
    else if (pump->resets == RESETS_LOGGED)
        log_info("session %s: further resets are not logged", pump->name);
    if (pump->resets <= RESETS_LOGGED)
        pump->resets++;
    if (pump->handlers.channel_reset)
        pump->handlers.channel_reset(pump->handlers.opaque, channel->endpoint->name, code, text);
}

void channel_fail(struct pump_channel *channel, uint64_t code, const char *text)
{
    if (channel->state == CHANNEL_DEAD)
        return;
    channel_close(channel);
    mux_channel_reset(channel->pump->session, channel->number, code, text);
    tell_reset(channel, code, text);
}

/* ---- from the link to the socket -------------------------------------------------------------- */

/* The program takes nothing any more. */
static void out_breaks(struct pump_channel *channel)
{
    if (channel->out != CHANNEL_OUT_OPEN)
        return;
    channel->out = CHANNEL_OUT_BROKEN;
    channel->pump->broken++;
    channel_touch(channel);
}

static void count_received(struct pump_channel *channel, size_t length)
{
    channel->endpoint->received += length;
    channel->pump->received += length;
}

/* Writes what waits in the session, until it is gone or the socket is full. */
static void write_queued(struct pump_channel *channel)
{
    struct mux_session *session = channel->pump->session;
    struct iovec iov[2];
    int parts;

    channel->full = false;
    while (channel->out == CHANNEL_OUT_OPEN &&
           (parts = mux_channel_peek(session, channel->number, iov)) > 0) {
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)parts};
        ssize_t n = sendmsg(channel->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n >= 0) {
            count_received(channel, (size_t)n);
            mux_channel_consume(session, channel->number, (size_t)n);
        } else if (errno == EAGAIN) {
            channel->full = true;
            return;
        } else if (errno != EINTR) {
            out_breaks(channel);
        }
    }
}

/* Throws away what waits in the session: its program has gone. */
static void discard_queued(struct pump_channel *channel)
{
    struct mux_session *session = channel->pump->session;
    struct iovec iov[2];
    int parts;

    while ((parts = mux_channel_peek(session, channel->number, iov)) > 0)
        mux_channel_consume(session, channel->number,
                            iov[0].iov_len + (parts > 1 ? iov[1].iov_len : 0));
}

size_t channel_data(void *opaque, uint32_t number, const struct iovec *pieces, int count)
{
    const struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)count};
    struct pump *pump = opaque;
    struct pump_channel *channel;
    size_t length = mux_pieces_length(pieces, count);
    ssize_t n;

    if (number == 0) {
        for (int i = 0; i < count; i++)
            calls_feed(pump, pieces[i].iov_base, pieces[i].iov_len);
        return length;
    }
    channel = find(pump, number);
    if (!channel || channel->state == CHANNEL_DEAD || channel->out != CHANNEL_OUT_OPEN)
        return length;
    channel->endpoint->waiting_since = LOOP_NEVER;
    if (channel->state == CHANNEL_DIALLING || channel->full)
        return 0;
    do
        n = sendmsg(channel->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN) {
        out_breaks(channel);
        return length;
    }
    if (n < 0)
        n = 0;
    if ((size_t)n < length) {
        channel->full = true;
        channel_touch(channel);
    }
    count_received(channel, (size_t)n);
    return (size_t)n;
}

void channel_eof(void *opaque, uint32_t number)
{
    struct pump_channel *channel = find(opaque, number);

    if (!channel)
        return;
    channel->eof_due = true;
    channel_touch(channel);
}

/* ---- from the socket to the link -------------------------------------------------------------- */

/* Reads follow the traffic: a channel that carries little reserves little. */
static void adapt_read_size(struct pump_channel *channel, size_t asked, size_t got)
{
    if (got == channel->read_size && channel->read_size < READ_MAX)
        channel->read_size *= 2;
    else if (asked == channel->read_size && got < asked / 4 && channel->read_size > READ_MIN)
        channel->read_size /= 2;
}

static void count_sent(struct pump_channel *channel, size_t length)
{
    struct pump_endpoint *endpoint = channel->endpoint;

    endpoint->sent += length;
    channel->pump->sent += length;
    channel->pump->taken += length;
    if (endpoint->waiting_since == LOOP_NEVER)
        endpoint->waiting_since = loop_now(channel->pump->loop);
}

static void in_ends(struct pump_channel *channel)
{
    channel->in = CHANNEL_IN_ENDED;
    mux_channel_end(channel->pump->session, channel->number);
}

static void read_socket(struct pump_channel *channel)
{
    struct mux_session *session = channel->pump->session;
    size_t length = min_size(mux_channel_space(session, channel->number), channel->read_size);
    struct iovec iov[2];
    ssize_t n;
    int parts;

    if (channel->in != CHANNEL_IN_OPEN || length == 0)
        return;
    parts = mux_channel_reserve(session, channel->number, length, iov);
    if (parts < 0) {
        channel_fail(channel, BS_RESET_BROKEN, "there is not enough memory to go on");
        return;
    }
    n = readv(channel->fd, iov, parts);
    if (n > 0) {
        mux_channel_commit(session, channel->number, (size_t)n);
        count_sent(channel, (size_t)n);
        adapt_read_size(channel, length, (size_t)n);
    } else if (n == 0) {
        in_ends(channel);
    } else if (errno != EAGAIN && errno != EINTR) {
        /* The program has gone with bytes of ours unread: it won't read any others. */
        in_ends(channel);
        out_breaks(channel);
    }
}

void channel_writable(void *opaque, uint32_t number)
{
    struct pump_channel *channel = find(opaque, number);

    if (channel)
        channel_touch(channel);
}

/* ---- beginning and end ------------------------------------------------------------------------ */

static void socket_ready(void *opaque, uint32_t events)
{
    struct pump_channel *channel = opaque;

    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        write_queued(channel);
    if (events & ~(uint32_t)EPOLLOUT)
        read_socket(channel);
    channel_touch(channel);
    if (channel->pump->taken >= LINK_TAKEN_MAX)
        pump_send(channel->pump);
}

int channel_attach(struct pump_channel *channel, int fd)
{
    const int room = SOCKET_ROOM;

    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room); /* the kernel has a bound of its own */
    channel->watch = loop_fd_add(channel->pump->loop, fd, 0, socket_ready, channel);
    if (!channel->watch)
        return -ENOMEM;
    channel->fd = fd;
    channel->state = CHANNEL_OPEN;
    return 0;
}

void channel_opened(void *opaque, uint32_t number, const char *endpoint)
{
    struct pump *pump = opaque;
    struct pump_channel *channel = channel_new(pump, number, endpoint, -1);

    if (!channel)
        pump_fault(pump, BS_CLOSE_RESOURCES, "there is not enough memory for another channel");
    else if (pump->tunnel)
        channel->in = CHANNEL_IN_ENDED; /* the stream goes one way */
}

void channel_was_reset(void *opaque, uint32_t number, uint64_t code, const char *text)
{
    struct pump_channel *channel = find(opaque, number);

    if (!channel || channel->state == CHANNEL_DEAD)
        return;
    channel_close(channel);
    if (code != BS_RESET_CLOSED)
        tell_reset(channel, code, text);
}

void channel_forgotten(void *opaque, uint32_t number)
{
    struct pump_channel *channel = find(opaque, number);

    if (!channel)
        return;
    channel->forgotten = true;
    channel_touch(channel);
}

static void settle_broken(struct pump_channel *channel)
{
    struct mux_channel_stats stats;

    discard_queued(channel);
    if (channel->in == CHANNEL_IN_ENDED &&
        mux_channel_get_stats(channel->pump->session, channel->number, &stats) == 0 &&
        stats.end_acked)
        channel_fail(channel, BS_RESET_BROKEN, "the program at its socket has closed it");
}

void channel_settle(struct pump_channel *channel)
{
    struct mux_session *session = channel->pump->session;
    uint32_t events = 0;

    if (channel->forgotten) {
        channel_free(channel);
        return;
    }
    if (channel->state == CHANNEL_DIALLING && !channel->path)
        channel_dial(channel);
    if (channel->state != CHANNEL_OPEN)
        return;
    if (channel->out == CHANNEL_OUT_OPEN && !channel->full)
        write_queued(channel);
    if (channel->out == CHANNEL_OUT_OPEN && channel->eof_due) {
        shutdown(channel->fd, SHUT_WR); /* fails only where the program has gone altogether */
        channel->out = CHANNEL_OUT_ENDED;
        mux_channel_eof_taken(session, channel->number);
    }
    if (channel->out == CHANNEL_OUT_BROKEN)
        settle_broken(channel);
    if (channel->state != CHANNEL_OPEN)
        return;
    if (channel->in == CHANNEL_IN_OPEN && mux_channel_space(session, channel->number) > 0)
        events |= EPOLLIN;
    if (channel->out == CHANNEL_OUT_OPEN && channel->full)
        events |= EPOLLOUT;
    loop_fd_want(channel->watch, events);
}
