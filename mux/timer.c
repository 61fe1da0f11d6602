/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What time brings about.
 *
 * A PING goes out when nothing came for the ping interval, when the session begins, and now and
 * then while DATA comes, since windows grow by the round trip.  One is waited for at a time; a
 * newer one takes its place.
 *
 * A channel in which something moved is put on the list of the active, which is looked through
 * every MUX_QUIET_TIME.  Where nothing has moved since the last look, empty rings give their memory
 * back and what has been received without being acknowledged is acknowledged: an idle channel costs
 * neither side a buffer.
 */
#include "config.h"

#include "mux/internal.h"

#include <errno.h>

uint64_t mux_elapsed(const struct mux_session *session, uint64_t since)
{
    return session->now > since ? session->now - since : 0;
}

/* A time that far ahead is never. */
static uint64_t later(uint64_t time, uint64_t by)
{
    return by > UINT64_MAX - time ? UINT64_MAX : time + by;
}

/* ---- PING ----------------------------------------------------------------------------------- */

void mux_timer_measure(struct mux_session *session)
{
    if (!session->ping_waiting && mux_elapsed(session, session->ping_at) >= MUX_MEASURE_TIME)
        session->say_ping = true;
}

void mux_timer_pinged(struct mux_session *session)
{
    session->say_ping = false;
    session->ping_waiting = true;
    session->ping_token++;
    session->ping_at = session->now;
}

bool mux_timer_pong(struct mux_session *session, uint64_t token)
{
    uint64_t sample;

    if (token == 0 || token > session->ping_token)
        return false;
    if (!session->ping_waiting || token != session->ping_token)
        return true; /* late: a newer one is on its way */
    session->ping_waiting = false;
    sample = max_u64(mux_elapsed(session, session->ping_at), 1);
    session->round_trip =
        session->round_trip ? session->round_trip - session->round_trip / 4 + sample / 4 : sample;
    return true;
}

/* ---- quiet channels ------------------------------------------------------------------------- */

void mux_timer_moved(struct mux_channel *channel, unsigned moved)
{
    struct mux_session *session = channel->session;

    channel->moved |= moved;
    if (channel->active)
        return;
    if (TAILQ_EMPTY(&session->active))
        session->quiet_at = later(session->now, MUX_QUIET_TIME);
    TAILQ_INSERT_TAIL(&session->active, channel, active_link);
    channel->active = true;
}

static void look_at(struct mux_channel *channel)
{
    if (!(channel->moved & MUX_MOVED_IN)) {
        mux_credit_quiet(channel);
        if (channel->in.size == 0)
            ring_release(&channel->in);
    }
    if (!(channel->moved & MUX_MOVED_OUT) && channel->out.size == 0)
        ring_release(&channel->out);
    if (channel->moved == 0) {
        TAILQ_REMOVE(&channel->session->active, channel, active_link);
        channel->active = false;
    }
    channel->moved = 0;
}

static void look_for_quiet(struct mux_session *session)
{
    struct mux_channel *next;

    for (struct mux_channel *channel = TAILQ_FIRST(&session->active); channel; channel = next) {
        next = TAILQ_NEXT(channel, active_link);
        look_at(channel);
    }
    session->quiet_at =
        TAILQ_EMPTY(&session->active) ? UINT64_MAX : later(session->now, MUX_QUIET_TIME);
}

/* ---- the clock ------------------------------------------------------------------------------ */

static uint64_t ping_deadline(const struct mux_session *session)
{
    if (session->config.ping_interval == 0 || session->say_ping)
        return UINT64_MAX; /* none wanted, or one is due already */
    return later(max_u64(session->received_at, session->ping_at), session->config.ping_interval);
}

static uint64_t dead_deadline(const struct mux_session *session)
{
    if (session->config.ping_timeout == 0 || !mux_session_wants_receive(session))
        return UINT64_MAX;
    return later(session->received_at, session->config.ping_timeout);
}

uint64_t mux_session_deadline(const struct mux_session *session)
{
    if (session->state == MUX_CLOSED)
        return UINT64_MAX;
    if (session->close_sent)
        return dead_deadline(session);
    return min_u64(min_u64(ping_deadline(session), dead_deadline(session)), session->quiet_at);
}

int mux_session_tick(struct mux_session *session, uint64_t now)
{
    session->now = now;
    if (session->state == MUX_CLOSED)
        return 0;
    if (session->tunnel.held_back && mux_session_wants_receive(session)) {
        session->tunnel.held_back = false;
        session->received_at = now; /* the peer could not be heard before */
    }
    if (now >= dead_deadline(session))
        return -ETIMEDOUT;
    if (session->close_sent)
        return 0;
    if (now >= ping_deadline(session))
        session->say_ping = true;
    if (now >= session->quiet_at)
        look_for_quiet(session);
    return 0;
}
