/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Credit: who may hold how much memory.
 *
 * Two pools, each within the session's cap.  The send pool holds what was queued and the peer has
 * not yet received; the receive pool what the peer was allowed to send and the local socket has not
 * yet taken, whether it came or not.  (In one shared pool both sides can fill it with what they
 * send and then wait for each other's room to receive.)  In each the first window of every channel
 * that there may ever be is set aside, so that no channel waits for another; what goes beyond comes
 * from the rest, of which one channel may have at most four times what then stays free.
 *
 * A window wants to be twice what the local socket takes in one round trip: as long as the window
 * is what limits the rate, that doubles it every other time, for credit given now shows in the rate
 * one round trip later.  The limit is what was last taken plus the window, as far as the pool
 * allows; it never goes back, so a window that shrinks does so by its limit not advancing.  A LIMIT
 * is due when it would move the limit, or acknowledge, a quarter of what the window can be just
 * now.  (A quarter of what it would like to be might never be reached.)  What is less is said when
 * the channel has turned quiet: the peer, whose pool may be smaller than ours, might be waiting for
 * it.
 */
#include "config.h"

#include "mux/internal.h"

enum { SHARE = 4 }; /* times what stays free */

/* ---- pools ----------------------------------------------------------------------------------- */

bool mux_pool_init(struct mux_pool *pool, uint64_t cap, uint64_t channels, uint64_t first)
{
    uint64_t reserved;

    cap = min_u64(cap, MUX_MEMORY_MAX);
    if (first == 0 || !checked_mul_u64(channels, first, &reserved) || reserved > cap)
        return false;
    *pool = (struct mux_pool){.first = first, .growth = cap - reserved};
    return true;
}

static uint64_t beyond_first(const struct mux_pool *pool, uint64_t held)
{
    return held > pool->first ? held - pool->first : 0;
}

/* How much more a channel may hold that holds HELD: what is set aside for it, and then so much that
 * (beyond + more) <= SHARE * (free - more). */
static uint64_t pool_room(const struct mux_pool *pool, uint64_t held)
{
    uint64_t room = held < pool->first ? pool->first - held : 0;
    uint64_t share = SHARE * (pool->growth - pool->grown);
    uint64_t beyond = beyond_first(pool, held);

    if (share > beyond)
        room += (share - beyond) / (SHARE + 1);
    return room;
}

static void pool_charge(struct mux_pool *pool, uint64_t *charge, uint64_t held)
{
    pool->used = pool->used - *charge + held;
    pool->grown = pool->grown - beyond_first(pool, *charge) + beyond_first(pool, held);
    *charge = held;
}

void mux_credit_charge_send(struct mux_channel *channel)
{
    uint64_t held = channel->reset == MUX_RESET_NONE ? channel->queued - channel->acked : 0;

    pool_charge(&channel->session->send_pool, &channel->send_charge, held);
}

void mux_credit_charge_receive(struct mux_channel *channel)
{
    uint64_t held;

    if (channel->reset != MUX_RESET_NONE)
        held = 0; /* what comes is dropped */
    else if (channel->receive != MUX_RECEIVE_OPEN || channel->session->config.tunnel)
        held = channel->received - channel->taken; /* no more will come, or nobody counts on it */
    else
        held = channel->receive_limit - channel->taken;
    pool_charge(&channel->session->receive_pool, &channel->receive_charge, held);
}

/* ---- what may be sent ------------------------------------------------------------------------ */

size_t mux_credit_space(struct mux_channel *channel)
{
    uint64_t ahead = channel->session->unsent < MUX_AHEAD_MAX ? MUX_UNSENT_MAX : MUX_AHEAD_LITTLE;
    uint64_t unsent = min_u64(channel->queued - channel->sent, ahead);
    uint64_t space = min_u64(channel->send_limit - channel->queued, ahead - unsent);

    space = min_u64(space, pool_room(&channel->session->send_pool, channel->send_charge));
    if (space == 0)
        channel->blocked = true;
    return (size_t)space;
}

/* Called when a LIMIT came or the channel had its turn.  When it is the pool that is short, other
 * channels may make room in it, too, but there is no need to look out for that: this one then has
 * sent as much as is set aside for it, so that a LIMIT of its own is on its way. */
void mux_credit_recheck(struct mux_channel *channel)
{
    struct mux_session *session = channel->session;

    if (!channel->blocked || session->state != MUX_OPEN || channel->reset != MUX_RESET_NONE ||
        channel->send != MUX_SEND_OPEN || mux_credit_space(channel) == 0)
        return;
    channel->blocked = false;
    session->config.callbacks->writable(session->config.opaque, channel->number);
}

/* ---- what may be received -------------------------------------------------------------------- */

static void measure_rate(struct mux_channel *channel)
{
    struct mux_session *session = channel->session;
    uint64_t period = max_u64(session->round_trip, MUX_ROUND_TRIP_MIN);
    uint64_t periods = mux_elapsed(session, channel->measured_at) / period;
    uint64_t wanted;

    if (periods == 0)
        return;
    wanted = 2 * ((channel->taken - channel->measured_taken) / periods);
    channel->window = max_u64(channel->window, min_u64(wanted, session->config.memory));
    channel->measured_at = session->now;
    channel->measured_taken = channel->taken;
}

/* How far the limit could stand just now. */
static uint64_t reachable_limit(const struct mux_channel *channel)
{
    uint64_t room = pool_room(&channel->session->receive_pool, channel->receive_charge);

    if (channel->receive != MUX_RECEIVE_OPEN)
        return channel->receive_limit;
    return max_u64(channel->receive_limit,
                   min_u64(channel->taken + channel->window, channel->receive_limit + room));
}

void mux_credit_moved(struct mux_channel *channel)
{
    uint64_t limit, quarter;

    mux_credit_charge_receive(channel);
    if (channel->session->config.tunnel)
        return; /* credit is the link's own back pressure */
    measure_rate(channel);
    if (channel->receive >= MUX_RECEIVE_TAKEN)
        return;
    limit = reachable_limit(channel);
    quarter = max_u64((limit - channel->taken) / 4, 1);
    if (limit - channel->receive_limit >= quarter ||
        channel->received - channel->said_received >= quarter)
        mux_schedule_say(channel, MUX_SAY_LIMIT);
}

void mux_credit_grant(struct mux_channel *channel, uint64_t *ret_received, uint64_t *ret_limit)
{
    channel->receive_limit = reachable_limit(channel);
    channel->said_received = channel->received;
    mux_credit_charge_receive(channel);
    *ret_received = channel->received + (channel->receive >= MUX_RECEIVE_TAKEN);
    *ret_limit = channel->receive_limit;
}

void mux_credit_quiet(struct mux_channel *channel)
{
    if (channel->session->config.tunnel)
        return;
    channel->window = channel->session->config.local.first_window;
    if (channel->reset == MUX_RESET_NONE && channel->receive < MUX_RECEIVE_TAKEN &&
        channel->received > channel->said_received)
        mux_schedule_say(channel, MUX_SAY_LIMIT);
}
