/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* TCP connections that wait for an answer, get one, and don't. */
#include "config.h"

#include "io/net.h"
#include "io/tcp_wait.h"
#include "common/cleanup.h"
#include "common/loop.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 4, PATIENCE_S = 20, LONG_MS = 60 };

/* A connection, and who watches its near end. */
struct line {
    int listener, near, far;
    unsigned port;
    struct tcp_wait *wait;
    struct tcp_track track;
    struct tcp_waiting ours; /* as its descriptor told at the last look */
};

static int dial(const struct line *line, const char *host)
{
    struct net_address address;
    struct error err = ERROR_INIT;

    snprintf(address.host, sizeof address.host, "%s", host);
    snprintf(address.port, sizeof address.port, "%u", line->port);
    return net_dial(&address, 5000, -1, &err);
}

static bool make_line(struct line *line, const char *host)
{
    struct net_address address = {.port = "0"};
    struct error err = ERROR_INIT;

    snprintf(address.host, sizeof address.host, "%s", host);
    *line = (struct line){.listener = net_listen(&address, &err)};
    if (line->listener < 0)
        return false; /* no such address here */
    line->port = (unsigned)net_local_port(line->listener);
    line->near = dial(line, host);
    assert_true(line->near >= 0);
    line->far = accept(line->listener, NULL, NULL);
    assert_true(line->far >= 0);
    line->wait = tcp_wait_new(host, line->port, MOST, &err);
    assert_non_null(line->wait);
    return true;
}

static void free_line(struct line *line)
{
    tcp_wait_free(line->wait);
    close(line->near);
    close(line->far);
    close(line->listener);
}

/* Asks both, one after the other; some kernels don't list connections. */
static struct tcp_waiting look(struct line *line)
{
    struct tcp_waiting listed;
    int r = tcp_wait_look(line->wait, &listed);

    if (r == -ENOENT || r == -EPROTONOSUPPORT || r == -EAFNOSUPPORT)
        skip();
    assert_int_equal(r, 0);
    assert_int_equal(tcp_wait_look_fd(line->near, &line->track, &line->ours), 0);
    assert_int_equal(listed.connections, 1);
    assert_int_equal(line->ours.connections, 1);
    return listed;
}

/* What was sent, or came, within the jiffy of what went before is not told apart from it. */
static void send_until_it_waits(struct line *line)
{
    const uint64_t deadline = loop_clock() + PATIENCE_S * LOOP_SECOND;

    do {
        assert_int_equal(send(line->near, "?", 1, MSG_NOSIGNAL), 1);
        look(line);
        assert_true(loop_clock() < deadline);
    } while (look(line).waiting == 0);
}

static uint64_t wait_for_long(struct line *line)
{
    const uint64_t begin = loop_clock();
    struct tcp_waiting waiting;

    do {
        waiting = look(line);
        assert_true(loop_clock() - begin < PATIENCE_S * LOOP_SECOND);
    } while (waiting.waiting < LONG_MS * LOOP_MS || line->ours.waiting < LONG_MS * LOOP_MS);
    return waiting.still;
}

static void ask_and_answer(struct line *line)
{
    uint64_t answered;

    assert_int_equal(look(line).waiting, 0);
    send_until_it_waits(line);
    assert_true(wait_for_long(line) >= LONG_MS * LOOP_MS);
    answered = loop_clock();
    assert_int_equal(send(line->far, "!", 1, MSG_NOSIGNAL), 1);
    assert_int_equal(look(line).waiting, 0);
    assert_int_equal(line->ours.waiting, 0);
    assert_true(look(line).still <= loop_clock() - answered);
    send_until_it_waits(line); /* and anew */
    wait_for_long(line);
}

static void waits_for_an_answer(void **state)
{
    struct line line;

    (void)state;
    assert_true(make_line(&line, "127.0.0.1"));
    ask_and_answer(&line);
    free_line(&line);
}

static void waits_with_ipv6(void **state)
{
    struct line line;

    (void)state;
    if (!make_line(&line, "::1"))
        skip();
    ask_and_answer(&line);
    free_line(&line);
}

/* Where all is acknowledged in time, nobody waits but for what can't be sent. */
static void waits_for_room(void **state)
{
    static char much[1 << 16];
    struct line line;

    (void)state;
    assert_true(make_line(&line, "127.0.0.1"));
    while (send(line.near, much, sizeof much, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        ;
    wait_for_long(&line);
    free_line(&line);
}

static void sees_its_own_alone(void **state)
{
    struct error err = ERROR_INIT;
    struct tcp_waiting waiting;
    struct line line, other;
    int second;

    (void)state;
    assert_true(make_line(&line, "127.0.0.1"));
    assert_true(make_line(&other, "127.0.0.1"));
    look(&line);
    tcp_wait_free(line.wait);
    line.wait = tcp_wait_new("127.0.0.2", line.port, MOST, &err);
    assert_int_equal(tcp_wait_look(line.wait, &waiting), 0);
    assert_int_equal(waiting.connections, 0);

    tcp_wait_free(line.wait);
    line.wait = tcp_wait_new("127.0.0.1", line.port, 1, &err);
    second = dial(&line, "127.0.0.1");
    assert_int_equal(tcp_wait_look(line.wait, &waiting), 0);
    assert_int_equal(waiting.connections, 1); /* of two; there is no room for more */
    assert_int_equal(waiting.quiet, waiting.still);
    free_line(&other);
    close(second);
    free_line(&line);
}

static void forgets_what_has_ended(void **state)
{
    struct tcp_waiting waiting;
    struct line line;
    int second;

    (void)state;
    assert_true(make_line(&line, "127.0.0.1"));
    look(&line);
    for (int i = 0; i < 2 * MOST; i++) {
        const struct linger reset = {.l_onoff = 1};

        second = dial(&line, "127.0.0.1");
        assert_true(second >= 0);
        assert_int_equal(tcp_wait_look(line.wait, &waiting), 0);
        assert_int_equal(waiting.connections, 2);
        assert_true(waiting.quiet < waiting.still); /* the second one has just begun */
        setsockopt(second, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(second);
        look(&line);
    }
    free_line(&line);
}

static void tells_what_it_cannot_find(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_null(tcp_wait_new("host.invalid", 1, MOST, &err));
    assert_non_null(strstr(err.text, "can't look up host host.invalid"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_for_an_answer),    cmocka_unit_test(waits_with_ipv6),
        cmocka_unit_test(waits_for_room),         cmocka_unit_test(sees_its_own_alone),
        cmocka_unit_test(forgets_what_has_ended), cmocka_unit_test(tells_what_it_cannot_find),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
