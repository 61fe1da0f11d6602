/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The TLS context: what all connections of a daemon have in common.  One context serves both
 * roles, because a host has one certificate for both.
 *
 * TLS 1.3 and nothing else; a certificate wanted from whoever is at the other end; no tickets, so
 * each connection proves anew who it is; no early data, which could be replayed.
 */
#include "config.h"

#include "io/tls_gcm.h"
#include "io/tls_internal.h"
#include "common/cleanup.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One key may protect 2^24.5 full records (RFC 8446, 5.5). */
#define KEY_UPDATE_RECORDS (UINT64_C(1) << 24)

/* AES-128-GCM is the fastest where the processor has AES; the others are for those that haven't. */
static const char ciphersuites[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

static void cleanup_bio(BIO **bio)
{
    BIO_free(*bio);
}

/* A daemon has nobody to ask: a key with a password is refused instead of prompted for. */
static int no_password(char *buffer, int size, int writing, void *opaque)
{
    (void)buffer, (void)size, (void)writing, (void)opaque;
    return -1;
}

static int file_path(const struct tls_context *context, const char *file, char path[PATH_MAX],
                     struct error *err)
{
    int length = snprintf(path, PATH_MAX, "%s/%s", context->pki_dir, file);

    if (length >= PATH_MAX)
        return error_set(err, ENAMETOOLONG, "the path of pki_dir %s is too long", context->pki_dir);
    return 0;
}

static int check_readable(const char *path, const char *hint, struct error *err)
{
    if (access(path, R_OK) == 0)
        return 0;
    return error_set(err, errno, "can't read %s: %s; %s", path, strerror(errno), hint);
}

static int load_ca(struct tls_context *context, struct error *err)
{
    char path[PATH_MAX];
    int r = file_path(context, "cacert.pem", path, err);

    if (r == 0)
        r = check_readable(path, "'bistream pki ca' makes a CA", err);
    if (r < 0)
        return r;
    if (SSL_CTX_load_verify_file(context->ssl, path) != 1)
        return tls_explain_file(err, "can't use the CA certificate", path);
    return 0;
}

static int load_certificate(struct tls_context *context, struct error *err)
{
    static const char hint[] = "'bistream pki host' makes a host's certificate and key";
    char certificate[PATH_MAX], key[PATH_MAX];
    int r = file_path(context, "hostcert.pem", certificate, err);

    if (r == 0)
        r = file_path(context, "hostkey.pem", key, err);
    if (r == 0)
        r = check_readable(certificate, hint, err);
    if (r == 0)
        r = check_readable(key, hint, err);
    if (r < 0)
        return r;
    if (SSL_CTX_use_certificate_chain_file(context->ssl, certificate) != 1)
        return tls_explain_file(err, "can't use the certificate", certificate);
    if (SSL_CTX_use_PrivateKey_file(context->ssl, key, SSL_FILETYPE_PEM) != 1) {
        if (ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH) {
            ERR_clear_error();
            return error_set(err, EINVAL, "the key %s does not belong to the certificate %s", key,
                             certificate);
        }
        return tls_explain_file(err, "can't use the key (it must have no password)", key);
    }
    return 0;
}

/* Takes every list that the file holds into the store. */
static int read_crls(X509_STORE *store, BIO *file)
{
    int count = 0;

    for (;; count++) {
        X509_CRL *crl = PEM_read_bio_X509_CRL(file, NULL, NULL, NULL);
        int ok;

        if (!crl)
            break;
        ok = X509_STORE_add_crl(store, crl);
        X509_CRL_free(crl);
        if (!ok)
            return -EINVAL;
    }
    /* The end of the file is told as a missing BEGIN line. */
    if (count == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return -EINVAL;
    ERR_clear_error();
    return 0;
}

static int load_crl(struct tls_context *context, struct error *err)
{
    X509_STORE *store = SSL_CTX_get_cert_store(context->ssl);
    CLEANUP(cleanup_bio) BIO *file = NULL;
    char path[PATH_MAX];
    int r = file_path(context, "crl.pem", path, err);

    if (r < 0)
        return r;
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return 0;
    r = check_readable(path, "it lists the certificates that were revoked", err);
    if (r < 0)
        return r;
    file = BIO_new_file(path, "r");
    if (!file || read_crls(store, file) < 0 || !X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK))
        return tls_explain_file(err, "can't use the revocation list", path);
    return 0;
}

static int set_up(SSL_CTX *ssl)
{
    SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_default_passwd_cb(ssl, no_password);
    SSL_CTX_set_msg_callback(ssl, tls_message_callback);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, tls_verify_callback);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) == 1 &&
                   SSL_CTX_set_ciphersuites(ssl, ciphersuites) == 1 &&
                   SSL_CTX_set_num_tickets(ssl, 0) == 1 && SSL_CTX_set_max_early_data(ssl, 0) == 1
               ? 0
               : -EIO;
}

struct tls_context *tls_context_new(const char *pki_dir, struct error *err)
{
    struct tls_context *context = calloc(1, sizeof *context);

    if (!context) {
        error_set_errno(err, ENOMEM, "can't set up TLS");
        return NULL;
    }
    atomic_init(&context->references, 1);
    context->key_update = KEY_UPDATE_RECORDS;
    context->pki_dir = strdup(pki_dir);
    context->ssl = SSL_CTX_new_ex(NULL, tls_gcm_properties(), TLS_method());
    if (!context->pki_dir || !context->ssl || set_up(context->ssl) < 0) {
        tls_explain_file(err, "can't set up TLS for", pki_dir);
        goto fail;
    }
    if (load_ca(context, err) < 0 || load_certificate(context, err) < 0 ||
        load_crl(context, err) < 0)
        goto fail;
    return context;
fail:
    tls_context_free(context);
    return NULL;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
    atomic_fetch_add(&context->references, 1);
    return context;
}

void tls_context_free(struct tls_context *context)
{
    if (!context || atomic_fetch_sub(&context->references, 1) != 1)
        return;
    SSL_CTX_free(context->ssl);
    free(context->pki_dir);
    free(context);
}

void tls_thread_end(void)
{
    OPENSSL_thread_stop();
}

void tls_context_set_key_update(struct tls_context *context, uint64_t records)
{
    context->key_update = records;
}
