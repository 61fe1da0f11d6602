/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Whatever two hosts have configured, both can make the session that they agree on. */
#include "config.h"

#include "tests/unit/unit.h"

#include "daemon/session_limits.h"

#include <errno.h>
#include <string.h>

static const uint64_t memories[] = {
    UINT64_C(4) << 20,  UINT64_C(5) << 20, (UINT64_C(16) << 20) + 1,
    UINT64_C(64) << 20, UINT64_C(1) << 30, UINT64_C(16) << 30,
};

static void nothing(void *opaque, uint64_t code, const char *text)
{
    (void)opaque;
    (void)code;
    (void)text;
}

/* One side with its MEMORY, to which the other has said SAID. */
static struct mux_limits make_side(uint64_t memory, bool opener, struct mux_limits said)
{
    const struct bs_limits wire = {said.first_window, said.channels};
    const struct mux_callbacks callbacks = {.closed = nothing};
    struct mux_config config = {.opener = opener,
                                .serial = 1,
                                .local = session_limits_local(memory, opener),
                                .memory = memory,
                                .callbacks = &callbacks};
    struct error err = ERROR_INIT;
    struct mux_session *session;

    assert_int_equal(session_limits_remote(&wire, memory, opener, &config.remote, &err), 0);
    assert_true(config.remote.channels <= said.channels);
    assert_int_equal(config.remote.first_window, said.first_window);
    session = mux_session_new(&config, 0);
    assert_non_null(session);
    mux_session_free(session);
    return config.remote;
}

static void test_every_pair_agrees(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(memories); i++) {
        for (size_t j = 0; j < ARRAY_LENGTH(memories); j++) {
            struct mux_limits opener = session_limits_local(memories[i], true);
            struct mux_limits acceptor = session_limits_local(memories[j], false);

            make_side(memories[j], false, opener);
            assert_true(make_side(memories[i], true, acceptor).channels >= 64);
        }
    }
    assert_true(session_limits_local(UINT64_C(64) << 20, false).channels >= 1024);
}

/* A peer may say all that protocol.x allows, and we still can make the session. */
static void test_greedy_peer(void **state)
{
    const struct mux_limits most = {BS_WINDOW_FIRST_MAX, BS_CHANNELS_MAX}, least = {1, 0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(memories); i++) {
        make_side(memories[i], false, most);
        make_side(memories[i], true, most);
        make_side(memories[i], false, least);
        make_side(memories[i], true, least);
    }
}

static void test_past_the_limits(void **state)
{
    static const struct bs_limits wrong[] = {
        {0, 1}, {BS_WINDOW_FIRST_MAX + 1, 1}, {UINT32_MAX, 1}, {1, BS_CHANNELS_MAX + 1}};
    struct mux_limits limits;

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++) {
        struct error err = ERROR_INIT;

        assert_int_equal(session_limits_remote(&wrong[i], 64 << 20, false, &limits, &err), -EINVAL);
        assert_true(strlen(err.text) > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pair_agrees),
        cmocka_unit_test(test_greedy_peer),
        cmocka_unit_test(test_past_the_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
