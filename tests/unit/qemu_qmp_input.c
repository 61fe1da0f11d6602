/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* qemu/qmp_input.h: messages in pieces of any size, garbage, and messages without an end. */
#include "config.h"

#include "qemu/qmp_input.h"
#include "qemu/qmp.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

static void feed(struct qmp_input *input, const char *bytes, size_t size)
{
    while (size > 0) {
        size_t room = 0;
        char *to = qmp_input_reserve(input, &room);

        assert_non_null(to);
        assert_true(room > 0);
        if (room > size)
            room = size;
        memcpy(to, bytes, room);
        qmp_input_commit(input, room);
        bytes += room;
        size -= room;
    }
}

/* Takes the next message, which must say {"n": NUMBER}. */
static void expect_number(struct qmp_input *input, json_int_t number)
{
    json_t *message;

    assert_int_equal(qmp_input_next(input, &message), 1);
    assert_int_equal(json_integer_value(json_object_get(message, "n")), number);
    json_decref(message);
}

static void test_every_split(void **state)
{
    static const char text[] = "{\"n\": 1}\r\n{\"n\": 2}\n{\"n\": 3}\r\n";
    const size_t ends[] = {10, 19, 29};

    (void)state;
    for (size_t cut = 0; cut < sizeof text; cut++) {
        struct qmp_input input = {.data = NULL};
        json_int_t next = 1;
        json_t *message;

        feed(&input, text, cut);
        while (next <= 3 && ends[next - 1] <= cut)
            expect_number(&input, next++);
        assert_int_equal(qmp_input_next(&input, &message), 0);
        feed(&input, text + cut, sizeof text - 1 - cut);
        while (next <= 3)
            expect_number(&input, next++);
        assert_int_equal(qmp_input_next(&input, &message), 0);
        qmp_input_release(&input);
    }
}

static void test_byte_by_byte(void **state)
{
    struct qmp_input input = {.data = NULL};
    char text[32];

    (void)state;
    for (int i = 0; i < 2000; i++) { /* many times the first capacity */
        int length = snprintf(text, sizeof text, "{\"n\":%d}\n", i);
        json_t *message;

        for (int at = 0; at < length - 1; at++) {
            feed(&input, text + at, 1);
            assert_int_equal(qmp_input_next(&input, &message), 0);
        }
        feed(&input, text + length - 1, 1);
        expect_number(&input, i);
    }
    assert_true(input.capacity <= 4096);
    qmp_input_release(&input);
}

static void test_garbage(void **state)
{
    static const char *const lines[] = {"",          "nonsense",     "[1]",       "12",
                                        "{\"n\": 1", "{\"n\": 1} x", "\xff\xfe{}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(lines); i++) {
        struct qmp_input input = {.data = NULL};
        json_t *message;

        feed(&input, lines[i], strlen(lines[i]));
        feed(&input, "\n", 1);
        assert_int_equal(qmp_input_next(&input, &message), -EPROTO);
        qmp_input_release(&input);
    }
}

static void test_limit(void **state)
{
    struct qmp_input input = {.data = NULL};
    json_t *message;
    size_t room, total = 0;
    char *to;

    (void)state;
    while ((to = qmp_input_reserve(&input, &room))) {
        memset(to, ' ', room);
        qmp_input_commit(&input, room);
        assert_int_equal(qmp_input_next(&input, &message), 0);
        total += room;
    }
    assert_int_equal(errno, EMSGSIZE);
    assert_int_equal(total, QMP_MESSAGE_MAX);
    qmp_input_release(&input);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
