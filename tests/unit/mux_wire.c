/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* One end of a session in a test's hands: see mux_wire.h. */
#include "config.h"

#include "tests/unit/mux_wire.h"
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- events -----------------------------------------------------------------------------------
 */

__attribute__((format(printf, 4, 5))) static void add(char *log, size_t *used, size_t size,
                                                      const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(log + *used, size - *used, format, args);
    va_end(args);
    assert_in_range(n, 0, size - *used - 1);
    *used += (size_t)n;
}

#define EVENT(w, ...) add((w)->events, &(w)->events_used, sizeof(w)->events, __VA_ARGS__)
#define FRAME(w, ...) add((w)->frames, &(w)->frames_used, sizeof(w)->frames, __VA_ARGS__)

static void opened(void *opaque, uint32_t channel, const char *endpoint)
{
    EVENT((struct wire *)opaque, "opened %u %s\n", channel, endpoint);
}

static size_t data(void *opaque, uint32_t channel, const struct iovec *pieces, int count)
{
    struct wire *w = opaque;
    size_t length = mux_pieces_length(pieces, count);

    EVENT(w, "data %u +%zu\n", channel, length);
    return length < w->take ? length : w->take;
}

static void eof(void *opaque, uint32_t channel)
{
    EVENT((struct wire *)opaque, "eof %u\n", channel);
}

static void writable(void *opaque, uint32_t channel)
{
    struct wire *w = opaque;

    EVENT(w, "writable %u\n", channel);
}

static void reset(void *opaque, uint32_t channel, uint64_t code, const char *text)
{
    EVENT((struct wire *)opaque, "reset %u code %" PRIu64 " %s\n", channel, code, text);
}

static void forgotten(void *opaque, uint32_t channel)
{
    EVENT((struct wire *)opaque, "forgotten %u\n", channel);
}

static void closed(void *opaque, uint64_t code, const char *text)
{
    EVENT((struct wire *)opaque, "closed code %" PRIu64 " %s\n", code, text);
}

/* ---- making -----------------------------------------------------------------------------------
 */

struct mux_config wire_config(bool opener)
{
    return (struct mux_config){
        .opener = opener,
        .serial = WIRE_SERIAL,
        .local = {.first_window = 100, .channels = 4},
        .remote = {.first_window = 100, .channels = 4},
        .memory = 100000,
    };
}

struct wire *wire_prepare(void)
{
    struct wire *w = calloc(1, sizeof *w);

    assert_non_null(w);
    w->callbacks = (struct mux_callbacks){opened, data, eof, writable, reset, forgotten, closed};
    w->now = 1000000000;
    w->take = SIZE_MAX;
    return w;
}

bool wire_start(struct wire *w, struct mux_config config)
{
    config.callbacks = &w->callbacks;
    config.opaque = w;
    w->session = mux_session_new(&config, w->now);
    if (!w->session)
        return false;
    assert_string_equal(wire_frames(w), "PING 1\n");
    return true;
}

struct wire *wire_new_with(struct mux_config config)
{
    struct wire *w = wire_prepare();

    assert_true(wire_start(w, config));
    return w;
}

struct wire *wire_new(bool opener)
{
    return wire_new_with(wire_config(opener));
}

void wire_free(struct wire *w)
{
    mux_session_free(w->session);
    free(w);
}

/* ---- saying ------------------------------------------------------------------------------------
 */

size_t wire_encode(uint8_t *out, const struct bs_frame *frame, const void *bytes, size_t length)
{
    rpc_frame_encode(out, WIRE_SERIAL, frame, length);
    if (length > 0)
        memcpy(out + RPC_FRAME_OVERHEAD, bytes, length);
    return RPC_FRAME_OVERHEAD + length;
}

int wire_say_bytes(struct wire *w, const void *bytes, size_t length)
{
    return mux_session_receive(w->session, bytes, length, w->now);
}

int wire_say(struct wire *w, enum bs_frame_type type, uint32_t channel, uint64_t offset,
             uint64_t limit, const char *text)
{
    const struct bs_frame frame = {type, channel, offset, limit};
    uint8_t message[BS_FRAME_MESSAGE_MAX];

    return wire_say_bytes(w, message, wire_encode(message, &frame, text, text ? strlen(text) : 0));
}

int wire_say_data(struct wire *w, uint32_t channel, uint64_t offset, size_t length)
{
    char bytes[BS_FRAME_MESSAGE_MAX] = "";

    assert_in_range(length, 1, BS_FRAME_MESSAGE_MAX - RPC_FRAME_OVERHEAD);
    memset(bytes, 'x', length);
    return wire_say(w, BS_FRAME_DATA, channel, offset, 0, bytes);
}

/* ---- reading what is answered -------------------------------------------------------------------
 */

static int begin(void *opaque, const struct bs_header *header, size_t length)
{
    struct wire *w = opaque;

    if (header->prog == BS_KEEPALIVE_PROGRAM) {
        assert_int_equal(header->vers, BS_KEEPALIVE_VERSION);
        assert_int_equal(header->procedure, BS_KEEPALIVE_PONG);
        assert_int_equal(header->type, BS_EVENT);
        assert_int_equal(header->serial, 0);
        assert_int_equal(header->status, BS_OK);
        assert_int_equal(length, 0);
        FRAME(w, "KEEPALIVE\n");
        return 0;
    }
    assert_int_equal(header->prog, BS_PROGRAM);
    assert_int_equal(header->vers, BS_VERSION);
    assert_int_equal(header->procedure, BS_PROC_BISTREAM_OPEN);
    assert_int_equal(header->type, BS_STREAM);
    assert_int_equal(header->serial, WIRE_SERIAL);
    assert_int_equal(header->status, BS_CONTINUE);
    return 0;
}

static void print_frame(struct wire *w, const struct bs_frame *f, const char *text, size_t length)
{
    int n = (int)length;

    switch (f->type) {
    case BS_FRAME_OPEN:
        FRAME(w, "OPEN %u %.*s\n", f->channel, n, text);
        break;
    case BS_FRAME_DATA:
        FRAME(w, "DATA %u @%" PRIu64 " +%zu\n", f->channel, f->offset, length);
        break;
    case BS_FRAME_LIMIT:
        FRAME(w, "LIMIT %u received %" PRIu64 " limit %" PRIu64 "\n", f->channel, f->offset,
              f->limit);
        break;
    case BS_FRAME_EOF:
        FRAME(w, "EOF %u @%" PRIu64 "\n", f->channel, f->offset);
        break;
    case BS_FRAME_RESET:
        FRAME(w, "RESET %u code %" PRIu64 " %.*s\n", f->channel, f->limit, n, text);
        break;
    case BS_FRAME_PING:
        FRAME(w, "PING %" PRIu64 "\n", f->offset);
        break;
    case BS_FRAME_PONG:
        FRAME(w, "PONG %" PRIu64 "\n", f->offset);
        break;
    case BS_FRAME_CLOSE:
        FRAME(w, "CLOSE code %" PRIu64 " %.*s\n", f->limit, n, text);
        break;
    default:
        fail_msg("frame of type %u", f->type);
    }
}

/* The frames come whole, as they are fed whole. */
static int payload(void *opaque, const uint8_t *bytes, size_t length)
{
    struct bs_frame frame;

    assert_in_range(length, BS_FRAME_HEADER_SIZE, BS_FRAME_MESSAGE_MAX);
    rpc_frame_decode(bytes, &frame);
    print_frame(opaque, &frame, (const char *)bytes + BS_FRAME_HEADER_SIZE,
                length - BS_FRAME_HEADER_SIZE);
    return 0;
}

static int end(void *opaque)
{
    (void)opaque;
    return 0;
}

const char *wire_frames_within(struct wire *w, size_t size)
{
    static const struct rpc_decoder_callbacks callbacks = {begin, payload, end};
    struct rpc_decoder decoder = {.callbacks = &callbacks, .opaque = w};
    bool wanted = mux_session_wants_send(w->session);
    size_t used, n = mux_session_send(w->session, w->buffer, size, w->now, &w->urgent);

    assert_in_range(n, 0, size);
    if (!wanted)
        assert_int_equal(n, 0);
    w->frames_used = 0;
    w->frames[0] = '\0';
    assert_int_equal(rpc_decoder_feed(&decoder, w->buffer, n, &used), 0);
    assert_false(decoder.in_payload);
    return w->frames;
}

const char *wire_frames(struct wire *w)
{
    return wire_frames_within(w, sizeof w->buffer);
}

const char *wire_events(struct wire *w)
{
    static char copy[sizeof w->events];

    memcpy(copy, w->events, w->events_used);
    copy[w->events_used] = '\0';
    w->events_used = 0;
    return copy;
}

/* ---- channels
 * ------------------------------------------------------------------------------------ */

uint32_t wire_open(struct wire *w)
{
    uint32_t channel;

    assert_int_equal(mux_channel_open(w->session, "nbd/vda", &channel), 0);
    wire_frames(w);
    return channel;
}

void wire_write(struct wire *w, uint32_t channel, size_t length)
{
    static const char bytes[BS_WINDOW_FIRST_MAX];

    assert_int_equal(mux_channel_write(w->session, channel, bytes, length), (int64_t)length);
}
