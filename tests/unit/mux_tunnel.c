/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The old protocol, both ends in one process: the stream arrives whole wherever the link is cut, is
 * held up end to end, is confirmed or given up; calls go on beside it; what a peer may not say ends
 * the link with a sentence.
 */
#include "config.h"

#include "mux/internal.h"
#include "rpc/error.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SERIAL = 9, MEMORY = 8 << 20 };
#define SECOND UINT64_C(1000000000)

struct end {
    struct mux_session *session;
    size_t take;       /* that data() takes of the stream altogether; SIZE_MAX in the beginning */
    uint64_t received; /* bytes of the stream, each checked */
    uint8_t calls[65536];
    size_t calls_used;
    char events[1024];
};

struct tunnel {
    struct end near, far; /* near is the opener */
    struct mux_callbacks callbacks;
    uint64_t now;
    size_t cut; /* the link delivers so many bytes at a time; 0: all */
};

/* ---- the ends --------------------------------------------------------------------------------- */

static uint8_t pattern(uint64_t offset)
{
    return (uint8_t)((offset ^ offset >> 8 ^ offset >> 16) * 167);
}

static void note(struct end *end, const char *what)
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

static void check_stream(struct end *end, const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (data[i] != pattern(end->received + i))
            fail_msg("wrong byte at %llu", (unsigned long long)end->received + i);
    end->received += length;
}

static size_t data(void *opaque, uint32_t channel, const struct iovec *pieces, int count)
{
    const uint8_t *bytes = pieces[0].iov_base;
    size_t length = pieces[0].iov_len;
    struct end *end = opaque;

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

static void expect(struct end *end, const char *events)
{
    assert_string_equal(end->events, events);
    end->events[0] = '\0';
}

static void end_start(struct tunnel *t, struct end *end, bool opener, uint64_t ping)
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

static struct tunnel *tunnel_new(uint64_t ping)
{
    struct tunnel *t = calloc(1, sizeof *t);

    assert_non_null(t);
    t->now = 1000 * SECOND;
    t->callbacks = (struct mux_callbacks){opened, data, eof, writable, reset, forgotten, closed};
    end_start(t, &t->near, true, ping);
    end_start(t, &t->far, false, ping);
    return t;
}

static void tunnel_free(struct tunnel *t)
{
    mux_session_free(t->near.session);
    mux_session_free(t->far.session);
    free(t);
}

/* ---- the link ---------------------------------------------------------------------------------- */

static bool carry(struct tunnel *t, struct end *from, struct end *to)
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

/* All that there is to say reaches the other end, while that wants it. */
static void run(struct tunnel *t)
{
    bool moved;

    do {
        moved = mux_session_wants_receive(t->far.session) && carry(t, &t->near, &t->far);
        moved |= mux_session_wants_receive(t->near.session) && carry(t, &t->far, &t->near);
    } while (moved);
}

static size_t make_message(uint8_t *out, int type, int procedure, uint32_t serial, int status,
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

static void call(struct end *end, int procedure, uint32_t serial, const char *payload)
{
    uint8_t message[BS_FRAME_MESSAGE_MAX];
    size_t length = make_message(message, BS_CALL, procedure, serial, BS_OK, payload);

    assert_int_equal(mux_channel_write(end->session, 0, message, length), (int64_t)length);
}

static struct tunnel *tunnel_prepared(uint64_t ping)
{
    struct tunnel *t = tunnel_new(ping);

    call(&t->near, BS_PROC_MIGRATE_PREPARE_TUNNEL, SERIAL, "prepare");
    run(t);
    return t;
}

static uint32_t open_stream(struct tunnel *t)
{
    uint32_t channel;

    assert_int_equal(mux_channel_open(t->near.session, "migration", &channel), 0);
    assert_int_equal(channel, 1);
    return channel;
}

/* As much as may be of the bytes from FROM to TO.  Returns where it ended. */
static uint64_t write_stream(struct tunnel *t, uint64_t from, uint64_t to)
{
    while (from < to) {
        uint8_t bytes[10000];
        size_t n = (size_t)min_u64(to - from, sizeof bytes);
        int64_t written;

        for (size_t i = 0; i < n; i++)
            bytes[i] = pattern(from + i);
        written = mux_channel_write(t->near.session, 1, bytes, n);
        assert_true(written >= 0);
        if (written == 0)
            break;
        from += (uint64_t)written;
    }
    return from;
}

/* What waits at the far end is taken by its local socket. */
static void drain(struct end *end)
{
    struct iovec iov[2];
    int parts;

    while ((parts = mux_channel_peek(end->session, 1, iov)) > 0) {
        check_stream(end, iov[0].iov_base, iov[0].iov_len);
        mux_channel_consume(end->session, 1, iov[0].iov_len);
    }
}

/* ---- the stream -------------------------------------------------------------------------------- */

static void test_whole_life(void **state)
{
    struct tunnel *t = tunnel_new(0);
    struct mux_channel_stats stats;
    uint32_t channel;

    (void)state;
    assert_int_equal(mux_channel_open(t->near.session, "migration", &channel), -EMFILE);
    assert_int_equal(mux_channel_open(t->near.session, "nbd/vda", &channel), -EINVAL);
    call(&t->near, BS_PROC_MIGRATE_PREPARE_TUNNEL, SERIAL, "prepare");
    run(t);
    assert_int_equal(mux_channel_open(t->far.session, "migration", &channel), -EBUSY);
    open_stream(t);
    assert_int_equal(mux_channel_open(t->near.session, "migration", &channel), -EBUSY);

    write_stream(t, 0, 100000);
    run(t);
    expect(&t->far, "opened\n");
    assert_int_equal(t->far.received, 100000);
    assert_int_equal(mux_channel_space(t->far.session, 1), 0);
    mux_channel_get_stats(t->near.session, 1, &stats);
    assert_int_equal(stats.sent, 100000);

    mux_channel_end(t->near.session, 1);
    run(t);
    expect(&t->far, "eof\n");
    expect(&t->near, ""); /* nothing is confirmed before the local socket has taken the end */
    mux_channel_eof_taken(t->far.session, 1);
    run(t);
    expect(&t->far, "forgotten\n");
    expect(&t->near, "forgotten\n");
    assert_int_equal(mux_channel_open(t->near.session, "migration", &channel), -EBUSY);

    assert_int_equal(mux_session_close(t->near.session, BS_CLOSE_DONE, ""), 0);
    run(t);
    expect(&t->near, "closed 0 \n");
    assert_true(mux_session_hangup(t->far.session));
    expect(&t->far, "closed 0 \n");
    tunnel_free(t);
}

static void test_every_cut(void **state)
{
    (void)state;
    for (size_t cut = 1; cut < 120; cut++) {
        struct tunnel *t = tunnel_new(SECOND);
        const size_t before = RPC_HEAD_SIZE + strlen("prepare");

        t->cut = cut;
        call(&t->near, BS_PROC_MIGRATE_PREPARE_TUNNEL, SERIAL, "prepare");
        run(t);
        open_stream(t);
        write_stream(t, 0, 20000);
        call(&t->near, BS_PROC_MIGRATE_STATUS, SERIAL + 1, "status");
        run(t);
        mux_channel_end(t->near.session, 1);
        call(&t->far, BS_PROC_HOST_INFO, 1, "who");
        run(t);
        mux_channel_eof_taken(t->far.session, 1);
        run(t);
        expect(&t->near, "forgotten\n");
        expect(&t->far, "opened\neof\nforgotten\n");
        assert_int_equal(t->far.received, 20000);
        assert_int_equal(t->far.calls_used, before + RPC_HEAD_SIZE + strlen("status"));
        assert_memory_equal(t->far.calls + before + RPC_HEAD_SIZE, "status", 6);
        assert_int_equal(t->near.calls_used, RPC_HEAD_SIZE + strlen("who"));
        tunnel_free(t);
    }
}

/* A call that comes in parts, since the pump hands over what there is room for, is never split by a
 * message of another kind. */
static void test_calls_are_not_interleaved(void **state)
{
    struct tunnel *t = tunnel_prepared(0);
    char payload[10000];
    uint8_t message[BS_FRAME_MESSAGE_MAX];
    size_t length, before = t->far.calls_used;
    uint64_t written = 0;

    (void)state;
    memset(payload, 'p', sizeof payload - 1);
    payload[sizeof payload - 1] = '\0';
    length = make_message(message, BS_CALL, BS_PROC_MIGRATE_STATUS, 10, BS_OK, payload);
    open_stream(t);
    for (size_t done = 0; done < length;) {
        size_t n = min_size(17, length - done);

        written = write_stream(t, written, written + 1);
        assert_int_equal(mux_channel_write(t->near.session, 0, message + done, n), (int64_t)n);
        run(t);
        done += n;
        if (done < length)
            assert_int_equal(t->far.received, 0);
    }
    assert_int_equal(t->far.calls_used - before, length);
    assert_memory_equal(t->far.calls + before, message, length);
    assert_true(t->far.received == written && written > 0);
    tunnel_free(t);
}

static void test_back_pressure(void **state)
{
    struct tunnel *t = tunnel_prepared(0);
    const uint64_t all = 5 << 20;
    uint64_t written = 0;

    (void)state;
    open_stream(t);
    t->far.take = 1000;
    for (int i = 0; i < 10; i++) {
        written = write_stream(t, written, all);
        run(t);
    }
    assert_int_equal(t->far.received, 1000);
    assert_false(mux_session_wants_receive(t->far.session));
    assert_in_range(written, 2 << 20, (2 << 20) + 20000); /* 1 MiB at each end */

    /* What comes the other way is heard: a call, and the end that may come at any time. */
    call(&t->far, BS_PROC_HOST_INFO, 1, "who");
    run(t);
    assert_int_equal(t->near.calls_used, RPC_HEAD_SIZE + 3);

    while (t->far.received < all) {
        drain(&t->far);
        t->far.take = 0;
        assert_true(mux_session_wants_receive(t->far.session));
        written = write_stream(t, written, all);
        if (written == all)
            mux_channel_end(t->near.session, 1);
        run(t);
    }
    drain(&t->far);
    expect(&t->far, "opened\neof\n");
    assert_int_equal(t->far.received, all);
    tunnel_free(t);
}

/* The cap counts the stream and holds up no call. */
static void test_cap(void **state)
{
    struct tunnel *t = tunnel_prepared(0);
    uint64_t written = 0, begun = t->now;

    (void)state;
    open_stream(t);
    mux_session_set_bandwidth(t->near.session, 1000000, t->now);
    while (t->now < begun + 3 * SECOND) {
        written = write_stream(t, written, 50 << 20);
        run(t);
        t->now = max_u64(t->now, mux_session_deadline(t->near.session));
        mux_session_tick(t->near.session, t->now);
    }
    assert_in_range(t->far.received, 2900000, 3100000);
    run(t);
    call(&t->near, BS_PROC_MIGRATE_STATUS, 10, "status");
    run(t);
    assert_memory_equal(t->far.calls + t->far.calls_used - 6, "status", 6);
    tunnel_free(t);
}

static void test_an_empty_stream(void **state)
{
    struct tunnel *t = tunnel_prepared(0);

    (void)state;
    open_stream(t);
    run(t);
    expect(&t->far, "");
    mux_channel_end(t->near.session, 1);
    run(t);
    expect(&t->far, "opened\neof\n");
    tunnel_free(t);
}

/* ---- giving up --------------------------------------------------------------------------------- */

static void test_opener_gives_up(void **state)
{
    struct tunnel *t = tunnel_prepared(0);

    (void)state;
    open_stream(t);
    write_stream(t, 0, 50000);
    run(t);
    write_stream(t, 50000, 60000); /* which need not arrive any more */
    mux_channel_reset(t->near.session, 1, BS_RESET_CANCELLED, "the operator gave up");
    run(t);
    expect(&t->far, "opened\nreset 1 the operator gave up\nforgotten\n");
    expect(&t->near, "forgotten\n");
    assert_true(mux_session_hangup(t->near.session));
    tunnel_free(t);
}

static void test_acceptor_gives_up(void **state)
{
    static const uint64_t codes[] = {BS_RESET_NO_ENDPOINT, BS_RESET_REFUSED, BS_RESET_BROKEN};

    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct tunnel *t = tunnel_prepared(0);
        char line[64];

        open_stream(t);
        write_stream(t, 0, 50000);
        run(t);
        mux_channel_reset(t->far.session, 1, codes[i], "QEMU has gone");
        write_stream(t, 50000, 100000); /* it crosses the ERROR and is dropped */
        mux_channel_end(t->near.session, 1);
        run(t);
        snprintf(line, sizeof line, "reset %d QEMU has gone\nforgotten\n", (int)codes[i]);
        expect(&t->near, line);
        expect(&t->far, "opened\nforgotten\n");
        assert_int_equal(t->far.received, 50000);
        call(&t->near, BS_PROC_MIGRATE_FINISH, 11, "finish");
        run(t);
        assert_memory_equal(t->far.calls + t->far.calls_used - 6, "finish", 6);
        tunnel_free(t);
    }
}

/* The end is confirmed while the opener gives up: whoever comes too late is ignored. */
static void test_error_crosses_the_confirmation(void **state)
{
    struct tunnel *t = tunnel_prepared(0);
    uint8_t confirmation[BS_FRAME_MESSAGE_MAX];
    bool urgent;
    size_t n;

    (void)state;
    open_stream(t);
    mux_channel_end(t->near.session, 1);
    run(t);
    mux_channel_eof_taken(t->far.session, 1);
    n = mux_session_send(t->far.session, confirmation, sizeof confirmation, t->now, &urgent);
    mux_channel_reset(t->near.session, 1, BS_RESET_CANCELLED, "too late");
    run(t);
    assert_int_equal(mux_session_receive(t->near.session, confirmation, n, t->now), 0);
    expect(&t->far, "opened\neof\nforgotten\n");
    expect(&t->near, "forgotten\n");
    tunnel_free(t);
}

/* ---- the end of the link ------------------------------------------------------------------------ */

static void test_close_tells_why(void **state)
{
    struct tunnel *t = tunnel_prepared(0);

    (void)state;
    open_stream(t);
    write_stream(t, 0, 100);
    run(t);
    assert_int_equal(mux_session_close(t->far.session, BS_CLOSE_DONE, ""), -EBUSY);
    call(&t->far, BS_PROC_HOST_INFO, 1, "reply");
    mux_session_close(t->far.session, BS_CLOSE_CANCELLED, "bistreamd is stopping");
    run(t);
    expect(&t->far, "opened\nreset 5 bistreamd is stopping\nclosed 1 bistreamd is stopping\n");
    assert_memory_equal(t->near.calls + RPC_HEAD_SIZE, "reply", 5);
    expect(&t->near, "reset 1 bistreamd is stopping\nforgotten\n");
    assert_true(mux_session_hangup(t->near.session));
    expect(&t->near, "closed 0 \n");
    tunnel_free(t);
}

static void test_hangup_in_the_middle(void **state)
{
    struct tunnel *t = tunnel_prepared(0);

    (void)state;
    open_stream(t);
    write_stream(t, 0, 100);
    run(t);
    assert_false(mux_session_hangup(t->near.session));
    assert_false(mux_session_hangup(t->far.session));
    mux_session_abandon(t->far.session, BS_CLOSE_CANCELLED, "gone");
    expect(&t->far, "opened\nreset 5 gone\nclosed 1 gone\n");
    tunnel_free(t);

    t = tunnel_new(0);
    mux_session_receive(t->far.session, (const uint8_t[]){0, 0}, 2, t->now);
    assert_false(mux_session_hangup(t->far.session));
    tunnel_free(t);
}

/* The rest of a call that was cut off never comes: the link must end all the same. */
static void test_close_behind_half_a_call(void **state)
{
    (void)state;
    for (size_t part = 1; part < 40; part++) {
        struct tunnel *t = tunnel_prepared(0);
        uint8_t message[256];

        open_stream(t);
        make_message(message, BS_CALL, BS_PROC_HOST_INFO, 1, BS_OK, "a dozen characters");
        mux_channel_write(t->near.session, 0, message, part);
        mux_session_close(t->near.session, BS_CLOSE_CANCELLED, "enough");
        run(t);
        expect(&t->near, "reset 5 enough\nclosed 1 enough\n");
        tunnel_free(t);
    }
}

/* ---- keepalive ---------------------------------------------------------------------------------- */

static int tick_to(struct tunnel *t, struct end *end, uint64_t now)
{
    int r = 0;

    while (r == 0 && mux_session_deadline(end->session) <= now) {
        t->now = max_u64(t->now, mux_session_deadline(end->session));
        r = mux_session_tick(end->session, t->now);
        run(t);
    }
    t->now = now;
    return r;
}

static void test_keepalive(void **state)
{
    struct tunnel *t = tunnel_prepared(SECOND);
    struct mux_session_stats stats;

    (void)state;
    assert_int_equal(tick_to(t, &t->near, t->now + 20 * SECOND), 0); /* PINGs are answered */
    mux_session_get_stats(t->near.session, &stats);
    assert_true(stats.round_trip > 0);

    /* Nothing comes any more. */
    for (t->now += SECOND; mux_session_deadline(t->far.session) <= t->now; t->now += SECOND) {
        uint8_t buffer[BS_FRAME_MESSAGE_MAX];
        bool urgent;

        if (mux_session_tick(t->far.session, t->now) < 0)
            break;
        mux_session_send(t->far.session, buffer, sizeof buffer, t->now, &urgent);
    }
    assert_int_equal(mux_session_tick(t->far.session, t->now), -ETIMEDOUT);
    tunnel_free(t);
}

/* A stream that is held back at its end is not a peer that is silent, for neither side. */
static void test_held_back_is_not_dead(void **state)
{
    struct tunnel *t = tunnel_prepared(SECOND);
    uint64_t written = 0, total;

    (void)state;
    open_stream(t);
    t->far.take = 0;
    for (int i = 0; i < 5; i++) {
        written = write_stream(t, written, 5 << 20);
        run(t);
    }
    assert_false(mux_session_wants_receive(t->far.session));
    for (int i = 0; i < 60; i++) {
        assert_int_equal(tick_to(t, &t->near, t->now + SECOND / 2), 0);
        assert_int_equal(tick_to(t, &t->far, t->now + SECOND / 2), 0);
        assert_int_equal(mux_session_silent(t->far.session, t->now, &total), 0);
        assert_in_range(mux_session_silent(t->near.session, t->now, &total), 0, 2 * SECOND);
    }
    drain(&t->far); /* and now it can be heard again */
    assert_int_equal(mux_session_tick(t->far.session, t->now), 0);
    assert_true(mux_session_deadline(t->far.session) > t->now);
    t->now += 4 * SECOND;
    assert_int_equal(mux_session_tick(t->far.session, t->now), -ETIMEDOUT);
    tunnel_free(t);
}

/* ---- violations --------------------------------------------------------------------------------- */

static void says(struct tunnel *t, struct end *to, int type, int procedure, uint32_t serial,
                 int status, const char *payload)
{
    uint8_t message[256];
    size_t n = make_message(message, type, procedure, serial, status, payload);

    mux_session_receive(to->session, message, n, t->now);
}

static void expect_violation(struct tunnel *t, struct end *end, const char *sentence)
{
    uint8_t buffer[BS_FRAME_MESSAGE_MAX];
    bool urgent;

    if (!strstr(end->events, sentence))
        fail_msg("'%s' lacks '%s'", end->events, sentence);
    assert_int_equal(mux_session_receive(end->session, buffer, 1, t->now), -EPROTO);
    mux_session_send(end->session, buffer, sizeof buffer, t->now, &urgent);
    assert_false(mux_session_wants_send(end->session));
    tunnel_free(t);
}

enum { TUNNEL = BS_PROC_MIGRATE_PREPARE_TUNNEL };

static void test_violations_by_the_opener(void **state)
{
    struct tunnel *t = tunnel_new(0);

    (void)state;
    says(t, &t->far, BS_STREAM, TUNNEL, SERIAL, BS_CONTINUE, "x");
    expect_violation(t, &t->far, "closed 2 message of a stream before the call");

    t = tunnel_prepared(0);
    says(t, &t->far, BS_STREAM, TUNNEL, SERIAL + 1, BS_CONTINUE, "x");
    expect_violation(t, &t->far, "closed 2 second stream");

    t = tunnel_prepared(0);
    says(t, &t->far, BS_STREAM, BS_PROC_BISTREAM_OPEN, SERIAL, BS_CONTINUE, "x");
    expect_violation(t, &t->far, "procedure 2, which begins no stream");

    t = tunnel_prepared(0);
    says(t, &t->far, BS_STREAM, TUNNEL, SERIAL, BS_CONTINUE, "");
    expect_violation(t, &t->far, "without data");

    t = tunnel_prepared(0);
    says(t, &t->far, BS_STREAM, TUNNEL, SERIAL, BS_OK, "x");
    expect_violation(t, &t->far, "data in the message that ends");

    t = tunnel_prepared(0);
    says(t, &t->far, BS_STREAM, TUNNEL, SERIAL, BS_OK, "");
    says(t, &t->far, BS_STREAM, TUNNEL, SERIAL, BS_CONTINUE, "x");
    expect_violation(t, &t->far, "data behind the end");

    t = tunnel_prepared(0);
    says(t, &t->far, BS_STREAM, TUNNEL, SERIAL, BS_OK, "");
    says(t, &t->far, BS_STREAM, TUNNEL, SERIAL, BS_OK, "");
    expect_violation(t, &t->far, "end of a stream that has ended");

    t = tunnel_prepared(0);
    says(t, &t->far, BS_STREAM, TUNNEL, SERIAL, BS_ERROR, "");
    says(t, &t->far, BS_STREAM, TUNNEL, SERIAL, BS_CONTINUE, "x");
    expect_violation(t, &t->far, "data behind the end");

    t = tunnel_prepared(0);
    mux_session_receive(t->far.session, (const uint8_t *)"GET / HTTP/1.1", 14, t->now);
    expect_violation(t, &t->far, "closed 2 message with an impossible length");
}

static void test_violations_by_the_acceptor(void **state)
{
    struct tunnel *t = tunnel_prepared(0);

    (void)state;
    says(t, &t->near, BS_STREAM, TUNNEL, SERIAL, BS_OK, "");
    expect_violation(t, &t->near, "answer to a stream that has not begun");

    t = tunnel_prepared(0);
    open_stream(t);
    says(t, &t->near, BS_STREAM, TUNNEL, SERIAL, BS_CONTINUE, "x");
    expect_violation(t, &t->near, "against its direction");

    t = tunnel_prepared(0);
    open_stream(t);
    says(t, &t->near, BS_STREAM, TUNNEL, SERIAL, BS_OK, "");
    expect_violation(t, &t->near, "confirmed before it came");

    t = tunnel_prepared(0);
    open_stream(t);
    mux_channel_end(t->near.session, 1);
    run(t);
    says(t, &t->near, BS_STREAM, TUNNEL, SERIAL, BS_OK, "");
    expect(&t->near, "forgotten\n");
    says(t, &t->near, BS_STREAM, TUNNEL, SERIAL, BS_OK, "");
    expect_violation(t, &t->near, "end of a stream that has ended");
}

/* An error that is none still ends the stream, and only that. */
static void test_garbled_error(void **state)
{
    struct tunnel *t = tunnel_prepared(0);

    (void)state;
    open_stream(t);
    says(t, &t->near, BS_STREAM, TUNNEL, SERIAL, BS_ERROR, "no XDR");
    expect(&t->near, "reset 4 the peer reported an error that can't be decoded\n");
    call(&t->near, BS_PROC_MIGRATE_STATUS, 10, "status");
    run(t);
    assert_memory_equal(t->far.calls + t->far.calls_used - 6, "status", 6);
    tunnel_free(t);
}

/* Any byte of what a peer says may be any other: the end is orderly, or the byte harmless. */
static void test_damage(void **state)
{
    uint8_t script[512];
    size_t length = 0;

    (void)state;
    length += make_message(script + length, BS_CALL, TUNNEL, SERIAL, BS_OK, "prepare");
    length += make_message(script + length, BS_STREAM, TUNNEL, SERIAL, BS_CONTINUE, "\0");
    script[length - 1] = pattern(0);
    length += make_message(script + length, BS_STREAM, TUNNEL, SERIAL, BS_ERROR, "12345678");
    length += make_message(script + length, BS_REPLY, TUNNEL, 1, BS_ERROR, "?");
    for (size_t i = 0; i < length; i++)
        for (int value = 0; value < 256; value += 5) {
            struct tunnel *t = tunnel_new(0);
            uint8_t damaged[sizeof script];
            bool urgent;

            memcpy(damaged, script, length);
            damaged[i] ^= (uint8_t)value;
            t->far.take = 0;
            mux_session_receive(t->far.session, damaged, length, t->now);
            mux_session_send(t->far.session, t->near.calls, BS_FRAME_MESSAGE_MAX, t->now, &urgent);
            mux_session_abandon(t->far.session, BS_CLOSE_CANCELLED, "over");
            assert_non_null(strstr(t->far.events, "closed"));
            tunnel_free(t);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_life),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_calls_are_not_interleaved),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_cap),
        cmocka_unit_test(test_an_empty_stream),
        cmocka_unit_test(test_opener_gives_up),
        cmocka_unit_test(test_acceptor_gives_up),
        cmocka_unit_test(test_error_crosses_the_confirmation),
        cmocka_unit_test(test_close_tells_why),
        cmocka_unit_test(test_hangup_in_the_middle),
        cmocka_unit_test(test_close_behind_half_a_call),
        cmocka_unit_test(test_keepalive),
        cmocka_unit_test(test_held_back_is_not_dead),
        cmocka_unit_test(test_violations_by_the_opener),
        cmocka_unit_test(test_violations_by_the_acceptor),
        cmocka_unit_test(test_garbled_error),
        cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
