/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Whole messages: encoding and decoding payloads, the limits, the one canonical form, what a
 * peer's word can make us allocate, and memory that runs out.
 */
#include "config.h"

#include "rpc/message.h"
#include "tests/unit/failmalloc.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct bs_header call = {
    .prog = BS_PROGRAM,
    .vers = BS_VERSION,
    .procedure = BS_PROC_MIGRATE_PREPARE,
    .type = BS_CALL,
    .serial = 3,
};

/* The call with the most in it: strings, arrays of structures, fixed opaques. */
static struct bs_migrate_prepare_args prepare_args(struct bs_cookie_disk disks[2])
{
    struct bs_migrate_prepare_args args = {
        .id = "0123456789abcde",
        .uuid = "fedcba987654321",
        .name = (char *)(uintptr_t) "guest",
        .definition = (char *)(uintptr_t) "{\"name\": \"guest\"}",
        .cookie.disks = {.disks_len = 2, .disks_val = disks},
        .cookie.flags = BS_COOKIE_RUNNING,
    };

    disks[0] = (struct bs_cookie_disk){.target = (char *)(uintptr_t) "vda",
                                       .size = UINT64_C(1) << 40,
                                       .format = BS_FORMAT_QCOW2,
                                       .flags = BS_DISK_COPY,
                                       .backing = (char *)(uintptr_t) ""};
    disks[1] = disks[0];
    disks[1].target = (char *)(uintptr_t) "vdb";
    return args;
}

static int encode_prepare(uint8_t **ret_data, size_t *ret_length)
{
    struct bs_cookie_disk disks[2];
    struct bs_migrate_prepare_args args = prepare_args(disks);

    return rpc_message_encode(&call, (xdrproc_t)xdr_bs_migrate_prepare_args, &args, ret_data,
                              ret_length);
}

static void test_round_trip(void **state)
{
    struct bs_migrate_prepare_args back = {0};
    uint8_t *data;
    size_t length;

    (void)state;
    assert_int_equal(encode_prepare(&data, &length), 0);
    assert_int_equal(
        rpc_payload_decode(data + 28, length - 28, (xdrproc_t)xdr_bs_migrate_prepare_args, &back),
        0);
    assert_string_equal(back.name, "guest");
    assert_string_equal(back.definition, "{\"name\": \"guest\"}");
    assert_memory_equal(back.uuid, "fedcba987654321", 16);
    assert_int_equal(back.cookie.disks.disks_len, 2);
    assert_string_equal(back.cookie.disks.disks_val[1].target, "vdb");
    assert_true(back.cookie.disks.disks_val[1].size == UINT64_C(1) << 40);
    xdr_free((xdrproc_t)xdr_bs_migrate_prepare_args, (char *)&back);
    free(data);
}

/* Every payload that ends early, or goes on, is refused, and nothing is left allocated. */
static void test_wrong_length(void **state)
{
    struct bs_migrate_prepare_args back = {0};
    uint8_t *data, longer[512] = {0};
    size_t length;
    long live;

    (void)state;
    assert_int_equal(encode_prepare(&data, &length), 0);
    live = failmalloc_live();
    memcpy(longer, data + 28, length - 28);
    for (size_t n = 0; n < sizeof longer; n++) {
        int r = rpc_payload_decode(longer, n, (xdrproc_t)xdr_bs_migrate_prepare_args, &back);

        if (n == length - 28) {
            assert_int_equal(r, 0);
            xdr_free((xdrproc_t)xdr_bs_migrate_prepare_args, (char *)&back);
        } else {
            assert_int_equal(r, -EBADMSG);
        }
        memset(&back, 0, sizeof back);
    }
    assert_int_equal(failmalloc_live(), live);
    free(data);
}

/* Each byte changed in turn: refused, or it decodes to something that encodes to these bytes. */
static void test_changed_bytes(void **state)
{
    uint8_t *data, *again;
    size_t length, again_length;
    long live = failmalloc_live();

    (void)state;
    assert_int_equal(encode_prepare(&data, &length), 0);
    for (size_t at = 28; at < length; at++) {
        for (unsigned change = 1; change < 256; change++) {
            struct bs_migrate_prepare_args back = {0};

            data[at] ^= (uint8_t)change;
            if (rpc_payload_decode(data + 28, length - 28, (xdrproc_t)xdr_bs_migrate_prepare_args,
                                   &back) == 0) {
                assert_int_equal(rpc_message_encode(&call, (xdrproc_t)xdr_bs_migrate_prepare_args,
                                                    &back, &again, &again_length),
                                 0);
                assert_int_equal(again_length, length);
                assert_memory_equal(again, data, length);
                free(again);
                xdr_free((xdrproc_t)xdr_bs_migrate_prepare_args, (char *)&back);
            }
            data[at] ^= (uint8_t)change;
        }
    }
    free(data);
    assert_int_equal(failmalloc_live(), live);
}

static int decode_name(const char *payload, size_t length)
{
    struct bs_domain_name_args args = {0};
    int r = rpc_payload_decode((const uint8_t *)payload, length, (xdrproc_t)xdr_bs_domain_name_args,
                               &args);

    if (r == 0)
        xdr_free((xdrproc_t)xdr_bs_domain_name_args, (char *)&args);
    return r;
}

static void test_one_canonical_form(void **state)
{
    (void)state;
    assert_int_equal(decode_name("\0\0\0\3abc\0", 8), 0);
    assert_int_equal(decode_name("\0\0\0\0", 4), 0);
    assert_int_equal(decode_name("\0\0\0\3a\0c\0", 8), -EBADMSG); /* NUL inside */
    assert_int_equal(decode_name("\0\0\0\3ab\0\0", 8), -EBADMSG); /* NUL at the end */
    assert_int_equal(decode_name("\0\0\0\5abcd\0\0\0\0", 12), -EBADMSG);
    assert_int_equal(decode_name("\0\0\0\3abcX", 8), -EBADMSG); /* padding */
}

/* Of an optional part, 1 says "here", 0 says "not here", and nothing else says anything. */
static void test_present_is_one(void **state)
{
    bs_error_text text = (char *)(uintptr_t) "text";
    struct bs_error error = {.message = &text}, back = {0};
    uint8_t *data;
    size_t length;

    (void)state;
    assert_int_equal(rpc_message_encode(&call, (xdrproc_t)xdr_bs_error, &error, &data, &length), 0);
    assert_int_equal(data[28 + 8 + 3], 1);
    data[28 + 8 + 3] = 2;
    assert_int_equal(rpc_payload_decode(data + 28, length - 28, (xdrproc_t)xdr_bs_error, &back),
                     -EBADMSG);
    free(data);
}

static void test_string_limit(void **state)
{
    char payload[4 + 260] = {0, 0, 1, 0};

    (void)state;
    memset(payload + 4, 'n', 260);
    assert_int_equal(decode_name(payload, 4 + 256), 0);
    payload[3] = 1;
    memset(payload + 4 + 257, 0, 3);
    assert_int_equal(decode_name(payload, 4 + 260), -EBADMSG);
}

/* A payload of LENGTH bytes whose every word is WORD is refused without much having been
 * allocated on its word. */
static void refuse_cheaply(xdrproc_t proc, void *zeroed, uint32_t word, size_t most)
{
    uint8_t payload[100];
    size_t before = failmalloc_bytes();

    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(word >> (24 - 8 * (i % 4)));
    assert_int_equal(rpc_payload_decode(payload, sizeof payload, proc, zeroed), -EBADMSG);
    assert_true(failmalloc_bytes() - before <= most);
}

static void test_counts_that_lie(void **state)
{
    struct bs_domain_list_ret domains = {0};
    struct bs_forward_list_ret forwards = {0};
    struct bs_job_list_ret jobs = {0};
    struct bs_cookie_source cookie = {0};
    struct bs_domain_info_ret info = {0};
    struct bs_error error = {0};

    (void)state;
    /* the largest that each type's limits allow, all of it missing */
    refuse_cheaply((xdrproc_t)xdr_bs_domain_list_ret, &domains, BS_DOMAINS_MAX,
                   BS_DOMAINS_MAX * sizeof(struct bs_domain) + BS_NAME_MAX + 1);
    refuse_cheaply((xdrproc_t)xdr_bs_forward_list_ret, &forwards, BS_FORWARDS_MAX, 65536);
    refuse_cheaply((xdrproc_t)xdr_bs_job_list_ret, &jobs, BS_JOBS_MAX,
                   BS_JOBS_MAX * sizeof(struct bs_job) + BS_NAME_MAX + 1);
    refuse_cheaply((xdrproc_t)xdr_bs_cookie_source, &cookie, BS_DISKS_MAX, 8192);
    refuse_cheaply((xdrproc_t)xdr_bs_domain_info_ret, &info, BS_DEFINITION_MAX,
                   BS_DEFINITION_MAX + 1);
    refuse_cheaply((xdrproc_t)xdr_bs_error, &error, BS_ERROR_TEXT_MAX, BS_ERROR_TEXT_MAX + 64);
    /* and more than that: nothing at all */
    refuse_cheaply((xdrproc_t)xdr_bs_domain_list_ret, &domains, BS_DOMAINS_MAX + 1, 0);
    refuse_cheaply((xdrproc_t)xdr_bs_domain_list_ret, &domains, UINT32_MAX, 0);
    refuse_cheaply((xdrproc_t)xdr_bs_domain_info_ret, &info, UINT32_MAX, 0);
    refuse_cheaply((xdrproc_t)xdr_bs_error, &error, UINT32_MAX, 64);
}

/* The longest message that may be, and one byte (in XDR: one word) more. */
static void test_message_limit(void **state)
{
    enum { FIXED = 28 + 44 + 3 * 4 };
    const size_t third = 349504;
    char *big = calloc(1, BS_MESSAGE_MAX), *rest = calloc(1, BS_MESSAGE_MAX);
    struct bs_error error = {.message = &big, .str1 = &big, .str2 = &rest};
    size_t length = 0;
    uint8_t *data = NULL;

    (void)state;
    assert_non_null(big);
    assert_non_null(rest);
    memset(big, 'b', third);
    memset(rest, 'r', BS_MESSAGE_MAX - FIXED - 2 * third);
    assert_int_equal(rpc_message_encode(&call, (xdrproc_t)xdr_bs_error, &error, &data, &length), 0);
    assert_int_equal(length, BS_MESSAGE_MAX);
    free(data);
    strcat(rest, "!");
    assert_int_equal(rpc_message_encode(&call, (xdrproc_t)xdr_bs_error, &error, &data, &length),
                     -E2BIG);
    free(big);
    free(rest);
}

/* Of what the daemon lists, the longest that the types allow. */
static void test_job_lists_fit(void **state)
{
    static char name[BS_NAME_MAX + 1], uri[BS_URI_MAX + 1], reason[BS_REASON_MAX + 1],
        target[BS_TARGET_MAX + 1];
    struct bs_progress parts[65];
    struct bs_job jobs[BS_JOBS_MAX];
    struct bs_job_info infos[BS_COMPLETED_MAX];
    struct bs_job_list_ret list = {{BS_JOBS_MAX, jobs}};
    struct bs_job_info_ret info = {{BS_COMPLETED_MAX, infos}};
    size_t length;
    uint8_t *data;

    (void)state;
    memset(name, 'n', BS_NAME_MAX);
    memset(uri, 'u', BS_URI_MAX);
    memset(reason, 'r', BS_REASON_MAX);
    memset(target, 't', BS_TARGET_MAX);
    for (size_t i = 0; i < 65; i++)
        parts[i] = (struct bs_progress){.target = target};
    for (size_t i = 0; i < BS_JOBS_MAX; i++)
        jobs[i] =
            (struct bs_job){.name = name, .destination = uri, .phase = name, .reason = reason};
    for (size_t i = 0; i < BS_COMPLETED_MAX; i++)
        infos[i] = (struct bs_job_info){.name = name,
                                        .destination = uri,
                                        .phase = name,
                                        .mode = name,
                                        .fallback = reason,
                                        .error = reason,
                                        .parts = {65, parts}};
    assert_int_equal(
        rpc_message_encode(&call, (xdrproc_t)xdr_bs_job_list_ret, &list, &data, &length), 0);
    free(data);
    assert_int_equal(
        rpc_message_encode(&call, (xdrproc_t)xdr_bs_job_info_ret, &info, &data, &length), 0);
    free(data);
}

static void test_payload_too_long(void **state)
{
    uint8_t *zeros = calloc(1, BS_MESSAGE_MAX + 1);
    struct bs_domain_name_args args = {0};

    (void)state;
    assert_non_null(zeros);
    assert_int_equal(
        rpc_payload_decode(zeros, BS_MESSAGE_MAX + 1, (xdrproc_t)xdr_bs_domain_name_args, &args),
        -EBADMSG);
    free(zeros);
}

static void test_value_that_xdr_refuses(void **state)
{
    struct bs_domain_name_args args = {.name = NULL};
    char long_name[BS_NAME_MAX + 2] = {0};
    uint8_t *data = NULL;
    size_t length = 0;

    (void)state;
    if (!UNDER_SANITIZER) /* which look at the string before XDR does */
        assert_int_equal(
            rpc_message_encode(&call, (xdrproc_t)xdr_bs_domain_name_args, &args, &data, &length),
            -EINVAL);
    memset(long_name, 'n', BS_NAME_MAX + 1);
    args.name = long_name;
    assert_int_equal(
        rpc_message_encode(&call, (xdrproc_t)xdr_bs_domain_name_args, &args, &data, &length),
        -EINVAL);
    assert_null(data);
}

static void test_no_payload(void **state)
{
    uint8_t *data;
    size_t length;

    (void)state;
    assert_int_equal(rpc_message_encode(&call, NULL, NULL, &data, &length), 0);
    assert_int_equal(length, 28);
    assert_memory_equal(data, "\0\0\0\x1c\x20\0\x8b\x15\0\0\0\1\0\0\0\x0a\0\0\0\0\0\0\0\3\0\0\0\0",
                        28);
    free(data);
}

static void test_no_memory(void **state)
{
    uint8_t *data = NULL;
    size_t length, n;
    long live;

    (void)state;
    if (!failmalloc_works())
        skip();
    live = failmalloc_live();
    for (n = 0;; n++) {
        int r;

        failmalloc_arm(n);
        r = encode_prepare(&data, &length);
        failmalloc_disarm(); /* xdr_sizeof() does without the one that it asks for */
        if (r == 0)
            break;
        assert_int_equal(r, -ENOMEM);
        assert_int_equal(failmalloc_live(), live);
    }
    for (n = 0;; n++) {
        struct bs_migrate_prepare_args back = {0};
        int r;

        failmalloc_arm(n);
        r = rpc_payload_decode(data + 28, length - 28, (xdrproc_t)xdr_bs_migrate_prepare_args,
                               &back);
        if (!failmalloc_disarm()) {
            assert_int_equal(r, 0);
            xdr_free((xdrproc_t)xdr_bs_migrate_prepare_args, (char *)&back);
            break;
        }
        if (r == 0) /* again: xdr_sizeof() */
            xdr_free((xdrproc_t)xdr_bs_migrate_prepare_args, (char *)&back);
        else
            assert_int_equal(r, -ENOMEM);
        assert_int_equal(failmalloc_live(), live + 1);
    }
    assert_true(n >= 7);
    free(data);
}

static void test_clear(void **state)
{
    struct rpc_message message = {.header = call, .payload = malloc(5), .length = 5};

    (void)state;
    rpc_message_clear(&message);
    assert_null(message.payload);
    assert_int_equal(message.length, 0);
    rpc_message_clear(&message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_wrong_length),
        cmocka_unit_test(test_changed_bytes),
        cmocka_unit_test(test_one_canonical_form),
        cmocka_unit_test(test_present_is_one),
        cmocka_unit_test(test_string_limit),
        cmocka_unit_test(test_counts_that_lie),
        cmocka_unit_test(test_message_limit),
        cmocka_unit_test(test_job_lists_fit),
        cmocka_unit_test(test_payload_too_long),
        cmocka_unit_test(test_value_that_xdr_refuses),
        cmocka_unit_test(test_no_payload),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
