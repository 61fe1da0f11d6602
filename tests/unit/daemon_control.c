/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The control socket: calls, events to a client that reads and to one that doesn't, hooks, the end. */
#include "config.h"

#include "tests/unit/unit.h"

#include "common/cleanup.h"
#include "daemon/control.h"
#include "io/net.h"
#include "rpc/inbox.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

enum { PROCEDURE = 1000, EVENT = BS_PROC_EVENT_MIGRATE_NOTICE };

static char path[64];

struct fixture {
    struct daemon daemon;
    pthread_t main_loop;
    struct control *control;
    int client;
    struct rpc_inbox inbox;
    uint8_t buffer[65536];
    size_t start, end;

    struct control_connection *_Atomic connection; /* what the handler left behind */
    struct control_hook hook;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hook_ran;
};

static struct fixture *current;

/* Keeps the connection it was called on, with a hook at its end. */
static int handle(void *opaque, const void *args, void *ret, struct error *err)
{
    (void)args;
    (void)ret;
    (void)err;
    assert_int_equal(control_hook_add(opaque, &current->hook), 0);
    control_ref(opaque);
    current->connection = opaque; /* the reply tells the test that it is there */
    return 0;
}

static const struct rpc_procedure procedures[] = {
    {PROCEDURE, "TEST", RPC_CALLER_LOCAL, NULL, 0, NULL, 0, handle}};
static const struct rpc_program program = {procedures, 1};

static void on_hook(struct control_hook *hook)
{
    struct fixture *fixture = current;

    assert_ptr_equal(hook, &fixture->hook);
    pthread_mutex_lock(&fixture->lock);
    assert_false(fixture->hook_ran);
    fixture->hook_ran = true;
    pthread_cond_signal(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
}

static void *run_loop(void *opaque)
{
    loop_run(opaque);
    return NULL;
}

/* The next message from the daemon; false at the end of the connection. */
static bool receive(struct fixture *fixture)
{
    for (;;) {
        size_t used;
        ssize_t n;
        int r = rpc_inbox_feed(&fixture->inbox, fixture->buffer + fixture->start,
                               fixture->end - fixture->start, &used);

        assert_true(r >= 0);
        fixture->start += used;
        if (r > 0)
            return true;
        do {
            struct pollfd pollfd = {.fd = fixture->client, .events = POLLIN};

            assert_int_equal(poll(&pollfd, 1, 30000), 1);
            n = recv(fixture->client, fixture->buffer, sizeof fixture->buffer, 0);
        } while (n < 0 && errno == EAGAIN);
        if (n <= 0)
            return false;
        fixture->start = 0;
        fixture->end = (size_t)n;
    }
}

static void call(struct fixture *fixture, int procedure)
{
    const struct bs_header header = {.prog = BS_PROGRAM,
                                     .vers = BS_VERSION,
                                     .procedure = procedure,
                                     .type = BS_CALL,
                                     .serial = 7};
    CLEANUP_FREE uint8_t *data = NULL;
    size_t length;

    assert_int_equal(rpc_message_encode(&header, NULL, NULL, &data, &length), 0);
    assert_int_equal(send(fixture->client, data, length, MSG_NOSIGNAL), length);
    assert_true(receive(fixture));
    assert_int_equal(fixture->inbox.message.header.type, BS_REPLY);
    assert_int_equal(fixture->inbox.message.header.serial, 7);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct error err = ERROR_INIT;
    int listener;

    snprintf(path, sizeof path, "/tmp/bistream-control-%d", (int)getpid());
    pthread_mutex_init(&fixture->lock, NULL);
    pthread_cond_init(&fixture->changed, NULL);
    fixture->hook.ended = on_hook;
    fixture->daemon.loop = loop_new();
    listener = net_listen_unix(path, 0600, &err);
    fixture->control = control_start(&fixture->daemon, listener, &program, &err);
    fixture->client = net_dial_unix(path, &err);
    if (!fixture->control || fixture->client < 0)
        return -1;
    current = fixture;
    *state = fixture;
    return pthread_create(&fixture->main_loop, NULL, run_loop, fixture->daemon.loop);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    loop_stop(fixture->daemon.loop);
    pthread_join(fixture->main_loop, NULL);
    control_quiesce(fixture->control);
    control_free(fixture->control);
    if (fixture->connection) {
        control_hook_remove(fixture->connection, &fixture->hook);
        control_unref(fixture->connection);
    }
    loop_free(fixture->daemon.loop);
    if (fixture->client >= 0)
        close(fixture->client);
    rpc_inbox_clear(&fixture->inbox);
    pthread_cond_destroy(&fixture->changed);
    pthread_mutex_destroy(&fixture->lock);
    free(fixture);
    return unlink(path);
}

static void wait_for_hook(struct fixture *fixture)
{
    pthread_mutex_lock(&fixture->lock);
    while (!fixture->hook_ran)
        pthread_cond_wait(&fixture->changed, &fixture->lock);
    pthread_mutex_unlock(&fixture->lock);
}

static void test_calls(void **state)
{
    struct fixture *fixture = *state;

    call(fixture, PROCEDURE);
    assert_int_equal(fixture->inbox.message.header.status, BS_OK);
    call(fixture, PROCEDURE + 1);
    assert_int_equal(fixture->inbox.message.header.status, BS_ERROR);
    call(fixture, BS_PROC_HOST_INFO); /* not in this table, so not there */
    assert_int_equal(fixture->inbox.message.header.status, BS_ERROR);
}

static int send_text(struct fixture *fixture, int procedure, char *text)
{
    struct bs_migrate_notice notice = {.text = text};

    return control_send_event(fixture->connection, procedure, (xdrproc_t)xdr_bs_migrate_notice,
                              &notice);
}

/* A client that does not read: progress is left out, the result still gets to it in order. */
static void test_events_to_a_client_that_sleeps(void **state)
{
    static char text[4000], result[] = "the result";
    struct fixture *fixture = *state;
    unsigned sent = 0, came = 0;

    memset(text, 'x', sizeof text - 1);
    call(fixture, PROCEDURE);
    while (send_text(fixture, BS_PROC_EVENT_MIGRATE_PROGRESS, text) == 0)
        assert_true(++sent < 100000);
    assert_int_equal(send_text(fixture, BS_PROC_EVENT_MIGRATE_PROGRESS, text), -ENOBUFS);
    assert_int_equal(send_text(fixture, EVENT, result), 0);
    do {
        assert_true(receive(fixture));
        assert_int_equal(fixture->inbox.message.header.type, BS_EVENT);
        came++;
    } while (fixture->inbox.message.header.procedure != EVENT);
    assert_int_equal(came, sent + 1);
    call(fixture, PROCEDURE + 1); /* and it is served again */
}

/* One that never wakes up is given up, and what depends on it learns so. */
static void test_client_that_never_reads(void **state)
{
    static char text[4000];
    struct fixture *fixture = *state;
    unsigned sent = 0;
    int r;

    memset(text, 'x', sizeof text - 1);
    call(fixture, PROCEDURE);
    while ((r = send_text(fixture, EVENT, text)) == 0)
        assert_true(++sent < 100000);
    assert_true(r == -ENOBUFS || r == -EPIPE || r == -ECONNRESET);
    wait_for_hook(fixture);
    assert_int_equal(send_text(fixture, EVENT, text), -ECONNRESET);
}

static void test_hook(void **state)
{
    struct fixture *fixture = *state;
    struct control_hook late = {.ended = on_hook};

    call(fixture, PROCEDURE);
    assert_false(fixture->hook_ran);
    close(fixture->client);
    fixture->client = -1;
    wait_for_hook(fixture);
    assert_int_equal(control_hook_add(fixture->connection, &late), -ECONNRESET);
    control_hook_remove(fixture->connection, &fixture->hook); /* harmless */
}

/* A removed hook is not called; nothing that runs is left when the daemon stops (teardown). */
static void test_removed_hook(void **state)
{
    struct fixture *fixture = *state;

    call(fixture, PROCEDURE);
    control_hook_remove(fixture->connection, &fixture->hook);
    assert_int_equal(shutdown(fixture->client, SHUT_WR), 0);
    assert_false(receive(fixture));
    assert_false(fixture->hook_ran);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_events_to_a_client_that_sleeps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_that_never_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hook, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removed_hook, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
