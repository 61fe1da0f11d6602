/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What time brings about.
 *
 * A PING goes out when nothing came for the ping interval, when the session begins, and now and
 * then while DATA comes, since windows grow by the round trip.  One is waited for at a time; a
 * newer one takes its place.
 *
 * The peer has to answer every PING and to acknowledge whatever it gets within moments.  While it owes
 * that, a link from which nothing comes is silent, long before it counts as dead.
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
    mux_timer_owed(session);
    session->say_ping = false;
    session->ping_waiting = true;
    session->ping_token++;
    session->ping_at = session->now;
    mux_flight_pinged(session);
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
    mux_flight_ponged(session, sample);
    return true;
}

/* ---- silence --------------------------------------------------------------------------------- */

/* What was sent and not acknowledged is what the send pool holds and is not unsent.  A link that is lost
 * is as silent as can be. */
static bool is_owed(const struct mux_session *session)
{
    return session->away || session->ping_waiting || session->send_pool.used > session->unsent;
}

void mux_timer_owed(struct mux_session *session)
{
    if (!is_owed(session))
        session->owed_at = session->now;
}

static uint64_t silence(const struct mux_session *session, uint64_t now)
{
    uint64_t since = max_u64(session->received_at, session->owed_at);

    if (session->state == MUX_CLOSED || !is_owed(session) || session->tunnel.held_back ||
        now < since)
        return 0;
    return now - since;
}

static uint64_t if_long(uint64_t silent)
{
    return silent > MUX_SILENCE_TIME ? silent : 0;
}

void mux_timer_heard(struct mux_session *session)
{
    session->silent_total += if_long(silence(session, session->now));
}

uint64_t mux_session_silent(const struct mux_session *session, uint64_t now, uint64_t *ret_total)
{
    uint64_t silent = silence(session, now);

    *ret_total = session->silent_total + if_long(silent);
    return silent;
}

/* ---- another link ---------------------------------------------------------------------------- */

void mux_timer_lost(struct mux_session *session)
{
    mux_timer_owed(session);
    session->away = true;
    session->ping_waiting = false;
    session->say_ping = session->say_pong = session->say_keepalive = false;
}

void mux_timer_resumed(struct mux_session *session)
{
    mux_timer_heard(session);
    session->away = false;
    session->received_at = session->ping_at = session->now;
    session->say_ping = true;
    mux_flight_reset(session);
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
    if (session->config.ping_interval == 0 || session->say_ping || session->away)
        return UINT64_MAX; /* none wanted, or one is due already */
    return later(max_u64(session->received_at, session->ping_at), session->config.ping_interval);
}

static uint64_t dead_deadline(const struct mux_session *session)
{
    if (session->config.ping_timeout == 0 || session->away || !mux_session_wants_receive(session))
        return UINT64_MAX;
    return later(session->received_at, session->config.ping_timeout);
}

uint64_t mux_session_deadline(const struct mux_session *session)
{
    if (session->state == MUX_CLOSED)
        return UINT64_MAX;
    if (session->close_sent)
        return dead_deadline(session);
    return min_u64(min_u64(ping_deadline(session), dead_deadline(session)),
                   min_u64(session->quiet_at, session->bandwidth.again));
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
    if (now >= session->bandwidth.again)
        session->bandwidth.again = UINT64_MAX;
    if (now >= session->quiet_at)
        look_for_quiet(session);
    return 0;
}
