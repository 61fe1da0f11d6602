/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The error object: sentences, prefixes, what doesn't fit, and nobody who wants to know. */
#include "config.h"

#include "common/error.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

static void test_set(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(error_set(&err, ENOENT, "no domain '%s'", "web"), -ENOENT);
    assert_int_equal(err.code, ENOENT);
    assert_string_equal(err.text, "no domain 'web'");
    assert_int_equal(error_set_errno(&err, EACCES, "opening %s", "/dev/kvm"), -EACCES);
    assert_int_equal(err.code, EACCES);
    assert_string_equal(err.text, "opening /dev/kvm: Permission denied");
    error_clear(&err);
    assert_int_equal(err.code, 0);
    assert_string_equal(err.text, "");
}

static void test_prefix(void **state)
{
    struct error err;

    (void)state;
    error_set(&err, EIO, "no space");
    assert_int_equal(error_prefix(&err, "disk %s", "vda"), -EIO);
    assert_int_equal(error_prefix(&err, "web"), -EIO);
    assert_string_equal(err.text, "web: disk vda: no space");
}

static void test_old_text_in_the_new_one(void **state)
{
    struct error err;

    (void)state;
    error_set(&err, EIO, "no space");
    error_set(&err, EBUSY, "disk vda: %s, %s", err.text, err.text);
    assert_string_equal(err.text, "disk vda: no space, no space");
    error_set_errno(&err, EIO, "web: %s", err.text);
    assert_string_equal(err.text, "web: disk vda: no space, no space: Input/output error");
}

static void test_cut(void **state)
{
    char text[2 * ERROR_TEXT_MAX];
    struct error err;

    (void)state;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    error_set(&err, EIO, "%s", text);
    assert_int_equal(strlen(err.text), ERROR_TEXT_MAX - 1);
    error_set_errno(&err, EIO, "%s", text);
    assert_int_equal(strlen(err.text), ERROR_TEXT_MAX - 1);
    error_prefix(&err, "first");
    assert_int_equal(strlen(err.text), ERROR_TEXT_MAX - 1);
    assert_memory_equal(err.text, "first: xxx", 10);
    error_prefix(&err, "%s", text);
    assert_int_equal(strlen(err.text), ERROR_TEXT_MAX - 1);
}

static void test_nobody_wants_to_know(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, ENOENT, "no domain '%s'", "web"), -ENOENT);
    assert_int_equal(error_set_errno(NULL, EACCES, "opening"), -EACCES);
    assert_true(error_prefix(NULL, "web") < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_old_text_in_the_new_one),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_nobody_wants_to_know),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
