/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Calls on channel 0: answered, refused, timed out, given up, cut off by the end of the session. */
#include "config.h"

#include "common/loop.h"
#include "tests/unit/pump_pair.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what both sides offer --------------------------------------------------------------------- */

/* A handler that waits until the test lets it go. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int running, done; /* handlers */
    int refused;       /* callers */
    bool open;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void set_gate(bool open)
{
    pthread_mutex_lock(&gate.lock);
    gate.open = open;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

static void reset_gate(void)
{
    gate.running = gate.done = gate.refused = 0;
    gate.open = false;
}

static void wait_until(const int *count, int wanted)
{
    pthread_mutex_lock(&gate.lock);
    while (*count < wanted)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

static void count_up(int *count)
{
    pthread_mutex_lock(&gate.lock);
    ++*count;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

static int handle_settle(void *opaque, const void *args, void *ret, struct error *err)
{
    const struct bs_migrate_settle_args *settle = args;

    (void)opaque, (void)ret;
    if (settle->settle != BS_SETTLE_THEIRS)
        return error_set(err, EBUSY, "disk vda is still being written to");
    count_up(&gate.running);
    pthread_mutex_lock(&gate.lock);
    while (!gate.open)
        pthread_cond_wait(&gate.changed, &gate.lock);
    gate.done++;
    pthread_mutex_unlock(&gate.lock);
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

/* Answers with what it was given: a message of hundreds of KiB in both directions. */
static int handle_info(void *opaque, const void *args, void *ret, struct error *err)
{
    const struct bs_domain_start_args *start = args;
    struct bs_domain_info_ret *answer = ret;

    (void)opaque, (void)err;
    answer->json = strdup(start->definition);
    return 0;
}

static const struct rpc_procedure procedures[] = {
    {
        .number = BS_PROC_MIGRATE_SETTLE,
        .name = "settle",
        .callers = RPC_CALLER_SESSION,
        .args_proc = (xdrproc_t)xdr_bs_migrate_settle_args,
        .args_size = sizeof(struct bs_migrate_settle_args),
        .handler = handle_settle,
    },
    {
        .number = BS_PROC_MIGRATE_FINISH,
        .name = "finish",
        .callers = RPC_CALLER_SESSION,
        .args_proc = (xdrproc_t)xdr_bs_migrate_finish_args,
        .args_size = sizeof(struct bs_migrate_finish_args),
        .ret_proc = (xdrproc_t)xdr_bs_migrate_finish_ret,
        .ret_size = sizeof(struct bs_migrate_finish_ret),
        .handler = handle_finish,
    },
    {
        .number = BS_PROC_DOMAIN_START,
        .name = "start",
        .callers = RPC_CALLER_SESSION,
        .args_proc = (xdrproc_t)xdr_bs_domain_start_args,
        .args_size = sizeof(struct bs_domain_start_args),
        .ret_proc = (xdrproc_t)xdr_bs_domain_info_ret,
        .ret_size = sizeof(struct bs_domain_info_ret),
        .handler = handle_info,
    },
    {
        .number = BS_PROC_DOMAIN_LIST,
        .name = "list",
        .callers = RPC_CALLER_LOCAL,
        .handler = handle_settle,
    },
};
static const struct rpc_program program = {procedures, ARRAY_LENGTH(procedures)};

static int settle(struct pump *pump, unsigned which, int timeout_ms, struct error *err)
{
    struct bs_migrate_settle_args args = {.settle = which};

    return pump_call(pump, BS_PROC_MIGRATE_SETTLE, (xdrproc_t)xdr_bs_migrate_settle_args, &args,
                     NULL, NULL, timeout_ms, err);
}

static int finish(struct pump *pump, unsigned char number, struct bs_migrate_finish_ret *ret,
                  struct error *err)
{
    struct bs_migrate_finish_args args = {.id = {(char)number}};

    memset(ret, 0, sizeof *ret);
    return pump_call(pump, BS_PROC_MIGRATE_FINISH, (xdrproc_t)xdr_bs_migrate_finish_args, &args,
                     (xdrproc_t)xdr_bs_migrate_finish_ret, ret, 20000, err);
}

/* ---- threads that call ------------------------------------------------------------------------- */

struct caller {
    pthread_t thread;
    struct pump *pump;
    int result;
    struct error err;
};

/* Many calls one after the other; the number of answers that were right. */
static void *call_often(void *opaque)
{
    struct caller *caller = opaque;

    for (int i = 0; i < 200; i++) {
        struct bs_migrate_finish_ret ret;

        if (finish(caller->pump, (unsigned char)i, &ret, &caller->err) < 0)
            break;
        caller->result += ret.owner == (unsigned)i && strcmp(ret.reason, "because") == 0;
        xdr_free((xdrproc_t)xdr_bs_migrate_finish_ret, (char *)&ret);
    }
    return NULL;
}

static void *call_settle(void *opaque)
{
    struct caller *caller = opaque;

    caller->result = settle(caller->pump, BS_SETTLE_THEIRS, 20000, &caller->err);
    if (caller->result == -EBUSY)
        count_up(&gate.refused);
    return NULL;
}

static void start_caller(struct caller *caller, struct pump *pump, void *(*run)(void *))
{
    *caller = (struct caller){.pump = pump};
    assert_int_equal(pthread_create(&caller->thread, NULL, run, caller), 0);
}

/* ---- tests ------------------------------------------------------------------------------------- */

static void answers_calls_of_both_sides_at_once(void **state)
{
    struct caller callers[6];
    struct pair pair;

    (void)state;
    pair_start(&pair, NULL, &program, true);
    for (int i = 0; i < 6; i++)
        start_caller(&callers[i], i % 2 ? pair.far.pump : pair.near.pump, call_often);
    for (int i = 0; i < 6; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].result, 200);
    }
    pair_stop(&pair);
}

static void carries_large_calls(void **state)
{
    enum { LENGTH = BS_DEFINITION_MAX };
    char *definition = malloc(LENGTH + 1);
    struct bs_domain_start_args args = {.definition = definition, .name = (char[]){"x"}};
    struct bs_domain_info_ret ret = {.json = NULL};
    struct error err = ERROR_INIT;
    struct pair pair;

    (void)state;
    for (int i = 0; i < LENGTH; i++)
        definition[i] = (char)('a' + i % 23);
    definition[LENGTH] = '\0';
    pair_start(&pair, NULL, &program, true);
    if (pump_call(pair.near.pump, BS_PROC_DOMAIN_START, (xdrproc_t)xdr_bs_domain_start_args, &args,
                  (xdrproc_t)xdr_bs_domain_info_ret, &ret, 20000, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(ret.json, definition);
    xdr_free((xdrproc_t)xdr_bs_domain_info_ret, (char *)&ret);
    pair_stop(&pair);
    free(definition);
}

static void brings_the_handlers_sentence_back(void **state)
{
    struct error err = ERROR_INIT;
    struct pair pair;

    (void)state;
    pair_start(&pair, NULL, &program, true);
    assert_int_equal(settle(pair.near.pump, BS_SETTLE_OURS, 20000, &err), -EBUSY);
    assert_string_equal(err.text, "disk vda is still being written to");
    assert_int_equal(pump_call(pair.near.pump, 99, NULL, NULL, NULL, NULL, 20000, &err), -ENOSYS);
    assert_string_equal(err.text, "unknown procedure: 99");
    /* Known, but not for a peer. */
    assert_int_equal(
        pump_call(pair.near.pump, BS_PROC_DOMAIN_LIST, NULL, NULL, NULL, NULL, 20000, &err),
        -ENOSYS);
    pair_stop(&pair);

    pair_start(&pair, NULL, NULL, true); /* a side that offers nothing */
    assert_int_equal(settle(pair.near.pump, BS_SETTLE_OURS, 20000, &err), -ENOSYS);
    pair_stop(&pair);
}

static void times_out_and_goes_on(void **state)
{
    struct bs_migrate_finish_ret ret;
    struct error err = ERROR_INIT;
    struct pair pair;

    (void)state;
    reset_gate();
    pair_start(&pair, NULL, &program, true);
    assert_int_equal(settle(pair.near.pump, BS_SETTLE_THEIRS, 50, &err), -ETIMEDOUT);
    assert_string_equal(err.text, "no answer to procedure 12 came within 50 ms");
    set_gate(true); /* the late answer is harmless */
    assert_int_equal(finish(pair.near.pump, 3, &ret, &err), 0);
    xdr_free((xdrproc_t)xdr_bs_migrate_finish_ret, (char *)&ret);
    pair_stop(&pair);
}

static void gives_calls_up(void **state)
{
    struct bs_migrate_finish_ret ret;
    struct error err = ERROR_INIT;
    struct caller caller;
    struct pair pair;

    (void)state;
    reset_gate();
    pair_start(&pair, NULL, &program, true);
    pump_cancel_calls(pair.near.pump); /* there are none: harmless */
    start_caller(&caller, pair.near.pump, call_settle);
    wait_until(&gate.running, 1);
    pump_cancel_calls(pair.near.pump);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.result, -ECANCELED);
    set_gate(true);
    assert_int_equal(finish(pair.near.pump, 3, &ret, &err), 0);
    xdr_free((xdrproc_t)xdr_bs_migrate_finish_ret, (char *)&ret);
    pair_stop(&pair);
}

/* The end of the session fails what waits, and runs nothing that was only queued. */
static void the_end_fails_pending_calls(void **state)
{
    struct caller callers[3];
    struct error err = ERROR_INIT;
    struct pair pair;

    (void)state;
    reset_gate();
    pair_start(&pair, NULL, &program, true);
    for (int i = 0; i < 3; i++)
        start_caller(&callers[i], pair.near.pump, call_settle);
    wait_until(&gate.running, 1);
    pump_close(pair.far.pump, BS_CLOSE_CANCELLED, "the guest was destroyed", 10000);
    for (int i = 0; i < 3; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].result, -ECONNRESET);
        assert_non_null(strstr(callers[i].err.text, "the guest was destroyed"));
    }
    assert_int_equal(settle(pair.near.pump, BS_SETTLE_OURS, 20000, &err), -ECONNRESET);
    assert_non_null(strstr(err.text, "the session has ended: "));
    set_gate(true);
    pair_stop(&pair); /* waits for the handler that runs */
    assert_int_equal(gate.running, 1);
    assert_int_equal(gate.done, 1);
}

static void too_many_calls_are_refused(void **state)
{
    enum { ALLOWED = 16, COUNT = 20 };
    struct caller callers[COUNT];
    struct pair pair;

    (void)state;
    reset_gate();
    pair_start(&pair, NULL, &program, true);
    for (int i = 0; i < COUNT; i++)
        start_caller(&callers[i], pair.near.pump, call_settle);
    wait_until(&gate.refused, COUNT - ALLOWED);
    set_gate(true);
    for (int i = 0; i < COUNT; i++)
        pthread_join(callers[i].thread, NULL);
    assert_int_equal(gate.refused, COUNT - ALLOWED);
    assert_int_equal(gate.done, ALLOWED);
    pair_stop(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_calls_of_both_sides_at_once),
        cmocka_unit_test(carries_large_calls),
        cmocka_unit_test(brings_the_handlers_sentence_back),
        cmocka_unit_test(times_out_and_goes_on),
        cmocka_unit_test(gives_calls_up),
        cmocka_unit_test(the_end_fails_pending_calls),
        cmocka_unit_test(too_many_calls_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
