/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * How the old protocol's stream ends before its time: either side gives it up, the session is closed,
 * the link is gone.
 */
#include "config.h"

#include "tests/unit/tunnel_pair.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

/* ---- giving up --------------------------------------------------------------------------------- */

static void test_opener_gives_up(void **state)
{
    struct tunnel *t = tunnel_prepared(0);

    (void)state;
    tunnel_open(t);
    tunnel_write(t, 0, 50000);
    tunnel_run(t);
    tunnel_write(t, 50000, 60000); /* which need not arrive any more */
    mux_channel_reset(t->near.session, 1, BS_RESET_CANCELLED, "the operator gave up");
    tunnel_run(t);
    tunnel_expect(&t->far, "opened\nreset 1 the operator gave up\nforgotten\n");
    tunnel_expect(&t->near, "forgotten\n");
    assert_true(mux_session_hangup(t->near.session));
    tunnel_free(t);
}

static void test_acceptor_gives_up(void **state)
{
    static const uint64_t codes[] = {BS_RESET_NO_ENDPOINT, BS_RESET_REFUSED, BS_RESET_BROKEN};

    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct tunnel *t = tunnel_prepared(0);
        char line[64];

        tunnel_open(t);
        tunnel_write(t, 0, 50000);
        tunnel_run(t);
        mux_channel_reset(t->far.session, 1, codes[i], "QEMU has gone");
        tunnel_write(t, 50000, 100000); /* it crosses the ERROR and is dropped */
        mux_channel_end(t->near.session, 1);
        tunnel_run(t);
        snprintf(line, sizeof line, "reset %d QEMU has gone\nforgotten\n", (int)codes[i]);
        tunnel_expect(&t->near, line);
        tunnel_expect(&t->far, "opened\nforgotten\n");
        assert_int_equal(t->far.received, 50000);
        tunnel_call(&t->near, BS_PROC_MIGRATE_FINISH, 11, "finish");
        tunnel_run(t);
        assert_memory_equal(t->far.calls + t->far.calls_used - 6, "finish", 6);
        tunnel_free(t);
    }
}

/* The end is confirmed while the opener gives up: whoever comes too late is ignored. */
static void test_error_crosses_the_confirmation(void **state)
{
    struct tunnel *t = tunnel_prepared(0);
    uint8_t confirmation[BS_FRAME_MESSAGE_MAX];
    bool urgent;
    size_t n;

    (void)state;
    tunnel_open(t);
    mux_channel_end(t->near.session, 1);
    tunnel_run(t);
    mux_channel_eof_taken(t->far.session, 1);
    n = mux_session_send(t->far.session, confirmation, sizeof confirmation, t->now, &urgent);
    mux_channel_reset(t->near.session, 1, BS_RESET_CANCELLED, "too late");
    tunnel_run(t);
    assert_int_equal(mux_session_receive(t->near.session, confirmation, n, t->now), 0);
    tunnel_expect(&t->far, "opened\neof\nforgotten\n");
    tunnel_expect(&t->near, "forgotten\n");
    tunnel_free(t);
}

/* ---- the end of the link ------------------------------------------------------------------------ */

static void test_close_tells_why(void **state)
{
    struct tunnel *t = tunnel_prepared(0);

    (void)state;
    tunnel_open(t);
    tunnel_write(t, 0, 100);
    tunnel_run(t);
    assert_int_equal(mux_session_close(t->far.session, BS_CLOSE_DONE, ""), -EBUSY);
    tunnel_call(&t->far, BS_PROC_HOST_INFO, 1, "reply");
    mux_session_close(t->far.session, BS_CLOSE_CANCELLED, "bistreamd is stopping");
    tunnel_run(t);
    tunnel_expect(&t->far,
                  "opened\nreset 5 bistreamd is stopping\nclosed 1 bistreamd is stopping\n");
    assert_memory_equal(t->near.calls + RPC_HEAD_SIZE, "reply", 5);
    tunnel_expect(&t->near, "reset 1 bistreamd is stopping\nforgotten\n");
    assert_true(mux_session_hangup(t->near.session));
    tunnel_expect(&t->near, "closed 0 \n");
    tunnel_free(t);
}

static void test_hangup_in_the_middle(void **state)
{
    struct tunnel *t = tunnel_prepared(0);

    (void)state;
    tunnel_open(t);
    tunnel_write(t, 0, 100);
    tunnel_run(t);
    assert_false(mux_session_hangup(t->near.session));
    assert_false(mux_session_hangup(t->far.session));
    mux_session_abandon(t->far.session, BS_CLOSE_CANCELLED, "gone");
    tunnel_expect(&t->far, "opened\nreset 5 gone\nclosed 1 gone\n");
    tunnel_free(t);

    t = tunnel_new(0);
    mux_session_receive(t->far.session, (const uint8_t[]){0, 0}, 2, t->now);
    assert_false(mux_session_hangup(t->far.session));
    tunnel_free(t);
}

/* The rest of a call that was cut off never comes: the link must end all the same. */
static void test_close_behind_half_a_call(void **state)
{
    (void)state;
    for (size_t part = 1; part < 40; part++) {
        struct tunnel *t = tunnel_prepared(0);
        uint8_t message[256];

        tunnel_open(t);
        tunnel_message(message, BS_CALL, BS_PROC_HOST_INFO, 1, BS_OK, "a dozen characters");
        mux_channel_write(t->near.session, 0, message, part);
        mux_session_close(t->near.session, BS_CLOSE_CANCELLED, "enough");
        tunnel_run(t);
        tunnel_expect(&t->near, "reset 5 enough\nclosed 1 enough\n");
        tunnel_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opener_gives_up),
        cmocka_unit_test(test_acceptor_gives_up),
        cmocka_unit_test(test_error_crosses_the_confirmation),
        cmocka_unit_test(test_close_tells_why),
        cmocka_unit_test(test_hangup_in_the_middle),
        cmocka_unit_test(test_close_behind_half_a_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
