/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Who is next.  Frames that are due other than DATA go first; then channel 0; then channels that
 * have just turned busy with no more than one quantum; then the rest in turns, one message each.
 * Where no small messages are about and no rate is capped, nobody would notice longer turns but the
 * sockets at the far end, which are written to in larger pieces: then a turn has MUX_TURN bytes.
 *
 * A channel that had its turn among the fresh goes to the back of the bulk even when it has nothing
 * left, and only when it is found empty there is it idle again.  So one that is written to all the
 * time in small pieces is fresh once a round at most, and can't starve the bulk.
 */
#include "config.h"

#include "mux/internal.h"

/* ---- frames other than DATA ------------------------------------------------------------------ */

void mux_schedule_say(struct mux_channel *channel, unsigned say)
{
    if (channel->say == 0)
        TAILQ_INSERT_TAIL(&channel->session->control, channel, control_link);
    channel->say |= say;
}

void mux_schedule_unsay(struct mux_channel *channel, unsigned say)
{
    if (channel->say == 0)
        return;
    channel->say &= ~say;
    if (channel->say == 0)
        TAILQ_REMOVE(&channel->session->control, channel, control_link);
}

/* ---- DATA ------------------------------------------------------------------------------------ */

static bool has_unsent(const struct mux_channel *channel)
{
    return channel->sent < channel->queued;
}

static struct mux_channels *queue_of(struct mux_channel *channel)
{
    return channel->queue == MUX_QUEUE_FRESH ? &channel->session->fresh : &channel->session->bulk;
}

static void enqueue(struct mux_channel *channel, enum mux_queue queue)
{
    if (channel->queue != MUX_QUEUE_NONE)
        TAILQ_REMOVE(queue_of(channel), channel, data_link);
    channel->queue = queue;
    if (queue != MUX_QUEUE_NONE)
        TAILQ_INSERT_TAIL(queue_of(channel), channel, data_link);
}

void mux_schedule_data(struct mux_channel *channel, size_t added)
{
    uint64_t unsent = channel->queued - channel->sent;

    channel->session->unsent += added;
    if (added > MUX_SMALL)
        channel->bulk_at = channel->session->now;
    channel->session->bandwidth.again = UINT64_MAX; /* it may be what needn't wait */
    channel->fresh = (channel->fresh || unsent == added) && unsent <= MUX_SMALL;
    if (channel->number != 0 && channel->queue == MUX_QUEUE_NONE)
        enqueue(channel, unsent <= MUX_QUANTUM ? MUX_QUEUE_FRESH : MUX_QUEUE_BULK);
}

/* Until when CHANNEL has to wait for its turn. */
static uint64_t held_until(const struct mux_channel *channel)
{
    return max_u64(mux_bandwidth_when(channel), mux_flight_when(channel));
}

static bool is_held(const struct mux_channel *channel)
{
    return held_until(channel) > channel->session->now;
}

static struct mux_channel *first_busy(struct mux_session *session)
{
    struct mux_channel *channel;

    if (has_unsent(session->zero))
        return session->zero;
    /* Where there is a cap, what has to wait may not stand before what needn't. */
    while ((channel = TAILQ_FIRST(&session->fresh)) && !channel->fresh && is_held(channel))
        enqueue(channel, MUX_QUEUE_BULK);
    if (channel)
        return channel;
    while ((channel = TAILQ_FIRST(&session->bulk)) && !has_unsent(channel))
        enqueue(channel, MUX_QUEUE_NONE);
    return channel;
}

struct mux_channel *mux_schedule_next(struct mux_session *session)
{
    struct mux_channel *channel = first_busy(session);
    uint64_t until = channel ? held_until(channel) : 0;

    session->bandwidth.again = until > session->now ? until : UINT64_MAX;
    return until > session->now ? NULL : channel;
}

void mux_schedule_turn(struct mux_channel *channel, size_t length)
{
    struct mux_session *session = channel->session;

    session->unsent -= length;
    if (!has_unsent(channel))
        channel->fresh = false;
    if (channel->number == 0)
        return;
    session->turn += length;
    if (channel->queue == MUX_QUEUE_BULK && has_unsent(channel) && session->turn < MUX_TURN &&
        session->bandwidth.rate == 0 && !mux_flight_is_watched(session, session->now))
        return;
    session->turn = 0;
    if (channel->queue == MUX_QUEUE_FRESH || has_unsent(channel))
        enqueue(channel, MUX_QUEUE_BULK);
    else
        enqueue(channel, MUX_QUEUE_NONE);
}

void mux_schedule_again(struct mux_channel *channel)
{
    channel->session->unsent += channel->sent - channel->acked;
    channel->sent = channel->acked;
    channel->fresh = false;
    if (channel->number != 0 && channel->queue == MUX_QUEUE_NONE && has_unsent(channel))
        enqueue(channel, MUX_QUEUE_BULK);
}

void mux_schedule_remove(struct mux_channel *channel)
{
    channel->session->unsent -= channel->queued - channel->sent;
    enqueue(channel, MUX_QUEUE_NONE);
}
