/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The wire can't change unnoticed: every message of protocol.x, with the values of
 * rpc_golden_values.c, encodes to the bytes in golden.txt and decodes from them again.
 *
 * golden.txt has two lines per message: its name, and its bytes in hex.  When the wire changes on
 * purpose, which it may until the first release only, "rpc_golden --write >golden.txt" makes it
 * anew; git diff then shows which messages have changed.
 */
#include "config.h"

#include "rpc/message.h"
#include "tests/unit/rpc_golden_values.h"
#include "tests/unit/unit.h"
#include "tests/unit/vectors.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 2048 };

static size_t encode_message(const struct golden *message, uint8_t out[LONGEST])
{
    uint8_t *data = NULL;
    size_t length = 0;

    if (rpc_message_encode(&message->header, message->proc, message->value, &data, &length) < 0 ||
        length > LONGEST)
        return 0;
    memcpy(out, data, length);
    free(data);
    return length;
}

static size_t encode_frame(const struct golden_frame *frame, uint8_t out[LONGEST])
{
    size_t length = strlen(frame->data);

    rpc_frame_encode(out, 7, &frame->frame, length);
    memcpy(out + RPC_FRAME_OVERHEAD, frame->data, length);
    return RPC_FRAME_OVERHEAD + length;
}

static void put(const char *name, const uint8_t *data, size_t length)
{
    printf("%s\n  ", name);
    vectors_put_hex(stdout, data, length);
    printf("\n");
}

static int write_golden(void)
{
    uint8_t data[LONGEST];

    printf("# The bytes of every message of rpc/protocol.x: see rpc_golden.c.\n");
    for (size_t i = 0; i < golden_message_count; i++)
        put(golden_messages[i].name, data, encode_message(&golden_messages[i], data));
    for (size_t i = 0; i < golden_frame_count; i++)
        put(golden_frames[i].name, data, encode_frame(&golden_frames[i], data));
    return 0;
}

/* Finds the bytes of NAME.  Returns 0 when golden.txt has none. */
static size_t find(const char *name, uint8_t out[LONGEST])
{
    FILE *file = vectors_open("golden.txt");
    char *line = NULL;
    size_t size = 0, length = 0;

    while (length == 0 && vectors_line(file, &line, &size))
        if (strcmp(line, name) == 0 && vectors_line(file, &line, &size))
            length = vectors_hex(line + strspn(line, " "), out, LONGEST);
    free(line);
    fclose(file);
    return length;
}

static void compare(const char *name, const uint8_t *ours, size_t length)
{
    uint8_t golden[LONGEST];
    size_t golden_length = find(name, golden), same = 0;

    while (same < length && same < golden_length && ours[same] == golden[same])
        same++;
    if (same == length && same == golden_length)
        return;
    print_error("the wire has changed: %s, from byte %zu on\n  golden.txt: ", name, same);
    vectors_put_hex(stderr, golden, golden_length);
    print_error("\n  now:        ");
    vectors_put_hex(stderr, ours, length);
    print_error("\nif that was meant, in the folder of this program:\n"
                "  ./rpc_golden --write >SOURCES/tests/unit/golden.txt; git diff --word-diff\n");
    fail();
}

static void test_messages(void **state)
{
    uint8_t data[LONGEST];

    (void)state;
    for (size_t i = 0; i < golden_message_count; i++)
        compare(golden_messages[i].name, data, encode_message(&golden_messages[i], data));
}

static void test_frames(void **state)
{
    uint8_t data[LONGEST];

    (void)state;
    for (size_t i = 0; i < golden_frame_count; i++)
        compare(golden_frames[i].name, data, encode_frame(&golden_frames[i], data));
}

/* What golden.txt holds is understood, and means what was meant: it encodes to itself again. */
static void test_decode_back(void **state)
{
    uint8_t data[LONGEST], again[LONGEST];

    (void)state;
    for (size_t i = 0; i < golden_message_count; i++) {
        const struct golden *message = &golden_messages[i];
        size_t length = find(message->name, data);
        void *value = calloc(1, message->size + 1);
        struct golden decoded = *message;

        assert_non_null(value);
        assert_true(length >= 28);
        decoded.value = value;
        if (message->proc)
            assert_int_equal(rpc_payload_decode(data + 28, length - 28, message->proc, value), 0);
        assert_int_equal(encode_message(&decoded, again), length);
        assert_memory_equal(again, data, length);
        if (message->proc)
            xdr_free(message->proc, value);
        free(value);
    }
    for (size_t i = 0; i < golden_frame_count; i++) {
        struct bs_frame frame;

        assert_true(find(golden_frames[i].name, data) >= RPC_FRAME_OVERHEAD);
        rpc_frame_decode(data + 28, &frame);
        assert_int_equal(frame.type, golden_frames[i].frame.type);
        assert_int_equal(frame.channel, golden_frames[i].frame.channel);
        assert_true(frame.offset == golden_frames[i].frame.offset);
        assert_true(frame.limit == golden_frames[i].frame.limit);
    }
}

static bool has_message(const char *procedure, size_t length)
{
    for (size_t i = 0; i < golden_message_count; i++) {
        const char *name = golden_messages[i].name;

        if (strncmp(name, procedure, length) == 0 && name[length] == ' ')
            return true;
    }
    return false;
}

/* A new procedure in protocol.x wants its messages here. */
static void test_no_procedure_is_missing(void **state)
{
    FILE *file = vectors_open("../../rpc/protocol.x");
    char *line = NULL;
    size_t size = 0, procedures = 0;

    (void)state;
    while (vectors_line(file, &line, &size)) {
        const char *name = strstr(line, "BS_PROC_");

        if (!name || !strchr(name, '='))
            continue;
        name += strlen("BS_PROC_");
        if (!has_message(name, strcspn(name, " =")))
            fail_msg("rpc_golden_values.c has no message of this procedure: %s", line);
        procedures++;
    }
    assert_true(procedures >= 20);
    free(line);
    fclose(file);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_decode_back),
        cmocka_unit_test(test_no_procedure_is_missing),
    };

    if (argc == 2 && strcmp(argv[1], "--write") == 0)
        return write_golden();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
