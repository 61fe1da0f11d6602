/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Both ends of the old protocol and the link between them: see tunnel_pair.h. */
#include "config.h"

#include "tests/unit/tunnel_pair.h"
#include "mux/internal.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEMORY = 8 << 20 };

/* ---- the ends --------------------------------------------------------------------------------- */

uint8_t tunnel_pattern(uint64_t offset)
{
    return (uint8_t)((offset ^ offset >> 8 ^ offset >> 16) * 167);
}

static void note(struct tunnel_end *end, const char *what)
{
    assert_true(strlen(end->events) + strlen(what) + 2 < sizeof end->events);
    strcat(strcat(end->events, what), "\n");
}

static void opened(void *opaque, uint32_t channel, const char *endpoint)
{
    assert_int_equal(channel, 1);
    assert_string_equal(endpoint, "migration");
    note(opaque, "opened");
}

static void check_stream(struct tunnel_end *end, const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (data[i] != tunnel_pattern(end->received + i))
            fail_msg("wrong byte at %llu", (unsigned long long)end->received + i);
    end->received += length;
}

static size_t data(void *opaque, uint32_t channel, const struct iovec *pieces, int count)
{
    const uint8_t *bytes = pieces[0].iov_base;
    size_t length = pieces[0].iov_len;
    struct tunnel_end *end = opaque;

    assert_int_equal(count, 1);
    if (channel == 0) {
        assert_true(end->calls_used + length <= sizeof end->calls);
        memcpy(end->calls + end->calls_used, bytes, length);
        end->calls_used += length;
        return length;
    }
    length = min_size(length, end->take);
    end->take -= end->take == SIZE_MAX ? 0 : length;
    check_stream(end, bytes, length);
    return length;
}

static void eof(void *opaque, uint32_t channel)
{
    assert_int_equal(channel, 1);
    note(opaque, "eof");
}

static void writable(void *opaque, uint32_t channel)
{
    (void)opaque, (void)channel;
}

static void reset(void *opaque, uint32_t channel, uint64_t code, const char *text)
{
    char line[256];

    assert_int_equal(channel, 1);
    snprintf(line, sizeof line, "reset %d %s", (int)code, text);
    note(opaque, line);
}

static void forgotten(void *opaque, uint32_t channel)
{
    assert_int_equal(channel, 1);
    note(opaque, "forgotten");
}

static void closed(void *opaque, uint64_t code, const char *text)
{
    char line[256];

    snprintf(line, sizeof line, "closed %d %s", (int)code, text);
    note(opaque, line);
}

void tunnel_expect(struct tunnel_end *end, const char *events)
{
    assert_string_equal(end->events, events);
    end->events[0] = '\0';
}

static void end_start(struct tunnel *t, struct tunnel_end *end, bool opener, uint64_t ping)
{
    const struct mux_config config = {
        .opener = opener,
        .tunnel = true,
        .memory = MEMORY,
        .ping_interval = ping,
        .ping_timeout = 3 * ping,
        .callbacks = &t->callbacks,
        .opaque = end,
    };

    end->session = mux_session_new(&config, t->now);
    end->take = SIZE_MAX;
    assert_non_null(end->session);
}

struct tunnel *tunnel_new(uint64_t ping)
{
    struct tunnel *t = calloc(1, sizeof *t);

    assert_non_null(t);
    t->now = 1000 * SECOND;
    t->callbacks = (struct mux_callbacks){opened, data, eof, writable, reset, forgotten, closed};
    end_start(t, &t->near, true, ping);
    end_start(t, &t->far, false, ping);
    return t;
}

void tunnel_free(struct tunnel *t)
{
    mux_session_free(t->near.session);
    mux_session_free(t->far.session);
    free(t);
}

/* ---- the link ---------------------------------------------------------------------------------- */

static bool carry(struct tunnel *t, struct tunnel_end *from, struct tunnel_end *to)
{
    uint8_t buffer[BS_FRAME_MESSAGE_MAX];
    bool urgent, wanted = mux_session_wants_send(from->session);
    size_t n = mux_session_send(from->session, buffer, sizeof buffer, t->now, &urgent);
    size_t step = t->cut ? t->cut : n;

    if (!wanted)
        assert_int_equal(n, 0);
    for (size_t done = 0; done < n; done += step)
        if (mux_session_receive(to->session, buffer + done, min_size(step, n - done), t->now) < 0)
            break;
    return n > 0;
}

void tunnel_run(struct tunnel *t)
{
    bool moved;

    do {
        moved = mux_session_wants_receive(t->far.session) && carry(t, &t->near, &t->far);
        moved |= mux_session_wants_receive(t->near.session) && carry(t, &t->far, &t->near);
    } while (moved);
}

size_t tunnel_message(uint8_t *out, int type, int procedure, uint32_t serial, int status,
                      const char *payload)
{
    const struct bs_header header = {
        .prog = BS_PROGRAM,
        .vers = BS_VERSION,
        .procedure = procedure,
        .type = type,
        .serial = serial,
        .status = status,
    };

    rpc_head_encode(out, &header, strlen(payload));
    memcpy(out + RPC_HEAD_SIZE, payload, strlen(payload));
    return RPC_HEAD_SIZE + strlen(payload);
}

void tunnel_call(struct tunnel_end *end, int procedure, uint32_t serial, const char *payload)
{
    uint8_t message[BS_FRAME_MESSAGE_MAX];
    size_t length = tunnel_message(message, BS_CALL, procedure, serial, BS_OK, payload);

    assert_int_equal(mux_channel_write(end->session, 0, message, length), (int64_t)length);
}

struct tunnel *tunnel_prepared(uint64_t ping)
{
    struct tunnel *t = tunnel_new(ping);

    tunnel_call(&t->near, BS_PROC_MIGRATE_PREPARE_TUNNEL, TUNNEL_SERIAL, "prepare");
    tunnel_run(t);
    return t;
}

uint32_t tunnel_open(struct tunnel *t)
{
    uint32_t channel;

    assert_int_equal(mux_channel_open(t->near.session, "migration", &channel), 0);
    assert_int_equal(channel, 1);
    return channel;
}

uint64_t tunnel_write(struct tunnel *t, uint64_t from, uint64_t to)
{
    while (from < to) {
        uint8_t bytes[10000];
        size_t n = (size_t)min_u64(to - from, sizeof bytes);
        int64_t written;

        for (size_t i = 0; i < n; i++)
            bytes[i] = tunnel_pattern(from + i);
        written = mux_channel_write(t->near.session, 1, bytes, n);
        assert_true(written >= 0);
        if (written == 0)
            break;
        from += (uint64_t)written;
    }
    return from;
}

void tunnel_drain(struct tunnel_end *end)
{
    struct iovec iov[2];
    int parts;

    while ((parts = mux_channel_peek(end->session, 1, iov)) > 0) {
        check_stream(end, iov[0].iov_base, iov[0].iov_len);
        mux_channel_consume(end->session, 1, iov[0].iov_len);
    }
}
