/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * qemu/qmp.h against a server that says what it likes: no greeting, garbage, messages without an
 * end, events between replies, replies that are late or in another order, and a sudden end.
 */
#include "config.h"

#include "qemu/qmp.h"
#include "common/cleanup.h"
#include "common/loop.h"
#include "tests/unit/fake_qemu.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <semaphore.h>
#include <string.h>
#include <unistd.h>

enum { LONG_MS = 20000, SHORT_MS = 50 };

#define WAIT(ms) (&(struct qmp_wait){.deadline = loop_clock() + (ms)*LOOP_MS})

static struct qmp_thread *thread;

static int start_thread(void **state)
{
    (void)state;
    thread = qmp_thread_new(NULL);
    return thread ? 0 : -1;
}

static int end_thread(void **state)
{
    (void)state;
    qmp_thread_free(thread);
    return 0;
}

static struct qmp *connect_to(struct fake_qemu *fake)
{
    struct qmp_wait wait = qmp_wait_ms(LONG_MS);
    struct error err = ERROR_INIT;
    struct qmp *qmp = qmp_connect(thread, fake_qemu_path(fake), &wait, NULL, NULL, &err);

    if (!qmp)
        fail_msg("%s", err.text);
    return qmp;
}

static void assert_says(const struct error *err, int code, const char *sentence)
{
    if (err->code != code || !strstr(err->text, sentence))
        fail_msg("\"%s\" (%d) doesn't say \"%s\" (%d)", err->text, err->code, sentence, code);
}

/* --- connecting --- */

static void expect_no_connection(void (*script)(struct fake_qemu *), unsigned ms, int code,
                                 const char *sentence)
{
    struct fake_qemu *fake = fake_qemu_new(script);
    struct qmp_wait wait = qmp_wait_ms(ms);
    struct error err = ERROR_INIT;

    assert_null(qmp_connect(thread, fake_qemu_path(fake), &wait, NULL, NULL, &err));
    assert_says(&err, code, sentence);
    fake_qemu_free(fake);
}

static void say_garbage(struct fake_qemu *fake)
{
    fake_send(fake, "SSH-2.0-OpenSSH_9.2\r\n");
    fake_wait_end(fake);
}

static void greet_oddly(struct fake_qemu *fake)
{
    fake_send(fake, "{\"QMP\": {\"version\": \"new\"}}\n");
    fake_wait_end(fake);
}

static void talk_without_end(struct fake_qemu *fake)
{
    static char piece[1 << 20];

    memset(piece, 'x', sizeof piece - 1);
    for (size_t sent = 0; sent <= QMP_MESSAGE_MAX; sent += sizeof piece - 1)
        fake_send(fake, piece);
    fake_wait_end(fake);
}

static void leave_after_greeting(struct fake_qemu *fake)
{
    fake_send(fake, FAKE_GREETING);
    json_decref(fake_expect(fake, "qmp_capabilities"));
}

static void test_bad_servers(void **state)
{
    (void)state;
    expect_no_connection(fake_wait_end, SHORT_MS, ETIMEDOUT,
                         "no greeting from QEMU at /tmp/bistream-qmp-");
    expect_no_connection(fake_wait_end, SHORT_MS, ETIMEDOUT,
                         "another QMP client holds this socket");
    expect_no_connection(say_garbage, LONG_MS, ENOTCONN, "it sent something that is no QMP");
    expect_no_connection(greet_oddly, LONG_MS, EPROTO, "is no QMP server");
    expect_no_connection(talk_without_end, LONG_MS, ENOTCONN, "it sent an over-long message");
    expect_no_connection(leave_after_greeting, LONG_MS, ENOTCONN, "qmp_capabilities");
}

static int give_up(void *opaque, struct error *err)
{
    (void)opaque;
    return error_set(err, ECANCELED, "the operator has lost patience");
}

/* Who waits for a QEMU that never greets can be called back. */
static void test_mute_server(void **state)
{
    struct fake_qemu *fake = fake_qemu_new(fake_wait_end);
    struct qmp_wait wait = {.deadline = LOOP_NEVER, .check = give_up};
    struct error err = ERROR_INIT;

    (void)state;
    assert_null(qmp_connect(thread, fake_qemu_path(fake), &wait, NULL, NULL, &err));
    assert_says(&err, ECANCELED, "the operator has lost patience");
    fake_qemu_free(fake);
}

static void test_nobody_there(void **state)
{
    struct qmp_wait wait = qmp_wait_ms(LONG_MS);
    struct error err = ERROR_INIT;
    char path[200];

    (void)state;
    assert_null(qmp_connect(thread, "/nonexistent/qmp", &wait, NULL, NULL, &err));
    assert_says(&err, ENOENT, "no QEMU listens on /nonexistent/qmp");
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_null(qmp_connect(thread, path, &wait, NULL, NULL, &err));
    assert_says(&err, ENAMETOOLONG, "too long for a socket");
}

static void serve_nothing(struct fake_qemu *fake)
{
    fake_negotiate(fake);
    fake_wait_end(fake);
}

static void test_peer(void **state)
{
    struct fake_qemu *fake = fake_qemu_new(serve_nothing);
    struct qmp *qmp = connect_to(fake);
    CLEANUP_CLOSE int pidfd = -1;
    pid_t pid;

    (void)state;
    assert_int_equal(qmp_pid(qmp), getpid());
    assert_true(qmp_pidfd(qmp) >= 0);
    assert_string_equal(qmp_version(qmp), "7.2.22");
    assert_true(qmp_has_oob(qmp));
    assert_false(qmp_closed(qmp));
    assert_int_equal(qmp_peer(fake_qemu_path(fake), &pid, &pidfd, NULL), 0);
    assert_int_equal(pid, getpid());
    qmp_free(qmp);
    fake_qemu_free(fake);
}

/* --- commands --- */

static void serve_errors(struct fake_qemu *fake)
{
    fake_negotiate(fake);
    fake_error(fake, fake_expect(fake, "cont"), "GenericError", "Not now");
    fake_error(fake, fake_expect(fake, "dance"), "CommandNotFound", "No such thing");
    fake_return(fake, fake_expect(fake, "query-status"), "{\"status\": \"running\"}");
}

static void test_errors_and_a_return(void **state)
{
    struct fake_qemu *fake = fake_qemu_new(serve_errors);
    struct qmp *qmp = connect_to(fake);
    struct error err = ERROR_INIT;
    json_t *answer = NULL;

    (void)state;
    assert_int_equal(qmp_execute(qmp, "cont", json_object(), WAIT(LONG_MS), NULL, &err),
                     -EREMOTEIO);
    assert_says(&err, EREMOTEIO, "QEMU refused cont: Not now");
    assert_int_equal(qmp_execute(qmp, "dance", json_object(), WAIT(LONG_MS), NULL, &err), -ENOSYS);
    assert_says(&err, ENOSYS, "this QEMU has no command dance");
    assert_int_equal(qmp_execute(qmp, "stop", NULL, WAIT(LONG_MS), NULL, &err), -ENOMEM);
    assert_int_equal(qmp_execute(qmp, "query-status", json_object(), WAIT(LONG_MS), &answer, &err),
                     0);
    assert_string_equal(json_string_value(json_object_get(answer, "status")), "running");
    json_decref(answer);
    qmp_free(qmp);
    fake_qemu_free(fake);
}

/* Answers the first command only after the second one has come, and then both. */
static void serve_late(struct fake_qemu *fake)
{
    json_t *first, *second;

    fake_negotiate(fake);
    first = fake_expect(fake, "query-block");
    second = fake_expect(fake, "query-status");
    fake_return(fake, first, "\"late\"");
    fake_return(fake, second, "\"in time\"");
    fake_wait_end(fake);
}

static void test_late_reply_is_dropped(void **state)
{
    struct fake_qemu *fake = fake_qemu_new(serve_late);
    struct qmp *qmp = connect_to(fake);
    struct error err = ERROR_INIT;
    json_t *answer = NULL;

    (void)state;
    assert_int_equal(qmp_execute(qmp, "query-block", json_object(), WAIT(SHORT_MS), NULL, &err),
                     -ETIMEDOUT);
    assert_says(&err, ETIMEDOUT, "hasn't answered query-block in time");
    assert_false(qmp_closed(qmp)); /* a time-out is no death */
    assert_int_equal(qmp_execute(qmp, "query-status", json_object(), WAIT(LONG_MS), &answer, &err),
                     0);
    assert_string_equal(json_string_value(answer), "in time");
    json_decref(answer);
    qmp_free(qmp);
    fake_qemu_free(fake);
}

struct caller {
    struct qmp *qmp;
    const char *command, *expected;
    pthread_t thread;
};

static void *call_it(void *opaque)
{
    struct caller *caller = opaque;
    json_t *answer = NULL;

    assert_int_equal(
        qmp_execute(caller->qmp, caller->command, json_object(), WAIT(LONG_MS), &answer, NULL), 0);
    assert_string_equal(json_string_value(answer), caller->expected);
    json_decref(answer);
    return NULL;
}

static void serve_in_reverse(struct fake_qemu *fake)
{
    json_t *first, *second;

    fake_negotiate(fake);
    first = fake_expect(fake, "one");
    fake_go(fake);
    second = fake_expect(fake, "two");
    fake_return(fake, second, "\"2\"");
    fake_return(fake, first, "\"1\"");
    fake_wait_end(fake);
}

static void test_replies_find_their_callers(void **state)
{
    struct fake_qemu *fake = fake_qemu_new(serve_in_reverse);
    struct qmp *qmp = connect_to(fake);
    struct caller one = {.qmp = qmp, .command = "one", .expected = "1"};
    struct caller two = {.qmp = qmp, .command = "two", .expected = "2"};

    (void)state;
    assert_int_equal(pthread_create(&one.thread, NULL, call_it, &one), 0);
    fake_wait(fake);
    call_it(&two);
    pthread_join(one.thread, NULL);
    qmp_free(qmp);
    fake_qemu_free(fake);
}

static void serve_oob(struct fake_qemu *fake)
{
    json_t *command;

    fake_negotiate(fake);
    command = fake_expect(fake, "yank");
    assert_non_null(json_object_get(command, "exec-oob"));
    fake_return(fake, command, "{}");
}

static void refuse_oob(struct fake_qemu *fake)
{
    fake_send(fake, "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 1, \"major\": 2}"
                    "}, \"capabilities\": []}}\n");
    fake_return(fake, fake_expect(fake, "qmp_capabilities"), "{}");
    fake_wait_end(fake);
}

static void test_out_of_band(void **state)
{
    struct fake_qemu *fake = fake_qemu_new(serve_oob);
    struct qmp *qmp = connect_to(fake);
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(qmp_execute_oob(qmp, "yank", json_object(), WAIT(LONG_MS), NULL, &err), 0);
    qmp_free(qmp);
    fake_qemu_free(fake);
    fake = fake_qemu_new(refuse_oob);
    qmp = connect_to(fake);
    assert_int_equal(qmp_execute_oob(qmp, "yank", json_object(), WAIT(LONG_MS), NULL, &err),
                     -ENOSYS);
    qmp_free(qmp);
    fake_qemu_free(fake);
}

/* --- descriptors --- */

static void take_fd_and_use_it(struct fake_qemu *fake)
{
    json_t *command;
    int fd;

    fake_negotiate(fake);
    command = fake_expect_fd(fake, "getfd", &fd);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
    fake_return(fake, command, "{}");
    json_decref(fake_expect_fd(fake, "migrate", &fd));
    assert_int_equal(fd, -1);
}

/* The pipe whose writing end is handed over ends: nobody has a duplicate left. */
static void test_descriptor(void **state)
{
    struct fake_qemu *fake = fake_qemu_new(take_fd_and_use_it);
    struct qmp *qmp = connect_to(fake);
    struct error err = ERROR_INIT;
    char byte;
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(
        qmp_execute_fd(qmp, "getfd", json_object(), ends[1], WAIT(LONG_MS), NULL, &err), 0);
    assert_int_equal(qmp_execute(qmp, "migrate", json_object(), WAIT(LONG_MS), NULL, &err),
                     -ENOTCONN);
    assert_int_equal(close(ends[1]), 0);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_int_equal(read(ends[0], &byte, 1), 0);
    close(ends[0]);
    qmp_free(qmp);
    fake_qemu_free(fake);
}

static sem_t filled;

static void read_nothing(struct fake_qemu *fake)
{
    fake_negotiate(fake);
    fake_wait_input(fake);
    sem_post(&filled);
    fake_wait(fake);
}

/* One that QEMU doesn't read waits to be sent, another one can't, and both are closed in the end. */
static void test_descriptor_not_read(void **state)
{
    const int ready = sem_init(&filled, 0, 0);
    struct fake_qemu *fake = fake_qemu_new(read_nothing);
    struct qmp *qmp = connect_to(fake);
    struct error err = ERROR_INIT;
    static char large[1 << 20];
    char byte;
    int ends[2];

    (void)state;
    assert_int_equal(ready, 0);
    memset(large, 'x', sizeof large - 1);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(
        qmp_execute(qmp, "large", json_pack("{s:s}", "it", large), WAIT(SHORT_MS), NULL, &err),
        -ETIMEDOUT);
    while (sem_wait(&filled) < 0) /* else the descriptor would still go along */
        assert_int_equal(errno, EINTR);
    assert_int_equal(
        qmp_execute_fd(qmp, "getfd", json_object(), ends[1], WAIT(SHORT_MS), NULL, &err),
        -ETIMEDOUT);
    assert_int_equal(
        qmp_execute_fd(qmp, "getfd", json_object(), ends[1], WAIT(SHORT_MS), NULL, &err), -EBUSY);
    assert_says(&err, EBUSY, "has not read what was sent to it before");
    qmp_free(qmp);
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 0);
    close(ends[0]);
    fake_go(fake);
    fake_qemu_free(fake);
    sem_destroy(&filled);
}

/* --- events, the bell, the end --- */

struct seen {
    atomic_int events, closed;
    char name[32];
    json_int_t value;
    uint64_t timestamp;
};

static void note_event(void *opaque, const char *name, json_t *data, uint64_t timestamp_us)
{
    struct seen *seen = opaque;

    snprintf(seen->name, sizeof seen->name, "%s", name);
    seen->value = json_integer_value(json_object_get(data, "v"));
    seen->timestamp = timestamp_us;
    seen->events++;
}

static void note_closed(void *opaque)
{
    struct seen *seen = opaque;

    seen->closed++;
}

static const struct qmp_handlers noting = {.event = note_event, .closed = note_closed};

static void serve_events(struct fake_qemu *fake)
{
    json_t *command;

    fake_negotiate(fake);
    fake_wait(fake);
    command = fake_expect(fake, "query-status");
    fake_send(fake, "{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 3, \"microseconds\": 7}}\n"
                    "{\"event\": \"JOB\", \"data\": {\"v\": 5}, \"timestamp\": {\"seconds\": 3, "
                    "\"microseconds\": 8}}\n");
    fake_return(fake, command, "{}");
    fake_send(fake, "{\"return\": {}, \"id\"");
}

static void test_events_and_the_end(void **state)
{
    struct fake_qemu *fake = fake_qemu_new(serve_events);
    struct seen seen = {.events = 0};
    struct qmp_wait wait = qmp_wait_ms(LONG_MS);
    struct error err = ERROR_INIT;
    struct qmp *qmp = qmp_connect(thread, fake_qemu_path(fake), &wait, &noting, &seen, &err);
    uint64_t bell;

    (void)state;
    assert_non_null(qmp);
    bell = qmp_bell(qmp);
    assert_int_equal(qmp_wait_bell(qmp, &bell, WAIT(SHORT_MS), &err), -ETIMEDOUT);
    fake_go(fake);
    assert_int_equal(qmp_execute(qmp, "query-status", json_object(), WAIT(LONG_MS), NULL, &err), 0);
    assert_int_equal(seen.events, 2); /* they came before the reply */
    assert_string_equal(seen.name, "JOB");
    assert_int_equal(seen.value, 5);
    assert_int_equal(seen.timestamp, 3000008);
    while (qmp_wait_bell(qmp, &bell, WAIT(LONG_MS), &err) == 0)
        ;
    assert_says(&err, ENOTCONN, "has gone");
    assert_true(qmp_closed(qmp));
    assert_int_equal(qmp_execute(qmp, "cont", json_object(), WAIT(LONG_MS), NULL, &err), -ENOTCONN);
    qmp_free(qmp);
    assert_int_equal(seen.closed, 1);
    fake_qemu_free(fake);
}

static void serve_half(struct fake_qemu *fake)
{
    fake_negotiate(fake);
    json_decref(fake_expect(fake, "query-block"));
    fake_send(fake, "{\"return\": [{\"device\":");
}

static void test_end_in_a_reply(void **state)
{
    struct fake_qemu *fake = fake_qemu_new(serve_half);
    struct qmp *qmp = connect_to(fake);
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(qmp_execute(qmp, "query-block", json_object(), WAIT(LONG_MS), NULL, &err),
                     -ENOTCONN);
    assert_says(&err, ENOTCONN, "query-block: QEMU at ");
    qmp_free(qmp);
    fake_qemu_free(fake);
}

static atomic_bool aborted;

static int check_abort(void *opaque, struct error *err)
{
    atomic_int *calls = opaque;

    ++*calls;
    return aborted ? error_set(err, ECANCELED, "the operator aborts") : 0;
}

static void *abort_it(void *opaque)
{
    aborted = true;
    qmp_wake(opaque);
    return NULL;
}

static void take_no_notice(struct fake_qemu *fake)
{
    fake_negotiate(fake);
    json_decref(fake_expect(fake, "query-migrate"));
    fake_go(fake);
    fake_wait_end(fake);
}

/* A job thread behind a silent QEMU hears its operator. */
static void test_check_ends_the_wait(void **state)
{
    struct fake_qemu *fake = fake_qemu_new(take_no_notice);
    struct qmp *qmp = connect_to(fake);
    atomic_int calls = 0;
    struct qmp_wait wait = {.deadline = LOOP_NEVER, .check = check_abort, .opaque = &calls};
    struct error err = ERROR_INIT;
    pthread_t other;

    (void)state;
    aborted = false;
    assert_int_equal(pthread_create(&other, NULL, abort_it, qmp), 0);
    assert_int_equal(qmp_execute(qmp, "query-migrate", json_object(), &wait, NULL, &err),
                     -ECANCELED);
    assert_says(&err, ECANCELED, "the operator aborts");
    pthread_join(other, NULL);
    fake_wait(fake);
    qmp_free(qmp);
    fake_qemu_free(fake);
}

static int check_ticks(void *opaque, struct error *err)
{
    atomic_int *calls = opaque;

    return ++*calls == 4 ? error_set(err, ECANCELED, "enough") : 0;
}

static void test_ticks(void **state)
{
    struct fake_qemu *fake = fake_qemu_new(serve_nothing);
    struct qmp *qmp = connect_to(fake);
    atomic_int calls = 0;
    struct qmp_wait wait = {
        .deadline = LOOP_NEVER, .check = check_ticks, .opaque = &calls, .tick_ms = 1};
    uint64_t bell = qmp_bell(qmp);
    int r;

    (void)state;
    while ((r = qmp_wait_bell(qmp, &bell, &wait, NULL)) == 0)
        ;
    assert_int_equal(r, -ECANCELED);
    assert_int_equal(calls, 4);
    qmp_free(qmp);
    fake_qemu_free(fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_servers),
        cmocka_unit_test(test_mute_server),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_peer),
        cmocka_unit_test(test_errors_and_a_return),
        cmocka_unit_test(test_late_reply_is_dropped),
        cmocka_unit_test(test_replies_find_their_callers),
        cmocka_unit_test(test_out_of_band),
        cmocka_unit_test(test_descriptor),
        cmocka_unit_test(test_descriptor_not_read),
        cmocka_unit_test(test_events_and_the_end),
        cmocka_unit_test(test_end_in_a_reply),
        cmocka_unit_test(test_check_ends_the_wait),
        cmocka_unit_test(test_ticks),
    };

    return cmocka_run_group_tests(tests, start_thread, end_thread);
}
