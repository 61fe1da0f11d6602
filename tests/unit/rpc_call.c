/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The call table: serials, replies in any order, time-outs under a clock of the test's own, late
 * and wrong replies, and callbacks that use the table.
 */
#include "config.h"

#include "rpc/call.h"
#include "tests/unit/failmalloc.h"
#include "tests/unit/unit.h"

#include <errno.h>

struct caller {
    struct rpc_calls *calls;
    int again; /* how many more calls done_calls_again() makes */
    int done;
    int result;
    int status;
};

static void done(void *opaque, int result, const struct rpc_message *reply)
{
    struct caller *caller = opaque;

    caller->done++;
    caller->result = result;
    assert_int_equal(result == 0, reply != NULL);
    if (reply)
        caller->status = reply->header.status;
}

static void done_calls_again(void *opaque, int result, const struct rpc_message *reply)
{
    struct caller *caller = opaque;
    uint32_t serial;

    done(opaque, result, reply);
    if (caller->again-- == 0)
        return;
    assert_int_equal(rpc_calls_add(caller->calls, 1, 0, done_calls_again, caller, &serial), 0);
}

static uint32_t add(struct rpc_calls *calls, int procedure, uint64_t deadline,
                    struct caller *caller)
{
    uint32_t serial = 0;

    assert_int_equal(rpc_calls_add(calls, procedure, deadline, done, caller, &serial), 0);
    return serial;
}

static int reply(struct rpc_calls *calls, uint32_t serial, int procedure, int status)
{
    const struct rpc_message message = {
        .header = {BS_PROGRAM, BS_VERSION, procedure, BS_REPLY, serial, status},
    };

    return rpc_calls_reply(calls, &message);
}

static void test_replies_in_any_order(void **state)
{
    struct rpc_calls *calls = rpc_calls_new();
    struct caller a = {0}, b = {0}, c = {0};

    (void)state;
    assert_int_equal(add(calls, 10, UINT64_MAX, &a), 1);
    assert_int_equal(add(calls, 11, UINT64_MAX, &b), 2);
    assert_int_equal(add(calls, 10, UINT64_MAX, &c), 3);
    assert_int_equal(reply(calls, 2, 11, BS_ERROR), 0);
    assert_int_equal(b.done, 1);
    assert_int_equal(b.status, BS_ERROR);
    assert_int_equal(reply(calls, 3, 10, BS_OK), 0);
    assert_int_equal(reply(calls, 1, 10, BS_OK), 0);
    assert_int_equal(a.done + b.done + c.done, 3);
    rpc_calls_free(calls);
    assert_int_equal(a.done + b.done + c.done, 3);
}

static void test_wrong_replies(void **state)
{
    struct rpc_calls *calls = rpc_calls_new();
    struct rpc_message event = {.header = {BS_PROGRAM, BS_VERSION, 10, BS_EVENT, 1, BS_OK}};
    struct caller a = {0};

    (void)state;
    assert_int_equal(reply(calls, 1, 10, BS_OK), -EPROTO); /* never given out */
    assert_int_equal(add(calls, 10, UINT64_MAX, &a), 1);
    assert_int_equal(reply(calls, 0, 10, BS_OK), -EPROTO);
    assert_int_equal(reply(calls, 2, 10, BS_OK), -EPROTO);
    assert_int_equal(reply(calls, UINT32_MAX, 10, BS_OK), -EPROTO);
    assert_int_equal(reply(calls, 1, 11, BS_OK), -EPROTO); /* another procedure's */
    assert_int_equal(rpc_calls_reply(calls, &event), -EPROTO);
    assert_int_equal(a.done, 0);
    assert_int_equal(reply(calls, 1, 10, BS_OK), 0);
    assert_int_equal(reply(calls, 1, 10, BS_OK), -ENOENT); /* said twice */
    assert_int_equal(a.done, 1);
    rpc_calls_free(calls);
}

static void test_time_outs(void **state)
{
    struct rpc_calls *calls = rpc_calls_new();
    struct caller never = {0}, early = {0}, late = {0};

    (void)state;
    assert_true(rpc_calls_deadline(calls) == UINT64_MAX);
    add(calls, 10, UINT64_MAX, &never);
    assert_true(rpc_calls_deadline(calls) == UINT64_MAX);
    add(calls, 11, 2000, &late);
    add(calls, 12, 1000, &early);
    assert_true(rpc_calls_deadline(calls) == 1000);
    rpc_calls_tick(calls, 999);
    assert_int_equal(early.done, 0);
    rpc_calls_tick(calls, 1000);
    assert_int_equal(early.done, 1);
    assert_int_equal(early.result, -ETIMEDOUT);
    assert_int_equal(late.done, 0);
    assert_true(rpc_calls_deadline(calls) == 2000);
    assert_int_equal(reply(calls, 3, 12, BS_OK), -ENOENT); /* too late: harmless */
    assert_int_equal(early.done, 1);
    rpc_calls_tick(calls, UINT64_MAX);
    assert_int_equal(late.result, -ETIMEDOUT);
    assert_int_equal(never.done, 0);
    rpc_calls_free(calls);
    assert_int_equal(never.result, -ECONNRESET);
    assert_int_equal(never.done, 1);
}

static void test_fail(void **state)
{
    struct rpc_calls *calls = rpc_calls_new();
    struct caller a = {0}, b = {0};

    (void)state;
    add(calls, 10, 5, &a);
    add(calls, 11, UINT64_MAX, &b);
    rpc_calls_fail(calls, -ECONNRESET);
    assert_int_equal(a.result, -ECONNRESET);
    assert_int_equal(b.result, -ECONNRESET);
    assert_true(rpc_calls_deadline(calls) == UINT64_MAX);
    rpc_calls_tick(calls, 100);
    rpc_calls_free(calls);
    assert_int_equal(a.done + b.done, 2);
    rpc_calls_free(NULL);
}

/* A call that is made by the end of another one waits for the next round. */
static void test_done_calls_again(void **state)
{
    struct rpc_calls *calls = rpc_calls_new();
    struct caller a = {.calls = calls, .again = 4};
    uint32_t serial;

    (void)state;
    assert_int_equal(rpc_calls_add(calls, 1, 0, done_calls_again, &a, &serial), 0);
    rpc_calls_tick(calls, 1);
    assert_int_equal(a.done, 1);
    rpc_calls_tick(calls, 1);
    assert_int_equal(a.done, 2);
    rpc_calls_fail(calls, -EPIPE);
    assert_int_equal(a.done, 3);
    assert_int_equal(a.result, -EPIPE);
    assert_int_equal(reply(calls, 4, 1, BS_OK), 0);
    assert_int_equal(a.done, 4);
    assert_int_equal(reply(calls, 4, 1, BS_OK), -ENOENT);
    rpc_calls_free(calls); /* with the fifth in it */
    assert_int_equal(a.done, 5);
    assert_int_equal(a.result, -ECONNRESET);
}

static void test_no_memory(void **state)
{
    struct rpc_calls *calls;
    struct caller a = {0};
    uint32_t serial = 77;

    (void)state;
    if (!failmalloc_works())
        skip();
    failmalloc_arm(0);
    assert_null(rpc_calls_new());
    assert_true(failmalloc_disarm());
    calls = rpc_calls_new();
    failmalloc_arm(0);
    assert_int_equal(rpc_calls_add(calls, 1, 5, done, &a, &serial), -ENOMEM);
    assert_true(failmalloc_disarm());
    assert_int_equal(serial, 77);
    rpc_calls_free(calls);
    assert_int_equal(a.done, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies_in_any_order),
        cmocka_unit_test(test_wrong_replies),
        cmocka_unit_test(test_time_outs),
        cmocka_unit_test(test_fail),
        cmocka_unit_test(test_done_calls_again),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
