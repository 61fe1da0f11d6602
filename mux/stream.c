/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The bytes of a channel.
 *
 * Outwards: what the local socket gave is queued in a ring, sent from there, and kept until the
 * peer has received it, so that a link that breaks loses nothing.  No more is accepted than the
 * peer's limit allows, so whatever is queued may go out at once.
 *
 * Inwards: what comes is offered to the local socket where it lies; only what that doesn't take is
 * copied into a ring.  Links carry the data of all channels in turns, a record each, and a write to a
 * socket costs much the same for one record as for ten.  So the pieces that lie in one input of
 * mux_session_receive() are gathered, and each channel is offered all of its own at once: when the
 * input or the room for pieces ends, and before any frame but DATA, which may be about what is
 * gathered.
 */
#include "config.h"

#include "mux/internal.h"

#include <errno.h>

/* ---- outwards -------------------------------------------------------------------------------- */

static struct mux_channel *find_writable(const struct mux_session *session, uint32_t number)
{
    struct mux_channel *channel = mux_channel_find_live(session, number);

    return channel && channel->send == MUX_SEND_OPEN ? channel : NULL;
}

size_t mux_channel_space(const struct mux_session *session, uint32_t number)
{
    struct mux_channel *channel = find_writable(session, number);

    return channel ? mux_credit_space(channel) : 0;
}

int mux_channel_reserve(struct mux_session *session, uint32_t number, size_t length,
                        struct iovec iov[2])
{
    struct mux_channel *channel = find_writable(session, number);

    if (!channel)
        return -EPIPE;
    if (length > mux_credit_space(channel))
        return -EINVAL;
    return ring_reserve(&channel->out, length, iov);
}

void mux_channel_commit(struct mux_session *session, uint32_t number, size_t length)
{
    struct mux_channel *channel = find_writable(session, number);

    if (!channel || length == 0)
        return;
    ring_commit(&channel->out, length);
    channel->queued += length;
    mux_credit_charge_send(channel);
    mux_schedule_data(channel, length);
    mux_timer_moved(channel, MUX_MOVED_OUT);
    mux_credit_space(channel); /* notes when that was the last */
}

int64_t mux_channel_write(struct mux_session *session, uint32_t number, const void *data,
                          size_t length)
{
    struct mux_channel *channel = find_writable(session, number);
    int r;

    if (!channel)
        return -EPIPE;
    length = min_size(length, mux_credit_space(channel));
    if (length == 0)
        return 0;
    r = ring_append(&channel->out, data, length);
    if (r < 0)
        return r;
    channel->queued += length;
    mux_credit_charge_send(channel);
    mux_schedule_data(channel, length);
    mux_timer_moved(channel, MUX_MOVED_OUT);
    mux_credit_space(channel);
    return (int64_t)length;
}

void mux_stream_acked(struct mux_channel *channel, uint64_t acked)
{
    if (acked == channel->acked)
        return;
    if (channel->reset == MUX_RESET_NONE)
        ring_drop(&channel->out, (size_t)(acked - channel->acked));
    channel->acked = acked;
    mux_credit_charge_send(channel);
    mux_timer_moved(channel, MUX_MOVED_OUT);
}

/* ---- inwards --------------------------------------------------------------------------------- */

/* PIECES, LENGTH bytes in all, have come for CHANNEL. */
static int offer(struct mux_channel *channel, const struct iovec *pieces, int count, size_t length)
{
    struct mux_session *session = channel->session;
    size_t taken = 0, skip;

    if (channel->reset != MUX_RESET_NONE) {
        channel->taken += length; /* dropped */
        return 0;
    }
    if (channel->in.size == 0)
        taken = min_size(length, session->config.callbacks->data(session->config.opaque,
                                                                 channel->number, pieces, count));
    skip = taken;
    for (int i = 0; i < count; i++) {
        size_t n = min_size(skip, pieces[i].iov_len);

        skip -= n;
        if (n < pieces[i].iov_len &&
            ring_append(&channel->in, (uint8_t *)pieces[i].iov_base + n, pieces[i].iov_len - n) < 0)
            return mux_session_fail(session, BS_CLOSE_RESOURCES, "no memory for what was received");
    }
    channel->taken += taken;
    mux_timer_moved(channel, MUX_MOVED_IN);
    mux_credit_moved(channel);
    return 0;
}

int mux_stream_deliver(struct mux_channel *channel, const uint8_t *data, size_t length)
{
    struct iovec piece = {(void *)data, length};

    channel->received += length;
    return offer(channel, &piece, 1, length);
}

/* Offers what is gathered for CHANNEL, whose first piece has the number FIRST. */
static int offer_gathered(struct mux_gather *gather, unsigned first)
{
    struct mux_channel *channel = gather->pieces[first].channel;
    struct iovec pieces[MUX_PIECES_MAX];
    size_t length = 0;
    int count = 0;

    for (unsigned i = first; i < gather->count; i++) {
        struct mux_piece *piece = &gather->pieces[i];

        if (piece->channel != channel)
            continue;
        piece->channel = NULL;
        pieces[count++] = (struct iovec){(void *)piece->data, piece->length};
        length += piece->length;
    }
    return offer(channel, pieces, count, length);
}

int mux_stream_offer(struct mux_session *session)
{
    struct mux_gather *gather = &session->gather;
    int r = 0;

    for (unsigned i = 0; i < gather->count && r == 0; i++)
        if (gather->pieces[i].channel)
            r = offer_gathered(gather, i);
    gather->count = 0;
    return r;
}

int mux_stream_gather(struct mux_channel *channel, const uint8_t *data, size_t length)
{
    struct mux_gather *gather = &channel->session->gather;

    channel->received += length;
    gather->pieces[gather->count++] = (struct mux_piece){channel, data, length};
    return gather->count == MUX_PIECES_MAX ? mux_stream_offer(channel->session) : 0;
}

void mux_stream_tell_eof(struct mux_channel *channel)
{
    struct mux_session *session = channel->session;

    if (channel->in.size == 0 && mux_channel_set_receive(channel, MUX_RECEIVE_TOLD))
        session->config.callbacks->eof(session->config.opaque, channel->number);
}

/* Channel 0 can be read also after the end: its last messages may have come just before CLOSE. */
static struct mux_channel *find_readable(const struct mux_session *session, uint32_t number)
{
    return number == 0 ? session->zero : mux_channel_find_live(session, number);
}

int mux_channel_peek(const struct mux_session *session, uint32_t number, struct iovec iov[2])
{
    struct mux_channel *channel = find_readable(session, number);

    return channel ? ring_peek(&channel->in, 0, channel->in.size, iov) : 0;
}

void mux_channel_consume(struct mux_session *session, uint32_t number, size_t length)
{
    struct mux_channel *channel = find_readable(session, number);

    if (!channel || length == 0)
        return;
    length = min_size(length, channel->in.size);
    ring_drop(&channel->in, length);
    channel->taken += length;
    mux_timer_moved(channel, MUX_MOVED_IN);
    mux_credit_moved(channel);
    mux_stream_tell_eof(channel);
}

int mux_channel_get_stats(const struct mux_session *session, uint32_t number,
                          struct mux_channel_stats *ret)
{
    const struct mux_channel *channel = mux_channel_find(session, number);

    if (!channel)
        return -ENOENT;
    *ret = (struct mux_channel_stats){
        .sent = channel->sent,
        .acked = channel->acked,
        .received = channel->received,
        .taken = channel->taken,
        .end_acked = channel->send == MUX_SEND_DONE,
    };
    return 0;
}
