/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * TLS: both ends in one thread over a socket pair, turn by turn; what is carried, and which
 * sentence each refusal gets.
 */
#include "config.h"

#include "io/tls_internal.h"
#include "common/cleanup.h"
#include "common/loop.h"
#include "tests/unit/test_pki.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct test_ca *ca, *other_ca;

struct end {
    struct tls *tls;
    struct error err;
    int result; /* of the handshake: 0 begun, 1 done, negative: failed */
};

static struct tls_context *context_for(struct test_ca *signer,
                                       const struct test_certificate *certificate)
{
    struct error err = ERROR_INIT;
    char *pki = test_pki_dir(signer, certificate);
    struct tls_context *context = tls_context_new(pki, &err);

    if (!context)
        fail_msg("%s", err.text);
    test_pki_remove(pki);
    return context;
}

/* Both ends over a new socket pair; the contexts are given up. */
static void connect_ends(struct tls_context *near, struct tls_context *far, const char *hostname,
                         struct end *client, struct end *server)
{
    int pair[2];

    memset(client, 0, sizeof *client);
    memset(server, 0, sizeof *server);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    client->tls = tls_new_client(near, pair[0], hostname, &client->err);
    server->tls = tls_new_server(far, pair[1], &server->err);
    assert_non_null(client->tls);
    assert_non_null(server->tls);
    tls_context_free(near);
    tls_context_free(far);
}

/* Lets both ends step until each is done or has failed.  A client whose certificate was refused
 * learns it when it first reads. */
static void shake_hands(struct end *client, struct end *server)
{
    char byte;

    for (int i = 0; i < 100; i++) {
        if (client->result == 0)
            client->result = tls_handshake(client->tls, &client->err);
        if (server->result == 0)
            server->result = tls_handshake(server->tls, &server->err);
        if (client->result != 0 && server->result != 0)
            break;
        if (client->result < 0)
            shutdown(tls_fd(client->tls), SHUT_WR);
    }
    if (client->result == 1 && server->result < 0)
        client->result = (int)tls_read(client->tls, &byte, 1, &client->err);
    assert_int_not_equal(client->result, 0);
    assert_int_not_equal(server->result, 0);
}

static void free_ends(struct end *client, struct end *server)
{
    tls_free(client->tls);
    tls_free(server->tls);
}

static void connect_well(struct tls_context *near, struct tls_context *far, struct end *client,
                         struct end *server)
{
    connect_ends(near, far, "localhost", client, server);
    shake_hands(client, server);
    if (client->result != 1 || server->result != 1)
        fail_msg("%s; %s", client->err.text, server->err.text);
}

/* ---- what is carried --------------------------------------------------------------------------
 */

struct traffic {
    uint64_t total, written, read;
    uint32_t size; /* per tls_write() */
};

static uint8_t byte_at(uint64_t position)
{
    return (uint8_t)(position * 167 + (position >> 8) * 13 + (position >> 16));
}

static void write_some(struct tls *tls, struct traffic *traffic)
{
    static uint8_t data[1 << 20];
    struct error err = ERROR_INIT;
    int r;

    while (traffic->written < traffic->total && tls_unsent(tls) < 256 * 1024) {
        uint64_t left = traffic->total - traffic->written;
        size_t length = left < traffic->size ? (size_t)left : traffic->size;

        for (size_t i = 0; i < length; i++)
            data[i] = byte_at(traffic->written + i);
        assert_int_equal(tls_write(tls, data, length, &err), length);
        traffic->written += length;
    }
    r = tls_flush(tls, &err);
    assert_true(r == 0 || r == -EAGAIN);
    assert_int_equal(r == 0, tls_unsent(tls) == 0);
}

static void read_some(struct tls *tls, struct traffic *traffic)
{
    static uint8_t data[20000];
    struct error err = ERROR_INIT;
    ssize_t n;

    while ((n = tls_read(tls, data, sizeof data, &err)) > 0)
        for (ssize_t i = 0; i < n; i++)
            if (data[i] != byte_at(traffic->read++))
                fail_msg("byte %llu differs", (unsigned long long)traffic->read - 1);
    if (n != -EAGAIN)
        fail_msg("%s", err.text);
    assert_false(tls_pending(tls));
}

static void carry(struct end *client, struct end *server, struct traffic up, struct traffic down)
{
    while (up.read < up.total || down.read < down.total) {
        write_some(client->tls, &up);
        write_some(server->tls, &down);
        read_some(client->tls, &down);
        read_some(server->tls, &up);
    }
}

static void carries_large_and_tiny_writes(void **state)
{
    static const uint32_t sizes[] = {1, 100, 16384, 16385, 1 << 20};
    struct end client, server;

    (void)state;
    connect_well(context_for(ca, NULL), context_for(ca, NULL), &client, &server);
    for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
        uint64_t total = sizes[i] < 1000 ? 50000 : 5000000;

        carry(&client, &server, (struct traffic){.total = total, .size = sizes[i]},
              (struct traffic){.total = total, .size = sizes[4 - i]});
    }
    free_ends(&client, &server);
}

static void changes_keys_under_way(void **state)
{
    struct tls_context *near = context_for(ca, NULL), *far = context_for(ca, NULL);
    struct end client, server;

    (void)state;
    tls_context_set_key_update(near, 3);
    tls_context_set_key_update(far, 7);
    connect_well(near, far, &client, &server);
    carry(&client, &server, (struct traffic){.total = 4000000, .size = 16384},
          (struct traffic){.total = 4000000, .size = 5000});
    carry(&client, &server, (struct traffic){.total = 4000000, .size = 100000},
          (struct traffic){.total = 100, .size = 1});
    free_ends(&client, &server);
}

/* One that sends them without end would keep the reader for as long. */
static void refuses_new_keys_without_end(void **state)
{
    struct end client, server;
    char byte;
    int r;

    (void)state;
    connect_well(context_for(ca, NULL), context_for(ca, NULL), &client, &server);
    for (int i = 0; i < 400; i++) { /* what a socket takes */
        if (i < 100) {
            assert_int_equal(tls_write(client.tls, "x", 1, &client.err), 1);
            assert_int_equal(tls_flush(client.tls, &client.err), 0);
            assert_int_equal(tls_read(server.tls, &byte, 1, &server.err), 1);
        }
        assert_int_equal(SSL_key_update(client.tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(client.tls->ssl), 1);
    }
    assert_int_equal(tls_flush(client.tls, &client.err), 0);
    r = (int)tls_read(server.tls, &byte, 1, &server.err);
    assert_int_equal(r, -EPROTO);
    assert_string_equal(server.err.text, "the peer changes its keys over and over");
    free_ends(&client, &server);
}

static void tells_an_orderly_end_from_a_broken_one(void **state)
{
    struct error err = ERROR_INIT;
    struct end client, server;
    char byte;

    (void)state;
    connect_well(context_for(ca, NULL), context_for(ca, NULL), &client, &server);
    tls_free(client.tls);
    assert_int_equal(tls_read(server.tls, &byte, 1, &err), 0);
    tls_free(server.tls);

    connect_well(context_for(ca, NULL), context_for(ca, NULL), &client, &server);
    shutdown(tls_fd(client.tls), SHUT_RDWR);
    assert_int_equal(tls_read(server.tls, &byte, 1, &err), -ECONNRESET);
    assert_string_equal(err.text, "the peer closed the connection without a word");
    free_ends(&client, &server);
}

static void tells_the_peers_names(void **state)
{
    const struct test_certificate named = {
        .cn = "a.example.org", .san = "DNS:localhost,DNS:*.vm.example.org,IP:192.0.2.7,IP:::1"};
    static const char *const expected[] = {"a.example.org", "localhost", "*.vm.example.org",
                                           "192.0.2.7", "::1"};
    const char *const *names;
    struct end client, server;

    (void)state;
    connect_well(context_for(ca, NULL), context_for(ca, &named), &client, &server);
    names = tls_peer_names(client.tls);
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(names[i], expected[i]);
    assert_null(names[5]);
    assert_string_equal(tls_peer_subject(client.tls), "CN=a.example.org");
    assert_string_equal(tls_peer_subject(server.tls), "CN=host");
    assert_in_range(tls_peer_expires(client.tls), time(NULL) + 1, time(NULL) + 366 * 86400);
    free_ends(&client, &server);
}

/* ---- what is refused --------------------------------------------------------------------------
 */

/* Both ends must fail, with these words in their sentences. */
static void refused(struct tls_context *near, struct tls_context *far, const char *hostname,
                    const char *client_says, const char *server_says)
{
    struct end client, server;

    connect_ends(near, far, hostname, &client, &server);
    shake_hands(&client, &server);
    if (client.result >= 0 || server.result >= 0)
        fail_msg("it was accepted: %d, %d", client.result, server.result);
    if (!strstr(client.err.text, client_says))
        fail_msg("client: '%s' lacks '%s'", client.err.text, client_says);
    if (!strstr(server.err.text, server_says))
        fail_msg("server: '%s' lacks '%s'", server.err.text, server_says);
    free_ends(&client, &server);
}

static void refuses_another_ca(void **state)
{
    const struct test_certificate mixed = {.trusts = ca};

    (void)state;
    refused(context_for(ca, NULL), context_for(other_ca, NULL), "localhost",
            "the certificate of localhost is signed by an unknown CA, CN=other CA",
            "it doesn't know our CA");
    refused(context_for(other_ca, &mixed), context_for(ca, NULL), "localhost",
            "localhost refused our certificate", "is signed by an unknown CA, CN=other CA");
}

static void refuses_expired_certificates(void **state)
{
    const struct test_certificate expired = {.expired = true}, not_yet = {.not_yet = true};

    (void)state;
    refused(context_for(ca, NULL), context_for(ca, &expired), "localhost",
            "the certificate of localhost expired on 20", "it has expired");
    refused(context_for(ca, &expired), context_for(ca, NULL), "localhost",
            "localhost refused our certificate", "the certificate of the peer expired on 20");
    refused(context_for(ca, NULL), context_for(ca, &not_yet), "localhost",
            "are the clocks of both hosts right?", "refused our certificate");
}

static void checks_the_host_name(void **state)
{
    const struct test_certificate named = {.cn = "a.example.org",
                                           .san = "DNS:b.example.org,IP:192.0.2.7"};
    struct end client, server;

    (void)state;
    refused(context_for(ca, NULL), context_for(ca, &named), "c.example.org",
            "the certificate of c.example.org is made out to a.example.org, b.example.org, "
            "192.0.2.7",
            "refused our certificate");
    /* The CN alone is no name. */
    refused(context_for(ca, NULL), context_for(ca, &named), "a.example.org",
            "the certificate of a.example.org is made out to", "refused our certificate");
    refused(context_for(ca, NULL), context_for(ca, &named), "192.0.2.8",
            "the certificate of 192.0.2.8 is made out to", "refused our certificate");
    connect_ends(context_for(ca, NULL), context_for(ca, &named), "192.0.2.7", &client, &server);
    shake_hands(&client, &server);
    assert_int_equal(client.result, 1);
    free_ends(&client, &server);
    connect_ends(context_for(ca, NULL), context_for(ca, NULL), "::1", &client, &server);
    shake_hands(&client, &server);
    assert_int_equal(client.result, 1);
    free_ends(&client, &server);
}

static void refuses_revoked_certificates(void **state)
{
    const struct test_certificate lists = {.serial = 5, .revoke = 7}, seven = {.serial = 7},
                                  eight = {.serial = 8};
    struct end client, server;

    (void)state;
    refused(context_for(ca, &lists), context_for(ca, &seven), "localhost",
            "the certificate of localhost (CN=host) was revoked", "it was revoked");
    refused(context_for(ca, &seven), context_for(ca, &lists), "localhost", "it was revoked",
            "the certificate of the peer (CN=host) was revoked");
    connect_well(context_for(ca, &lists), context_for(ca, &eight), &client, &server);
    free_ends(&client, &server);
}

static void explains_what_is_no_tls(void **state)
{
    static const char *const garbage[] = {
        "HTTP/1.1 400 Bad Request\r\n\r\n", "\0\0\0\x1c\0\0\0\0 not a record, not at all",
        "220 mail.example.org ESMTP\r\n", "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"};
    struct tls_context *context = context_for(ca, NULL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(garbage); i++) {
        struct error err = ERROR_INIT;
        struct tls *tls;
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        assert_int_equal(write(pair[1], garbage[i], 28), 28);
        tls = i % 2 ? tls_new_server(context, pair[0], &err)
                    : tls_new_client(context, pair[0], "localhost", &err);
        assert_non_null(tls);
        assert_int_equal(tls_handshake(tls, &err), -EPROTO);
        if (!strstr(err.text, "doesn't speak TLS"))
            fail_msg("%s", err.text);
        tls_free(tls);
        close(pair[1]);
    }
    tls_context_free(context);
}

static void gives_up_on_a_silent_peer(void **state)
{
    struct tls_context *context = context_for(ca, NULL);
    struct error err = ERROR_INIT;
    uint64_t begin = loop_clock();
    struct tls *tls;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    tls = tls_new_client(context, pair[0], "localhost", &err);
    assert_int_equal(tls_handshake_wait(tls, 100, -1, &err), -ETIMEDOUT);
    assert_non_null(strstr(err.text, "localhost did not answer the TLS handshake within 100 ms"));
    assert_in_range(loop_clock() - begin, 100 * LOOP_MS, 5 * LOOP_SECOND);
    tls_free(tls);
    close(pair[1]);

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    tls = tls_new_client(context, pair[0], "localhost", &err);
    close(pair[1]);
    assert_true(tls_handshake_wait(tls, 5000, -1, &err) < 0);
    assert_true(err.code == EPIPE || err.code == ECONNRESET);
    tls_free(tls);
    tls_context_free(context);
}

/* The word of a peer that refused us must not be lost to a broken pipe. */
static void explains_a_broken_pipe_by_the_alert(void **state)
{
    struct end client, server;
    struct error err = ERROR_INIT;

    (void)state;
    connect_ends(context_for(other_ca, &(struct test_certificate){.trusts = ca}),
                 context_for(ca, NULL), "localhost", &client, &server);
    while (client.result == 0) {
        client.result = tls_handshake(client.tls, &client.err);
        if (server.result == 0)
            server.result = tls_handshake(server.tls, &server.err);
    }
    assert_int_equal(client.result, 1);
    while (server.result == 0)
        server.result = tls_handshake(server.tls, &server.err);
    tls_free(server.tls);
    assert_int_equal(tls_send_wait(client.tls, "hello", 5, 1000, -1, &err), -EACCES);
    assert_non_null(strstr(err.text, "localhost refused our certificate"));
    tls_free(client.tls);
}

static void names_the_file_it_cannot_use(void **state)
{
    struct error err = ERROR_INIT;
    char *pki = test_pki_dir(ca, NULL), *other = test_pki_dir(ca, NULL), path[256], from[256];

    (void)state;
    snprintf(path, sizeof path, "%s/hostkey.pem", pki);
    snprintf(from, sizeof from, "%s/hostkey.pem", other);
    assert_int_equal(rename(from, path), 0);
    assert_null(tls_context_new(pki, &err));
    assert_non_null(strstr(err.text, "hostkey.pem does not belong to the certificate"));
    assert_null(tls_context_new(other, &err));
    assert_non_null(strstr(err.text, "/hostkey.pem: No such file or directory; 'bistream pki"));
    snprintf(from, sizeof from, "%s/hostcert.pem", other);
    snprintf(path, sizeof path, "%s/crl.pem", other);
    assert_int_equal(truncate(from, 100), 0);
    snprintf(from, sizeof from, "%s/hostkey.pem", pki);
    snprintf(path, sizeof path, "%s/hostkey.pem", other);
    assert_int_equal(rename(from, path), 0);
    assert_null(tls_context_new(other, &err));
    assert_non_null(strstr(err.text, "can't use the certificate"));
    assert_null(tls_context_new("/nonexistent", &err));
    assert_non_null(strstr(err.text, "can't read /nonexistent/cacert.pem"));
    test_pki_remove(pki);
    test_pki_remove(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(carries_large_and_tiny_writes),
        cmocka_unit_test(changes_keys_under_way),
        cmocka_unit_test(refuses_new_keys_without_end),
        cmocka_unit_test(tells_an_orderly_end_from_a_broken_one),
        cmocka_unit_test(tells_the_peers_names),
        cmocka_unit_test(refuses_another_ca),
        cmocka_unit_test(refuses_expired_certificates),
        cmocka_unit_test(checks_the_host_name),
        cmocka_unit_test(refuses_revoked_certificates),
        cmocka_unit_test(explains_what_is_no_tls),
        cmocka_unit_test(gives_up_on_a_silent_peer),
        cmocka_unit_test(explains_a_broken_pipe_by_the_alert),
        cmocka_unit_test(names_the_file_it_cannot_use),
    };
    int failed;

    ca = test_ca_new("test CA");
    other_ca = test_ca_new("other CA");
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_ca_free(ca);
    test_ca_free(other_ca);
    return failed;
}
