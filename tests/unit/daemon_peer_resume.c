/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Who may resume a session: only the peer that opened it, by its certificate and by a proof made on this
 * very connection; and what it hears when the session is over, or unknown.
 */
#include "config.h"

#include "daemon/peer_session.h"
#include "io/net.h"
#include "io/proof.h"
#include "tests/unit/test_pki.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct config config = {
    .offer_bistream = true, .session_memory = 64 << 20, .ping_ms = 5000, .grace_ms = 60000};
static struct daemon host = {.config = &config, .hostname = "b.test"};
static struct peer_sessions *sessions;
static struct test_ca *ca;

static const struct peer_session_open opened = {
    .peer = "a.test",
    .id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
    .secret = {31, 32, 33},
    .grace_ms = 60000,
    .purpose = BS_PURPOSE_FORWARD,
    .serial = 5,
    .local = {16384, 8},
    .remote = {16384, 8},
};

/* ---- connections ------------------------------------------------------------------------------ */

struct connection {
    struct tls *near, *far; /* the one that dialled, and the one under test */
};

/* With a certificate from PKI at the near end, the host's at the other. */
static struct connection connect_with(const char *pki, const char *host_pki)
{
    struct net_address address = {.host = "127.0.0.1", .port = "0"};
    struct error err = ERROR_INIT;
    struct tls_context *near = tls_context_new(pki, &err), *far = tls_context_new(host_pki, &err);
    int listener = net_listen(&address, &err), near_fd, near_done = 0, far_done = 0;
    struct connection c;

    assert_true(near && far && listener >= 0);
    snprintf(address.port, sizeof address.port, "%d", net_local_port(listener));
    near_fd = net_dial(&address, 5000, -1, &err);
    c.far = tls_new_server(far, accept(listener, NULL, NULL), &err);
    c.near = tls_new_client(near, near_fd, "localhost", &err);
    close(listener);
    while (!near_done || !far_done) {
        if (!near_done)
            near_done = tls_handshake(c.near, &err);
        if (!far_done)
            far_done = tls_handshake(c.far, &err);
        if (near_done < 0 || far_done < 0)
            fail_msg("%s", err.text);
    }
    tls_context_free(near);
    tls_context_free(far);
    return c;
}

static void disconnect(struct connection *c)
{
    tls_free(c->near);
    tls_free(c->far);
}

/* ---- calls ------------------------------------------------------------------------------------ */

static struct bs_bistream_resume_args make_call(const struct connection *c, uint32_t attempt)
{
    struct bs_bistream_resume_args args = {.attempt = attempt};
    struct error err = ERROR_INIT;

    memcpy(args.session, opened.id, sizeof opened.id);
    assert_int_equal(proof_make(c->near, PROOF_CALL, opened.secret, opened.id, attempt,
                                (uint8_t *)args.proof, &err),
                     0);
    return args;
}

static int find(const struct connection *c, const struct bs_bistream_resume_args *args,
                struct bs_bistream_resume_ret *ret)
{
    struct error err = ERROR_INIT;

    *ret = (struct bs_bistream_resume_ret){.outcome = 0};
    return peer_sessions_find(sessions, c->far, args, ret, &err);
}

static void found(const struct connection *c, const struct bs_bistream_resume_args *args)
{
    struct bs_bistream_resume_ret ret;
    struct error err = ERROR_INIT;
    uint8_t proof[BS_PROOF_SIZE];

    assert_int_equal(find(c, args, &ret), 1);
    assert_int_equal(
        proof_make(c->near, PROOF_REPLY, opened.secret, opened.id, args->attempt, proof, &err), 0);
    assert_true(proof_equal(proof, ret.proof));
    assert_false(proof_equal(proof, args->proof)); /* an answer can't be made of the call */
}

static void test_only_the_one_that_opened_it(void **state)
{
    char *mine = test_pki_dir(ca, &(struct test_certificate){.cn = "a"});
    char *hers = test_pki_dir(ca, &(struct test_certificate){.cn = "a", .serial = 2});
    struct connection first = connect_with(mine, mine), second = connect_with(mine, mine);
    struct connection other = connect_with(hers, mine);
    struct bs_bistream_resume_args args, wrong;
    struct bs_bistream_resume_ret ret;
    struct error err = ERROR_INIT;
    int r;

    (void)state;
    assert_int_equal(peer_session_start(sessions, first.far, &opened, &err), 0);
    args = make_call(&second, 1);
    found(&second, &args);
    found(&second, &args); /* which changes nothing: whether it is stale the session decides */

    wrong = args;
    wrong.proof[31] ^= 1;
    assert_int_equal(find(&second, &wrong, &ret), -EKEYREJECTED);
    wrong = args;
    wrong.attempt = 2; /* that proof is for another */
    assert_int_equal(find(&second, &wrong, &ret), -EKEYREJECTED);
    wrong = make_call(&first, 1); /* seen on another connection */
    assert_int_equal(find(&second, &wrong, &ret), -EKEYREJECTED);
    wrong = args;
    wrong.session[0] ^= 1;
    assert_int_equal(find(&second, &wrong, &ret), -ENOENT);
    wrong = make_call(&other, 1); /* a peer of the same name that has come to know the secret */
    assert_int_equal(find(&other, &wrong, &ret), -EACCES);
    found(&second, &args);

    /* No frame ever came by its link, so the session ends with it; and that is told for a while. */
    tls_free(first.near);
    while ((r = find(&second, &args, &ret)) == 1)
        sched_yield();
    assert_int_equal(r, 0); /* also while it is being cleared up */
    assert_int_equal(ret.outcome, BS_RESUME_CLOSED);
    assert_int_equal(ret.close_code, BS_CLOSE_CANCELLED);
    assert_int_equal(find(&other, &wrong, &ret), -EACCES); /* but not to anybody */
    disconnect(&second);
    disconnect(&other);
    test_pki_remove(mine);
    test_pki_remove(hers);
}

/* A peer that announces no grace time gets none. */
static void test_no_grace(void **state)
{
    char *pki = test_pki_dir(ca, NULL);
    struct connection first = connect_with(pki, pki), second = connect_with(pki, pki);
    struct peer_session_open open = opened;
    struct bs_bistream_resume_args args = make_call(&second, 1);
    struct bs_bistream_resume_ret ret;
    struct error err = ERROR_INIT;

    (void)state;
    open.grace_ms = 0;
    open.id[0] = (uint8_t)(args.session[0] = 99);
    assert_int_equal(peer_session_start(sessions, first.far, &open, &err), 0);
    assert_int_equal(find(&second, &args, &ret), -ENOENT);
    tls_free(first.near);
    disconnect(&second);
    test_pki_remove(pki);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_one_that_opened_it),
        cmocka_unit_test(test_no_grace),
    };
    int failed;

    ca = test_ca_new("test CA");
    sessions = peer_sessions_new(&host);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    peer_sessions_stop(sessions);
    peer_sessions_free(sessions);
    test_ca_free(ca);
    return failed;
}
