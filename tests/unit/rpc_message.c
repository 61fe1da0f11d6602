/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The decoder of messages: any split of the input, the limits, stopping after a message, garbage.
 */
#include "config.h"

#include "rpc/message.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Writes down what the decoder says, and which input it may point into. */
struct record {
    const uint8_t *input;
    size_t input_length;
    size_t begun, ended;
    struct bs_header header;
    size_t announced, got;
    uint8_t payloads[4096]; /* of all messages, one behind the other */
    size_t payloads_length;
    int fail_begin, fail_payload, fail_end;
};

static int on_begin(void *opaque, const struct bs_header *header, size_t length)
{
    struct record *record = opaque;

    assert_int_equal(record->begun, record->ended);
    record->begun++;
    record->header = *header;
    record->announced = length;
    record->got = 0;
    return record->fail_begin;
}

static int on_payload(void *opaque, const uint8_t *data, size_t length)
{
    struct record *record = opaque;

    assert_int_equal(record->begun, record->ended + 1);
    assert_true(length > 0);
    /* a slice of the input, not a copy */
    assert_true(data >= record->input && data + length <= record->input + record->input_length);
    record->got += length;
    assert_true(record->got <= record->announced);
    if (record->payloads_length + length <= sizeof record->payloads) {
        memcpy(record->payloads + record->payloads_length, data, length);
        record->payloads_length += length;
    }
    return record->fail_payload;
}

static int on_end(void *opaque)
{
    struct record *record = opaque;

    assert_int_equal(record->got, record->announced);
    record->ended++;
    return record->fail_end;
}

static const struct rpc_decoder_callbacks callbacks = {
    .begin = on_begin,
    .payload = on_payload,
    .end = on_end,
};

static struct rpc_decoder decoder_for(struct record *record)
{
    memset(record, 0, sizeof *record);
    return (struct rpc_decoder){.callbacks = &callbacks, .opaque = record};
}

static int feed(struct rpc_decoder *decoder, const uint8_t *data, size_t length, size_t *ret_used)
{
    struct record *record = decoder->opaque;

    record->input = data;
    record->input_length = length;
    return rpc_decoder_feed(decoder, data, length, ret_used);
}

static size_t put_message(uint8_t *out, int type, int status, const void *payload, size_t length)
{
    const uint32_t words[] = {(uint32_t)(28 + length), BS_PROGRAM, BS_VERSION,      7,
                              (uint32_t)type,          9,          (uint32_t)status};

    for (size_t i = 0; i < ARRAY_LENGTH(words); i++)
        for (size_t byte = 0; byte < 4; byte++)
            out[4 * i + byte] = (uint8_t)(words[i] >> (24 - 8 * byte));
    if (length > 0)
        memcpy(out + 28, payload, length);
    return 28 + length;
}

/* A call, a reply without payload, and a frame. */
static size_t put_three(uint8_t *out)
{
    size_t used = put_message(out, BS_CALL, BS_OK, "the arguments", 13);

    used += put_message(out + used, BS_REPLY, BS_ERROR, NULL, 0);
    return used + put_message(out + used, BS_STREAM, BS_CONTINUE, "a frame", 7);
}

static void assert_three(const struct record *record)
{
    assert_int_equal(record->begun, 3);
    assert_int_equal(record->ended, 3);
    assert_int_equal(record->header.prog, BS_PROGRAM);
    assert_int_equal(record->header.vers, BS_VERSION);
    assert_int_equal(record->header.procedure, 7);
    assert_int_equal(record->header.type, BS_STREAM);
    assert_int_equal(record->header.serial, 9);
    assert_int_equal(record->header.status, BS_CONTINUE);
    assert_int_equal(record->payloads_length, 20);
    assert_memory_equal(record->payloads, "the argumentsa frame", 20);
}

static void test_three_in_one_buffer(void **state)
{
    uint8_t input[256];
    size_t length = put_three(input), used;
    struct record record;
    struct rpc_decoder decoder = decoder_for(&record);

    (void)state;
    assert_int_equal(feed(&decoder, input, length, &used), 0);
    assert_int_equal(used, length);
    assert_three(&record);
}

static void test_every_split(void **state)
{
    uint8_t input[256];
    size_t length = put_three(input), used;
    struct record record;

    (void)state;
    for (size_t first = 0; first <= length; first++) {
        for (size_t second = first; second <= length; second++) {
            struct rpc_decoder decoder = decoder_for(&record);
            const size_t ends[] = {first, second, length};

            for (size_t i = 0, at = 0; i < 3; at = ends[i++]) {
                assert_int_equal(feed(&decoder, input + at, ends[i] - at, &used), 0);
                assert_int_equal(used, ends[i] - at);
            }
            assert_three(&record);
        }
    }
}

static void test_byte_by_byte(void **state)
{
    uint8_t input[256];
    size_t length = put_three(input), used;
    struct record record;
    struct rpc_decoder decoder = decoder_for(&record);

    (void)state;
    for (size_t i = 0; i < length; i++) {
        assert_int_equal(feed(&decoder, input + i, 1, &used), 0);
        assert_int_equal(used, 1);
    }
    assert_three(&record);
}

static void test_stop_after_message(void **state)
{
    uint8_t input[256];
    size_t length = put_three(input), at = 0, used;
    const size_t lengths[] = {41, 28, 35};
    struct record record;
    struct rpc_decoder decoder = decoder_for(&record);

    (void)state;
    decoder.stop_after_message = true;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(feed(&decoder, input + at, length - at, &used), 0);
        assert_int_equal(used, lengths[i]);
        assert_int_equal(record.ended, i + 1);
        at += used;
    }
    assert_three(&record);
    assert_int_equal(feed(&decoder, input, 0, &used), 0);
    assert_int_equal(used, 0);
}

/* Feeds a head whose length word says LENGTH; returns what the decoder says to it. */
static int feed_length(struct record *record, int type, uint32_t length, size_t bytes)
{
    struct rpc_decoder decoder = decoder_for(record);
    uint8_t head[28];
    size_t used;
    int r;

    put_message(head, type, BS_OK, NULL, 0);
    for (size_t byte = 0; byte < 4; byte++)
        head[byte] = (uint8_t)(length >> (24 - 8 * byte));
    r = feed(&decoder, head, bytes, &used);
    assert_int_equal(used, bytes);
    return r;
}

static void test_length_limits(void **state)
{
    struct record record;

    (void)state;
    assert_int_equal(feed_length(&record, BS_CALL, 28, 28), 0);
    assert_int_equal(record.ended, 1);
    assert_int_equal(feed_length(&record, BS_CALL, BS_MESSAGE_MAX, 28), 0);
    assert_int_equal(record.begun, 1);
    assert_int_equal(record.announced, BS_MESSAGE_MAX - 28);
    assert_int_equal(feed_length(&record, BS_STREAM, BS_FRAME_MESSAGE_MAX, 28), 0);
    assert_int_equal(record.announced, BS_FRAME_MESSAGE_MAX - 28);

    assert_int_equal(feed_length(&record, BS_STREAM, BS_FRAME_MESSAGE_MAX + 1, 28), -EPROTO);
    assert_int_equal(record.begun, 0);
}

static void test_bad_length_ends_at_once(void **state)
{
    const uint32_t lengths[] = {0,          1,          4,         27, BS_MESSAGE_MAX + 1,
                                0x7fffffff, 0x80000000, 0xffffffff};
    struct record record;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(lengths); i++) {
        assert_int_equal(feed_length(&record, BS_CALL, lengths[i], 3), 0);
        assert_int_equal(feed_length(&record, BS_CALL, lengths[i], 4), -EPROTO);
        assert_int_equal(record.begun, 0);
    }
}

static void test_unknown_type_and_status(void **state)
{
    const int types[] = {-1, 4, 5, INT32_MAX, INT32_MIN};
    const int statuses[] = {-1, 3, INT32_MAX, INT32_MIN};
    struct record record;
    uint8_t message[28];
    size_t used;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(types); i++) {
        struct rpc_decoder decoder = decoder_for(&record);

        put_message(message, types[i], BS_OK, NULL, 0);
        assert_int_equal(feed(&decoder, message, sizeof message, &used), -EPROTO);
        assert_int_equal(record.begun, 0);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(statuses); i++) {
        struct rpc_decoder decoder = decoder_for(&record);

        put_message(message, BS_CALL, statuses[i], NULL, 0);
        assert_int_equal(feed(&decoder, message, sizeof message, &used), -EPROTO);
        assert_int_equal(record.begun, 0);
    }
}

static void test_callbacks_end_decoding(void **state)
{
    uint8_t input[256];
    size_t length = put_three(input), used;
    struct record record;
    struct rpc_decoder decoder;

    (void)state;
    decoder = decoder_for(&record);
    record.fail_begin = -ENOMEM;
    assert_int_equal(feed(&decoder, input, length, &used), -ENOMEM);
    assert_int_equal(used, 28);

    decoder = decoder_for(&record);
    record.fail_payload = -EPIPE;
    assert_int_equal(feed(&decoder, input, length, &used), -EPIPE);
    assert_int_equal(used, 41);
    assert_int_equal(record.ended, 0);

    decoder = decoder_for(&record);
    record.fail_end = -ECANCELED;
    assert_int_equal(feed(&decoder, input, length, &used), -ECANCELED);
    assert_int_equal(used, 41);
    assert_int_equal(record.begun, 1);
}

/* Valid messages and noise in random pieces: what is announced is what comes, whatever happens. */
static void test_garbage(void **state)
{
    static uint8_t input[4096];
    unsigned seed = 20260101;
    struct record record;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        struct rpc_decoder decoder = decoder_for(&record);
        size_t length = put_three(input), at = 0, used;
        int r = 0;

        for (size_t i = length; i < sizeof input; i++)
            input[i] = (uint8_t)rand_r(&seed);
        for (int flips = rand_r(&seed) % 4; flips > 0; flips--)
            input[(unsigned)rand_r(&seed) % length] = (uint8_t)rand_r(&seed);
        while (r == 0 && at < sizeof input) {
            size_t piece = (unsigned)rand_r(&seed) % 64 + 1;

            piece = piece < sizeof input - at ? piece : sizeof input - at;
            r = feed(&decoder, input + at, piece, &used);
            assert_true(used <= piece && (r < 0 || used == piece));
            at += used;
        }
        assert_true(r == 0 || r == -EPROTO);
    }
}

static void test_frames(void **state)
{
    const struct bs_frame frames[] = {
        {BS_FRAME_DATA, 5, 0x0102030405060708, 0},
        {BS_FRAME_LIMIT, 0xffffffff, UINT64_MAX, UINT64_MAX - 1},
        {0, 0, 0, 0x8000000080000000},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(frames); i++) {
        struct bs_header header = {BS_PROGRAM, BS_VERSION, BS_PROC_BISTREAM_OPEN,
                                   BS_STREAM,  0xfffffffe, BS_CONTINUE};
        struct bs_frame frame = frames[i], back;
        uint8_t ours[RPC_FRAME_OVERHEAD], theirs[RPC_FRAME_OVERHEAD];
        u_int length = BS_FRAME_MESSAGE_MAX;
        XDR xdr;

        /* written by hand here, and as XDR writes it */
        rpc_frame_encode(ours, 0xfffffffe, &frame, BS_FRAME_MESSAGE_MAX - RPC_FRAME_OVERHEAD);
        xdrmem_create(&xdr, (char *)theirs, sizeof theirs, XDR_ENCODE);
        assert_true(xdr_u_int(&xdr, &length) && xdr_bs_header(&xdr, &header) &&
                    xdr_bs_frame(&xdr, &frame));
        assert_int_equal(xdr_getpos(&xdr), RPC_FRAME_OVERHEAD);
        xdr_destroy(&xdr);
        assert_memory_equal(ours, theirs, sizeof ours);

        rpc_frame_decode(ours + BS_LENGTH_SIZE + BS_HEADER_SIZE, &back);
        assert_int_equal(back.type, frame.type);
        assert_int_equal(back.channel, frame.channel);
        assert_true(back.offset == frame.offset && back.limit == frame.limit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_in_one_buffer),
        cmocka_unit_test(test_every_split),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_stop_after_message),
        cmocka_unit_test(test_length_limits),
        cmocka_unit_test(test_bad_length_ends_at_once),
        cmocka_unit_test(test_unknown_type_and_status),
        cmocka_unit_test(test_callbacks_end_decoding),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
