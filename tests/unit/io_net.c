/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Sockets: what is parsed, dialled, listened on, and what the operator is told. */
#include "config.h"

#include "io/net.h"
#include "common/cleanup.h"
#include "common/loop.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/bistream-net-XXXXXX";

static void in_dir(char path[64], const char *file)
{
    snprintf(path, 64, "%s/%s", dir, file);
}

static void accepts_uris(void **state)
{
    static const struct {
        const char *uri, *host, *port;
    } good[] = {
        {"bistream://host", "host", "16520"},
        {"bistream://host/", "host", "16520"},
        {"bistream://host.example.org:17000", "host.example.org", "17000"},
        {"bistream://192.0.2.1:1", "192.0.2.1", "1"},
        {"bistream://[2001:db8::1]", "2001:db8::1", "16520"},
        {"bistream://[fe80::1%eth0]:65535", "fe80::1%eth0", "65535"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
        struct error err = ERROR_INIT;
        struct net_address address;

        assert_int_equal(net_parse_uri(good[i].uri, &address, &err), 0);
        assert_string_equal(address.host, good[i].host);
        assert_string_equal(address.port, good[i].port);
    }
}

static void refuses_uris(void **state)
{
    static const char *const bad[] = {
        "",
        "host",
        "tcp://host",
        "bistream://",
        "bistream:///",
        "bistream://:16520",
        "bistream://host:",
        "bistream://host:0",
        "bistream://host:65536",
        "bistream://host:99999999999",
        "bistream://host:http",
        "bistream://2001:db8::1",
        "bistream://[2001:db8::1",
        "bistream://[2001:db8::1]16520",
        "bistream://user@host",
        "bistream://host/path",
        "bistream://ho st",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        struct error err = ERROR_INIT;
        struct net_address address;

        assert_int_equal(net_parse_uri(bad[i], &address, &err), -EINVAL);
        assert_non_null(strstr(err.text, "write bistream://HOST[:PORT]"));
    }
}

static void parses_listen_addresses(void **state)
{
    struct error err = ERROR_INIT;
    struct net_address address;

    (void)state;
    assert_int_equal(net_parse_listen("[::]:16520", &address, &err), 0);
    assert_string_equal(address.host, "::");
    assert_int_equal(net_parse_listen("127.0.0.1:0", &address, &err), 0);
    assert_string_equal(address.port, "0");
    assert_int_equal(net_parse_listen("127.0.0.1", &address, &err), -EINVAL);
    assert_int_equal(net_parse_listen("::1:16520", &address, &err), -EINVAL);
}

static void dials_what_listens(void **state)
{
    CLEANUP_CLOSE int listener = -1, near = -1, far = -1;
    struct net_address address = {.host = "127.0.0.1", .port = "0"};
    struct error err = ERROR_INIT;
    int port;

    (void)state;
    listener = net_listen(&address, &err);
    assert_true(listener >= 0);
    port = net_local_port(listener);
    assert_true(port > 0);
    snprintf(address.port, sizeof address.port, "%d", port);
    near = net_dial(&address, 5000, -1, &err);
    assert_true(near >= 0);
    assert_true(fcntl(near, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(near, F_GETFD) & FD_CLOEXEC);
    far = accept(listener, NULL, NULL);
    assert_true(far >= 0);
    assert_true(net_listen(&address, &err) == -EADDRINUSE);
    assert_non_null(strstr(err.text, "another program has that port"));
}

static void tells_why_it_cannot_dial(void **state)
{
    struct net_address address = {.host = "127.0.0.1", .port = "0"};
    struct error err = ERROR_INIT;
    char expected[128];
    int listener;

    (void)state;
    listener = net_listen(&address, &err);
    snprintf(address.port, sizeof address.port, "%d", net_local_port(listener));
    close(listener);
    assert_int_equal(net_dial(&address, 5000, -1, &err), -ECONNREFUSED);
    snprintf(expected, sizeof expected,
             "can't connect to 127.0.0.1 port %s: Connection refused; is bistreamd running there?",
             address.port);
    assert_string_equal(err.text, expected);
    strcpy(address.host, "host.invalid");
    assert_true(net_dial(&address, 5000, -1, &err) < 0);
    assert_non_null(strstr(err.text, "can't look up host host.invalid"));
}

/* A blackhole: a listener whose backlog is full drops what else comes. */
static void gives_up_dialling(void **state)
{
    CLEANUP_CLOSE int listener = -1;
    struct net_address address = {.host = "127.0.0.1", .port = "0"};
    struct error err = ERROR_INIT;
    int fds[8], count = 0, abort_pipe[2], r;
    uint64_t begin;

    (void)state;
    listener = net_listen(&address, &err);
    assert_int_equal(listen(listener, 0), 0);
    snprintf(address.port, sizeof address.port, "%d", net_local_port(listener));
    for (r = 0; r >= 0 && count < 8;) {
        r = net_dial(&address, 50, -1, &err);
        if (r >= 0)
            fds[count++] = r;
    }
    assert_int_equal(r, -ETIMEDOUT);
    assert_non_null(strstr(err.text, "does its firewall admit that port?"));

    assert_int_equal(pipe(abort_pipe), 0);
    assert_int_equal(write(abort_pipe[1], "x", 1), 1);
    begin = loop_clock();
    assert_int_equal(net_dial(&address, 60000, abort_pipe[0], &err), -ECANCELED);
    assert_true(loop_clock() - begin < 10 * LOOP_SECOND);
    close(abort_pipe[0]);
    close(abort_pipe[1]);
    while (count-- > 0)
        close(fds[count]);
}

static void replaces_only_a_stale_socket(void **state)
{
    CLEANUP_CLOSE int first = -1, second = -1;
    struct error err = ERROR_INIT;
    struct stat status;
    char path[64];

    (void)state;
    in_dir(path, "stale");
    first = net_listen_unix(path, 0660, &err);
    assert_true(first >= 0);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0660);

    assert_int_equal(net_listen_unix(path, 0600, &err), -EADDRINUSE);
    assert_non_null(strstr(err.text, "another program serves that socket"));

    close(take_fd(&first)); /* as a killed program leaves it */
    second = net_listen_unix(path, 0600, &err);
    assert_true(second >= 0);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    unlink(path);
}

static void keeps_files_that_are_no_sockets(void **state)
{
    struct error err = ERROR_INIT;
    char path[64];

    (void)state;
    in_dir(path, "file");
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(net_listen_unix(path, 0600, &err), -EEXIST);
    assert_non_null(strstr(err.text, "a file that is no socket is there"));
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(net_dial_unix(path, &err), -ECONNREFUSED);
    unlink(path);
}

static void dials_unix_sockets(void **state)
{
    CLEANUP_CLOSE int listener = -1, near = -1, far = -1;
    struct net_credentials who;
    struct error err = ERROR_INIT;
    char path[64], expected[160], longest[200];

    (void)state;
    in_dir(path, "served");
    assert_int_equal(net_dial_unix(path, &err), -ENOENT);
    snprintf(expected, sizeof expected,
             "can't connect to socket %s: No such file or directory; is its program running?",
             path);
    assert_string_equal(err.text, expected);
    listener = net_listen_unix(path, 0600, &err);
    assert_true(listener >= 0);
    near = net_dial_unix(path, &err);
    assert_true(near >= 0);
    far = accept(listener, NULL, NULL);
    assert_int_equal(net_peer_credentials(far, &who), 0);
    assert_int_equal(who.pid, getpid());
    assert_int_equal(who.uid, getuid());
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(net_dial_unix(longest, &err), -ENAMETOOLONG);
    unlink(path);
}

/* A program that doesn't accept: connecting must say so instead of blocking. */
static void does_not_wait_for_a_full_backlog(void **state)
{
    CLEANUP_CLOSE int listener = -1;
    struct error err = ERROR_INIT;
    int fds[64], count = 0;
    char path[64];

    (void)state;
    in_dir(path, "full");
    listener = net_listen_unix(path, 0600, &err);
    assert_true(listener >= 0);
    assert_int_equal(listen(listener, 1), 0);
    while (count < 64) {
        fds[count] = net_dial_unix(path, &err);
        if (fds[count] < 0)
            break;
        count++;
    }
    assert_in_range(count, 1, 63);
    assert_int_equal(fds[count], -EAGAIN);
    assert_non_null(strstr(err.text, "doesn't accept connections"));
    while (count-- > 0)
        close(fds[count]);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_uris),
        cmocka_unit_test(refuses_uris),
        cmocka_unit_test(parses_listen_addresses),
        cmocka_unit_test(dials_what_listens),
        cmocka_unit_test(tells_why_it_cannot_dial),
        cmocka_unit_test(gives_up_dialling),
        cmocka_unit_test(replaces_only_a_stale_socket),
        cmocka_unit_test(keeps_files_that_are_no_sockets),
        cmocka_unit_test(dials_unix_sockets),
        cmocka_unit_test(does_not_wait_for_a_full_backlog),
    };
    int failed;

    if (!mkdtemp(dir))
        return 99;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
