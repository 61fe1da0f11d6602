/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream pki check: this host's own files.  It says all that is wrong, not only the first thing:
 * each finding is a sentence, and any of them makes the command fail.
 */
#include "config.h"

#include "client/pki.h"

#include "client/output.h"
#include "client/pki_file.h"

#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>

/* Expiry is pki_check_expiry()'s business. */
static void check_begin(struct pki_findings *findings, const char *name, const X509 *cert)
{
    if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
        pki_finding(findings->problems, "%s is not valid yet; is this host's clock right?", name);
    pki_check_expiry(findings, name, pki_expires(cert));
}

static void check_key_file(struct pki_findings *findings, const char *dir)
{
    CLEANUP_FREE char *path = pki_path(dir, PKI_HOST_KEY);
    struct stat info;

    if (path && stat(path, &info) == 0 && (info.st_mode & (S_IRWXO | S_IWGRP)))
        pki_finding(findings->problems, "%s may be read or changed by others: chmod 0600 %s",
                    PKI_HOST_KEY, path);
}

/* Verifies the chain for one role, whatever the time. */
static void check_chain(struct pki_findings *findings, X509 *ca, X509 *cert, int purpose,
                        const char *role)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();

    if (store && context && X509_STORE_add_cert(store, ca) &&
        X509_STORE_CTX_init(context, store, cert, NULL)) {
        X509_STORE_CTX_set_purpose(context, purpose);
        X509_STORE_CTX_set_flags(context, X509_V_FLAG_NO_CHECK_TIME);
        if (X509_verify_cert(context) != 1)
            pki_finding(findings->problems, "%s is no good as a %s with the CA in %s: %s",
                        PKI_HOST_CERT, role, PKI_CA_CERT,
                        X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
    } else {
        pki_finding(findings->problems, "can't verify %s: no memory", PKI_HOST_CERT);
    }
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
}

static void check_certs(struct pki_findings *findings, X509 *ca, X509 *cert, EVP_PKEY *key)
{
    if (ca)
        check_begin(findings, PKI_CA_CERT, ca);
    if (cert)
        check_begin(findings, PKI_HOST_CERT, cert);
    if (ca && cert) {
        check_chain(findings, ca, cert, X509_PURPOSE_SSL_SERVER, "server");
        check_chain(findings, ca, cert, X509_PURPOSE_SSL_CLIENT, "client");
    }
    if (cert && key && X509_check_private_key(cert, key) != 1)
        pki_finding(findings->problems, "%s is not the key of %s", PKI_HOST_KEY, PKI_HOST_CERT);
    ERR_clear_error();
}

/* Null for none. */
static json_t *describe(const X509 *cert)
{
    char subject[PKI_TEXT_MAX];
    struct pki_names names;
    json_t *list;

    if (!cert)
        return json_null();
    pki_names_of(cert, &names);
    list = json_array();
    for (size_t i = 0; i < names.count; i++)
        json_array_append_new(list, output_json_string(names.items[i].text));
    return pki_describe(pki_subject(cert, subject), list, pki_expires(cert));
}

enum command_exit pki_check_files(const struct client *client, const struct pki_options *options)
{
    struct pki_findings findings = {.problems = json_array(), .warnings = json_array()};
    struct error err = ERROR_INIT;
    CLEANUP_CERT X509 *ca = NULL;
    CLEANUP_CERT X509 *cert = NULL;
    CLEANUP_KEY EVP_PKEY *key = NULL;
    json_t *facts;

    ca = pki_read_cert(options->dir, PKI_CA_CERT, &err);
    if (!ca)
        pki_finding(findings.problems, "%s", err.text);
    cert = pki_read_cert(options->dir, PKI_HOST_CERT, &err);
    if (!cert)
        pki_finding(findings.problems, "%s", err.text);
    key = pki_read_key(options->dir, PKI_HOST_KEY, &err);
    if (!key)
        pki_finding(findings.problems, "%s", err.text);
    check_key_file(&findings, options->dir);
    check_certs(&findings, ca, cert, key);
    facts =
        json_pack("{ss so so}", "type", "check", "ca", describe(ca), "certificate", describe(cert));
    if (!client->json) {
        pki_print_description(PKI_CA_CERT, json_object_get(facts, "ca"));
        pki_print_description(PKI_HOST_CERT, json_object_get(facts, "certificate"));
        if (json_array_size(findings.problems) == 0)
            puts("The key fits the certificate, and the CA signed it.");
    }
    return pki_report(client, facts, &findings);
}
