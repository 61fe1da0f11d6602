/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Progress in words and bars: numbers, bars that never run backwards, lines that fit. */
#include "config.h"

#include "client/progress.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)

static void test_sizes(void **state)
{
    char text[PROGRESS_TEXT_MAX];

    (void)state;
    assert_string_equal(progress_size(0, text), "0 B");
    assert_string_equal(progress_size(1023, text), "1023 B");
    assert_string_equal(progress_size(1024, text), "1.0 KiB");
    assert_string_equal(progress_size(1536, text), "1.5 KiB");
    /* Never "1024.0". */
    assert_string_equal(progress_size(MIB - 1, text), "1.0 MiB");
    assert_string_equal(progress_size(GIB - 1, text), "1.0 GiB");
    assert_string_equal(progress_size(20 * GIB, text), "20.0 GiB");
    assert_string_equal(progress_size(UINT64_MAX, text), "16.0 EiB");
    assert_string_equal(progress_rate(112 * MIB + 300 * KIB, text), "112.3 MiB/s");
}

static void test_times(void **state)
{
    char text[PROGRESS_TEXT_MAX];

    (void)state;
    assert_string_equal(progress_time(0, text), "0:00");
    assert_string_equal(progress_time(67, text), "1:07");
    assert_string_equal(progress_time(3723, text), "1:02:03");
    assert_string_equal(progress_time(100 * 3600, text), "100:00:00");
    assert_true(strlen(progress_time(UINT64_MAX, text)) < PROGRESS_TEXT_MAX);
}

static void test_never_backwards(void **state)
{
    struct progress_bar bar = {.label = "vda"};

    (void)state;
    progress_update(&bar, 1000, 500, 500, 10);
    assert_int_equal(bar.permille, 500);
    /* The guest wrote. */
    progress_update(&bar, 1000, 600, 900, 10);
    assert_int_equal(bar.permille, 500);
    assert_int_equal(bar.remaining, 900);
    progress_update(&bar, 2000, 100, 1900, 10);
    assert_int_equal(bar.permille, 500);
    assert_int_equal(bar.transferred, 600);
    progress_update(&bar, 0, 0, 0, 0);
    assert_int_equal(bar.permille, 500);
    /* Full only when nothing is left. */
    progress_update(&bar, 1000000, 999999, 1, 10);
    assert_int_equal(bar.permille, 999);
    progress_update(&bar, 1000000, 1000000, 0, 10);
    assert_int_equal(bar.permille, 1000);
    progress_update(&bar, 1000000, 1000000, 5000, 10);
    assert_int_equal(bar.permille, 1000);
}

static void test_nonsense(void **state)
{
    struct progress_bar bar = {.label = "vda"};
    char line[PROGRESS_LINE_MAX];

    (void)state;
    progress_update(&bar, 10, UINT64_MAX, UINT64_MAX, 1);
    assert_int_equal(bar.permille, 0);
    assert_non_null(progress_line(&bar, 3, 80, line));
    progress_update(&bar, UINT64_MAX, UINT64_MAX, 1, UINT64_MAX);
    assert_int_equal(bar.permille, 999);
    assert_non_null(progress_line(&bar, 3, 80, line));
}

static void test_line(void **state)
{
    struct progress_bar bar = {.label = "vda"};
    char line[PROGRESS_LINE_MAX];

    (void)state;
    progress_update(&bar, 4 * GIB, GIB, 3 * GIB, 100 * MIB);
    assert_string_equal(
        progress_line(&bar, 6, 80, line),
        "vda    [======>                  ]  25%     1.0 GiB   100.0 MiB/s     0:31 left");
    assert_string_equal(progress_words(&bar, line), "vda 25%, 1.0 GiB, 100.0 MiB/s, 0:31 left");
    /* Nobody can tell when. */
    progress_update(&bar, 4 * GIB, GIB, 3 * GIB, 0);
    assert_string_equal(progress_words(&bar, line), "vda 25%, 1.0 GiB, 0 B/s");
    progress_finish(&bar, 5 * GIB);
    assert_string_equal(progress_words(&bar, line), "vda 100%, 5.0 GiB, done");
    assert_non_null(strstr(progress_line(&bar, 6, 80, line), "[=========================] 100%"));
}

/* Every width and state: a line is shorter than the terminal, and its bar is whole. */
static void test_fits(void **state)
{
    char line[PROGRESS_LINE_MAX];

    (void)state;
    for (size_t columns = 0; columns <= 1000; columns++) {
        for (uint64_t left = 0; left <= 100; left += 5) {
            struct progress_bar bar = {.label = "a-rather-long-target-name"};
            const char *open, *close;

            progress_update(&bar, 100 * GIB, (100 - left) * GIB, left * GIB, left);
            progress_line(&bar, 25, columns, line);
            assert_true(strlen(line) < (columns < 2 ? 2 : columns));
            open = strchr(line, '[');
            close = strchr(line, ']');
            assert_int_equal(open == NULL, close == NULL);
            assert_true(!open || close - open > 10);
        }
    }
}

static void test_narrow(void **state)
{
    struct progress_bar bar = {.label = "vda"};
    char line[PROGRESS_LINE_MAX];

    (void)state;
    progress_update(&bar, 4 * GIB, GIB, 3 * GIB, 100 * MIB);
    /* The rate goes first, then the time, then the bytes, at last the bar. */
    assert_null(strstr(progress_line(&bar, 3, 60, line), "MiB/s"));
    assert_non_null(strstr(line, "left"));
    assert_null(strstr(progress_line(&bar, 3, 40, line), "left"));
    assert_non_null(strstr(line, "1.0 GiB"));
    assert_null(strstr(progress_line(&bar, 3, 24, line), "GiB"));
    assert_non_null(strchr(line, '['));
    assert_string_equal(progress_line(&bar, 3, 12, line), "vda  25%");
}

static void test_sum(void **state)
{
    struct progress_bar a = {.label = "vda"}, b = {.label = "vdb"}, sum = {.label = ""};
    const struct progress_bar *bars[] = {&a, &b};

    (void)state;
    progress_update(&a, 100, 100, 0, 0);
    progress_update(&b, 100, 20, 80, 7);
    progress_sum(bars, 2, "disks", &sum);
    assert_string_equal(sum.label, "disks");
    assert_int_equal(sum.permille, 600);
    assert_int_equal(sum.transferred, 120);
    assert_int_equal(sum.remaining, 80);
    assert_int_equal(sum.rate, 7);
    /* A disk that is heard of late doesn't make it run backwards. */
    progress_sum(bars + 1, 1, "disks", &sum);
    assert_int_equal(sum.permille, 600);
    progress_sum(bars, 0, "disks", &sum);
    assert_int_equal(sum.permille, 600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),    cmocka_unit_test(test_times),
        cmocka_unit_test(test_line),     cmocka_unit_test(test_never_backwards),
        cmocka_unit_test(test_nonsense), cmocka_unit_test(test_fits),
        cmocka_unit_test(test_narrow),   cmocka_unit_test(test_sum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
