/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Whole messages out of a byte stream, split anywhere, and keepalive's answers. */
#include "config.h"

#include "tests/unit/unit.h"

#include "common/cleanup.h"
#include "rpc/inbox.h"

#include <errno.h>
#include <string.h>

/* Three messages behind each other: without payload, with a short one, with a long one. */
static uint8_t *make_stream(size_t *ret_length)
{
    static char text[20000];
    struct bs_probe_args probes[2] = {{text + sizeof text - 7}, {text + sizeof text - 1000}};
    struct bs_header header = {.prog = BS_PROGRAM, .vers = BS_VERSION, .procedure = 1};
    uint8_t *stream = NULL;
    size_t used = 0;

    memset(text, 'x', sizeof text - 1);
    for (unsigned i = 0; i < 3; i++) {
        CLEANUP_FREE uint8_t *data = NULL;
        size_t length;

        header.serial = i + 1;
        assert_int_equal(rpc_message_encode(&header, i ? (xdrproc_t)xdr_bs_probe_args : NULL,
                                            i ? &probes[i - 1] : NULL, &data, &length),
                         0);
        stream = realloc(stream, used + length);
        assert_non_null(stream);
        memcpy(stream + used, data, length);
        used += length;
    }
    *ret_length = used;
    return stream;
}

static void test_every_piece_size(void **state)
{
    size_t length;
    CLEANUP_FREE uint8_t *stream = make_stream(&length);

    (void)state;
    for (size_t piece = 1; piece <= length; piece++) {
        struct rpc_inbox inbox = {0};
        uint32_t serial = 0;

        for (size_t at = 0; at < length; at += piece) {
            size_t end = at + piece < length ? at + piece : length, from = at, used;

            while (rpc_inbox_feed(&inbox, stream + from, end - from, &used) == 1) {
                static const size_t lengths[] = {0, 12, 1004};

                from += used;
                assert_int_equal(inbox.message.header.serial, ++serial);
                assert_int_equal(inbox.message.length, lengths[serial - 1]);
            }
        }
        assert_int_equal(serial, 3);
        rpc_inbox_clear(&inbox);
    }
}

static void test_frames_and_garbage_are_refused(void **state)
{
    static const uint8_t frame[] = {0, 0, 0, 28, 0x20, 0, 0x8b, 0x15, 0, 0, 0, 1, 0, 0,
                                    0, 2, 0, 0,  0,    3, 0,    0,    0, 1, 0, 0, 0, 2};
    static const uint8_t text[] = "GET / HTTP/1.1\r\n\r\n";
    struct rpc_inbox inbox = {0};
    size_t used;

    (void)state;
    assert_int_equal(rpc_inbox_feed(&inbox, frame, sizeof frame, &used), -EPROTO);
    rpc_inbox_clear(&inbox);
    assert_int_equal(rpc_inbox_feed(&inbox, text, sizeof text, &used), -EPROTO);
    rpc_inbox_clear(&inbox);
}

static void test_keepalive(void **state)
{
    struct rpc_message ping = {.header = {.prog = BS_KEEPALIVE_PROGRAM,
                                          .vers = BS_KEEPALIVE_VERSION,
                                          .procedure = BS_KEEPALIVE_PING,
                                          .type = BS_EVENT}};
    static const uint8_t pong[] = {0, 0, 0, 28, 0x6b, 0x65, 0x65, 0x70, 0, 0, 0, 1, 0, 0,
                                   0, 2, 0, 0,  0,    2,    0,    0,    0, 0, 0, 0, 0, 0};
    uint8_t *answer;
    size_t length;

    (void)state;
    assert_true(rpc_inbox_is_keepalive(&ping, &answer, &length));
    assert_int_equal(length, sizeof pong);
    assert_memory_equal(answer, pong, sizeof pong);
    free(answer);
    ping.header.procedure = BS_KEEPALIVE_PONG;
    assert_true(rpc_inbox_is_keepalive(&ping, &answer, &length));
    assert_null(answer);
    ping.header.type = BS_CALL; /* no program that can be called: the dispatcher says so */
    assert_false(rpc_inbox_is_keepalive(&ping, &answer, &length));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_piece_size),
        cmocka_unit_test(test_frames_and_garbage_are_refused),
        cmocka_unit_test(test_keepalive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
