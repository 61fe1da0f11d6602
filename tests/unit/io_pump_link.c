/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The pump and its link: a peer that vanishes, is silent, talks garbage or breaks a rule.  The far
 * end is played by the test.
 */
#include "config.h"

#include "common/cleanup.h"
#include "common/loop.h"
#include "io/pump_internal.h"
#include "io/tls_internal.h"
#include "rpc/message.h"
#include "tests/unit/pump_pair.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SERIAL = 7, PATIENCE_MS = 20000 };

static void send_bytes(struct pair *pair, const void *data, size_t length)
{
    struct error err = ERROR_INIT;

    if (tls_send_wait(pair->far.link, data, length, PATIENCE_MS, -1, &err) < 0)
        fail_msg("%s", err.text);
}

static void send_frame(struct pair *pair, const struct bs_frame *frame, const void *data,
                       size_t length)
{
    uint8_t message[BS_FRAME_MESSAGE_MAX];

    rpc_frame_encode(message, SERIAL, frame, length);
    if (length > 0)
        memcpy(message + RPC_FRAME_OVERHEAD, data, length);
    send_bytes(pair, message, RPC_FRAME_OVERHEAD + length);
}

/* Reads the next record, and calls EACH for its frames until it returns true.  Messages are never
 * split over records here. */
static bool read_frames(struct pair *pair,
                        bool (*each)(const struct bs_frame *frame, const char *text, size_t length,
                                     void *opaque),
                        void *opaque)
{
    uint8_t record[BS_FRAME_MESSAGE_MAX];
    struct error err = ERROR_INIT;
    struct bs_frame frame;
    ssize_t n = tls_receive_wait(pair->far.link, record, sizeof record, PATIENCE_MS, -1, &err);
    size_t length;

    if (n < 0)
        fail_msg("%s", err.text);
    for (const uint8_t *at = record; at < record + n; at += length) {
        length = (size_t)at[2] << 8 | at[3];
        rpc_frame_decode(at + BS_LENGTH_SIZE + BS_HEADER_SIZE, &frame);
        if (each(&frame, (const char *)at + RPC_FRAME_OVERHEAD, length - RPC_FRAME_OVERHEAD,
                 opaque))
            return true;
    }
    return false;
}

struct close_seen {
    uint64_t code;
    char text[256];
};

static bool is_close(const struct bs_frame *frame, const char *text, size_t length, void *opaque)
{
    struct close_seen *seen = opaque;

    if (frame->type != BS_FRAME_CLOSE)
        return false;
    seen->code = frame->limit;
    snprintf(seen->text, sizeof seen->text, "%.*s", (int)length, text);
    return true;
}

/* Waits for the CLOSE.  Returns its code, with its TEXT. */
static uint64_t read_close(struct pair *pair, char text[256])
{
    struct close_seen seen;

    while (!read_frames(pair, is_close, &seen))
        ;
    memcpy(text, seen.text, sizeof seen.text);
    return seen.code;
}

static void expect_end(struct pair *pair, int code, const char *sentence)
{
    side_wait_ended(&pair->near);
    assert_int_equal(pair->near.why.code, code);
    if (!strstr(pair->near.why.text, sentence))
        fail_msg("'%s' lacks '%s'", pair->near.why.text, sentence);
}

/* A local program with a channel, which must be closed when the session ends. */
static int join(struct pair *pair)
{
    pair_listen(pair, "a");
    return pair_connect(pair, "a");
}

static void a_vanished_peer_ends_the_session(void **state)
{
    struct pair pair;
    int near;

    (void)state;
    pair_start(&pair, NULL, NULL, false);
    near = join(&pair);
    shutdown(tls_fd(pair.far.link), SHUT_RDWR);
    expect_end(&pair, ECONNRESET, "localhost closed the connection without a word");
    read_end(near);
    close(near);
    pair_stop(&pair);

    pair_start(&pair, NULL, NULL, false);
    tls_free(take_ptr(pair.far.link)); /* with close_notify, but without CLOSE */
    expect_end(&pair, ECONNRESET, "localhost closed the link without ending the session");
    pair_stop(&pair);
}

static void a_vanished_peer_is_noticed_while_sending(void **state)
{
    const struct linger hard = {.l_onoff = 1};
    static uint8_t data[1 << 20];
    struct pair pair;
    int near;

    (void)state;
    pair_start(&pair, NULL, NULL, false);
    near = join(&pair);
    write_all(near, data, 16384);
    setsockopt(tls_fd(pair.far.link), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    tls_free(take_ptr(pair.far.link));
    side_wait_ended(&pair.near);
    assert_int_equal(pair.near.why.code, ECONNRESET);
    read_end(near);
    close(near);
    pair_stop(&pair);
}

static void garbage_ends_the_session_by_name(void **state)
{
    static const char garbage[] = "\xff\xff\xff\xff this is no message at all, and a long one";
    struct pair pair;
    char text[256];

    (void)state;
    pair_start(&pair, NULL, NULL, false);
    send_bytes(&pair, garbage, sizeof garbage);
    assert_int_equal(read_close(&pair, text), BS_CLOSE_PROTOCOL);
    expect_end(&pair, EPROTO, text);
    pair_stop(&pair);

    pair_start(&pair, NULL, NULL, false);
    send(tls_fd(pair.far.link), "this is not even TLS", 20, 0);
    expect_end(&pair, EPROTO, "TLS with localhost failed: ");
    pair_stop(&pair);
}

static void garbage_on_channel_0_ends_the_session_by_name(void **state)
{
    static const uint8_t no_message[] = {0, 0, 0, 2, 0, 0, 0, 0};
    const struct bs_frame data = {.type = BS_FRAME_DATA};
    struct pair pair;
    char text[256];

    (void)state;
    pair_start(&pair, NULL, NULL, false);
    send_frame(&pair, &data, no_message, sizeof no_message);
    assert_int_equal(read_close(&pair, text), BS_CLOSE_PROTOCOL);
    assert_string_equal(text, "what came on channel 0 is no message");
    send_frame(&pair, &(struct bs_frame){.type = BS_FRAME_CLOSE, .limit = BS_CLOSE_PROTOCOL}, "",
               0);
    expect_end(&pair, EPROTO, text);
    pair_stop(&pair);
}

static void an_answer_to_no_call_ends_the_session(void **state)
{
    const struct bs_header reply = {
        .prog = BS_PROGRAM, .vers = BS_VERSION, .procedure = 11, .type = BS_REPLY, .serial = 5};
    const struct bs_frame data = {.type = BS_FRAME_DATA};
    struct pair pair;
    uint8_t *message;
    size_t length;
    char text[256];

    (void)state;
    assert_int_equal(rpc_message_encode(&reply, NULL, NULL, &message, &length), 0);
    pair_start(&pair, NULL, NULL, false);
    send_frame(&pair, &data, message, length);
    free(message);
    assert_int_equal(read_close(&pair, text), BS_CLOSE_PROTOCOL);
    assert_string_equal(text, "an answer came to a call that was never made");
    /* A peer that doesn't answer the CLOSE is not waited for. */
    expect_end(&pair, EPROTO, text);
    pair_stop(&pair);
}

struct flood {
    uint64_t sent, limit;
    struct close_seen seen;
    bool closed;
};

static bool watch_flood(const struct bs_frame *frame, const char *text, size_t length, void *opaque)
{
    struct flood *flood = opaque;

    if (frame->type == BS_FRAME_LIMIT && frame->channel == 0)
        flood->limit = frame->limit;
    flood->closed = is_close(frame, text, length, &flood->seen);
    return flood->closed;
}

/* Calls without end by a peer that gives no credit for the answers: memory must stay bounded. */
static void calls_whose_answers_are_not_read_end_the_session(void **state)
{
    const struct bs_header call = {
        .prog = BS_PROGRAM, .vers = BS_VERSION, .procedure = 99, .type = BS_CALL, .serial = 5};
    struct flood flood = {.limit = 16384};
    uint8_t *message, calls[4096];
    struct pair pair;
    size_t length, used = 0;

    (void)state;
    assert_int_equal(rpc_message_encode(&call, NULL, NULL, &message, &length), 0);
    for (; used + length <= sizeof calls; used += length)
        memcpy(calls + used, message, length);
    free(message);
    pair_start(&pair, NULL, NULL, false);
    while (!flood.closed) {
        const struct bs_frame data = {.type = BS_FRAME_DATA, .offset = flood.sent};

        if (flood.sent + used > flood.limit) {
            read_frames(&pair, watch_flood, &flood);
            continue;
        }
        send_frame(&pair, &data, calls, used);
        flood.sent += used;
        assert_in_range(flood.sent, 1, 64 << 20);
    }
    assert_int_equal(flood.seen.code, BS_CLOSE_PROTOCOL);
    assert_string_equal(flood.seen.text, "calls come, but their answers aren't read");
    pair_stop(&pair);
}

static void a_silent_peer_ends_the_session(void **state)
{
    struct pump_config config = PAIR_DEFAULTS;
    uint64_t begin = loop_clock();
    struct pair pair;

    (void)state;
    config.ping_interval = 50 * LOOP_MS;
    config.ping_timeout = 200 * LOOP_MS;
    pair_start(&pair, &config, NULL, false);
    expect_end(&pair, ETIMEDOUT, "nothing came from localhost for 200 ms");
    assert_in_range(loop_clock() - begin, 200 * LOOP_MS, 10 * LOOP_SECOND);
    pair_stop(&pair);
}

/* Two live pumps keep each other awake for longer than the time-out. */
static void pings_keep_an_idle_session(void **state)
{
    struct pump_config config = PAIR_DEFAULTS;
    struct pump_stats stats;
    struct pair pair;

    (void)state;
    config.ping_interval = 50 * LOOP_MS;
    config.ping_timeout = 500 * LOOP_MS;
    pair_start(&pair, &config, NULL, true);
    usleep(1200 * 1000);
    assert_int_equal(pair.near.ended + pair.far.ended, 0);
    pump_get_stats(pair.near.pump, NULL, &stats);
    assert_in_range(stats.round_trip, 1, LOOP_SECOND);
    pair_stop(&pair);
}

/* What was read behind the OPEN message belongs to the session. */
static void begins_with_what_was_read_before(void **state)
{
    static uint8_t early[BS_FRAME_MESSAGE_MAX];
    struct pump_config config = PAIR_DEFAULTS;
    struct error err = ERROR_INIT;
    struct pump_handlers handlers = {.opaque = NULL};
    struct pair pair;
    struct tls *link;
    char text[256];
    ssize_t n;
    int near;

    (void)state;
    pair_start(&pair, NULL, NULL, false);
    near = join(&pair);
    n = 0;
    while (n < 2 * RPC_FRAME_OVERHEAD) { /* a PING and an OPEN */
        ssize_t more = tls_receive_wait(pair.far.link, early + n, sizeof early - (size_t)n,
                                        PATIENCE_MS, -1, &err);

        assert_true(more > 0);
        n += more;
    }
    config.early = early;
    config.early_length = (size_t)n;
    link = take_ptr(pair.far.link);
    pair.far.pump = pump_start(link, &config, &handlers, &err);
    assert_non_null(pair.far.pump);
    read_end(near); /* the OPEN was understood: there is no such endpoint */
    side_wait_resets(&pair.near, 1);
    snprintf(text, sizeof text, "%s", pair.near.reset_text);
    assert_string_equal(text, "there is no endpoint a");
    close(near);
    pair.far.ended = 1; /* nobody asked to be told */
    pair_stop(&pair);
}

/* A key update that the peer asks for is answered, though the pump has nothing to say itself. */
static void answers_a_key_update(void **state)
{
    struct pair pair;
    struct error err = ERROR_INIT;
    uint8_t buffer[BS_FRAME_MESSAGE_MAX];
    const struct bs_frame ping = {.type = BS_FRAME_PING, .offset = 77};
    bool answered = false;

    (void)state;
    pair_start(&pair, NULL, NULL, false);
    assert_int_equal(SSL_key_update(pair.far.link->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    send_frame(&pair, &ping, "", 0);
    while (!answered) {
        ssize_t n = tls_receive_wait(pair.far.link, buffer, sizeof buffer, PATIENCE_MS, -1, &err);
        struct bs_frame frame;

        if (n < 0)
            fail_msg("%s", err.text);
        rpc_frame_decode(buffer + BS_LENGTH_SIZE + BS_HEADER_SIZE, &frame);
        answered = frame.type == BS_FRAME_PONG && frame.offset == 77;
    }
    pair_stop(&pair);
}

enum { TINY = 4000 }; /* records: four rounds' worth, and a socket takes them all */

struct tiny {
    struct loop_work look, look_again;
    struct pair *pair;
    bool left, looked;
};

/* The second round after the records came; the link has been read in one of them at the least. */
static void look_again(struct loop_work *work)
{
    struct tiny *tiny = (struct tiny *)((char *)work - offsetof(struct tiny, look_again));
    const struct tls *link = tiny->pair->near.pump->link;
    char byte;

    tiny->left = tls_pending(link) || recv(tls_fd(link), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
    tiny->looked = true;
}

static void look(struct loop_work *work)
{
    struct tiny *tiny = (struct tiny *)work;

    loop_post(tiny->pair->near.pump->loop, &tiny->look_again);
}

/* In the pump's thread, so that it reads nothing before all is there: PONGs of keepalive, a byte in each
 * record. */
static int send_tiny(void *opaque)
{
    const struct bs_header pong = {.prog = BS_KEEPALIVE_PROGRAM,
                                   .vers = BS_KEEPALIVE_VERSION,
                                   .procedure = BS_KEEPALIVE_PONG,
                                   .type = BS_EVENT};
    struct tiny *tiny = opaque;
    struct tls *link = tiny->pair->far.link;
    struct error err = ERROR_INIT;
    uint8_t message[RPC_HEAD_SIZE];

    rpc_head_encode(message, &pong, 0);
    for (size_t i = 0; i < TINY; i++)
        assert_int_equal(tls_write(link, message + i % sizeof message, 1, &err), 1);
    assert_int_equal(tls_flush(link, &err), 0);
    loop_post(tiny->pair->near.pump->loop, &tiny->look);
    return 0;
}

static int has_looked(void *opaque)
{
    return ((struct tiny *)opaque)->looked;
}

/* They cost the pump more than their bytes tell: it doesn't read them all in one round. */
static void tiny_records_hold_up_nobody_else(void **state)
{
    struct pair pair;
    struct tiny tiny = {.look.run = look, .look_again.run = look_again, .pair = &pair};

    (void)state;
    pair_start(&pair, NULL, NULL, false);
    loop_call(pair.near.pump->loop, send_tiny, &tiny);
    while (!loop_call(pair.near.pump->loop, has_looked, &tiny))
        ;
    assert_true(tiny.left);
    pair_stop(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vanished_peer_ends_the_session),
        cmocka_unit_test(a_vanished_peer_is_noticed_while_sending),
        cmocka_unit_test(garbage_ends_the_session_by_name),
        cmocka_unit_test(garbage_on_channel_0_ends_the_session_by_name),
        cmocka_unit_test(an_answer_to_no_call_ends_the_session),
        cmocka_unit_test(calls_whose_answers_are_not_read_end_the_session),
        cmocka_unit_test(a_silent_peer_ends_the_session),
        cmocka_unit_test(pings_keep_an_idle_session),
        cmocka_unit_test(begins_with_what_was_read_before),
        cmocka_unit_test(answers_a_key_update),
        cmocka_unit_test(tiny_records_hold_up_nobody_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
