/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* How often something is tried again, and how often the log says so. */
#include "config.h"

#include "tests/unit/unit.h"

#include "daemon/retry.h"
#include "common/loop.h"

#define HOUR (3600 * LOOP_SECOND)

/* While somebody may look on, the next attempt is never far; later it is as far as was said. */
static void test_brisk_then_rare(void **state)
{
    uint64_t start = 7 * HOUR, now = start;
    struct retry retry;
    unsigned last = 0;

    (void)state;
    retry_begin(&retry, now);
    assert_int_equal(retry_next(&retry, now, 300000), 500);
    assert_int_equal(retry_next(&retry, now, 300000), 1000);
    while (now < start + 4 * 60 * LOOP_SECOND) {
        last = retry_next(&retry, now, 300000);
        assert_true(last <= 5000);
        now += last * LOOP_MS;
    }
    assert_int_equal(last, 5000);
    for (unsigned i = 0; i < 80; i++) {
        last = retry_next(&retry, now, 300000);
        now += last * LOOP_MS;
    }
    assert_int_equal(last, 300000);
}

/* A day of the same failure fills no log; another reason is said at once. */
static void test_quiet(void **state)
{
    uint64_t start = HOUR, now = start;
    unsigned lines = 0;
    struct retry retry;

    (void)state;
    retry_begin(&retry, now);
    assert_true(retry_is_news(&retry, "no route to host", now));
    assert_false(retry_is_news(&retry, "no route to host", now + LOOP_SECOND));
    assert_true(retry_is_news(&retry, "connection refused", now + 2 * LOOP_SECOND));
    for (; now < start + 24 * HOUR; now += 30 * LOOP_SECOND)
        lines += retry_is_news(&retry, "connection refused", now);
    assert_in_range(lines, 24, 32);
    assert_true(retry_is_news(&retry, "no route to host", now));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_brisk_then_rare),
        cmocka_unit_test(test_quiet),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
