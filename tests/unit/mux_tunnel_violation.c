/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* What a peer may not say in the old protocol ends the link with a sentence. */
#include "config.h"

#include "tests/unit/tunnel_pair.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

enum { TUNNEL = BS_PROC_MIGRATE_PREPARE_TUNNEL, SERIAL = TUNNEL_SERIAL };

/* ---- violations --------------------------------------------------------------------------------- */

static void says(struct tunnel *t, struct tunnel_end *to, int type, int procedure, uint32_t serial,
                 int status, const char *payload)
{
    uint8_t message[256];
    size_t n = tunnel_message(message, type, procedure, serial, status, payload);

    mux_session_receive(to->session, message, n, t->now);
}

static void expect_violation(struct tunnel *t, struct tunnel_end *end, const char *sentence)
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
    tunnel_open(t);
    says(t, &t->near, BS_STREAM, TUNNEL, SERIAL, BS_CONTINUE, "x");
    expect_violation(t, &t->near, "against its direction");

    t = tunnel_prepared(0);
    tunnel_open(t);
    says(t, &t->near, BS_STREAM, TUNNEL, SERIAL, BS_OK, "");
    expect_violation(t, &t->near, "confirmed before it came");

    t = tunnel_prepared(0);
    tunnel_open(t);
    mux_channel_end(t->near.session, 1);
    tunnel_run(t);
    says(t, &t->near, BS_STREAM, TUNNEL, SERIAL, BS_OK, "");
    tunnel_expect(&t->near, "forgotten\n");
    says(t, &t->near, BS_STREAM, TUNNEL, SERIAL, BS_OK, "");
    expect_violation(t, &t->near, "end of a stream that has ended");
}

/* An error that is none still ends the stream, and only that. */
static void test_garbled_error(void **state)
{
    struct tunnel *t = tunnel_prepared(0);

    (void)state;
    tunnel_open(t);
    says(t, &t->near, BS_STREAM, TUNNEL, SERIAL, BS_ERROR, "no XDR");
    tunnel_expect(&t->near, "reset 4 the peer reported an error that can't be decoded\n");
    tunnel_call(&t->near, BS_PROC_MIGRATE_STATUS, 10, "status");
    tunnel_run(t);
    assert_memory_equal(t->far.calls + t->far.calls_used - 6, "status", 6);
    tunnel_free(t);
}

/* Any byte of what a peer says may be any other: the end is orderly, or the byte harmless. */
static void test_damage(void **state)
{
    uint8_t script[512];
    size_t length = 0;

    (void)state;
    length += tunnel_message(script + length, BS_CALL, TUNNEL, SERIAL, BS_OK, "prepare");
    length += tunnel_message(script + length, BS_STREAM, TUNNEL, SERIAL, BS_CONTINUE, "\0");
    script[length - 1] = tunnel_pattern(0);
    length += tunnel_message(script + length, BS_STREAM, TUNNEL, SERIAL, BS_ERROR, "12345678");
    length += tunnel_message(script + length, BS_REPLY, TUNNEL, 1, BS_ERROR, "?");
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
        cmocka_unit_test(test_violations_by_the_opener),
        cmocka_unit_test(test_violations_by_the_acceptor),
        cmocka_unit_test(test_garbled_error),
        cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
