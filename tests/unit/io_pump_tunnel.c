/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The old protocol on the pump: programs at both ends of the one stream, and calls beside it. */
#include "config.h"

#include "common/cleanup.h"
#include "common/loop.h"
#include "tests/unit/pump_pair.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SIZE = 32 << 20 };

/* ---- the calls --------------------------------------------------------------------------------- */

static int handle_prepare(void *opaque, const void *args, void *ret, struct error *err)
{
    (void)opaque, (void)args, (void)ret, (void)err;
    return 0;
}

static int handle_finish(void *opaque, const void *args, void *ret, struct error *err)
{
    const struct bs_migrate_finish_args *finish = args;
    struct bs_migrate_finish_ret *answer = ret;

    (void)opaque, (void)err;
    answer->owner = (unsigned char)finish->id[0];
    answer->reason = strdup("because");
    return 0;
}

static const struct rpc_procedure procedures[] = {
    {
        .number = BS_PROC_MIGRATE_PREPARE_TUNNEL,
        .name = "prepare",
        .callers = RPC_CALLER_TUNNEL,
        .handler = handle_prepare,
    },
    {
        .number = BS_PROC_MIGRATE_FINISH,
        .name = "finish",
        .callers = RPC_CALLER_TUNNEL,
        .args_proc = (xdrproc_t)xdr_bs_migrate_finish_args,
        .args_size = sizeof(struct bs_migrate_finish_args),
        .ret_proc = (xdrproc_t)xdr_bs_migrate_finish_ret,
        .ret_size = sizeof(struct bs_migrate_finish_ret),
        .handler = handle_finish,
    },
    {
        .number = BS_PROC_MIGRATE_PREPARE,
        .name = "session's",
        .callers = RPC_CALLER_SESSION,
        .handler = handle_prepare,
    },
};
static const struct rpc_program program = {procedures, ARRAY_LENGTH(procedures)};

static int call_plain(struct pump *pump, int procedure, struct error *err)
{
    return pump_call(pump, procedure, NULL, NULL, NULL, NULL, 20000, err);
}

static void finish(struct pump *pump, unsigned char number)
{
    struct bs_migrate_finish_args args = {.id = {(char)number}};
    struct bs_migrate_finish_ret ret = {0};
    struct error err = ERROR_INIT;

    if (pump_call(pump, BS_PROC_MIGRATE_FINISH, (xdrproc_t)xdr_bs_migrate_finish_args, &args,
                  (xdrproc_t)xdr_bs_migrate_finish_ret, &ret, 20000, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(ret.owner, number);
    xdr_free((xdrproc_t)xdr_bs_migrate_finish_ret, (char *)&ret);
}

static void prepare(struct pair *pair)
{
    struct error err = ERROR_INIT;

    if (call_plain(pair->near.pump, BS_PROC_MIGRATE_PREPARE_TUNNEL, &err) < 0)
        fail_msg("%s", err.text);
}

/* ---- both ends --------------------------------------------------------------------------------- */

static void start(struct pair *pair, bool far_pump)
{
    struct pump_config config = PAIR_DEFAULTS;

    config.tunnel = true;
    pair_start(pair, &config, &program, far_pump);
}

/* Starts, and connects a program at each end of the stream; something has come through it. */
static void start_stream(struct pair *pair, int *ret_near, int *ret_far)
{
    char byte = 0;
    int server;

    start(pair, true);
    prepare(pair);
    server = pair_serve(pair, "migration");
    pair_listen(pair, "migration");
    *ret_near = pair_connect(pair, "migration");
    write_all(*ret_near, "!", 1);
    *ret_far = pair_accept(server);
    read_all(*ret_far, &byte, 1);
    assert_int_equal(byte, '!');
    close(server);
}

struct writer {
    pthread_t thread;
    int fd;
    const uint8_t *data;
    size_t length;
};

static void *write_and_end(void *opaque)
{
    struct writer *writer = opaque;

    write_all(writer->fd, writer->data, writer->length);
    shutdown(writer->fd, SHUT_WR);
    return NULL;
}

static uint8_t *random_bytes(size_t length)
{
    uint8_t *bytes = malloc(length);
    uint64_t x = 88172645463325252;

    assert_non_null(bytes);
    for (size_t i = 0; i < length; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes[i] = (uint8_t)x;
    }
    return bytes;
}

/* ---- tests ------------------------------------------------------------------------------------- */

static void carries_every_byte_and_the_end(void **state)
{
    uint8_t *data = random_bytes(SIZE), *copy = malloc(SIZE);
    struct pump_stats stats;
    struct writer writer;
    struct pair pair;
    int near, far;

    (void)state;
    start_stream(&pair, &near, &far);
    writer = (struct writer){.fd = near, .data = data, .length = SIZE};
    assert_int_equal(pthread_create(&writer.thread, NULL, write_and_end, &writer), 0);
    read_all(far, copy, SIZE);
    assert_memory_equal(data, copy, SIZE);
    read_end(far);
    pthread_join(writer.thread, NULL);
    read_end(near); /* the end was confirmed */
    finish(pair.near.pump, 3);

    pump_get_stats(pair.near.pump, "migration", &stats);
    assert_int_equal(stats.sent, SIZE + 1);
    assert_int_equal(stats.channels, 0);
    pump_get_stats(pair.far.pump, "migration", &stats);
    assert_int_equal(stats.received, SIZE + 1);
    assert_int_equal(pair.near.resets + pair.far.resets, 0);

    pump_close(pair.near.pump, BS_CLOSE_DONE, "", 20000);
    assert_int_equal(pair.near.why.code, 0);
    side_wait_ended(&pair.far);
    assert_int_equal(pair.far.why.code, 0);
    close(near);
    close(far);
    pair_stop(&pair);
    free(data);
    free(copy);
}

static void calls_without_a_stream(void **state)
{
    struct error err = ERROR_INIT;
    struct pair pair;

    (void)state;
    start(&pair, true);
    for (unsigned char i = 0; i < 50; i++) {
        finish(pair.near.pump, i);
        finish(pair.far.pump, i);
    }
    assert_int_equal(call_plain(pair.near.pump, BS_PROC_MIGRATE_PREPARE, &err), -ENOSYS);
    pump_close(pair.far.pump, BS_CLOSE_DONE, "", 20000);
    side_wait_ended(&pair.near);
    assert_int_equal(pair.near.why.code, 0);
    pair_stop(&pair);
}

/* Writes until nothing has gone for a while.  Returns how much went. */
static size_t write_until_full(int fd)
{
    static const uint8_t zeros[65536];
    struct pollfd pollfd = {.fd = fd, .events = POLLOUT};
    size_t written = 0;

    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    while (poll(&pollfd, 1, 500) > 0) {
        ssize_t n = send(fd, zeros, sizeof zeros, MSG_NOSIGNAL);

        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            continue;
        }
        written += (size_t)n;
        if (written > 256 << 20)
            fail_msg("nothing holds the writer back");
    }
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    return written;
}

static void a_reader_that_stalls_blocks_the_writer(void **state)
{
    static uint8_t buffer[1 << 20];
    struct pair pair;
    int near, far;
    size_t left;

    (void)state;
    start_stream(&pair, &near, &far);
    write_all(near, buffer, 700000); /* more than the local socket holds, less than the pump */
    finish(pair.near.pump, 9);
    finish(pair.far.pump, 9);
    left = 700000 + write_until_full(near);
    while (left > 0) {
        size_t n = left < sizeof buffer ? left : sizeof buffer;

        read_all(far, buffer, n);
        left -= n;
    }
    write_all(near, "again", 5);
    read_all(far, buffer, 5);
    assert_memory_equal(buffer, "again", 5);
    finish(pair.near.pump, 10);
    close(near);
    read_end(far);
    close(far);
    pair_stop(&pair);
}

static void a_stalled_stream_is_not_a_silent_peer(void **state)
{
    struct pump_config config = PAIR_DEFAULTS;
    static uint8_t buffer[1 << 20];
    struct pollfd pollfd = {.events = POLLIN};
    struct pair pair;
    int near, far, server;
    size_t left;

    (void)state;
    config.tunnel = true;
    config.ping_interval = 100 * LOOP_MS;
    config.ping_timeout = 400 * LOOP_MS;
    pair_start(&pair, &config, &program, true);
    prepare(&pair);
    server = pair_serve(&pair, "migration");
    pair_listen(&pair, "migration");
    near = pair_connect(&pair, "migration");
    write_all(near, "!", 1);
    far = pair_accept(server);
    left = 1 + write_until_full(near);
    pollfd.fd = near;
    assert_int_equal(poll(&pollfd, 1, 1500), 0); /* several times what kills a silent link */
    assert_int_equal(pair.near.ended + pair.far.ended, 0);
    while (left > 0) {
        size_t n = left < sizeof buffer ? left : sizeof buffer;

        read_all(far, buffer, n);
        left -= n;
    }
    finish(pair.near.pump, 1);
    close(near);
    close(far);
    close(server);
    pair_stop(&pair);
}

static void the_first_connection_waits_and_the_second_is_refused(void **state)
{
    struct pair pair;
    int near, second, far, server;
    char byte;

    (void)state;
    start(&pair, true);
    server = pair_serve(&pair, "migration");
    pair_listen(&pair, "migration");
    near = pair_connect(&pair, "migration");
    write_all(near, "x", 1);
    finish(pair.near.pump, 1);
    prepare(&pair);
    far = pair_accept(server);
    read_all(far, &byte, 1);
    second = pair_connect(&pair, "migration");
    read_end(second);
    close(near);
    read_end(far);
    close(far);
    close(second);
    close(server);
    pair_stop(&pair);
}

static void a_broken_acceptor_closes_the_opener(void **state)
{
    static const uint8_t zeros[65536];
    struct pair pair;
    int near, far;

    (void)state;
    start_stream(&pair, &near, &far);
    close(far);
    while (send(near, zeros, sizeof zeros, MSG_NOSIGNAL) > 0)
        ;
    side_wait_resets(&pair.near, 1);
    side_wait_resets(&pair.far, 1);
    assert_string_equal(pair.near.reset_endpoint, "migration");
    assert_int_equal(pair.near.reset_code, BS_RESET_BROKEN);
    finish(pair.near.pump, 4);
    close(near);
    pair_stop(&pair);
}

static void an_endpoint_that_is_not_there(void **state)
{
    struct pair pair;
    int near;

    (void)state;
    start(&pair, true);
    prepare(&pair);
    pair_listen(&pair, "migration");
    near = pair_connect(&pair, "migration");
    write_all(near, "x", 1);
    side_wait_resets(&pair.near, 1);
    assert_int_equal(pair.near.reset_code, BS_RESET_REFUSED);
    read_end(near);
    close(near);
    pair_stop(&pair);
}

static void the_opener_gives_up(void **state)
{
    struct pair pair;
    int near, far;

    (void)state;
    start_stream(&pair, &near, &far);
    pump_close_endpoint(pair.near.pump, "migration");
    read_end(near);
    side_wait_resets(&pair.far, 1);
    assert_int_equal(pair.far.reset_code, BS_RESET_CANCELLED);
    read_end(far);
    finish(pair.near.pump, 5);
    close(near);
    close(far);
    pair_stop(&pair);
}

static void a_link_that_closes_in_the_stream_is_broken(void **state)
{
    struct pair pair;
    int near, far;

    (void)state;
    start_stream(&pair, &near, &far);
    pump_free(pair.near.pump); /* gives up at once, and says so */
    pair.near.pump = NULL;
    side_wait_resets(&pair.far, 1);
    assert_string_equal(pair.far.reset_text, "the session was given up");
    read_end(far);
    side_wait_ended(&pair.far);
    pair.near.ended = 0; /* told already */
    close(near);
    close(far);
    pair_stop(&pair);
}

/* A daemon that accepts hands over the link with the call that made it a tunnel. */
static void the_first_call_comes_with_the_link(void **state)
{
    const struct bs_header header = {
        .prog = BS_PROGRAM,
        .vers = BS_VERSION,
        .procedure = BS_PROC_MIGRATE_FINISH,
        .type = BS_CALL,
        .serial = 5,
    };
    struct bs_migrate_finish_args args = {.id = {7}};
    struct pump_config config = PAIR_DEFAULTS;
    struct error err = ERROR_INIT;
    uint8_t *call, replies[1024];
    struct bs_header reply;
    size_t length, used = 0;
    struct pair pair;

    (void)state;
    assert_int_equal(
        rpc_message_encode(&header, (xdrproc_t)xdr_bs_migrate_finish_args, &args, &call, &length),
        0);
    config.tunnel = true;
    config.early = call;
    config.early_length = length;
    pair_start(&pair, &config, &program, false);
    free(call);
    do { /* a PING goes first */
        ssize_t n =
            tls_receive_wait(pair.far.link, replies + used, sizeof replies - used, 5000, -1, &err);

        if (n < 0)
            fail_msg("%s", err.text);
        used += (size_t)n;
    } while (used <= RPC_HEAD_SIZE);
    rpc_head_decode(replies + RPC_HEAD_SIZE, &reply);
    assert_int_equal(reply.type, BS_REPLY);
    assert_int_equal(reply.procedure, BS_PROC_MIGRATE_FINISH);
    assert_int_equal(reply.serial, 5);
    assert_int_equal(reply.status, BS_OK);
    pair_stop(&pair);
}

/* ---- what a peer may not do --------------------------------------------------------------------- */

static void expect_end(struct pair *pair, int code, const char *sentence)
{
    side_wait_ended(&pair->near);
    assert_int_equal(pair->near.why.code, code);
    if (!strstr(pair->near.why.text, sentence))
        fail_msg("'%s' lacks '%s'", pair->near.why.text, sentence);
}

static void garbage_ends_the_link(void **state)
{
    struct error err = ERROR_INIT;
    struct pair pair;

    (void)state;
    start(&pair, false);
    assert_int_equal(tls_send_wait(pair.far.link, "GET / HTTP/1.0\r\n", 16, 5000, -1, &err), 0);
    expect_end(&pair, EPROTO, "impossible length");
    pair_stop(&pair);

    start(&pair, false);
    assert_int_equal(tls_send_wait(pair.far.link, "\0\0", 2, 5000, -1, &err), 0);
    tls_free(take_ptr(pair.far.link));
    expect_end(&pair, ECONNRESET, "without ending the session");
    pair_stop(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(carries_every_byte_and_the_end),
        cmocka_unit_test(calls_without_a_stream),
        cmocka_unit_test(a_reader_that_stalls_blocks_the_writer),
        cmocka_unit_test(a_stalled_stream_is_not_a_silent_peer),
        cmocka_unit_test(the_first_connection_waits_and_the_second_is_refused),
        cmocka_unit_test(a_broken_acceptor_closes_the_opener),
        cmocka_unit_test(an_endpoint_that_is_not_there),
        cmocka_unit_test(the_opener_gives_up),
        cmocka_unit_test(a_link_that_closes_in_the_stream_is_broken),
        cmocka_unit_test(the_first_call_comes_with_the_link),
        cmocka_unit_test(garbage_ends_the_link),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
