/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The pump and its sockets: what programs at both ends see. */
#include "config.h"

#include "common/loop.h"
#include "tests/unit/pump_pair.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * LOOP_SECOND + (uint64_t)now.tv_nsec;
}

static void wait_ms(unsigned ms)
{
    poll(NULL, 0, (int)ms);
}

/* For 300 ms there must be next to nothing done. */
static void assert_idle(void)
{
    uint64_t begin = cpu_ns();

    wait_ms(300);
    assert_in_range(cpu_ns() - begin, 0, 60 * LOOP_MS);
}

static void fill(uint8_t *data, size_t length, uint32_t seed)
{
    for (size_t i = 0; i < length; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = (uint8_t)(seed >> 24);
    }
}

/* Sends LENGTH bytes without blocking, as many as go.  Returns how many. */
static size_t write_until_full(int fd, size_t length)
{
    static uint8_t data[65536];
    size_t sent = 0;

    while (sent < length) {
        struct pollfd pollfd = {.fd = fd, .events = POLLOUT};
        ssize_t n;

        if (poll(&pollfd, 1, 200) == 0)
            break;
        n = send(fd, data, sizeof data, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            break;
        sent += (size_t)n;
    }
    return sent;
}

/* ---- bytes and ends ---------------------------------------------------------------------------- */

static void carries_bytes_both_ways(void **state)
{
    struct pair pair;
    struct pump_stats stats;
    char buffer[16];
    int near, far;

    (void)state;
    pair_start(&pair, NULL, NULL, true);
    pair_join(&pair, "echo", &near, &far);
    write_all(near, "there", 5);
    read_all(far, buffer, 5);
    assert_memory_equal(buffer, "there", 5);
    write_all(far, "and back", 8);
    read_all(near, buffer, 8);
    assert_memory_equal(buffer, "and back", 8);
    pump_get_stats(pair.near.pump, "echo", &stats);
    assert_int_equal(stats.sent, 5);
    assert_int_equal(stats.received, 8);
    assert_int_equal(stats.channels, 1);
    pump_get_stats(pair.far.pump, NULL, &stats);
    assert_int_equal(stats.sent, 8);
    pump_get_stats(pair.far.pump, "another", &stats);
    assert_int_equal(stats.sent + stats.received + stats.channels, 0);
    assert_idle();
    close(near);
    close(far);
    pair_stop(&pair);
}

static void passes_half_closes_on(void **state)
{
    struct pump_stats stats;
    struct pair pair;
    char buffer[16];
    int near, far;

    (void)state;
    pair_start(&pair, NULL, NULL, true);
    for (int first = 0; first < 2; first++) {
        int *one = first ? &far : &near, *other = first ? &near : &far;

        pair_join(&pair, first ? "b" : "a", &near, &far);
        write_all(*one, "question", 8);
        shutdown(*one, SHUT_WR);
        read_all(*other, buffer, 8);
        read_end(*other);
        write_all(*other, "answer", 6);
        assert_idle();
        read_all(*one, buffer, 6);
        shutdown(*other, SHUT_WR);
        read_end(*one);
        close(near);
        close(far);
    }
    /* Both are finished: the session can be closed as done. */
    pump_close(pair.near.pump, BS_CLOSE_DONE, "", 10000);
    side_wait_ended(&pair.far);
    assert_int_equal(pair.near.why.code, 0);
    assert_int_equal(pair.far.why.code, 0);
    assert_int_equal(pair.near.resets + pair.far.resets, 0);
    pump_get_stats(pair.near.pump, "a", &stats); /* still there to be asked */
    assert_int_equal(stats.sent, 8);
    assert_int_equal(stats.channels, 0);
    pair_stop(&pair);
}

static void delivers_all_that_a_program_sent_before_it_closed(void **state)
{
    enum { LENGTH = 250000 };
    uint8_t *sent = malloc(LENGTH), *got = malloc(LENGTH);
    struct pair pair;
    int near, far;

    (void)state;
    fill(sent, LENGTH, 1);
    pair_start(&pair, NULL, NULL, true);
    pair_join(&pair, "upload", &near, &far);
    write_all(far, "greeting that is never read", 27);
    write_all(near, sent, LENGTH);
    close(near);
    write_all(far, "nor this", 8);
    read_all(far, got, LENGTH);
    assert_memory_equal(sent, got, LENGTH);
    read_end(far);
    /* Only now does it learn that nobody is there. */
    side_wait_resets(&pair.far, 1);
    assert_int_equal(pair.far.reset_code, BS_RESET_BROKEN);
    assert_string_equal(pair.far.reset_endpoint, "upload");
    assert_int_equal(send(far, "x", 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    close(far);
    pair_stop(&pair);
    free(sent);
    free(got);
}

static void a_killed_program_resets_its_channel(void **state)
{
    struct pair pair;
    int near, far;

    (void)state;
    pair_start(&pair, NULL, NULL, true);
    pair_join(&pair, "nbd", &near, &far);
    write_until_full(near, 8 << 20);
    close(far); /* with unread bytes */
    side_wait_resets(&pair.near, 1);
    assert_int_equal(pair.near.reset_code, BS_RESET_BROKEN);
    assert_string_equal(pair.near.reset_text, "the program at its socket has closed it");
    read_end(near);
    assert_int_equal(send(near, "x", 1, MSG_NOSIGNAL), -1);
    assert_idle();
    close(near);
    pair_stop(&pair);
}

/* ---- channels that don't come about ------------------------------------------------------------ */

static void a_refused_socket_resets_with_a_sentence(void **state)
{
    struct pair pair;
    int near;

    (void)state;
    pair_start(&pair, NULL, NULL, true);
    pair_listen(&pair, "nobody");
    near = pair_connect(&pair, "nobody");
    read_end(near);
    side_wait_resets(&pair.near, 1);
    assert_int_equal(pair.near.reset_code, BS_RESET_REFUSED);
    assert_string_equal(pair.near.reset_endpoint, "nobody");
    assert_non_null(strstr(pair.near.reset_text, "/nobody: No such file or directory"));
    side_wait_resets(&pair.far, 1);
    close(near);

    pair_listen(&pair, "forbidden");
    near = pair_connect(&pair, "forbidden");
    read_end(near);
    side_wait_resets(&pair.near, 2);
    assert_int_equal(pair.near.reset_code, BS_RESET_NO_ENDPOINT);
    assert_string_equal(pair.near.reset_text, "endpoint forbidden is not for you");
    close(near);
    pair_stop(&pair);
}

static void a_slow_program_gets_its_connections(void **state)
{
    enum { COUNT = 20 };
    struct pair pair;
    int near[COUNT], far, server;
    char byte;

    (void)state;
    pair_start(&pair, NULL, NULL, true);
    pair_listen(&pair, "slow");
    server = pair_serve(&pair, "slow");
    assert_int_equal(listen(server, 0), 0);
    for (int i = 0; i < COUNT; i++) {
        near[i] = pair_connect(&pair, "slow");
        write_all(near[i], &(char){(char)i}, 1);
    }
    wait_ms(50);
    for (int i = 0; i < COUNT; i++) {
        far = pair_accept(server);
        read_all(far, &byte, 1);
        close(far);
    }
    for (int i = 0; i < COUNT; i++) {
        read_end(near[i]);
        close(near[i]);
    }
    assert_int_equal(pair.near.resets, 0);
    close(server);
    pair_stop(&pair);
}

static void connections_wait_for_a_channel(void **state)
{
    struct pump_config config = PAIR_DEFAULTS;
    int near[3], far[3], server;
    struct pollfd pollfd = {.events = POLLIN};
    struct pair pair;
    char byte;

    (void)state;
    config.local.channels = config.remote.channels = 2;
    pair_start(&pair, &config, NULL, true);
    pair_listen(&pair, "few");
    server = pair_serve(&pair, "few");
    for (int i = 0; i < 3; i++)
        near[i] = pair_connect(&pair, "few");
    far[0] = pair_accept(server);
    far[1] = pair_accept(server);
    pollfd.fd = server;
    assert_int_equal(poll(&pollfd, 1, 100), 0);
    assert_idle();
    close(near[0]);
    close(far[0]);
    close(near[1]);
    close(far[1]);
    far[2] = pair_accept(server);
    write_all(near[2], "x", 1);
    read_all(far[2], &byte, 1);
    close(near[2]);
    close(far[2]);
    close(server);
    pair_stop(&pair);
}

/* valgrind's accept(2) takes the connection before it finds that there is no descriptor. */
static bool under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");

    return preload && strstr(preload, "vgpreload");
}

static void goes_on_when_descriptors_are_short(void **state)
{
    struct rlimit old, tight;
    int near, near2, far, server;
    struct pair pair;
    char byte;

    (void)state;
    if (under_valgrind())
        skip();
    pair_start(&pair, NULL, NULL, true);
    pair_listen(&pair, "short");
    server = pair_serve(&pair, "short");
    near = pair_connect(&pair, "short");
    far = pair_accept(server);
    near2 = pair_connect(&pair, "short");
    write_all(near2, "x", 1);
    close(pair_accept(server));
    read_end(near2);
    close(near2);

    near2 = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    tight = (struct rlimit){.rlim_cur = (rlim_t)near2 + 1, .rlim_max = old.rlim_max};
    close(near2);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    near2 = pair_connect(&pair, "short"); /* takes the last one */
    assert_idle();
    write_all(near, "x", 1); /* what is open goes on */
    read_all(far, &byte, 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    write_all(near2, "y", 1);
    close(far);
    far = pair_accept(server);
    read_all(far, &byte, 1);
    assert_int_equal(byte, 'y');
    close(near2);
    close(near);
    close(far);
    close(server);
    pair_stop(&pair);
}

/* ---- RESET, and closing from outside ------------------------------------------------------------ */

static void closing_an_endpoint_closes_its_sockets(void **state)
{
    int near, far, other_near, other_far;
    struct pair pair;
    char byte;

    (void)state;
    pair_start(&pair, NULL, NULL, true);
    pair_join(&pair, "vda", &near, &far);
    pair_join(&pair, "vdb", &other_near, &other_far);
    write_until_full(near, 8 << 20); /* a program that is stuck in write(2) */
    pump_close_endpoint(pair.near.pump, "vda");
    assert_int_equal(send(near, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT), -1);
    assert_int_equal(errno, EPIPE);
    side_wait_resets(&pair.far, 1);
    assert_int_equal(pair.far.reset_code, BS_RESET_CANCELLED);
    assert_int_equal(pair.near.resets, 0);
    write_all(other_near, "x", 1);
    read_all(other_far, &byte, 1);
    pump_close_endpoint(pair.far.pump, NULL);
    read_end(other_far);
    read_end(other_near);
    close(near);
    close(far);
    close(other_near);
    close(other_far);
    pair_stop(&pair);
}

static void closing_ends_everything(void **state)
{
    struct error err = ERROR_INIT;
    struct pair pair;
    int near, far;

    (void)state;
    pair_start(&pair, NULL, NULL, true);
    pair_join(&pair, "a", &near, &far);
    pump_close(pair.far.pump, BS_CLOSE_CANCELLED, "the operator wants it", 10000);
    read_end(far);
    side_wait_ended(&pair.near);
    read_end(near);
    assert_int_equal(pair.near.why.code, ECANCELED);
    assert_non_null(strstr(pair.near.why.text, "the operator wants it"));
    assert_int_equal(pair.far.why.code, ECANCELED);
    assert_int_equal(pump_listen(pair.near.pump, socket(AF_UNIX, SOCK_STREAM, 0), "late", &err),
                     -ECONNRESET);
    assert_non_null(strstr(err.text, "the operator wants it"));
    pump_close(pair.near.pump, BS_CLOSE_DONE, "", 10000); /* harmless */
    close(near);
    close(far);
    pair_stop(&pair);
}

/* "done" has to wait for a channel that is still open, but not for longer than it was told. */
static void closing_as_done_waits_for_channels(void **state)
{
    struct pair pair;
    int near, far;

    (void)state;
    pair_start(&pair, NULL, NULL, true);
    pair_join(&pair, "a", &near, &far);
    pump_close(pair.near.pump, BS_CLOSE_DONE, "", 50);
    side_wait_ended(&pair.far);
    assert_int_equal(pair.far.why.code, ECANCELED);
    assert_non_null(strstr(pair.far.why.text, "channels were still open"));
    read_end(near);
    read_end(far);
    close(near);
    close(far);
    pair_stop(&pair);
}

/* ---- many, and stalled ------------------------------------------------------------------------- */

static void a_stalled_program_holds_up_nobody_else(void **state)
{
    enum { LENGTH = 16 << 20 };
    int stuck_near, stuck_far, near, far;
    uint8_t *data = calloc(1, 65536);
    size_t stuck;
    struct pair pair;

    (void)state;
    pair_start(&pair, NULL, NULL, true);
    pair_join(&pair, "stuck", &stuck_near, &stuck_far);
    pair_join(&pair, "busy", &near, &far);
    stuck = write_until_full(stuck_near, 200 << 20);
    assert_in_range(stuck, 1, 100 << 20);
    assert_idle();
    for (size_t done = 0; done < LENGTH; done += 65536) {
        write_all(near, data, 65536);
        read_all(far, data, 65536);
    }
    for (; stuck > 0; stuck -= 65536)
        read_all(stuck_far, data, 65536);
    close(stuck_near);
    close(stuck_far);
    close(near);
    close(far);
    pair_stop(&pair);
    free(data);
}

/* One direction of one channel. */
struct stream {
    pthread_t writer, reader;
    int from, to;
    uint32_t seed;
    size_t length;
    const char *wrong; /* what the reader found */
};

static uint8_t next_byte(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return (uint8_t)(*seed >> 24);
}

static void *write_stream(void *opaque)
{
    const struct stream *stream = opaque;
    uint32_t seed = stream->seed;
    uint8_t data[40000];

    for (size_t left = stream->length; left > 0;) {
        size_t length = left < sizeof data ? left : sizeof data, done = 0;

        for (size_t i = 0; i < length; i++)
            data[i] = next_byte(&seed);
        while (done < length) {
            ssize_t n = send(stream->from, data + done, length - done, MSG_NOSIGNAL);

            if (n <= 0)
                return NULL; /* the reader will miss it */
            done += (size_t)n;
        }
        left -= length;
    }
    shutdown(stream->from, SHUT_WR);
    return NULL;
}

static void *read_stream(void *opaque)
{
    struct stream *stream = opaque;
    uint32_t seed = stream->seed;
    uint8_t data[50000];
    size_t got = 0;
    ssize_t n;

    while ((n = read(stream->to, data, sizeof data)) > 0) {
        for (ssize_t i = 0; i < n && !stream->wrong; i++)
            if (data[i] != next_byte(&seed))
                stream->wrong = "a byte differs";
        got += (size_t)n;
    }
    if (n < 0)
        stream->wrong = "read failed";
    else if (got != stream->length)
        stream->wrong = "the length differs";
    return NULL;
}

static void carries_many_channels_at_once(void **state)
{
    enum { COUNT = 64 };
    struct stream streams[2 * COUNT], *const end = streams + 2 * COUNT;
    struct pair pair;
    int near, far;

    (void)state;
    pair_start(&pair, NULL, NULL, true);
    srand(1);
    for (uint32_t i = 0; i < COUNT; i++) {
        char name[16];

        snprintf(name, sizeof name, "%u", i);
        pair_join(&pair, name, &near, &far);
        for (uint32_t j = 0; j < 2; j++)
            streams[2 * i + j] = (struct stream){
                .from = j ? far : near,
                .to = j ? near : far,
                .seed = 2 * i + j,
                .length = (size_t)rand() % (1u << (j ? 22 - i % 13 : 10 + i % 13)),
            };
    }
    for (struct stream *stream = streams; stream < end; stream++) {
        pthread_create(&stream->writer, NULL, write_stream, stream);
        pthread_create(&stream->reader, NULL, read_stream, stream);
    }
    for (struct stream *stream = streams; stream < end; stream++) {
        pthread_join(stream->writer, NULL);
        pthread_join(stream->reader, NULL);
        if (stream->wrong)
            fail_msg("channel %td: %s", (stream - streams) / 2, stream->wrong);
    }
    for (int i = 0; i < COUNT; i++) {
        close(streams[2 * i].from);
        close(streams[2 * i].to);
    }
    pump_close(pair.near.pump, BS_CLOSE_DONE, "", 10000);
    assert_int_equal(pair.near.why.code, 0);
    pair_stop(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(carries_bytes_both_ways),
        cmocka_unit_test(passes_half_closes_on),
        cmocka_unit_test(delivers_all_that_a_program_sent_before_it_closed),
        cmocka_unit_test(a_killed_program_resets_its_channel),
        cmocka_unit_test(a_refused_socket_resets_with_a_sentence),
        cmocka_unit_test(a_slow_program_gets_its_connections),
        cmocka_unit_test(connections_wait_for_a_channel),
        cmocka_unit_test(goes_on_when_descriptors_are_short),
        cmocka_unit_test(closing_an_endpoint_closes_its_sockets),
        cmocka_unit_test(closing_ends_everything),
        cmocka_unit_test(closing_as_done_waits_for_channels),
        cmocka_unit_test(a_stalled_program_holds_up_nobody_else),
        cmocka_unit_test(carries_many_channels_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
