/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A session whose peer says anything.  The input is read as a script: a byte names what is done, and
 * those behind it say how.  The peer's frames are well formed more often than not, so that the rules
 * behind the codec are reached; the session's user opens, writes, reads, ends and resets in between.
 *
 * Whatever is said, the caps of the pools hold, what goes out can be decoded, and a session that
 * refuses to read has reported its end.
 */
#include "config.h"

#include "mux/session.h"
#include "rpc/message.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

enum { SERIAL = 5, MEMORY = 9 * 1000 + 5000, NUMBERS = 16 };

struct script {
    const uint8_t *data;
    size_t left;
    struct mux_session *session;
    uint64_t now;
    bool closed;
};

static uint8_t next(struct script *s)
{
    if (s->left == 0)
        return 0;
    s->left--;
    return *s->data++;
}

/* ---- the session's user -------------------------------------------------------------------------- */

static void opened(void *opaque, uint32_t channel, const char *endpoint)
{
    struct script *s = opaque;

    MUST(!s->closed && channel % 2 == 0 && channel > 0);
    MUST(strlen(endpoint) > 0 && strlen(endpoint) <= BS_ENDPOINT_MAX);
}

static size_t data(void *opaque, uint32_t channel, const struct iovec *pieces, int count)
{
    size_t length = mux_pieces_length(pieces, count);
    struct script *s = opaque;

    (void)channel;
    MUST(!s->closed && count > 0 && count <= MUX_PIECES_MAX && length > 0);
    return next(s) % 2 ? length : length / 2;
}

static void on_channel(void *opaque, uint32_t channel)
{
    struct script *s = opaque;

    (void)channel;
    MUST(!s->closed);
}

static void reset(void *opaque, uint32_t channel, uint64_t code, const char *text)
{
    (void)code;
    on_channel(opaque, channel);
    MUST(strlen(text) <= BS_TEXT_MAX);
}

static void closed(void *opaque, uint64_t code, const char *text)
{
    struct script *s = opaque;

    (void)code;
    MUST(!s->closed && strlen(text) <= BS_TEXT_MAX);
    s->closed = true;
}

static const struct mux_callbacks callbacks = {
    opened, data, on_channel, on_channel, reset, on_channel, closed,
};

static void use(struct script *s)
{
    static const uint8_t zeros[4096];
    uint32_t channel = next(s) % NUMBERS, number;
    struct iovec iov[2];

    switch (next(s) % 8) {
    case 0:
        mux_channel_open(s->session, "nbd/vda", &number);
        break;
    case 1:
        mux_channel_end(s->session, channel);
        break;
    case 2:
        mux_channel_reset(s->session, channel, BS_RESET_CANCELLED, "given up");
        break;
    case 3:
        mux_channel_eof_taken(s->session, channel);
        break;
    case 4:
        if (mux_channel_peek(s->session, channel, iov) > 0)
            mux_channel_consume(s->session, channel, 1 + next(s) % iov[0].iov_len);
        break;
    case 5:
        mux_session_close(s->session, next(s) % 5, "enough");
        break;
    default:
        mux_channel_write(s->session, channel, zeros, (size_t)next(s) * 16);
        break;
    }
}

/* ---- the peer ------------------------------------------------------------------------------------- */

static void receive(struct script *s, const uint8_t *bytes, size_t length)
{
    /* of exactly this size, so that reading past it is seen */
    uint8_t *copy = malloc(length ? length : 1);
    int r;

    if (!copy)
        return;
    memcpy(copy, bytes, length);
    r = mux_session_receive(s->session, copy, length, s->now);
    MUST(r == 0 || (r == -EPROTO && s->closed));
    free(copy);
}

static void say_frame(struct script *s)
{
    struct mux_channel_stats stats = {0};
    struct bs_frame frame = {.type = 1 + next(s) % 8, .channel = next(s) % NUMBERS};
    uint8_t message[1024];
    size_t length = 0;

    mux_channel_get_stats(s->session, frame.channel, &stats);
    switch (frame.type) {
    case BS_FRAME_OPEN:
        length = 1 + next(s) % 8;
        break;
    case BS_FRAME_DATA:
        length = 1 + (size_t)next(s) * 3;
        frame.offset = stats.received + (next(s) == 1);
        break;
    case BS_FRAME_LIMIT:
        frame.offset = stats.acked + next(s);
        frame.limit = 1000 + stats.sent + (uint64_t)next(s) * 64;
        break;
    case BS_FRAME_EOF:
        frame.offset = stats.received + (next(s) == 1);
        break;
    case BS_FRAME_RESET:
        frame.limit = next(s) % 7;
        break;
    default: /* about the session */
        frame.channel = next(s) == 1;
        *(frame.type == BS_FRAME_CLOSE ? &frame.limit : &frame.offset) = next(s) % 5;
        break;
    }
    rpc_frame_encode(message, SERIAL, &frame, length);
    memset(message + RPC_FRAME_OVERHEAD, 'e', length);
    receive(s, message, RPC_FRAME_OVERHEAD + length);
}

static void say_anything(struct script *s)
{
    size_t length = next(s);

    length = length < s->left ? length : s->left;
    s->data += length;
    s->left -= length;
    receive(s, s->data - length, length);
}

/* ---- what goes out ---------------------------------------------------------------------------------- */

static int begin(void *opaque, const struct bs_header *header, size_t length)
{
    (void)opaque;
    MUST(header->prog == BS_KEEPALIVE_PROGRAM || header->serial == SERIAL);
    MUST(header->prog == BS_KEEPALIVE_PROGRAM || length >= BS_FRAME_HEADER_SIZE);
    return 0;
}

static int payload(void *opaque, const uint8_t *bytes, size_t length)
{
    (void)opaque;
    (void)bytes;
    (void)length;
    return 0;
}

static int end(void *opaque)
{
    (void)opaque;
    return 0;
}

static void send_some(struct script *s)
{
    static const struct rpc_decoder_callbacks decoder_callbacks = {begin, payload, end};
    static uint8_t buffer[2 * BS_FRAME_MESSAGE_MAX];
    struct rpc_decoder decoder = {.callbacks = &decoder_callbacks};
    bool wanted = mux_session_wants_send(s->session), urgent;
    size_t n = mux_session_send(s->session, buffer, sizeof buffer, s->now, &urgent), used;

    MUST(n <= sizeof buffer && (wanted || n == 0));
    MUST(rpc_decoder_feed(&decoder, buffer, n, &used) == 0);
    MUST(!decoder.in_payload && decoder.head_used == 0);
}

static void check(const struct script *s)
{
    struct mux_session_stats stats;

    mux_session_get_stats(s->session, &stats);
    MUST(stats.send_pool <= MEMORY && stats.receive_pool <= MEMORY);
    MUST(stats.channels <= 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct script s = {.data = bytes, .left = length, .now = 1000000000};
    const struct mux_config config = {
        .opener = true,
        .serial = SERIAL,
        .local = {1000, 4},
        .remote = {1000, 4},
        .memory = MEMORY,
        .ping_interval = 1000000000,
        .callbacks = &callbacks,
        .opaque = &s,
    };

    s.session = mux_session_new(&config, s.now);
    if (!s.session)
        return 0;
    while (s.left > 0) {
        uint8_t what = next(&s);

        if (what % 16 < 8)
            say_frame(&s);
        else if (what % 16 < 12)
            use(&s);
        else if (what % 16 < 14)
            send_some(&s);
        else if (what % 16 == 14)
            say_anything(&s);
        else
            MUST(mux_session_tick(s.session, s.now += (uint64_t)next(&s) * 1000000) == 0);
        check(&s);
    }
    send_some(&s);
    mux_session_free(s.session);
    return 0;
}
