/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * One cap over what all channels but 0 send.
 *
 * It is kept as a point in time: until `used_until` the rate has been used up by what was sent, each
 * byte having moved that point on by what it costs.  A point that lies in the past is unused rate, of
 * which no more than MUX_BURST_TIME is kept; bulk goes out as far as that reaches.  A small message
 * that nothing stands before doesn't wait for it, but counts: the point may lie in the future, by
 * MUX_BURST_TIME at most.  So no more than twice that is sent in a burst, and the rate holds whatever
 * is sent.
 *
 * Channel 0 and frames other than DATA are not counted: what they say is little, and somebody waits
 * for it.
 */
#include "config.h"

#include "mux/internal.h"

#define NS_PER_SECOND UINT64_C(1000000000)

static uint64_t cost(const struct mux_session *session, size_t length)
{
    return length * NS_PER_SECOND / session->bandwidth.rate;
}

static bool is_capped(const struct mux_channel *channel)
{
    return channel->session->bandwidth.rate > 0 && channel->number != 0;
}

/* A small message whose turn comes before the bulk? */
static bool is_small(const struct mux_channel *channel)
{
    return channel->fresh && channel->queue == MUX_QUEUE_FRESH;
}

static uint64_t used_until(const struct mux_session *session)
{
    uint64_t oldest = session->now > MUX_BURST_TIME ? session->now - MUX_BURST_TIME : 0;

    return max_u64(session->bandwidth.used_until, oldest);
}

size_t mux_bandwidth_turn(const struct mux_channel *channel, size_t most)
{
    uint64_t length = min_u64(channel->queued - channel->sent, most);

    if (is_capped(channel) && !is_small(channel))
        length = min_u64(length, max_u64(channel->session->bandwidth.burst, 1));
    return (size_t)length;
}

uint64_t mux_bandwidth_when(const struct mux_channel *channel)
{
    const struct mux_session *session = channel->session;
    uint64_t used;

    if (!is_capped(channel))
        return 0;
    used = used_until(session);
    if (is_small(channel))
        return used > MUX_BURST_TIME ? used - MUX_BURST_TIME : 0;
    return used + min_u64(cost(session, mux_bandwidth_turn(channel, MUX_QUANTUM)), MUX_BURST_TIME);
}

void mux_bandwidth_sent(const struct mux_channel *channel, size_t length)
{
    struct mux_session *session = channel->session;

    if (is_capped(channel))
        session->bandwidth.used_until = used_until(session) + cost(session, length);
}

void mux_session_set_bandwidth(struct mux_session *session, uint64_t rate, uint64_t now)
{
    session->now = now;
    if (rate > MUX_RATE_MAX)
        rate = 0;
    if (rate == session->bandwidth.rate)
        return;
    session->bandwidth.rate = rate;
    session->bandwidth.burst = rate * MUX_BURST_TIME / NS_PER_SECOND;
    session->bandwidth.used_until = now;
    session->bandwidth.again = UINT64_MAX;
}
