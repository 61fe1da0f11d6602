/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The old protocol: messages from and for the link where there are no frames.
 *
 * Messages that are no STREAM are calls and replies; their bytes are channel 0's, as they stand.
 * STREAM messages are the one stream from the opener to the acceptor, channel 1, whose serial is that
 * of the MIGRATE_PREPARE_TUNNEL call: each side takes it from that call, when it goes out or comes
 * in.  So what is above (the pump) and below (rings, turns, states of channels) is a session's.
 *
 * What a frame says there, a message says here:
 *
 *   OPEN         nothing: the first message of the stream
 *   DATA         status CONTINUE and the bytes
 *   EOF          status OK and no payload
 *   LIMIT        only the last one, that the end was taken: status OK and no payload, sent back
 *   RESET        status ERROR and a struct bs_error, in either direction, answered as RESET is
 *   PING, PONG   those of libvirt's keepalive program
 *   CLOSE        the end of the link, with an ERROR before it if the stream was alive
 *
 * There is no credit.  What the link has taken counts as received, since a link that breaks ends
 * everything here; and a receiver whose local socket is full stops reading the link
 * (mux_session_wants_receive()) when it holds MUX_TUNNEL_BUFFER bytes.  It then can't hear its peer,
 * and doesn't take that for silence; but it goes on sending its own PINGs, so that the peer, which
 * gets no answers either, hears that it lives.
 *
 * One half of the stream's channel is DONE from the beginning.
 */
#include "config.h"

#include "mux/internal.h"
#include "common/error.h"
#include "rpc/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    STREAM_NUMBER = 1,
    STREAM_DATA_MAX = BS_FRAME_MESSAGE_MAX - RPC_HEAD_SIZE,
};

/* What RESET codes become in an error, and what they are made of again. */
static const struct {
    uint64_t code;
    int number;
} reset_codes[] = {
    {BS_RESET_CANCELLED, ECANCELED},
    {BS_RESET_NO_ENDPOINT, ENOENT},
    {BS_RESET_REFUSED, ECONNREFUSED},
    {BS_RESET_BROKEN, EREMOTEIO}, /* also of what is not in this table */
};

static int errno_of(uint64_t code)
{
    for (size_t i = 0; i < sizeof reset_codes / sizeof reset_codes[0]; i++)
        if (reset_codes[i].code == code)
            return reset_codes[i].number;
    return EREMOTEIO;
}

static uint64_t reset_code_of(int number)
{
    for (size_t i = 0; i < sizeof reset_codes / sizeof reset_codes[0]; i++)
        if (reset_codes[i].number == number)
            return reset_codes[i].code;
    return BS_RESET_BROKEN;
}

/* ---- the channels ---------------------------------------------------------------------------- */

static struct mux_channel *find_stream(const struct mux_session *session)
{
    return mux_channel_find(session, STREAM_NUMBER);
}

void mux_tunnel_set_up(struct mux_channel *channel)
{
    channel->send_limit = UINT64_MAX;
    if (channel->number == 0)
        return;
    channel->session->tunnel.begun = true;
    if (channel->session->config.opener)
        channel->receive = MUX_RECEIVE_DONE;
    else
        channel->send = MUX_SEND_DONE;
}

int mux_tunnel_may_open(struct mux_session *session, const char *endpoint)
{
    if (strcmp(endpoint, MUX_TUNNEL_ENDPOINT) != 0)
        return -EINVAL;
    if (!session->config.opener || session->tunnel.begun)
        return -EBUSY;
    return session->tunnel.known ? 0 : -EMFILE;
}

/* A CALL goes out or comes in: is it the one that the stream gets its serial from? */
static void look_at_call(struct mux_session *session, const struct bs_header *header)
{
    if (header->prog != BS_PROGRAM || header->vers != BS_VERSION || header->type != BS_CALL ||
        header->procedure != BS_PROC_MIGRATE_PREPARE_TUNNEL || session->tunnel.begun)
        return;
    session->tunnel.known = true;
    session->tunnel.serial = header->serial;
}

bool mux_session_wants_receive(const struct mux_session *session)
{
    const struct mux_channel *stream;

    if (!session->config.tunnel)
        return true;
    stream = find_stream(session);
    return !stream || stream->in.size < MUX_TUNNEL_BUFFER;
}

/* ---- from the link --------------------------------------------------------------------------- */

static int begin_call(struct mux_session *session, const struct bs_header *header, size_t length)
{
    uint8_t head[RPC_HEAD_SIZE];

    session->tunnel.message = MUX_TUNNEL_CALLS;
    if (!session->config.opener)
        look_at_call(session, header);
    rpc_head_encode(head, header, length);
    return mux_stream_deliver(session->zero, head, sizeof head);
}

/* The first message of the stream has come. */
static int accept_stream(struct mux_session *session)
{
    if (!mux_channel_new(session, STREAM_NUMBER))
        return mux_session_fail(session, BS_CLOSE_RESOURCES, "no memory for the stream");
    session->config.callbacks->opened(session->config.opaque, STREAM_NUMBER, MUX_TUNNEL_ENDPOINT);
    return 0;
}

static int begin_data(struct mux_session *session, size_t length)
{
    const struct mux_channel *stream = find_stream(session);

    if (session->config.opener)
        return mux_session_violation(session, "data of the stream came against its direction");
    if (length == 0)
        return mux_session_violation(session, "message of the stream without data");
    if (!stream || stream->receive != MUX_RECEIVE_OPEN || stream->reset == MUX_RESET_THEIRS)
        return mux_session_violation(session, "data behind the end of the stream");
    session->tunnel.message = MUX_TUNNEL_DATA;
    return 0;
}

/* The opener's end, or the acceptor's confirmation of it. */
static int begin_end(struct mux_session *session, size_t length)
{
    const struct mux_channel *stream = find_stream(session);

    if (length > 0)
        return mux_session_violation(session, "data in the message that ends the stream");
    if (!stream || stream->reset == MUX_RESET_THEIRS)
        return mux_session_violation(session, "end of a stream that has ended");
    if (session->config.opener && stream->send != MUX_SEND_ENDED)
        return mux_session_violation(session, "the stream's end was confirmed before it came");
    if (!session->config.opener && stream->receive != MUX_RECEIVE_OPEN)
        return mux_session_violation(session, "end of a stream that has ended");
    session->tunnel.message = MUX_TUNNEL_END;
    return 0;
}

static int begin_error(struct mux_session *session, size_t length)
{
    struct mux_tunnel *tunnel = &session->tunnel;

    free(tunnel->error); /* of a message that an end of the link cut off */
    tunnel->error = malloc(length + 1);
    if (!tunnel->error)
        return mux_session_fail(session, BS_CLOSE_RESOURCES, "no memory for an error");
    tunnel->error_used = 0;
    tunnel->message = MUX_TUNNEL_ERROR;
    return 0;
}

static int begin_stream(struct mux_session *session, const struct bs_header *header, size_t length)
{
    struct mux_tunnel *tunnel = &session->tunnel;

    if (header->prog != BS_PROGRAM || header->vers != BS_VERSION ||
        header->procedure != BS_PROC_MIGRATE_PREPARE_TUNNEL)
        return mux_session_violation(session,
                                     "STREAM message of program %u version %u procedure %d, which "
                                     "begins no stream",
                                     header->prog, header->vers, header->procedure);
    if (!tunnel->known)
        return mux_session_violation(session, "message of a stream before the call that begins it");
    if (header->serial != tunnel->serial)
        return mux_session_violation(session, "second stream (serial %u; the first has %u)",
                                     header->serial, tunnel->serial);
    if (!tunnel->begun) {
        int r = session->config.opener
                    ? mux_session_violation(session, "answer to a stream that has not begun")
                    : accept_stream(session);

        if (r < 0)
            return r;
    }
    switch (header->status) {
    case BS_CONTINUE:
        return begin_data(session, length);
    case BS_OK:
        return begin_end(session, length);
    default:
        return begin_error(session, length);
    }
}

static int begin_message(void *opaque, const struct bs_header *header, size_t length)
{
    struct mux_session *session = opaque;

    session->tunnel.message = MUX_TUNNEL_NOTHING;
    if (session->state != MUX_OPEN)
        return 0;
    if (header->prog == BS_KEEPALIVE_PROGRAM) {
        int r = mux_receive_keepalive(session, header, length);

        if (r == 0 && header->procedure == BS_KEEPALIVE_PONG &&
            session->tunnel.pongs < session->ping_token)
            mux_timer_pong(session, ++session->tunnel.pongs);
        return r;
    }
    return header->type == BS_STREAM ? begin_stream(session, header, length)
                                     : begin_call(session, header, length);
}

static int take_payload(void *opaque, const uint8_t *data, size_t length)
{
    struct mux_session *session = opaque;
    struct mux_tunnel *tunnel = &session->tunnel;
    int r = 0;

    if (session->state != MUX_OPEN)
        return 0;
    if (tunnel->message == MUX_TUNNEL_CALLS) {
        r = mux_stream_deliver(session->zero, data, length);
    } else if (tunnel->message == MUX_TUNNEL_DATA) {
        r = mux_stream_deliver(find_stream(session), data, length);
        tunnel->held_back |= !mux_session_wants_receive(session);
    } else if (tunnel->message == MUX_TUNNEL_ERROR) {
        memcpy(tunnel->error + tunnel->error_used, data, length);
        tunnel->error_used += length;
    }
    return r;
}

static void end_error(struct mux_session *session)
{
    struct mux_channel *stream = find_stream(session);
    struct error err = ERROR_INIT;

    if (!stream)
        return; /* late: the stream has ended for us */
    rpc_error_decode(session->tunnel.error, session->tunnel.error_used, &err);
    mux_channel_peer_reset(stream, reset_code_of(err.code), err.text);
}

static int end_message(void *opaque)
{
    struct mux_session *session = opaque;
    struct mux_channel *stream = find_stream(session);

    if (session->state != MUX_OPEN)
        return 0;
    if (session->tunnel.message == MUX_TUNNEL_ERROR) {
        end_error(session);
    } else if (session->tunnel.message == MUX_TUNNEL_END && session->config.opener) {
        mux_channel_set_send(stream, MUX_SEND_DONE);
        mux_channel_forget_if_finished(stream);
    } else if (session->tunnel.message == MUX_TUNNEL_END) {
        mux_receive_end(stream);
    }
    return 0;
}

const struct rpc_decoder_callbacks mux_tunnel_decoder = {
    .begin = begin_message,
    .payload = take_payload,
    .end = end_message,
};

/* ---- for the link ---------------------------------------------------------------------------- */

/* What the link has taken, nobody will ask for again. */
static void advance(struct mux_channel *channel, size_t length)
{
    mux_send_advance(channel, length);
    mux_stream_acked(channel, channel->sent);
    mux_credit_recheck(channel);
}

static bool has_calls(const struct mux_session *session)
{
    return session->zero->sent < session->zero->queued;
}

/* As much as fits of what channel 0 has to say.  It is made of messages; where one has begun, nothing
 * else goes out before its end.  Returns false when not all of it did. */
static bool put_calls(struct mux_session *session, struct mux_output *out)
{
    struct mux_channel *zero = session->zero;

    while (has_calls(session)) {
        size_t *left = &session->tunnel.call_left;
        size_t unsent = (size_t)(zero->queued - zero->sent);
        size_t length;

        if (*left == 0) {
            uint8_t head[RPC_HEAD_SIZE];
            struct bs_header header;

            if (unsent < sizeof head)
                return false; /* the rest is about to be handed over */
            ring_copy(&zero->out, 0, head, sizeof head);
            *left = rpc_head_decode(head, &header);
            if (session->config.opener)
                look_at_call(session, &header);
        }
        length = min_size(min_size(*left, unsent), out->size - out->used);
        if (length == 0)
            return false;
        ring_copy(&zero->out, 0, out->data + out->used, length);
        out->used += length;
        out->urgent = true;
        *left -= length;
        advance(zero, length);
    }
    return session->tunnel.call_left == 0;
}

static struct bs_header stream_header(const struct mux_session *session, int status)
{
    return (struct bs_header){
        .prog = BS_PROGRAM,
        .vers = BS_VERSION,
        .procedure = BS_PROC_MIGRATE_PREPARE_TUNNEL,
        .type = BS_STREAM,
        .serial = session->tunnel.serial,
        .status = status,
    };
}

/* The end of the stream, or that it was taken. */
static bool put_end(struct mux_session *session, struct mux_output *out)
{
    const struct bs_header header = stream_header(session, BS_OK);

    if (!mux_output_has_room(out, RPC_HEAD_SIZE))
        return false;
    rpc_head_encode(out->data + out->used, &header, 0);
    out->used += RPC_HEAD_SIZE;
    out->urgent = true;
    return true;
}

static bool put_error(struct mux_session *session, struct mux_output *out, uint64_t code,
                      const char *text)
{
    const struct bs_header header = stream_header(session, BS_ERROR);
    struct error err = ERROR_INIT;
    uint8_t bare[RPC_HEAD_SIZE], *message = NULL;
    size_t length;
    bool fits;

    error_set(&err, errno_of(code), "%s", text);
    if (rpc_error_encode_stream(&header, &err, &message, &length) < 0) {
        rpc_head_encode(bare, &header, 0); /* without memory it goes without the text */
        length = sizeof bare;
    }
    fits = mux_output_has_room(out, length);
    if (fits) {
        memcpy(out->data + out->used, message ? message : bare, length);
        out->used += length;
        out->urgent = true;
    }
    free(message);
    return fits;
}

/* What the stream has due other than data.  The confirmation comes last: it makes it forgotten. */
static bool put_due(struct mux_channel *stream, struct mux_output *out)
{
    struct mux_session *session = stream->session;

    mux_schedule_unsay(stream, MUX_SAY_OPEN);
    if (stream->say & MUX_SAY_EOF) {
        if (!put_end(session, out))
            return false;
        mux_channel_set_send(stream, MUX_SEND_ENDED);
        mux_schedule_unsay(stream, MUX_SAY_EOF);
    }
    if (stream->say & MUX_SAY_RESET) {
        if (!put_error(session, out, stream->reset_code,
                       stream->reset_text ? stream->reset_text : "it was given up"))
            return false;
        mux_schedule_unsay(stream, MUX_SAY_RESET);
        if (stream->reset == MUX_RESET_THEIRS)
            mux_channel_forget(stream);
        return true;
    }
    if (stream->say & MUX_SAY_LIMIT) {
        if (!put_end(session, out))
            return false;
        mux_schedule_unsay(stream, MUX_SAY_LIMIT);
        mux_channel_set_receive(stream, MUX_RECEIVE_DONE);
        mux_channel_forget_if_finished(stream);
    }
    return true;
}

/* Everything but data.  Returns false when it didn't all fit. */
static bool put_control(struct mux_session *session, struct mux_output *out)
{
    struct mux_channel *stream;

    if (session->say_keepalive) {
        if (!mux_send_keepalive(out, BS_KEEPALIVE_PONG))
            return false;
        session->say_keepalive = false;
    }
    if (session->say_ping) {
        if (!mux_send_keepalive(out, BS_KEEPALIVE_PING))
            return false;
        mux_timer_pinged(session);
    }
    stream = TAILQ_FIRST(&session->control);
    return !stream || put_due(stream, out);
}

static bool put_data(struct mux_channel *stream, struct mux_output *out)
{
    const struct bs_header header = stream_header(stream->session, BS_CONTINUE);
    size_t length = mux_bandwidth_turn(stream, STREAM_DATA_MAX);

    if (!mux_output_has_room(out, RPC_HEAD_SIZE + length) || out->bulk_behind)
        return false;
    rpc_head_encode(out->data + out->used, &header, length);
    ring_copy(&stream->out, 0, out->data + out->used + RPC_HEAD_SIZE, length);
    out->used += RPC_HEAD_SIZE + length;
    out->bulk_behind = out->urgent;
    advance(stream, length);
    mux_timer_measure(stream->session); /* nothing is acknowledged, so the peer is asked */
    return true;
}

/* The last words, when all else has gone. */
static void put_farewell(struct mux_session *session, struct mux_output *out)
{
    if (session->tunnel.broken_off && session->close_code != BS_CLOSE_DONE &&
        session->tunnel.call_left == 0 &&
        !put_error(session, out, BS_RESET_CANCELLED, session->close_text))
        return;
    session->say_close = false;
    session->close_sent = true;
    mux_session_finish(session, session->close_code, session->close_text);
}

void mux_tunnel_put(struct mux_session *session, struct mux_output *out)
{
    bool over = mux_send_is_over(session);
    struct mux_channel *stream;

    if (over && !session->say_close)
        return;
    for (;;) {
        /* After the end the rest of a message that was cut off is never handed over. */
        if (!put_calls(session, out) && (!over || out->used == out->size))
            return;
        if (over)
            break;
        if (!put_control(session, out))
            return;
        stream = mux_schedule_next(session);
        if (!stream)
            break;
        if (!put_data(stream, out))
            return;
    }
    if (session->say_close)
        put_farewell(session, out);
}
