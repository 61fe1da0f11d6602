/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The session from its making to its end.
 *
 * It ends by CLOSE, which each side says once: one begins, the other answers (when both begin, each
 * takes the other's for the answer).  The side that begins is CLOSING until the answer comes; what
 * the peer said before it saw our CLOSE is skipped.  A peer that broke a rule isn't waited for: the
 * session is CLOSED at once, with the CLOSE that says why still to go out.
 *
 * CLOSE "done" is for a session whose channels are all forgotten, and goes out behind what channel
 * 0 still has to say.  Any other is said at once and resets every channel.
 */
#include "config.h"

#include "mux/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- beginning ------------------------------------------------------------------------------ */

static bool init_pools(struct mux_session *session)
{
    const struct mux_config *config = &session->config;
    uint64_t channels = (uint64_t)config->local.channels + config->remote.channels + 1;
    uint64_t send_first = min_u64(config->remote.first_window, config->memory / channels);

    /* What the peer grants need not be used up: here its first window is cut to what we have. */
    return mux_pool_init(&session->receive_pool, config->memory, channels,
                         config->local.first_window) &&
           mux_pool_init(&session->send_pool, config->memory, channels, send_first);
}

/* One bucket for each channel that there may be, within reason: numbers follow each other, so that
 * chains are short. */
static bool init_table(struct mux_session *session)
{
    uint64_t channels = (uint64_t)session->config.local.channels + session->config.remote.channels;
    uint32_t buckets = 16;

    while (buckets < channels && buckets < BS_CHANNELS_MAX)
        buckets *= 2;
    session->bucket_mask = buckets - 1;
    session->buckets = calloc(buckets, sizeof(struct mux_channel *));
    return session->buckets != NULL;
}

struct mux_session *mux_session_new(const struct mux_config *config, uint64_t now)
{
    struct mux_session *session = calloc(1, sizeof *session);

    if (!session)
        return NULL;
    session->config = *config;
    if (config->tunnel) {
        const struct mux_limits none = {MUX_TUNNEL_BUFFER, 0}, one = {MUX_TUNNEL_BUFFER, 1};

        session->config.local = config->opener ? none : one;
        session->config.remote = config->opener ? one : none;
    }
    session->now = session->received_at = session->ping_at = now;
    session->quiet_at = session->bandwidth.again = UINT64_MAX;
    session->next_number = config->opener ? 1 : 2;
    session->say_ping = true;
    mux_flight_reset(session);
    TAILQ_INIT(&session->control);
    TAILQ_INIT(&session->fresh);
    TAILQ_INIT(&session->bulk);
    TAILQ_INIT(&session->active);
    if (!init_pools(session) || !init_table(session))
        goto fail;
    session->zero = mux_channel_new(session, 0);
    if (!session->zero)
        goto fail;
    return session;

fail:
    free(session->buckets);
    free(session);
    return NULL;
}

void mux_session_free(struct mux_session *session)
{
    if (!session)
        return;
    for (uint32_t i = 0; i <= session->bucket_mask; i++)
        while (session->buckets[i])
            mux_channel_free(session->buckets[i]);
    free(session->buckets);
    free(session->tunnel.error);
    free(session);
}

/* ---- end ------------------------------------------------------------------------------------ */

/* Every channel but 0 is dead, and those whose user doesn't know it yet are told. */
static void reset_channels(struct mux_session *session, const char *text)
{
    for (uint32_t i = 0; i <= session->bucket_mask; i++) {
        struct mux_channel *next;

        for (struct mux_channel *channel = session->buckets[i]; channel; channel = next) {
            uint32_t number = channel->number;
            bool known = channel->reset != MUX_RESET_NONE;

            next = channel->next;
            if (number == 0)
                continue;
            mux_channel_free(channel);
            if (known)
                continue;
            session->tunnel.broken_off = true;
            session->config.callbacks->reset(session->config.opaque, number, BS_RESET_CLOSED, text);
        }
    }
}

void mux_session_finish(struct mux_session *session, uint64_t code, const char *text)
{
    if (session->state == MUX_CLOSED)
        return;
    session->state = MUX_CLOSED;
    session->gather.count = 0;
    reset_channels(session, text);
    session->config.callbacks->closed(session->config.opaque, code, text);
}

/* What our CLOSE shall say, unless it has been said. */
static void set_close(struct mux_session *session, uint64_t code, const char *text)
{
    if (session->close_sent)
        return;
    session->say_close = true;
    session->close_code = code;
    snprintf(session->close_text, sizeof session->close_text, "%s", text);
}

int mux_session_fail(struct mux_session *session, uint64_t code, const char *text)
{
    session->deaf = true;
    set_close(session, code, text);
    mux_session_finish(session, code, text);
    return -EPROTO;
}

int mux_session_violation(struct mux_session *session, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    mux_stream_offer(session); /* what came in order */
    return mux_session_fail(session, BS_CLOSE_PROTOCOL, text);
}

void mux_session_peer_closed(struct mux_session *session, uint64_t code, const char *text)
{
    /* An answer repeats our code; the sentence to report is then the one that it answers. */
    if (session->state == MUX_CLOSING && code == session->close_code)
        text = session->close_text;
    if (session->state == MUX_OPEN)
        set_close(session, code, "");
    mux_session_finish(session, code, text);
}

int mux_session_close(struct mux_session *session, uint64_t code, const char *text)
{
    if (session->state == MUX_CLOSED || session->close_sent)
        return 0;
    if (code == BS_CLOSE_DONE && session->ours + session->theirs > 0)
        return -EBUSY;
    session->state = MUX_CLOSING;
    set_close(session, code, text);
    reset_channels(session, text);
    return 0;
}

void mux_session_abandon(struct mux_session *session, uint64_t code, const char *text)
{
    session->deaf = true;
    session->say_close = false;
    mux_session_finish(session, code, text);
}

void mux_session_closed_there(struct mux_session *session, uint64_t code)
{
    mux_session_peer_closed(session, code, "the peer has closed the session");
    session->deaf = true;
    session->say_close = false;
}

bool mux_session_hangup(struct mux_session *session)
{
    const struct rpc_decoder *decoder = &session->input.decoder;

    if (!session->config.tunnel || session->state == MUX_CLOSED)
        return false;
    if (session->state == MUX_OPEN &&
        (session->ours + session->theirs > 0 || decoder->head_used > 0 || decoder->in_payload))
        return false;
    session->deaf = true;
    session->say_close = false;
    mux_session_finish(session, session->close_code, session->close_text);
    return true;
}

/* ---- figures -------------------------------------------------------------------------------- */

void mux_session_get_stats(const struct mux_session *session, struct mux_session_stats *ret)
{
    *ret = (struct mux_session_stats){
        .round_trip = session->round_trip,
        .send_pool = session->send_pool.used,
        .receive_pool = session->receive_pool.used,
        .channels = session->ours + session->theirs,
    };
}
