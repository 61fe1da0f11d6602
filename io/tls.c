/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * One TLS connection: see tls.h; tls_bio.c tells how its bytes travel.
 *
 * OpenSSL only ever waits for input: writing goes to memory and always succeeds.  So each function
 * that reads is a loop of "ask OpenSSL; if it wants more, recv(2)", and sending is a matter of its
 * own.  Reading may also write (a key update that the peer asks for is answered): tls_events()
 * tells when something waits for the socket.
 *
 * AES-GCM allows some 2^24.5 records per key.  Each side counts what it writes and changes its own
 * key in time; OpenSSL follows the peer's changes by itself.
 */
#include "config.h"

#include "io/tls_internal.h"
#include "io/net.h"
#include "common/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- making one ------------------------------------------------------------------------------ */

/* The name by which sentences call a peer that has dialled us. */
static void name_by_address(int fd, char *name, size_t size)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof address;
    char host[INET6_ADDRSTRLEN + 16];

    if (getpeername(fd, (struct sockaddr *)&address, &length) == 0 &&
        (address.ss_family == AF_INET || address.ss_family == AF_INET6) &&
        getnameinfo((struct sockaddr *)&address, length, host, sizeof host, NULL, 0,
                    NI_NUMERICHOST) == 0)
        snprintf(name, size, "%s", strncmp(host, "::ffff:", 7) == 0 ? host + 7 : host);
    else
        snprintf(name, size, "the peer");
}

/* The socket options fail only on sockets that aren't TCP, where nothing has to be switched off. */
static int set_up_socket(int fd)
{
    int flags = fcntl(fd, F_GETFL), yes = 1;

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0 && errno != EOPNOTSUPP)
        return -errno;
    return 0;
}

/* What the peer's certificate must hold.  Never the CN: RFC 6125, and it means other things. */
static int require_name(SSL *ssl, const char *hostname)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    unsigned char binary[sizeof(struct in6_addr)];
    char host[256];
    size_t length = strcspn(hostname, "%"); /* an IPv6 zone means something on this host only */

    if (length >= sizeof host)
        return -EINVAL;
    memcpy(host, hostname, length);
    host[length] = '\0';
    if (inet_pton(AF_INET, host, binary) == 1)
        return X509_VERIFY_PARAM_set1_ip(param, binary, 4) == 1 ? 0 : -EINVAL;
    if (inet_pton(AF_INET6, host, binary) == 1)
        return X509_VERIFY_PARAM_set1_ip(param, binary, 16) == 1 ? 0 : -EINVAL;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
                                               X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (X509_VERIFY_PARAM_set1_host(param, host, length) != 1 ||
        SSL_set_tlsext_host_name(ssl, host) != 1)
        return -EINVAL;
    return 0;
}

static struct tls *tls_new(struct tls_context *context, int fd, const char *hostname,
                           struct error *err)
{
    struct tls *tls = calloc(1, sizeof *tls);
    BIO *bio;
    int r;

    if (!tls) {
        close(fd);
        error_set_errno(err, ENOMEM, "can't set up a TLS connection");
        return NULL;
    }
    tls->fd = fd;
    tls->client = hostname;
    tls->context = tls_context_ref(context);
    tls->key_update = context->key_update;
    if (hostname)
        snprintf(tls->peer, sizeof tls->peer, "%s", hostname);
    else
        name_by_address(fd, tls->peer, sizeof tls->peer);
    r = set_up_socket(fd);
    if (r < 0) {
        error_set_errno(err, -r, "can't use the connection to %s for TLS", tls->peer);
        goto fail;
    }
    tls->ssl = SSL_new(context->ssl);
    bio = tls->ssl ? tls_bio_new(tls) : NULL;
    if (!bio) {
        error_set_errno(err, ENOMEM, "can't set up TLS with %s", tls->peer);
        goto fail;
    }
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_app_data(tls->ssl, tls);
    if (!hostname) {
        SSL_set_accept_state(tls->ssl);
        return tls;
    }
    SSL_set_connect_state(tls->ssl);
    if (require_name(tls->ssl, hostname) == 0)
        return tls;
    error_set(err, EINVAL, "'%s' can't be the name of a host", hostname);
fail:
    ERR_clear_error();
    tls_free(tls);
    return NULL;
}

struct tls *tls_new_client(struct tls_context *context, int fd, const char *hostname,
                           struct error *err)
{
    return tls_new(context, fd, hostname, err);
}

struct tls *tls_new_server(struct tls_context *context, int fd, struct error *err)
{
    return tls_new(context, fd, NULL, err);
}

void tls_free(struct tls *tls)
{
    if (!tls)
        return;
    if (tls->established && !tls->failed) {
        SSL_shutdown(tls->ssl);
        tls_bio_drain(tls); /* the peer does without close_notify when the socket is full */
        ERR_clear_error();
    }
    SSL_free(tls->ssl);
    close(tls->fd);
    flat_release(&tls->in);
    flat_release(&tls->out);
    tls_names_free(tls->names);
    free(tls->subject);
    tls_refusal_release(&tls->refusal);
    tls_context_free(tls->context);
    free(tls);
}

int tls_fd(const struct tls *tls)
{
    return tls->fd;
}

const char *tls_peer(const struct tls *tls)
{
    return tls->peer;
}

uint32_t tls_events(const struct tls *tls)
{
    return (tls->established ? 0 : (uint32_t)EPOLLIN) |
           (tls_unsent(tls) > 0 ? (uint32_t)EPOLLOUT : 0);
}

/* What reading may leave to be sent: answers to a peer's key updates.  One that asks for more of
 * them than it ever reads would fill our memory. */
enum { UNSENT_MAX = 8 * 1024 * 1024 };

/* Reading goes on until data comes.  One that sends nothing but new keys, each of which costs us more
 * than the peer, would keep us from everything else; a peer has reason to change its key once in a
 * million records. */
enum { TALK_MAX = 32 };

/* ---- reading, and the handshake -------------------------------------------------------------- */

void tls_message_callback(int is_written, int version, int type, const void *data, size_t length,
                          SSL *ssl, void *opaque)
{
    struct tls *tls = SSL_get_app_data(ssl);

    (void)version, (void)data, (void)length, (void)opaque;
    if (!is_written && type == SSL3_RT_HANDSHAKE && tls->established)
        tls->talk++;
}

/* After OpenSSL returned R <= 0.  Returns 1 when there is more input now: ask again; 0 at the
 * peer's close_notify; -EAGAIN; another negative errno with ERR. */
static int after_failure(struct tls *tls, int r, struct error *err)
{
    ssize_t n;

    switch (SSL_get_error(tls->ssl, r)) {
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_WANT_READ:
        break;
    default:
        tls->failed = true;
        return tls_explain(tls, err);
    }
    n = tls_bio_fill(tls);
    if (n > 0)
        return 1;
    if (n == -EAGAIN)
        return -EAGAIN;
    tls->failed = true;
    if (n < 0)
        return error_set_errno(err, (int)-n, "the connection to %s broke", tls->peer);
    return error_set(err, ECONNRESET,
                     tls->established ? "%s closed the connection without a word"
                                      : "%s closed the connection in the TLS handshake",
                     tls->peer);
}

static int keep_peer_names(struct tls *tls, struct error *err)
{
    X509 *certificate = SSL_get0_peer_certificate(tls->ssl);

    if (!certificate) /* verification wouldn't have let it pass */
        return error_set(err, EKEYREJECTED, "%s sent no certificate", tls->peer);
    tls->names = tls_certificate_names(certificate);
    tls->subject = tls_name_text(X509_get_subject_name(certificate));
    if (!tls->names || !tls->subject)
        return error_set_errno(err, ENOMEM, "can't read the certificate of %s", tls->peer);
    return 0;
}

int tls_handshake(struct tls *tls, struct error *err)
{
    int r = 1;

    while (!tls->established && r > 0) {
        ERR_clear_error();
        r = SSL_do_handshake(tls->ssl);
        if (r == 1) {
            r = keep_peer_names(tls, err);
            if (r < 0)
                return r;
            tls->established = true;
            break;
        }
        r = after_failure(tls, r, err);
        if (r == 0)
            r = error_set(err, ECONNRESET, "%s closed the connection in the TLS handshake",
                          tls->peer);
    }
    if (r < 0 && r != -EAGAIN) {
        tls_bio_drain(tls); /* the alert that tells the peer why */
        return r;
    }
    r = tls_flush(tls, err);
    if (r < 0 && r != -EAGAIN)
        return r;
    return tls->established && r == 0;
}

ssize_t tls_read(struct tls *tls, void *buffer, size_t size, struct error *err)
{
    size_t n;
    int r;

    do {
        ERR_clear_error();
        r = SSL_read_ex(tls->ssl, buffer, size, &n);
        if (tls_unsent(tls) > UNSENT_MAX) {
            tls->failed = true;
            return error_set(err, EPROTO, "%s asks for new keys and doesn't read them", tls->peer);
        }
        if (tls->talk > TALK_MAX) {
            tls->failed = true;
            return error_set(err, EPROTO, "%s changes its keys over and over", tls->peer);
        }
        if (r == 1) {
            tls->talk -= tls->talk > 0;
            return (ssize_t)n;
        }
        r = after_failure(tls, r, err);
    } while (r > 0);
    return r;
}

bool tls_pending(const struct tls *tls)
{
    return SSL_pending(tls->ssl) > 0 || flat_size(&tls->in) > 0;
}

const char *const *tls_peer_names(const struct tls *tls)
{
    return (const char *const *)tls->names;
}

const char *tls_peer_subject(const struct tls *tls)
{
    return tls->subject;
}

int tls_peer_fingerprint(const struct tls *tls, uint8_t ret[TLS_FINGERPRINT_SIZE])
{
    const X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
    unsigned length = TLS_FINGERPRINT_SIZE;

    if (!certificate || X509_digest(certificate, EVP_sha256(), ret, &length) != 1 ||
        length != TLS_FINGERPRINT_SIZE)
        return -EIO;
    return 0;
}

int tls_export(const struct tls *tls, const char *label, uint8_t *ret, size_t size)
{
    return SSL_export_keying_material(tls->ssl, ret, size, label, strlen(label), NULL, 0, 0) == 1
               ? 0
               : -EIO;
}

/* What isn't TCP finds out at once. */
void tls_set_unsent_max(struct tls *tls, unsigned length)
{
    if (length == tls->unsent_max)
        return;
    tls->unsent_max = length;
    /* Where it can't be set, small messages are slower beside bulk, and all else is as before. */
    (void)setsockopt(tls->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &length, sizeof length);
}

void tls_set_patience(const struct tls *tls, unsigned ms)
{
    setsockopt(tls->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

time_t tls_peer_expires(const struct tls *tls)
{
    const X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
    struct tm when;

    if (!certificate || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &when) != 1)
        return 0;
    return timegm(&when);
}

/* ---- writing --------------------------------------------------------------------------------- */

ssize_t tls_write(struct tls *tls, const void *data, size_t length, struct error *err)
{
    uint64_t records = (length + SSL3_RT_MAX_PLAIN_LENGTH - 1) / SSL3_RT_MAX_PLAIN_LENGTH;
    size_t written;

    if (length == 0)
        return 0;
    ERR_clear_error();
    if (tls->records > 0 && tls->records + records > tls->key_update) {
        if (SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1) {
            tls->failed = true;
            return tls_explain(tls, err);
        }
        tls->records = 0; /* the update goes out in front of what is written next */
    }
    if (SSL_write_ex(tls->ssl, data, length, &written) != 1) {
        tls->failed = true;
        return tls_explain(tls, err);
    }
    tls->records += records;
    return (ssize_t)written;
}

size_t tls_unsent(const struct tls *tls)
{
    return flat_size(&tls->out);
}

/* The socket is broken for writing.  A peer that refused us said why before it closed: that word
 * may still lie in our socket. */
static int explain_broken(struct tls *tls, int code, struct error *err)
{
    char byte;
    int r;

    do {
        ERR_clear_error();
        r = SSL_peek(tls->ssl, &byte, 1);
        if (r == 1)
            break;
        if (SSL_get_error(tls->ssl, r) == SSL_ERROR_SSL) {
            tls->failed = true;
            return tls_explain(tls, err);
        }
    } while (SSL_get_error(tls->ssl, r) == SSL_ERROR_WANT_READ && tls_bio_fill(tls) > 0);
    return error_set_errno(err, code, "the connection to %s broke", tls->peer);
}

int tls_flush(struct tls *tls, struct error *err)
{
    int r = tls_bio_drain(tls);

    if (r == 0 || r == -EAGAIN)
        return r;
    return explain_broken(tls, -r, err);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static short poll_events(const struct tls *tls)
{
    uint32_t events = tls_events(tls);

    return (short)((events & EPOLLIN ? POLLIN : 0) | (events & EPOLLOUT ? POLLOUT : 0));
}

static uint64_t deadline_after(int timeout_ms)
{
    return loop_clock() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * LOOP_MS;
}

static int wait_failed(const struct tls *tls, int r, const char *doing, int timeout_ms,
                       struct error *err)
{
    if (r == -ECANCELED)
        return error_set(err, ECANCELED, "waiting for %s was given up", tls->peer);
    if (r == -ETIMEDOUT)
        return error_set(err, ETIMEDOUT, "%s %s within %d ms; is it a bistreamd, and well?",
                         tls->peer, doing, timeout_ms);
    return error_set_errno(err, -r, "can't wait for %s", tls->peer);
}

int tls_handshake_wait(struct tls *tls, int timeout_ms, int abort_fd, struct error *err)
{
    uint64_t deadline = deadline_after(timeout_ms);

    for (;;) {
        int r = tls_handshake(tls, err);

        if (r != 0)
            return r < 0 ? r : 0;
        r = net_wait(tls->fd, poll_events(tls), deadline, abort_fd);
        if (r < 0)
            return wait_failed(tls, r, "did not answer the TLS handshake", timeout_ms, err);
    }
}

int tls_send_wait(struct tls *tls, const void *data, size_t length, int timeout_ms, int abort_fd,
                  struct error *err)
{
    uint64_t deadline = deadline_after(timeout_ms);
    ssize_t n = tls_write(tls, data, length, err);

    if (n < 0)
        return (int)n;
    for (;;) {
        int r = tls_flush(tls, err);

        if (r != -EAGAIN)
            return r;
        r = net_wait(tls->fd, POLLOUT, deadline, abort_fd);
        if (r < 0)
            return wait_failed(tls, r, "did not take what was sent", timeout_ms, err);
    }
}

ssize_t tls_receive_wait(struct tls *tls, void *buffer, size_t size, int timeout_ms, int abort_fd,
                         struct error *err)
{
    uint64_t deadline = deadline_after(timeout_ms);

    for (;;) {
        ssize_t n = tls_read(tls, buffer, size, err);
        int r;

        if (n > 0)
            return n;
        if (n == 0)
            return error_set(err, ECONNRESET, "%s closed the connection", tls->peer);
        if (n != -EAGAIN)
            return n;
        r = tls_flush(tls, err); /* what reading answered: a key update */
        if (r < 0 && r != -EAGAIN)
            return r;
        r = net_wait(tls->fd, (short)(POLLIN | poll_events(tls)), deadline, abort_fd);
        if (r < 0)
            return wait_failed(tls, r, "did not answer", timeout_ms, err);
    }
}
