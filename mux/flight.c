/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * How much is under way.
 *
 * A small message overtakes what is queued here, but not what has been given to the link: that lies in
 * sockets and buffers up to the peer's session, and there may be megabytes of it.  So while small
 * messages are about (MUX_SMALL_TIME after each), bulk is held back when more of it is under way than
 * the link needs to be busy.  PINGs tell how much that is: one is said every MUX_FLIGHT_STEP, and its
 * PONG means that all before it has arrived.  Where PONGs come hardly later than on an idle link, no
 * queue stands in the way, and more may be under way; where they take several times as long, less.
 */
#include "config.h"

#include "mux/internal.h"

static void ask(struct mux_session *session)
{
    if (!session->config.tunnel && !session->ping_waiting &&
        session->flight.sent - session->flight.pinged >= MUX_FLIGHT_STEP)
        session->say_ping = true;
}

bool mux_flight_is_watched(const struct mux_session *session, uint64_t now)
{
    return session->had_small &&
           (now < session->small_at || now - session->small_at < MUX_SMALL_TIME);
}

static uint64_t under_way(const struct mux_flight *flight)
{
    return flight->sent - flight->arrived;
}

uint64_t mux_flight_when(const struct mux_channel *channel)
{
    struct mux_session *session = channel->session;

    if (channel->number == 0 || channel->fresh || !mux_flight_is_watched(session, session->now) ||
        session->config.tunnel || under_way(&session->flight) < session->flight.most)
        return 0;
    session->flight.held = true;
    ask(session);
    return session->small_at + MUX_SMALL_TIME;
}

void mux_flight_sent(struct mux_session *session, size_t length)
{
    session->flight.sent += length;
    if (mux_flight_is_watched(session, session->now))
        ask(session);
}

void mux_flight_pinged(struct mux_session *session)
{
    session->flight.pinged = session->flight.sent;
}

/* That may be under way whatever is measured.  A far link needs more before anything can be: it would take
 * round trips to find out. */
static uint64_t least(const struct mux_flight *flight)
{
    return flight->shortest && flight->shortest < MUX_FLIGHT_NEAR ? MUX_FLIGHT_MIN
                                                                  : MUX_FLIGHT_FAR_MIN;
}

/* The round trip should be the shortest one and a bit: a queue that keeps the link busy, and no more.
 * Where nothing was held back, what would have been possible isn't known. */
static void adapt(struct mux_flight *flight, uint64_t round_trip, uint64_t memory)
{
    uint64_t wanted = flight->shortest + flight->shortest / 8 + MUX_FLIGHT_DELAY;
    uint64_t most = flight->most;

    if (round_trip > wanted)
        most = max_u64(most * wanted / round_trip, most * 3 / 4);
    else if (flight->held)
        most = min_u64(most * wanted / round_trip, most * 2);
    flight->most = max_u64(min_u64(most, memory), least(flight));
}

void mux_flight_ponged(struct mux_session *session, uint64_t round_trip)
{
    struct mux_flight *flight = &session->flight;

    if (!flight->shortest || round_trip < flight->shortest)
        flight->shortest = round_trip;
    adapt(flight, round_trip, session->config.memory);
    flight->arrived = flight->pinged;
    flight->held = false;
    if (mux_flight_is_watched(session, session->now))
        ask(session);
    session->bandwidth.again = UINT64_MAX; /* what was held may go on */
}

void mux_flight_reset(struct mux_session *session)
{
    session->flight = (struct mux_flight){.most = MUX_FLIGHT_FAR_MIN};
}
