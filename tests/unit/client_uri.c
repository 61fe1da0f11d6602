/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Sockets as operators write them. */
#include "config.h"

#include "client/uri.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_control_socket(void **state)
{
    struct error err = ERROR_INIT;
    char path[URI_SOCKET_MAX];

    (void)state;
    unsetenv(URI_ENVIRONMENT);
    assert_int_equal(uri_control_socket(NULL, path, &err), 0);
    assert_string_equal(path, URI_DEFAULT_SOCKET);
    setenv(URI_ENVIRONMENT, "", 1);
    assert_int_equal(uri_control_socket(NULL, path, &err), 0);
    assert_string_equal(path, URI_DEFAULT_SOCKET);
    setenv(URI_ENVIRONMENT, "unix:///env.sock", 1);
    assert_int_equal(uri_control_socket(NULL, path, &err), 0);
    assert_string_equal(path, "/env.sock");
    /* What is given goes before the environment. */
    assert_int_equal(uri_control_socket("/given.sock", path, &err), 0);
    assert_string_equal(path, "/given.sock");
    assert_int_equal(uri_control_socket("given.sock", path, &err), 0);
    assert_string_equal(path, "given.sock");

    assert_int_equal(uri_control_socket("unix://host/path", path, &err), -EINVAL);
    assert_string_equal(err.text, "the daemon's URI is unix:///PATH, not unix://host/path");
    assert_int_equal(uri_control_socket("qemu:///system", path, &err), -EINVAL);
    assert_non_null(strstr(err.text, "can't connect to qemu:///system"));
}

static void test_longest(void **state)
{
    struct error err = ERROR_INIT;
    char path[URI_SOCKET_MAX], text[URI_SOCKET_MAX + 1];

    (void)state;
    memset(text, 'x', sizeof text);
    text[0] = '/';
    text[URI_SOCKET_MAX - 1] = '\0';
    assert_int_equal(uri_control_socket(text, path, &err), 0);
    assert_string_equal(path, text);
    text[URI_SOCKET_MAX - 1] = 'x';
    text[URI_SOCKET_MAX] = '\0';
    assert_int_equal(uri_control_socket(text, path, &err), -ENAMETOOLONG);
    assert_non_null(strstr(err.text, "is too long: 108 bytes, and 107 is the most"));
}

static void assert_pair(const char *text, const char *local, const char *remote)
{
    struct error err = ERROR_INIT;
    char got_local[URI_SOCKET_MAX], got_remote[URI_SOCKET_MAX];

    assert_int_equal(uri_forward_pair(text, got_local, got_remote, &err), 0);
    assert_string_equal(got_local, local);
    assert_string_equal(got_remote, remote);
}

static void assert_no_pair(const char *text)
{
    struct error err = ERROR_INIT;
    char local[URI_SOCKET_MAX], remote[URI_SOCKET_MAX];

    assert_int_equal(uri_forward_pair(text, local, remote, &err), -EINVAL);
    assert_non_null(strstr(err.text, "is not LOCAL:REMOTE"));
}

static void test_pairs(void **state)
{
    (void)state;
    assert_int_equal(chdir("/tmp"), 0);
    assert_pair("/a:/b", "/a", "/b");
    assert_pair("a:/b", "/tmp/a", "/b");
    assert_pair("./a:/b", "/tmp/./a", "/b");
    /* A colon is fine where only one reading makes sense. */
    assert_pair("/run/a:1:/b:2", "/run/a:1", "/b:2");
    assert_no_pair("/a:b");
    assert_no_pair("/a:/b:/c");
    assert_no_pair("/a");
    assert_no_pair(":/b");
    assert_no_pair("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_control_socket),
        cmocka_unit_test(test_longest),
        cmocka_unit_test(test_pairs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
