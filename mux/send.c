/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Frames for the link, built one behind the other in the caller's buffer, in the order that
 * schedule.c names.  What a frame says is looked up only now, so it is the newest there is, and
 * what was asked for several times goes out once.
 *
 * A frame that ends a channel's life here (the LIMIT that acknowledges its EOF, the RESET that
 * answers one) makes it forgotten as soon as it stands in the buffer.
 *
 * Bulk is gathered into large writes.  As soon as something stands in the buffer that somebody
 * waits for, one more message of bulk is the most that goes behind it.  LIMIT doesn't count: it
 * accompanies bulk, and the window it opens is wide enough.
 */
#include "config.h"

#include "mux/internal.h"

#include <string.h>

/* Returns false, having done nothing, when the frame doesn't fit any more. */
static bool put_frame(struct mux_session *session, struct mux_output *out,
                      const struct bs_frame *frame, const char *text)
{
    size_t length = strlen(text);

    if (!mux_output_has_room(out, RPC_FRAME_OVERHEAD + length))
        return false;
    rpc_frame_encode(out->data + out->used, session->config.serial, frame, length);
    memcpy(out->data + out->used + RPC_FRAME_OVERHEAD, text, length);
    out->used += RPC_FRAME_OVERHEAD + length;
    if (frame->type != BS_FRAME_LIMIT)
        out->urgent = true;
    return true;
}

/* ---- frames of the session ------------------------------------------------------------------ */

bool mux_send_keepalive(struct mux_output *out, int procedure)
{
    const struct bs_header header = {
        .prog = BS_KEEPALIVE_PROGRAM,
        .vers = BS_KEEPALIVE_VERSION,
        .procedure = procedure,
        .type = BS_EVENT,
        .status = BS_OK,
    };

    if (!mux_output_has_room(out, RPC_HEAD_SIZE))
        return false;
    rpc_head_encode(out->data + out->used, &header, 0);
    out->used += RPC_HEAD_SIZE;
    out->urgent = true;
    return true;
}

static bool put_keepalive(struct mux_session *session, struct mux_output *out)
{
    if (!mux_send_keepalive(out, BS_KEEPALIVE_PONG))
        return false;
    session->say_keepalive = false;
    return true;
}

static bool put_pong(struct mux_session *session, struct mux_output *out)
{
    const struct bs_frame frame = {.type = BS_FRAME_PONG, .offset = session->pong_token};

    if (!put_frame(session, out, &frame, ""))
        return false;
    session->say_pong = false;
    return true;
}

static bool put_ping(struct mux_session *session, struct mux_output *out)
{
    const struct bs_frame frame = {.type = BS_FRAME_PING, .offset = session->ping_token + 1};

    if (!put_frame(session, out, &frame, ""))
        return false;
    mux_timer_pinged(session);
    return true;
}

static void put_close(struct mux_session *session, struct mux_output *out)
{
    const struct bs_frame frame = {.type = BS_FRAME_CLOSE, .limit = session->close_code};

    if (!put_frame(session, out, &frame, session->close_text))
        return;
    session->say_close = false;
    session->close_sent = true;
}

/* ---- frames of a channel -------------------------------------------------------------------- */

static bool put_open(struct mux_channel *channel, struct mux_output *out)
{
    struct mux_session *session = channel->session;
    const struct bs_frame frame = {.type = BS_FRAME_OPEN, .channel = channel->number};

    if (!put_frame(session, out, &frame, channel->endpoint))
        return false;
    session->opened_sent = channel->number;
    mux_schedule_unsay(channel, MUX_SAY_OPEN);
    return true;
}

static bool put_eof(struct mux_channel *channel, struct mux_output *out)
{
    const struct bs_frame frame = {
        .type = BS_FRAME_EOF, .channel = channel->number, .offset = channel->sent};

    if (!put_frame(channel->session, out, &frame, ""))
        return false;
    mux_channel_set_send(channel, MUX_SEND_ENDED);
    mux_schedule_unsay(channel, MUX_SAY_EOF);
    return true;
}

static bool put_limit(struct mux_channel *channel, struct mux_output *out)
{
    struct bs_frame frame = {.type = BS_FRAME_LIMIT, .channel = channel->number};
    uint64_t received, limit;

    if (!mux_output_has_room(out, RPC_FRAME_OVERHEAD))
        return false;
    mux_credit_grant(channel, &received, &limit);
    frame.offset = received;
    frame.limit = limit;
    put_frame(channel->session, out, &frame, "");
    mux_schedule_unsay(channel, MUX_SAY_LIMIT);
    mux_channel_set_receive(channel, MUX_RECEIVE_DONE); /* a step from TAKEN only */
    mux_channel_forget_if_finished(channel);
    return true;
}

static bool put_reset(struct mux_channel *channel, struct mux_output *out)
{
    const struct bs_frame frame = {
        .type = BS_FRAME_RESET, .channel = channel->number, .limit = channel->reset_code};

    if (!put_frame(channel->session, out, &frame, channel->reset_text ? channel->reset_text : ""))
        return false;
    mux_schedule_unsay(channel, MUX_SAY_RESET);
    if (channel->reset == MUX_RESET_THEIRS)
        mux_channel_forget(channel);
    return true;
}

/* One frame of those that CHANNEL has due.  The LIMIT comes last: it may make the channel
 * forgotten. */
static bool put_due(struct mux_channel *channel, struct mux_output *out)
{
    if ((channel->say & MUX_SAY_OPEN) && (channel->say & MUX_SAY_RESET)) {
        mux_channel_forget(channel); /* the peer never heard of it: its number is skipped */
        return true;
    }
    if (channel->say & MUX_SAY_OPEN)
        return put_open(channel, out);
    if (channel->say & MUX_SAY_EOF)
        return put_eof(channel, out);
    if (channel->say & MUX_SAY_RESET)
        return put_reset(channel, out);
    return put_limit(channel, out);
}

/* Everything that is due other than DATA and CLOSE.  Returns false when it didn't all fit. */
static bool put_control(struct mux_session *session, struct mux_output *out)
{
    struct mux_channel *channel;

    if (session->say_keepalive && !put_keepalive(session, out))
        return false;
    if (session->say_pong && !put_pong(session, out))
        return false;
    if (session->say_ping && !put_ping(session, out))
        return false;
    while ((channel = TAILQ_FIRST(&session->control)))
        if (!put_due(channel, out))
            return false;
    return true;
}

/* ---- DATA ----------------------------------------------------------------------------------- */

void mux_send_advance(struct mux_channel *channel, size_t length)
{
    mux_timer_owed(channel->session);
    mux_bandwidth_sent(channel, length);
    mux_flight_sent(channel->session, length);
    channel->sent += length;
    mux_schedule_turn(channel, length);
    if (channel->sent == channel->queued &&
        (channel->send == MUX_SEND_ENDING || channel->send == MUX_SEND_ENDED))
        mux_schedule_say(channel, MUX_SAY_EOF);
}

static bool put_data(struct mux_channel *channel, struct mux_output *out)
{
    struct mux_session *session = channel->session;
    size_t length = mux_bandwidth_turn(channel, MUX_QUANTUM);
    const struct bs_frame frame = {
        .type = BS_FRAME_DATA, .channel = channel->number, .offset = channel->sent};
    bool small = channel->number == 0 || channel->fresh;

    if (!mux_output_has_room(out, RPC_FRAME_OVERHEAD + length) || (!small && out->bulk_behind))
        return false;
    rpc_frame_encode(out->data + out->used, session->config.serial, &frame, length);
    ring_copy(&channel->out, (size_t)(channel->sent - channel->acked),
              out->data + out->used + RPC_FRAME_OVERHEAD, length);
    out->used += RPC_FRAME_OVERHEAD + length;
    out->bulk_behind = out->urgent && !small;
    if (small)
        out->urgent = true;
    if (small && mux_elapsed(session, channel->bulk_at) >= MUX_SMALL_TIME) { /* else bulk's end */
        session->had_small = true;
        session->small_at = session->now;
    }

    mux_send_advance(channel, length);
    mux_credit_recheck(channel);
    return true;
}

/* ---- all of it ------------------------------------------------------------------------------ */

bool mux_send_is_over(const struct mux_session *session)
{
    return session->state == MUX_CLOSED || session->last_words ||
           (session->state == MUX_CLOSING && session->close_code != BS_CLOSE_DONE);
}

static void put_messages(struct mux_session *session, struct mux_output *out)
{
    struct mux_channel *channel;

    while (put_control(session, out)) {
        channel = mux_schedule_next(session);
        if (!channel) {
            if (session->say_close)
                put_close(session, out);
            return;
        }
        if (!put_data(channel, out))
            return;
    }
}

size_t mux_session_send(struct mux_session *session, uint8_t *buffer, size_t size, uint64_t now,
                        bool *ret_urgent)
{
    struct mux_output out = {.data = buffer, .size = size};

    session->now = now;
    if (session->away) {
        /* nothing can be said */
    } else if (session->config.tunnel) {
        mux_tunnel_put(session, &out);
    } else if (mux_send_is_over(session)) {
        if (session->say_close)
            put_close(session, &out);
    } else if (!session->close_sent) {
        put_messages(session, &out);
    }
    *ret_urgent = out.urgent;
    return out.used;
}

bool mux_session_wants_send(const struct mux_session *session)
{
    if (session->away)
        return false;
    if (session->say_close)
        return true;
    if (mux_send_is_over(session) || session->close_sent)
        return false;
    return session->say_keepalive || session->say_pong || session->say_ping ||
           !TAILQ_EMPTY(&session->control) ||
           (session->unsent > 0 && session->bandwidth.again == UINT64_MAX);
}

size_t mux_session_gather(const struct mux_session *session, uint64_t now)
{
    return mux_flight_is_watched(session, now) ? MUX_GATHER_SMALL : MUX_GATHER;
}
