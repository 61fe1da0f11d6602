/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The certificates in direct_pki_dir: see direct_pki.h.
 *
 * The destination's QEMU compares the source's subject as text, as GnuTLS writes it
 * (gnutls_x509_crt_get_dn(): the parts in the certificate's own order, a comma between them).  We
 * write the same text here, so we keep to what can't be written in two ways: well-known parts, and
 * no character that would have to be escaped.  Another subject is refused, not guessed at.
 */
#include "config.h"

#include "daemon/direct_pki.h"
#include "common/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void cleanup_cert(X509 **cert)
{
    X509_free(*cert);
}

static void cleanup_key(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

/* ---- files ----------------------------------------------------------------------------------- */

static FILE *open_file(const char *dir, const char *name, struct error *err)
{
    CLEANUP_FREE char *path = NULL;
    FILE *file;

    if (asprintf(&path, "%s/%s", dir, name) < 0) {
        path = NULL;
        error_set(err, ENOMEM, "no memory for the path of %s", name);
        return NULL;
    }
    file = fopen(path, "re");
    if (!file)
        error_set_errno(err, errno, "can't read %s, which QEMU's TLS needs", path);
    return file;
}

static X509 *read_cert(const char *dir, const char *name, struct error *err)
{
    CLEANUP_FCLOSE FILE *file = open_file(dir, name, err);
    X509 *cert;

    if (!file)
        return NULL;
    cert = PEM_read_X509(file, NULL, NULL, NULL);
    if (!cert)
        error_set(err, EINVAL, "%s/%s holds no certificate in PEM format", dir, name);
    return cert;
}

static EVP_PKEY *read_key(const char *dir, const char *name, struct error *err)
{
    char none[] = ""; /* the passphrase: nobody is there to be asked */
    CLEANUP_FCLOSE FILE *file = open_file(dir, name, err);
    EVP_PKEY *key;

    if (!file)
        return NULL;
    key = PEM_read_PrivateKey(file, NULL, NULL, none);
    if (!key)
        error_set(err, EINVAL, "%s/%s holds no private key in PEM format", dir, name);
    return key;
}

/* ---- one role -------------------------------------------------------------------------------- */

static const struct role {
    const char *word, *cert, *key;
    int purpose;
} server = {"server", "server-cert.pem", "server-key.pem", X509_PURPOSE_SSL_SERVER},
  client = {"client", "client-cert.pem", "client-key.pem", X509_PURPOSE_SSL_CLIENT};

/* Did the CA sign it for this purpose, and is it valid today? */
static int verify(const char *dir, X509 *ca, X509 *cert, const struct role *role, struct error *err)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    int r = 0;

    if (!store || !context || !X509_STORE_add_cert(store, ca) ||
        !X509_STORE_CTX_init(context, store, cert, NULL) ||
        !X509_STORE_CTX_set_purpose(context, role->purpose))
        r = error_set(err, ENOMEM, "no memory to verify %s/%s", dir, role->cert);
    else if (X509_verify_cert(context) != 1)
        r = error_set(err, EINVAL, "%s/%s is no good as a %s with ca-cert.pem: %s", dir, role->cert,
                      role->word, X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    return r;
}

static int check_role(const char *dir, X509 *ca, const struct role *role, X509 **ret_cert,
                      struct error *err)
{
    CLEANUP(cleanup_cert) X509 *cert = read_cert(dir, role->cert, err);
    CLEANUP(cleanup_key) EVP_PKEY *key = cert ? read_key(dir, role->key, err) : NULL;
    int r;

    if (!key)
        return -err->code;
    if (X509_check_private_key(cert, key) != 1)
        return error_set(err, EINVAL, "%s/%s is not the key of %s", dir, role->key, role->cert);
    r = verify(dir, ca, cert, role, err);
    if (r == 0)
        *ret_cert = take_ptr(cert);
    return r;
}

/* ---- the subject ----------------------------------------------------------------------------- */

/* The name of a part, NULL for one that we leave alone. */
static const char *part_name(const X509_NAME_ENTRY *entry)
{
    static const int known[] = {NID_countryName,      NID_stateOrProvinceName,    NID_localityName,
                                NID_organizationName, NID_organizationalUnitName, NID_commonName};
    int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (nid == known[i])
            return OBJ_nid2sn(nid);
    return NULL;
}

static bool is_plain(const char *value, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)value[i]) && (!value[i] || !strchr(" -._:/@()'", value[i])))
            return false;
    return length > 0 && value[0] != ' ' && value[length - 1] != ' ';
}

static bool write_subject(const X509_NAME *name, char ret[DIRECT_PKI_SUBJECT_MAX])
{
    size_t used = 0;

    for (int i = 0; i < X509_NAME_entry_count(name); i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        const ASN1_STRING *value = X509_NAME_ENTRY_get_data(entry);
        const char *text = (const char *)ASN1_STRING_get0_data(value), *part = part_name(entry);
        int length = ASN1_STRING_length(value), n;

        if (!part || !is_plain(text, (size_t)length) || X509_NAME_ENTRY_set(entry) != i)
            return false; /* the last: two parts in one, "CN=a+O=b" */
        n = snprintf(ret + used, DIRECT_PKI_SUBJECT_MAX - used, "%s%s=%.*s", i ? "," : "", part,
                     length, text);
        if (n < 0 || (size_t)n >= DIRECT_PKI_SUBJECT_MAX - used)
            return false;
        used += (size_t)n;
    }
    return used > 0;
}

int direct_pki_check(const char *dir, char ret_subject[DIRECT_PKI_SUBJECT_MAX], struct error *err)
{
    CLEANUP(cleanup_cert) X509 *ca = NULL;
    CLEANUP(cleanup_cert) X509 *server_cert = NULL;
    CLEANUP(cleanup_cert) X509 *client_cert = NULL;
    char subject[DIRECT_PKI_SUBJECT_MAX];
    struct error ignored = ERROR_INIT;
    int r = 0;

    err = err ? err : &ignored;
    if (!dir)
        return error_set(err, ENOENT,
                         "QEMU has no certificates of its own: direct_pki_dir is not configured "
                         "(bistream pki direct makes them)");
    ca = read_cert(dir, "ca-cert.pem", err);
    if (!ca)
        r = -err->code;
    if (r == 0)
        r = check_role(dir, ca, &server, &server_cert, err);
    if (r == 0)
        r = check_role(dir, ca, &client, &client_cert, err);
    ERR_clear_error();
    if (r < 0)
        return r;
    if (!write_subject(X509_get_subject_name(client_cert), subject))
        return error_set(
            err, EINVAL,
            "the subject of %s/%s can't be told to another host: it may have C, ST, L, "
            "O, OU and CN, and of letters, digits, spaces and -._:/@()'",
            dir, client.cert);
    if (ret_subject)
        strcpy(ret_subject, subject);
    return 0;
}
