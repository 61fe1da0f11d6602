/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Frames from the link.
 *
 * The codec takes messages apart wherever the link has split them.  Once a frame's header is whole,
 * it is checked against the table of what each type may say, then by the function that the table
 * names for its beginning.  What stands behind the header goes, for DATA, on to the channel piece
 * by piece; a name or a text is gathered; the function for the frame's end then acts on it.
 *
 * A broken rule ends the session; every one has its sentence here.  What names a channel that has
 * been forgotten is not broken but late, and ignored, DATA excepted: its sender had to know.
 */
#include "config.h"

#include "mux/internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum channel_rule {
    ON_ZERO,  /* channel 0 only: the frame is about the session */
    ON_ANY,   /* a channel that exists, or did */
    NOT_ZERO, /* the same, but not channel 0 */
    ON_NEW,   /* one that is yet to be */
};

struct frame_rule {
    const char *name;
    enum channel_rule channel;
    bool offset, limit; /* used; 0 where not */
    size_t data_min, data_max;
    int (*begin)(struct mux_session *session); /* NULL: nothing more to check */
    int (*end)(struct mux_session *session);   /* NULL: nothing more to do */
};

/* ---- OPEN ------------------------------------------------------------------------------------ */

static int begin_open(struct mux_session *session)
{
    uint32_t number = session->input.frame.channel;

    if (number == 0 || mux_channel_is_ours(session, number))
        return mux_session_violation(session, "OPEN of channel %u: the number is not the peer's",
                                     number);
    if (number <= session->opened_seen)
        return mux_session_violation(session, "OPEN of channel %u: channel %u was opened before",
                                     number, session->opened_seen);
    if (session->theirs >= session->config.local.channels)
        return mux_session_violation(
            session, "OPEN of channel %u: %u channels are open, no more were allowed", number,
            session->theirs);
    return 0;
}

static int end_open(struct mux_session *session)
{
    struct mux_input *input = &session->input;
    struct mux_channel *channel;

    if (!mux_endpoint_valid(input->text, input->text_used))
        return mux_session_violation(
            session, "OPEN of channel %u: the endpoint's name has unprintable characters",
            input->frame.channel);
    channel = mux_channel_new(session, input->frame.channel);
    if (!channel)
        return mux_session_fail(session, BS_CLOSE_RESOURCES, "no memory for another channel");
    channel->heard = true;
    session->opened_seen = channel->number;
    session->config.callbacks->opened(session->config.opaque, channel->number, input->text);
    return 0;
}

/* ---- DATA, LIMIT, EOF, RESET ---------------------------------------------------------------- */

static int begin_data(struct mux_session *session)
{
    const struct bs_frame *frame = &session->input.frame;
    const struct mux_channel *channel = session->input.channel;

    if (!channel)
        return mux_session_violation(session, "DATA on channel %u, which is finished",
                                     frame->channel);
    if (channel->reset == MUX_RESET_THEIRS)
        return mux_session_violation(session, "DATA on channel %u after its RESET", frame->channel);
    if (channel->receive != MUX_RECEIVE_OPEN)
        return mux_session_violation(session, "DATA on channel %u after its EOF", frame->channel);
    if (frame->offset != channel->received)
        return mux_session_violation(
            session, "DATA on channel %u: offset %" PRIu64 " where %" PRIu64 " is next",
            frame->channel, frame->offset, channel->received);
    if (session->input.data_length > channel->receive_limit - channel->received)
        return mux_session_violation(
            session, "DATA on channel %u: %zu bytes at %" PRIu64 " are past the limit of %" PRIu64,
            frame->channel, session->input.data_length, frame->offset, channel->receive_limit);
    mux_timer_measure(session);
    return 0;
}

static int end_limit(struct mux_session *session)
{
    const struct bs_frame *frame = &session->input.frame;
    struct mux_channel *channel = session->input.channel;
    bool ended;

    if (!channel || channel->reset == MUX_RESET_THEIRS)
        return 0;
    /* What has to be said again on this link, the EOF included, can't be acknowledged before that. */
    ended = channel->send >= MUX_SEND_ENDED && channel->sent == channel->queued;
    if (frame->offset > channel->sent + ended)
        return mux_session_violation(
            session, "LIMIT on channel %u: received %" PRIu64 " is above the %" PRIu64 " sent",
            frame->channel, frame->offset, channel->sent + ended);
    if (frame->offset < channel->acked + (channel->send == MUX_SEND_DONE))
        return mux_session_violation(
            session, "LIMIT on channel %u: received shrinks from %" PRIu64 " to %" PRIu64,
            frame->channel, channel->acked + (channel->send == MUX_SEND_DONE), frame->offset);
    if (frame->limit < channel->send_limit)
        return mux_session_violation(
            session, "LIMIT on channel %u: the limit shrinks from %" PRIu64 " to %" PRIu64,
            frame->channel, channel->send_limit, frame->limit);

    channel->send_limit = frame->limit;
    mux_stream_acked(channel, min_u64(frame->offset, channel->sent));
    if (ended && frame->offset == channel->sent + 1)
        mux_channel_set_send(channel, MUX_SEND_DONE);
    if (!mux_channel_forget_if_finished(channel))
        mux_credit_recheck(channel);
    return 0;
}

void mux_receive_end(struct mux_channel *channel)
{
    if (!mux_channel_set_receive(channel, MUX_RECEIVE_ENDED))
        return;
    mux_credit_charge_receive(channel);
    if (channel->reset == MUX_RESET_NONE)
        mux_stream_tell_eof(channel);
}

static int end_eof(struct mux_session *session)
{
    const struct bs_frame *frame = &session->input.frame;
    struct mux_channel *channel = session->input.channel;

    if (!channel || channel->reset == MUX_RESET_THEIRS)
        return 0;
    if (frame->offset != channel->received)
        return mux_session_violation(
            session, "EOF on channel %u: offset %" PRIu64 " where %" PRIu64 " is next",
            frame->channel, frame->offset, channel->received);
    mux_receive_end(channel); /* or it is said again */
    return 0;
}

/* What a peer wrote is shown to people: nothing in it may move their cursor. */
static void make_printable(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c < ' ' || *c == 0x7f)
            *c = '?';
        else if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f) /* U+0080 to U+009F in UTF-8 */
            c[0] = c[1] = '?';
    }
}

static int begin_reset(struct mux_session *session)
{
    const struct bs_frame *frame = &session->input.frame;

    if (frame->limit == 0 || frame->limit == BS_RESET_CLOSED)
        return mux_session_violation(session, "RESET on channel %u: no code is %" PRIu64,
                                     frame->channel, frame->limit);
    return 0;
}

static int end_reset(struct mux_session *session)
{
    if (!session->input.channel)
        return 0;
    make_printable(session->input.text);
    mux_channel_peer_reset(session->input.channel, session->input.frame.limit, session->input.text);
    return 0;
}

/* ---- PING, PONG, CLOSE ---------------------------------------------------------------------- */

static int end_ping(struct mux_session *session)
{
    session->say_pong = true;
    session->pong_token = session->input.frame.offset;
    return 0;
}

static int end_pong(struct mux_session *session)
{
    if (!mux_timer_pong(session, session->input.frame.offset))
        return mux_session_violation(session, "PONG with token %" PRIu64 ", which no PING had",
                                     session->input.frame.offset);
    return 0;
}

/* Whoever says "done" has forgotten every channel, and then so have we, but for those of which the
 * peer can't have known. */
static int begin_close(struct mux_session *session)
{
    if (session->input.frame.limit != BS_CLOSE_DONE || session->state != MUX_OPEN)
        return 0;
    for (uint32_t i = 0; i <= session->bucket_mask; i++)
        for (const struct mux_channel *c = session->buckets[i]; c; c = c->next)
            if (c->number != 0 && c->heard)
                return mux_session_violation(session, "CLOSE \"done\" while channel %u is open",
                                             c->number);
    return 0;
}

static int end_close(struct mux_session *session)
{
    make_printable(session->input.text);
    mux_session_peer_closed(session, session->input.frame.limit, session->input.text);
    return 0;
}

/* ---- any frame ------------------------------------------------------------------------------ */

static const struct frame_rule rules[] = {
    [BS_FRAME_OPEN] = {"OPEN", ON_NEW, false, false, 1, BS_ENDPOINT_MAX, begin_open, end_open},
    [BS_FRAME_DATA] = {"DATA", ON_ANY, true, false, 1, MUX_QUANTUM, begin_data, NULL},
    [BS_FRAME_LIMIT] = {"LIMIT", ON_ANY, true, true, 0, 0, NULL, end_limit},
    [BS_FRAME_EOF] = {"EOF", NOT_ZERO, true, false, 0, 0, NULL, end_eof},
    [BS_FRAME_RESET] = {"RESET", NOT_ZERO, false, true, 0, BS_TEXT_MAX, begin_reset, end_reset},
    [BS_FRAME_PING] = {"PING", ON_ZERO, true, false, 0, 0, NULL, end_ping},
    [BS_FRAME_PONG] = {"PONG", ON_ZERO, true, false, 0, 0, NULL, end_pong},
    [BS_FRAME_CLOSE] = {"CLOSE", ON_ZERO, false, true, 0, BS_TEXT_MAX, begin_close, end_close},
};
static_assert(sizeof rules / sizeof rules[0] == BS_FRAME_CLOSE + 1, "one row per frame type");

static int check_shape(struct mux_session *session, const struct frame_rule *rule)
{
    const struct bs_frame *frame = &session->input.frame;
    size_t length = session->input.data_length;

    if (rule->channel == ON_ZERO && frame->channel != 0)
        return mux_session_violation(session, "%s on channel %u: it belongs on channel 0",
                                     rule->name, frame->channel);
    if (rule->channel == NOT_ZERO && frame->channel == 0)
        return mux_session_violation(session, "%s on channel 0, which ends with the session only",
                                     rule->name);
    if ((!rule->offset && frame->offset != 0) || (!rule->limit && frame->limit != 0))
        return mux_session_violation(session, "%s on channel %u: an unused number is not 0",
                                     rule->name, frame->channel);
    if (length < rule->data_min || length > rule->data_max)
        return mux_session_violation(
            session, "%s on channel %u: %zu bytes behind the header, %zu to %zu belong there",
            rule->name, frame->channel, length, rule->data_min, rule->data_max);
    return 0;
}

static int find_channel(struct mux_session *session, const struct frame_rule *rule)
{
    uint32_t number = session->input.frame.channel;
    bool ours = mux_channel_is_ours(session, number);

    if (number > (ours ? session->opened_sent : session->opened_seen))
        return mux_session_violation(session, "%s on channel %u, which was never opened",
                                     rule->name, number);
    session->input.channel = mux_channel_find(session, number);
    if (session->input.channel)
        session->input.channel->heard = true;
    return 0;
}

/* While this side waits for the peer's CLOSE, the peer may still say what it had to say before ours
 * came. */
static bool is_skipped(const struct mux_session *session)
{
    return session->state != MUX_OPEN && session->input.frame.type != BS_FRAME_CLOSE;
}

static int begin_frame(struct mux_session *session)
{
    struct mux_input *input = &session->input;
    const struct frame_rule *rule;
    int r;

    rpc_frame_decode(input->head, &input->frame);
    session->heard = true;
    if (input->frame.type < BS_FRAME_OPEN || input->frame.type > BS_FRAME_CLOSE)
        return mux_session_violation(session, "frame of unknown type %u", input->frame.type);
    rule = &rules[input->frame.type];
    r = check_shape(session, rule);
    if (r == 0 && input->frame.type != BS_FRAME_DATA)
        r = mux_stream_offer(session);
    if (r < 0)
        return r;
    if (is_skipped(session))
        return 0;
    if (rule->channel == ON_ANY || rule->channel == NOT_ZERO) {
        r = find_channel(session, rule);
        if (r < 0)
            return r;
    }
    return rule->begin ? rule->begin(session) : 0;
}

/* ---- messages: what the codec calls --------------------------------------------------------- */

int mux_receive_keepalive(struct mux_session *session, const struct bs_header *header,
                          size_t length)
{
    if (header->vers != BS_KEEPALIVE_VERSION || header->type != BS_EVENT || length != 0 ||
        (header->procedure != BS_KEEPALIVE_PING && header->procedure != BS_KEEPALIVE_PONG))
        return mux_session_violation(session, "message of the keepalive program that is neither "
                                              "its PING nor its PONG");
    if (header->procedure == BS_KEEPALIVE_PING)
        session->say_keepalive = true;
    return 0;
}

static int begin_message(void *opaque, const struct bs_header *header, size_t length)
{
    struct mux_session *session = opaque;
    struct mux_input *input = &session->input;

    if (session->state == MUX_CLOSED)
        return mux_session_violation(session, "message after CLOSE");
    input->keepalive = false;
    input->channel = NULL;
    input->head_used = 0;
    input->text_used = 0;
    input->text[0] = '\0';
    if (header->prog == BS_KEEPALIVE_PROGRAM) {
        input->keepalive = true;
        return mux_receive_keepalive(session, header, length);
    }
    if (header->prog != BS_PROGRAM || header->vers != BS_VERSION || header->type != BS_STREAM ||
        header->procedure != BS_PROC_BISTREAM_OPEN || header->status != BS_CONTINUE)
        return mux_session_violation(session,
                                     "message that is no frame (program %u version %u "
                                     "procedure %d type %d status %d)",
                                     header->prog, header->vers, header->procedure, header->type,
                                     header->status);
    if (header->serial != session->config.serial)
        return mux_session_violation(session, "frame with serial %u in a session of serial %u",
                                     header->serial, session->config.serial);
    if (length < BS_FRAME_HEADER_SIZE)
        return mux_session_violation(session, "frame of %zu bytes, shorter than its header",
                                     length);
    input->data_length = length - BS_FRAME_HEADER_SIZE;
    return 0;
}

static int take_payload(void *opaque, const uint8_t *data, size_t length)
{
    struct mux_session *session = opaque;
    struct mux_input *input = &session->input;

    if (input->head_used < BS_FRAME_HEADER_SIZE) {
        size_t n = min_size(length, BS_FRAME_HEADER_SIZE - input->head_used);
        int r;

        memcpy(input->head + input->head_used, data, n);
        input->head_used += n;
        if (input->head_used < BS_FRAME_HEADER_SIZE)
            return 0;
        r = begin_frame(session);
        if (r < 0)
            return r;
        data += n;
        length -= n;
    }
    if (length == 0 || is_skipped(session))
        return 0;
    if (input->frame.type == BS_FRAME_DATA)
        return mux_stream_gather(input->channel, data, length);
    memcpy(input->text + input->text_used, data, length);
    input->text_used += length;
    input->text[input->text_used] = '\0';
    return 0;
}

static int end_message(void *opaque)
{
    struct mux_session *session = opaque;
    const struct frame_rule *rule = &rules[session->input.frame.type];

    if (session->input.keepalive || is_skipped(session) || !rule->end)
        return 0;
    return rule->end(session);
}

static const struct rpc_decoder_callbacks decoder_callbacks = {
    .begin = begin_message,
    .payload = take_payload,
    .end = end_message,
};

int mux_session_receive(struct mux_session *session, const uint8_t *data, size_t length,
                        uint64_t now)
{
    size_t used;
    int r;

    session->now = now;
    if (length == 0)
        return 0;
    mux_timer_heard(session);
    session->received_at = now;
    session->input.decoder.callbacks =
        session->config.tunnel ? &mux_tunnel_decoder : &decoder_callbacks;
    session->input.decoder.opaque = session;
    if (session->deaf)
        return -EPROTO;
    r = rpc_decoder_feed(&session->input.decoder, data, length, &used);
    if (r == 0)
        r = mux_stream_offer(session);
    if (r < 0 && !session->deaf)
        mux_session_violation(session, "message with an impossible length, type or status");
    return r < 0 ? -EPROTO : 0;
}
