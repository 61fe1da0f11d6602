/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Who may come in, and what a forward may reach. */
#include "config.h"

#include "tests/unit/unit.h"

#include "daemon/access.h"

#include <stdio.h>
#include <string.h>

static char any_vm[] = "*.vm.example.org", host_b[] = "b.example.org", sockets[] = "/run/vm/*.sock",
            everything[] = "/*", deep[] = "/run/*/nbd";

static void test_peers(void **state)
{
    char *const patterns[] = {any_vm, host_b, NULL};
    char *const nobody[] = {NULL};
    const char *const by_san[] = {"Some Host", "a.vm.example.org", "10.0.0.1", NULL};
    const char *const two[] = {"B.EXAMPLE.ORG", "a.vm.example.org", NULL};
    const char *const stranger[] = {"b.example.org.evil.net", "vm.example.org", "xb.example.org",
                                    NULL};
    const char *const nameless[] = {NULL};

    (void)state;
    assert_string_equal(access_peer(patterns, by_san), "a.vm.example.org");
    assert_string_equal(access_peer(patterns, two), "B.EXAMPLE.ORG"); /* the first that matches */
    assert_null(access_peer(patterns, stranger));
    assert_null(access_peer(patterns, nameless));
    assert_null(access_peer(nobody, by_san)); /* an empty list allows nobody */
}

static void test_forwards(void **state)
{
    char *const patterns[] = {sockets, deep, NULL};
    char *const nothing[] = {NULL};

    (void)state;
    assert_true(access_forward(patterns, "/run/vm/a.sock"));
    assert_true(access_forward(patterns, "/run/x/nbd"));
    assert_false(access_forward(patterns, "/run/vm/sub/a.sock")); /* '*' does not match '/' */
    assert_false(access_forward(patterns, "/run/x/y/nbd"));
    assert_false(access_forward(patterns, "/run/vm/a.sock.old"));
    assert_false(access_forward(patterns, "run/vm/a.sock"));
    assert_false(access_forward(nothing, "/run/vm/a.sock"));
}

static void test_taps(void **state)
{
    char pattern[] = "vm-*";
    char *const patterns[] = {pattern, NULL};
    char *const nothing[] = {NULL};

    (void)state;
    assert_true(access_tap(patterns, "vm-7"));
    assert_false(access_tap(patterns, "eth0"));
    assert_false(access_tap(nothing, "vm-7"));
}

/* Paths that mean another file than they seem to are refused whatever the patterns say. */
static void test_paths_that_are_not_plain(void **state)
{
    static const char *const paths[] = {
        "", "/", "x", "//x", "/x/", "/./x", "/../x", "/x/.", "/x/..", "/run/vm/../a.sock",
    };
    char *const patterns[] = {everything, deep, sockets, NULL};
    char *const dots[] = {everything, NULL};
    char path[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(paths); i++)
        assert_false(access_forward(patterns, paths[i]));
    assert_true(access_forward(dots, "/..x"));
    assert_true(access_forward(dots, "/.x"));
    snprintf(path, sizeof path, "/%0106d", 0);
    assert_true(access_forward(dots, path));
    snprintf(path, sizeof path, "/%0107d", 0);
    assert_false(access_forward(dots, path)); /* longer than a socket's address */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peers),
        cmocka_unit_test(test_forwards),
        cmocka_unit_test(test_taps),
        cmocka_unit_test(test_paths_that_are_not_plain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
