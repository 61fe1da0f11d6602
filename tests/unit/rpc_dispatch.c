/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The dispatch table: who may call what, what is not known here, arguments that can't be decoded,
 * handlers that fail, and memory that runs out.
 */
#include "config.h"

#include "rpc/dispatch.h"
#include "rpc/error.h"
#include "tests/unit/failmalloc.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct server {
    int called;
    int fail;         /* the errno that the handler fails with */
    const char *text; /* with this sentence */
    bool no_results;  /* the handler forgets to set its result */
};

static int on_info(void *opaque, const void *args, void *ret, struct error *err)
{
    struct server *server = opaque;
    const struct bs_domain_name_args *name = args;
    struct bs_domain_info_ret *info = ret;

    server->called++;
    assert_null(info->json);
    if (!server->no_results) {
        info->json = strdup(name->name);
        if (!info->json)
            return error_set(err, ENOMEM, "no memory");
    }
    if (server->text)
        error_set(err, server->fail, "%s", server->text);
    return -server->fail;
}

static int on_nothing(void *opaque, const void *args, void *ret, struct error *err)
{
    struct server *server = opaque;

    (void)args;
    (void)ret;
    (void)err;
    server->called++;
    return 0;
}

static int on_too_much(void *opaque, const void *args, void *ret, struct error *err)
{
    struct bs_error *much = ret;
    struct server *server = opaque;

    (void)args;
    (void)err;
    server->called++;
    much->message = calloc(1, sizeof *much->message);
    much->str1 = calloc(1, sizeof *much->str1);
    assert_non_null(much->message);
    assert_non_null(much->str1);
    *much->message = calloc(1, BS_ERROR_TEXT_MAX);
    *much->str1 = calloc(1, BS_ERROR_TEXT_MAX);
    memset(*much->message, 'm', BS_ERROR_TEXT_MAX / 2);
    memset(*much->str1, 's', BS_ERROR_TEXT_MAX / 2);
    return 0;
}

static const struct rpc_procedure procedures[] = {
    {
        .number = 1,
        .name = "INFO",
        .callers = RPC_CALLER_LOCAL | RPC_CALLER_LINK,
        .args_proc = (xdrproc_t)xdr_bs_domain_name_args,
        .args_size = sizeof(struct bs_domain_name_args),
        .ret_proc = (xdrproc_t)xdr_bs_domain_info_ret,
        .ret_size = sizeof(struct bs_domain_info_ret),
        .handler = on_info,
    },
    {
        .number = 2,
        .name = "NOTHING",
        .callers = RPC_CALLER_SESSION,
        .handler = on_nothing,
    },
    {
        .number = 3,
        .name = "TOO_MUCH",
        .callers = RPC_CALLER_LOCAL,
        .ret_proc = (xdrproc_t)xdr_bs_error,
        .ret_size = sizeof(struct bs_error),
        .handler = on_too_much,
    },
};

static const struct rpc_program program = {procedures, ARRAY_LENGTH(procedures)};

/* A reply: its header, and the error that is in it or the payload. */
struct answer {
    struct bs_header header;
    struct error err;
    uint8_t *payload;
    size_t length;
};

static struct rpc_message call_of(int procedure, const void *payload, size_t length)
{
    return (struct rpc_message){
        .header = {BS_PROGRAM, BS_VERSION, procedure, BS_CALL, 99, BS_OK},
        .payload = (uint8_t *)(uintptr_t)payload,
        .length = length,
    };
}

static int on_begin(void *opaque, const struct bs_header *header, size_t length)
{
    struct answer *answer = opaque;

    answer->header = *header;
    answer->length = length;
    return 0;
}

static int on_payload(void *opaque, const uint8_t *data, size_t length)
{
    struct answer *answer = opaque;

    assert_int_equal(length, answer->length);
    answer->payload = malloc(length);
    assert_non_null(answer->payload);
    memcpy(answer->payload, data, length);
    return 0;
}

static int on_end(void *opaque)
{
    (void)opaque;
    return 0;
}

/* Dispatches CALL, checks what every reply must be, and returns 0 or the negative errno in it. */
static int ask(enum rpc_caller caller, struct server *server, const struct rpc_message *call,
               struct answer *answer)
{
    static const struct rpc_decoder_callbacks callbacks = {on_begin, on_payload, on_end};
    struct rpc_decoder decoder = {.callbacks = &callbacks, .opaque = answer};
    uint8_t *data = NULL;
    size_t length = 0, used;

    memset(answer, 0, sizeof *answer);
    assert_int_equal(rpc_dispatch(&program, caller, server, call, &data, &length), 0);
    assert_int_equal(rpc_decoder_feed(&decoder, data, length, &used), 0);
    assert_int_equal(used, length);
    free(data);
    assert_int_equal(answer->header.prog, call->header.prog);
    assert_int_equal(answer->header.vers, call->header.vers);
    assert_int_equal(answer->header.procedure, call->header.procedure);
    assert_int_equal(answer->header.serial, call->header.serial);
    assert_int_equal(answer->header.type, BS_REPLY);
    if (answer->header.status == BS_OK)
        return 0;
    assert_int_equal(answer->header.status, BS_ERROR);
    return rpc_error_decode(answer->payload, answer->length, &answer->err);
}

/* The same where only the errno and the sentence matter. */
static void assert_refused(enum rpc_caller caller, struct server *server,
                           const struct rpc_message *call, int code, const char *text)
{
    struct answer answer;

    assert_int_equal(ask(caller, server, call, &answer), -code);
    assert_string_equal(answer.err.text, text);
    free(answer.payload);
}

static void test_results(void **state)
{
    struct rpc_message call = call_of(1, "\0\0\0\3web\0", 8);
    struct server server = {0};
    struct answer answer;

    (void)state;
    assert_int_equal(ask(RPC_CALLER_LOCAL, &server, &call, &answer), 0);
    assert_int_equal(answer.length, 8);
    assert_memory_equal(answer.payload, "\0\0\0\3web\0", 8);
    assert_int_equal(server.called, 1);
    free(answer.payload);

    call = call_of(2, NULL, 0);
    assert_int_equal(ask(RPC_CALLER_SESSION, &server, &call, &answer), 0);
    assert_int_equal(answer.length, 0);
    assert_int_equal(server.called, 2);
}

static void test_who_may_call_what(void **state)
{
    const enum rpc_caller callers[] = {RPC_CALLER_LOCAL, RPC_CALLER_LINK, RPC_CALLER_SESSION};
    struct server server = {0};

    (void)state;
    for (size_t p = 0; p < ARRAY_LENGTH(procedures); p++) {
        for (size_t c = 0; c < ARRAY_LENGTH(callers); c++) {
            /* what may not be called isn't even decoded */
            struct rpc_message call = call_of(procedures[p].number, "?", 1);
            struct answer answer;
            char text[64];

            if (procedures[p].callers & callers[c]) {
                assert_int_equal(ask(callers[c], &server, &call, &answer), -EBADMSG);
                free(answer.payload);
            } else {
                snprintf(text, sizeof text, "unknown procedure: %d", procedures[p].number);
                assert_refused(callers[c], &server, &call, ENOSYS, text);
            }
        }
    }
    assert_int_equal(server.called, 0);
}

static void test_not_known_here(void **state)
{
    struct rpc_message call = call_of(9999, NULL, 0);
    struct server server = {0};

    (void)state;
    assert_refused(RPC_CALLER_LINK, &server, &call, ENOSYS, "unknown procedure: 9999");
    call = call_of(-1, NULL, 0);
    assert_refused(RPC_CALLER_LINK, &server, &call, ENOSYS, "unknown procedure: -1");
    call = call_of(1, NULL, 0);
    call.header.vers = 2;
    assert_refused(RPC_CALLER_LINK, &server, &call, ENOSYS,
                   "Cannot find program 536906517 version 2");
    call.header.prog = 0xfffffffe;
    call.header.vers = 0xffffffff;
    assert_refused(RPC_CALLER_LINK, &server, &call, ENOSYS,
                   "Cannot find program 4294967294 version 4294967295");
    assert_int_equal(server.called, 0);
}

static void test_only_calls_are_answered(void **state)
{
    const int types[] = {BS_REPLY, BS_EVENT, BS_STREAM};
    struct server server = {0};
    uint8_t *data = NULL;
    size_t length;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(types); i++) {
        struct rpc_message call = call_of(2, NULL, 0);

        call.header.type = types[i];
        assert_int_equal(rpc_dispatch(&program, RPC_CALLER_SESSION, &server, &call, &data, &length),
                         -EPROTO);
        call.header.prog++;
        assert_int_equal(rpc_dispatch(&program, RPC_CALLER_SESSION, &server, &call, &data, &length),
                         -EPROTO);
    }
    assert_null(data);
    assert_int_equal(server.called, 0);
}

static void test_undecodable_arguments(void **state)
{
    static const struct {
        const char *payload;
        size_t length;
    } bad[] = {
        {NULL, 0},
        {"\0\0\0\3web", 7},
        {"\0\0\0\3web\0\0\0\0\0", 12},
        {"\0\0\0\3w\0b\0", 8},
        {"\377\377\377\377web\0", 8},
    };
    struct server server = {0};
    struct answer answer;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        struct rpc_message call = call_of(1, bad[i].payload, bad[i].length);

        assert_int_equal(ask(RPC_CALLER_LINK, &server, &call, &answer), -EBADMSG);
        assert_non_null(strstr(answer.err.text, "the arguments of INFO can't be decoded"));
        free(answer.payload);
    }
    assert_int_equal(server.called, 0);
}

static void test_handlers_that_fail(void **state)
{
    struct rpc_message call = call_of(1, "\0\0\0\3web\0", 8);
    struct server server = {.fail = ENOENT, .text = "there is no domain 'web'"};

    (void)state;
    assert_refused(RPC_CALLER_LINK, &server, &call, ENOENT, "there is no domain 'web'");
    server = (struct server){.fail = EIO};
    assert_refused(RPC_CALLER_LINK, &server, &call, EIO, "INFO failed: Input/output error");
    /* a system call's ENOSYS must not pass for "unknown procedure" */
    server = (struct server){.fail = ENOSYS, .text = "this kernel can't"};
    assert_refused(RPC_CALLER_LINK, &server, &call, EOPNOTSUPP, "this kernel can't");
    server = (struct server){.fail = ENOSYS};
    assert_refused(RPC_CALLER_LINK, &server, &call, EOPNOTSUPP,
                   "INFO failed: Function not implemented");
}

static void test_results_that_do_not_encode(void **state)
{
    struct rpc_message call = call_of(1, "\0\0\0\3web\0", 8);
    struct server server = {.no_results = true};

    (void)state;
    if (!UNDER_SANITIZER) /* which look at a string before XDR does */
        assert_refused(RPC_CALLER_LINK, &server, &call, EPROTO,
                       "the results of INFO can't be encoded, which is a bug of this bistreamd");
    call = call_of(3, NULL, 0);
    assert_refused(RPC_CALLER_LOCAL, &server, &call, EREMOTEIO,
                   "the results of TOO_MUCH are longer than a message may be (1048576 bytes)");
}

static void test_no_memory(void **state)
{
    struct rpc_message call = call_of(1, "\0\0\0\3web\0", 8);
    long live = failmalloc_live();
    size_t refused = 0;

    (void)state;
    if (!failmalloc_works())
        skip();
    for (size_t n = 0;; n++) {
        struct server server = {0};
        uint8_t *data = NULL;
        size_t length;
        bool failed;
        int r;

        failmalloc_arm(n);
        r = rpc_dispatch(&program, RPC_CALLER_LOCAL, &server, &call, &data, &length);
        failed = failmalloc_disarm();
        assert_int_equal(r, 0); /* one failure leaves memory for the error */
        refused += data[27] == BS_ERROR;
        assert_true(failed || data[27] == BS_OK);
        free(data);
        assert_int_equal(failmalloc_live(), live);
        if (!failed)
            break;
    }
    assert_true(refused >= 5);

    call.header.procedure = 9999;
    for (size_t n = 0;; n++) {
        struct server server = {0};
        uint8_t *data = NULL;
        size_t length;
        int r;

        failmalloc_arm(n);
        r = rpc_dispatch(&program, RPC_CALLER_LOCAL, &server, &call, &data, &length);
        if (!failmalloc_disarm()) {
            assert_int_equal(r, 0);
            free(data);
            break;
        }
        assert_true(r == 0 || r == -ENOMEM);
        free(data);
        assert_int_equal(failmalloc_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_who_may_call_what),
        cmocka_unit_test(test_not_known_here),
        cmocka_unit_test(test_only_calls_are_answered),
        cmocka_unit_test(test_undecodable_arguments),
        cmocka_unit_test(test_handlers_that_fail),
        cmocka_unit_test(test_results_that_do_not_encode),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
