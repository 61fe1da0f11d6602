/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* BISTREAM_OPEN: what is agreed on, what is refused, and a daemon that does not offer it. */
#include "config.h"

#include "tests/unit/unit.h"

#include "common/cleanup.h"
#include "daemon/peer.h"
#include "daemon/services.h"
#include "rpc/error.h"

#include <errno.h>
#include <string.h>

static const struct config config = {.offer_bistream = true, .session_memory = 64 << 20};
static struct daemon host = {.config = &config};

static struct peer_sessions *sessions;

static const struct bs_bistream_open_args good = {
    .vers_min = 1,
    .vers_max = 9,
    .purpose = BS_PURPOSE_FORWARD,
    .limits = {.first_window = 16384, .channels = 16}};

static struct rpc_message call = {
    .header = {.prog = BS_PROGRAM, .vers = 1, .procedure = BS_PROC_BISTREAM_OPEN, .serial = 41}};

static void test_agreement(void **state)
{
    struct peer_link link = {
        .daemon = &host, .peer = "b.test", .call = &call, .sessions = sessions};
    struct bs_bistream_open_ret first = {0}, second = {0};
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(peer_handle_open(&link, &good, &first, &err), 0);
    assert_true(link.opened);
    assert_string_equal(link.open.peer, "b.test");
    assert_int_equal(link.open.purpose, BS_PURPOSE_FORWARD);
    assert_int_equal(link.open.serial, 41);
    assert_int_equal(link.open.remote.channels, 16);
    assert_int_equal(first.vers, 1);
    assert_int_equal(first.limits.channels, link.open.local.channels);
    assert_memory_equal(first.session, link.open.id, BS_ID_SIZE);

    assert_int_equal(peer_handle_open(&link, &good, &second, &err), 0);
    assert_memory_not_equal(first.session, second.session, BS_ID_SIZE);
    assert_memory_not_equal(first.secret, second.secret, BS_SECRET_SIZE);
}

static void refused(struct bs_bistream_open_args args, int code, const char *says)
{
    struct peer_link link = {
        .daemon = &host, .peer = "b.test", .call = &call, .sessions = sessions};
    struct bs_bistream_open_ret ret = {0};
    struct error err = ERROR_INIT;

    assert_int_equal(peer_handle_open(&link, &args, &ret, &err), -code);
    assert_false(link.opened);
    if (!strstr(err.text, says))
        fail_msg("\"%s\" is not in \"%s\"", says, err.text);
}

static void test_refusals(void **state)
{
    struct bs_bistream_open_args args;

    (void)state;
    args = good;
    args.vers_min = 2;
    refused(args, EOPNOTSUPP, "versions 2 to 9 are offered, this host knows version 1");
    args = good;
    args.vers_min = args.vers_max = 0;
    refused(args, EOPNOTSUPP, "versions 0 to 0");
    args = good;
    args.vers_max = 0; /* from 1 to 0 */
    refused(args, EOPNOTSUPP, "versions 1 to 0");
    args = good;
    args.purpose = 4;
    refused(args, EINVAL, "purpose 4");
    args = good;
    args.limits.first_window = 0;
    refused(args, EINVAL, "first window of 0 bytes");
    args = good;
    args.limits.channels = BS_CHANNELS_MAX + 1;
    refused(args, EINVAL, "4097 channels");
}

/* Without offer_bistream the answer is that for any unknown procedure, byte for byte. */
static void test_not_offered(void **state)
{
    const struct config silent = {.offer_bistream = false, .session_memory = 64 << 20};
    struct daemon old = {.config = &silent};
    struct peer_link link = {.daemon = &old, .peer = "b.test", .call = &call};
    CLEANUP_FREE uint8_t *reply = NULL, *unknown = NULL;
    size_t length, unknown_length;
    struct error err = ERROR_INIT;

    (void)state;
    error_set(&err, ENOSYS, "unknown procedure: %d", BS_PROC_BISTREAM_OPEN);
    assert_int_equal(rpc_error_encode(&call.header, &err, &unknown, &unknown_length), 0);
    assert_int_equal(
        rpc_dispatch(services_program(&silent), RPC_CALLER_LINK, &link, &call, &reply, &length), 0);
    assert_int_equal(length, unknown_length);
    assert_memory_equal(reply, unknown, length);
}

/* Who may call what of the peers' procedures; the operator's are the control socket's alone. */
static unsigned callers_of(int number)
{
    switch (number) {
    case BS_PROC_HOST_INFO:
        return RPC_CALLER_LINK | RPC_CALLER_SESSION | RPC_CALLER_TUNNEL;
    case BS_PROC_BISTREAM_OPEN:
    case BS_PROC_BISTREAM_RESUME:
        return RPC_CALLER_LINK;
    case BS_PROC_MIGRATE_PREPARE_TUNNEL:
        return RPC_CALLER_TUNNEL;
    case BS_PROC_MIGRATE_FINISH:
    case BS_PROC_MIGRATE_STATUS:
    case BS_PROC_MIGRATE_SETTLE:
        return RPC_CALLER_SESSION | RPC_CALLER_TUNNEL;
    default:
        return number < BS_PROC_DOMAIN_START ? RPC_CALLER_SESSION : RPC_CALLER_LOCAL;
    }
}

static void test_callers(void **state)
{
    const struct rpc_program *program = services_program(&config);

    (void)state;
    for (size_t i = 0; i < program->count; i++) {
        const struct rpc_procedure *procedure = &program->procedures[i];
        unsigned callers = procedure->callers;

        for (size_t j = 0; j < program->count; j++) {
            if (j == i || program->procedures[j].number != procedure->number)
                continue;
            assert_int_equal(procedure->callers & program->procedures[j].callers, 0);
            callers |= program->procedures[j].callers;
        }
        assert_int_equal(callers, callers_of(procedure->number));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agreement),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_not_offered),
        cmocka_unit_test(test_callers),
    };

    int failed;

    sessions = peer_sessions_new(&host);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    peer_sessions_free(sessions);
    return failed;
}
