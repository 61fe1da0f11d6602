/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Errors on the wire: which errno survives the way there and back, what 39/7 stands for, and a
 * peer's texts.
 */
#include "config.h"

#include "rpc/error.h"
#include "rpc/message.h"
#include "tests/unit/failmalloc.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct bs_header call = {BS_PROGRAM, BS_VERSION, 42, BS_CALL, 7, BS_OK};

/* Encodes ERR, checks the header, and decodes the payload with XDR alone. */
static void encode(const struct error *err, struct bs_error *ret)
{
    const uint8_t head[] = {0x20, 0, 0x8b, 0x15, 0, 0, 0, 1, 0, 0, 0, 42,
                            0,    0, 0,    1,    0, 0, 0, 7, 0, 0, 0, 1};
    uint8_t *data;
    size_t length;

    assert_int_equal(rpc_error_encode(&call, err, &data, &length), 0);
    assert_memory_equal(data + 4, head, sizeof head);
    memset(ret, 0, sizeof *ret);
    assert_int_equal(rpc_payload_decode(data + 28, length - 28, (xdrproc_t)xdr_bs_error, ret), 0);
    free(data);
}

/* As a peer may send it; returns what rpc_error_decode() does. */
static int decode(int code, int domain, const char *text, struct error *ret)
{
    bs_error_text message = (char *)(uintptr_t)text;
    struct bs_error body = {.code = code, .domain = domain, .message = text ? &message : NULL};
    uint8_t *data;
    size_t length;
    int r;

    assert_int_equal(rpc_message_encode(&call, (xdrproc_t)xdr_bs_error, &body, &data, &length), 0);
    r = rpc_error_decode(data + 28, length - 28, ret);
    free(data);
    return r;
}

static int there_and_back(int code, int *ret_number)
{
    struct error err, back;
    struct bs_error body;
    int r;

    error_set(&err, code, "the sentence");
    encode(&err, &body);
    assert_int_equal(body.domain, code == ENOSYS ? 7 : 10);
    r = decode(body.code, body.domain, *body.message, &back);
    assert_int_equal(r, -back.code);
    assert_string_equal(back.text, "the sentence");
    *ret_number = body.code;
    xdr_free((xdrproc_t)xdr_bs_error, (char *)&body);
    return back.code;
}

static void test_table(void **state)
{
    static const struct {
        int code, number;
    } table[] = {
        {ENOMEM, 2},     {EINVAL, 8},  {EEXIST, 28},     {EPERM, 29},    {EBADMSG, 32},
        {EIO, 38},       {ENOSYS, 39}, {ENOENT, 42},     {EBUSY, 55},    {ETIMEDOUT, 68},
        {ECANCELED, 78}, {EACCES, 88}, {EOPNOTSUPP, 84}, {EREMOTEIO, 9},
    };
    int number;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(table); i++) {
        assert_int_equal(there_and_back(table[i].code, &number), table[i].code);
        assert_int_equal(number, table[i].number);
    }
}

/* Every errno arrives as itself or as EREMOTEIO, and none but ENOSYS as 39/7. */
static void test_every_errno(void **state)
{
    int kept = 0, number;

    (void)state;
    for (int code = 1; code < 134; code++) {
        int back = there_and_back(code, &number);

        assert_true(back == code || (back == EREMOTEIO && number == 9));
        assert_int_equal(number == 39, code == ENOSYS);
        kept += back == code;
    }
    assert_true(kept >= 15);
}

/* Every number of a peer's becomes an error, and no two of them the same one but EREMOTEIO. */
static void test_every_number(void **state)
{
    bool seen[4096] = {false};
    struct error err;

    (void)state;
    for (int number = -2; number < 200; number++) {
        int r = decode(number, 10, "text", &err);

        assert_int_equal(r, -err.code);
        assert_true(err.code > 0 && err.code != ENOSYS);
        assert_true(err.code == EREMOTEIO || !seen[err.code]);
        seen[err.code] = true;
    }
}

static void test_unknown_here_is_decided_by_code_and_domain(void **state)
{
    struct error err;

    (void)state;
    assert_int_equal(decode(39, 7, "unbekannte Prozedur: 2", &err), -ENOSYS);
    assert_string_equal(err.text, "unbekannte Prozedur: 2");
    assert_int_equal(decode(39, 10, "unknown procedure: 2", &err), -EREMOTEIO);
    assert_int_equal(decode(38, 7, "unknown procedure: 2", &err), -EIO);
}

static void test_layout(void **state)
{
    struct error err;
    struct bs_error body;

    (void)state;
    error_set(&err, ENOENT, "there is no domain 'web' here: see bistream list --all");
    encode(&err, &body);
    assert_string_equal(*body.message, err.text);
    assert_int_equal(body.level, 2);
    assert_null(body.dom);
    assert_string_equal(*body.str1, "%s");
    assert_string_equal(*body.str2, err.text);
    assert_null(body.str3);
    assert_int_equal(body.int1, -1);
    assert_int_equal(body.int2, -1);
    assert_null(body.net);
    xdr_free((xdrproc_t)xdr_bs_error, (char *)&body);
}

static void test_texts(void **state)
{
    char *long_text = calloc(1, 10000);
    struct error err;

    (void)state;
    assert_non_null(long_text);
    decode(9, 10, "a\nb\rc\033[2Jd\177e", &err);
    assert_string_equal(err.text, "a b c [2Jd e");
    decode(9, 10, "Gerät \302\2332J fehlt", &err);
    assert_string_equal(err.text, "Gerät   2J fehlt");
    decode(9, 10, "100%s %n", &err);
    assert_string_equal(err.text, "100%s %n");
    decode(9, 10, NULL, &err);
    assert_string_equal(err.text, "the peer reported error 9 of domain 10 without a word");
    decode(55, 10, "", &err);
    assert_string_equal(err.text, "the peer reported error 55 of domain 10 without a word");
    memset(long_text, 'x', 9999);
    decode(9, 10, long_text, &err);
    assert_int_equal(strlen(err.text), ERROR_TEXT_MAX - 1);
    free(long_text);
}

static void test_undecodable(void **state)
{
    uint8_t *data;
    size_t length;
    struct error err;

    (void)state;
    error_set(&err, EIO, "text");
    assert_int_equal(rpc_error_encode(&call, &err, &data, &length), 0);
    for (size_t n = 0; n < length - 28; n++) {
        assert_int_equal(rpc_error_decode(data + 28, n, &err), -EBADMSG);
        assert_string_equal(err.text, "the peer reported an error that can't be decoded");
    }
    free(data);
}

static void test_no_memory(void **state)
{
    uint8_t *data = NULL;
    size_t length;
    struct error err, back;
    long live = failmalloc_live();
    int r;

    (void)state;
    if (!failmalloc_works())
        skip();
    error_set(&err, EIO, "text");
    for (size_t n = 0;; n++) {
        failmalloc_arm(n);
        r = rpc_error_encode(&call, &err, &data, &length);
        failmalloc_disarm();
        if (r == 0)
            break;
        assert_int_equal(r, -ENOMEM);
        assert_int_equal(failmalloc_live(), live);
    }
    for (size_t n = 0;; n++) {
        bool failed;

        failmalloc_arm(n);
        r = rpc_error_decode(data + 28, length - 28, &back);
        failed = failmalloc_disarm();
        assert_int_equal(failmalloc_live(), live + 1);
        assert_int_equal(r, -back.code);
        assert_true(back.code == EIO || back.code == ENOMEM);
        if (!failed)
            break;
    }
    assert_int_equal(back.code, EIO);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_every_errno),
        cmocka_unit_test(test_every_number),
        cmocka_unit_test(test_unknown_here_is_decided_by_code_and_domain),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_undecodable),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
