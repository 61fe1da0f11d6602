/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The pump and its link: TLS records in, TLS records out.
 *
 * Records are decrypted behind each other, no more than the processor's cache holds, and handed to
 * the session together, which writes each channel's bytes to its local socket in one piece.  In the
 * other direction the session puts messages for one record into the staging buffer, the record is
 * encrypted behind those before it, and the gathered records go out in one send(2).
 *
 * In each round of the loop the link is read and written up to a bound, so that local sockets and
 * timers get their turns.  No more is gathered than the session asks for: a message that turns
 * urgent later would have to wait behind it.
 *
 * A program that writes without pause fills its socket again while what it wrote before is encrypted.
 * A send(2) wakes up the peer, and it the program behind it, for a little as for much.  So bulk is held for
 * another round, in which the loop doesn't wait, until a round brings little or much has come together.
 */
#include "config.h"

#include "io/pump_internal.h"
#include "common/checked.h"

#include <errno.h>

enum {
    UNHURRIED = 256 * 1024, /* so much is gathered only when no small message is about */
    HOLD_MAX = 640 * 1024,  /* that is enough for one send(2) */
    HOLD_STEP = 96 * 1024,  /* a round that brought less is the last */
    RECORD_COST = 1024, /* bytes that a record counts as at the least: decrypting has its price */
    LAST_WORDS_MAX =
        16 * 1024 * 1024, /* read of a link that can't be written: more than it holds */
};

/* Decrypts records until MOST bytes are there, *BUDGET is used up, or the link has no more.  Returns
 * what came last, as tls_read() does. */
static ssize_t read_records(struct pump *pump, size_t most, size_t *budget, size_t *ret_length,
                            struct error *err)
{
    ssize_t n = 1;

    for (*ret_length = 0; *budget > 0 && n > 0 && *ret_length < most;) {
        n = tls_read(pump->link, pump->input + *ret_length, sizeof pump->input - *ret_length, err);
        if (n <= 0)
            break;
        *ret_length += (size_t)n;
        *budget -= min_size(*budget, (size_t)max_u64((size_t)n, RECORD_COST));
    }
    return n;
}

void link_read(struct pump *pump, size_t budget)
{
    struct error err = ERROR_INIT;
    size_t length;
    ssize_t n = 1;

    while (n > 0 && pump->link && budget > 0 && !pump->session_over && !pump->fault &&
           mux_session_wants_receive(pump->session)) {
        uint64_t now = loop_now(pump->loop);
        size_t gather = mux_session_gather(pump->session, now);

        n = read_records(pump, min_size(gather, LINK_INPUT_MAX), &budget, &length, &err);
        mux_session_receive(pump->session, pump->input, length, now);
    }
    if (n > 0 || n == -EAGAIN || pump->session_over || !pump->link)
        return;
    if (n == 0 && mux_session_hangup(pump->session))
        return;
    if (n == 0)
        error_set(&err, ECONNRESET, "%s closed the link without ending the session", pump->peer);
    pump_break(pump, &err);
}

void link_ready(void *opaque, uint32_t events)
{
    struct pump *pump = opaque;

    if (events & ~(uint32_t)EPOLLOUT)
        link_read(pump, LINK_READ_BUDGET);
    /* What waits to be sent goes out before the loop waits. */
}

/* Sending has failed.  What the peer said before it closed tells more, and may be a CLOSE. */
static void send_failed(struct pump *pump, const struct error *err)
{
    if (!pump->session_over)
        link_read(pump, LAST_WORDS_MAX);
    if (pump->link)
        pump_break(pump, err);
}

/* Encrypts messages until GATHER bytes wait, or one of them must not.  Returns false when the
 * session has nothing more to say. */
static bool gather_records(struct pump *pump, size_t gather, struct error *err)
{
    bool urgent = false;

    while (tls_unsent(pump->link) < gather && !urgent) {
        size_t n = mux_session_send(pump->session, pump->staging, sizeof pump->staging,
                                    loop_now(pump->loop), &urgent);

        if (n == 0)
            return false;
        if (tls_write(pump->link, pump->staging, n, err) < 0)
            return false;
    }
    return true;
}

/* Whether what waits may as well wait for more. */
static bool is_worth_holding(const struct pump *pump, size_t waiting)
{
    return pump->state == PUMP_RUNNING && waiting < HOLD_MAX &&
           waiting >= pump->link_unsent + HOLD_STEP;
}

void link_send(struct pump *pump)
{
    size_t held = pump->link_held, budget = LINK_SEND_BUDGET;
    bool more = true, stuck;

    pump->taken = pump->link_held = 0;
    if (!pump->link || pump->link_mute)
        return;
    stuck = tls_unsent(pump->link) > held;
    while (more && budget > 0) {
        size_t gather = mux_session_gather(pump->session, loop_now(pump->loop)), waiting;
        bool unhurried = gather >= UNHURRIED;
        struct error err = ERROR_INIT;
        int r;

        budget = min_size(budget, 2 * gather);
        tls_set_unsent_max(pump->link, unhurried ? 0 : (unsigned)gather);
        more = gather_records(pump, gather, &err);
        waiting = tls_unsent(pump->link);
        if (!more && !err.code && unhurried && !stuck && is_worth_holding(pump, waiting)) {
            pump->link_held = waiting;
            return;
        }
        r = err.code ? -err.code : tls_flush(pump->link, &err);
        if (r == -EAGAIN)
            return;
        if (r < 0) {
            send_failed(pump, &err);
            return;
        }
        stuck = false;
        pump->link_unsent = 0;
        budget -= min_size(budget, waiting);
    }
}

bool link_is_done(const struct pump *pump)
{
    return pump->link_mute || !pump->link ||
           (tls_unsent(pump->link) == 0 && !mux_session_wants_send(pump->session));
}

void link_want(struct pump *pump)
{
    bool reading;
    uint32_t events;

    pump->link_more = false;
    if (!pump->link)
        return;
    reading = !pump->session_over && mux_session_wants_receive(pump->session);
    events = reading ? EPOLLIN : 0;
    /* What TLS has read already makes no socket readable. */
    pump->link_more = reading && tls_pending(pump->link);
    if (!link_is_done(pump) && !pump->link_held)
        events |= EPOLLOUT;
    pump->link_unsent = tls_unsent(pump->link);
    loop_fd_want(pump->link_watch, events);
}
