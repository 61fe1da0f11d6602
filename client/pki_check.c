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

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { WARN_DAYS = 30, DAY = 86400 };

struct findings {
    json_t *problems; /* sentences */
    json_t *warnings;
};

static void add(json_t *list, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(json_t *list, const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_array_append_new(list, output_json_string(text));
}

static void check_dates(struct findings *findings, const char *name, const X509 *cert)
{
    char date[PKI_DATE_MAX];
    time_t expires = pki_expires(cert);
    time_t now = time(NULL);

    pki_day(expires, date);
    if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
        add(findings->problems, "%s is not valid yet; is this host's clock right?", name);
    if (expires <= now)
        add(findings->problems, "%s expired on %s", name, date);
    else if (expires - now < WARN_DAYS * DAY)
        add(findings->warnings, "%s expires in %ld days, on %s", name, (long)(expires - now) / DAY,
            date);
}

static void check_key_file(struct findings *findings, const char *dir)
{
    CLEANUP_FREE char *path = pki_path(dir, PKI_HOST_KEY);
    struct stat info;

    if (path && stat(path, &info) == 0 && (info.st_mode & (S_IRWXO | S_IWGRP)))
        add(findings->problems, "%s may be read or changed by others: chmod 0600 %s", PKI_HOST_KEY,
            path);
}

/* Verifies the chain for one role; expiry is check_dates()'s business. */
static void check_chain(struct findings *findings, X509 *ca, X509 *cert, int purpose,
                        const char *role)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();

    if (store && context && X509_STORE_add_cert(store, ca) &&
        X509_STORE_CTX_init(context, store, cert, NULL)) {
        X509_STORE_CTX_set_purpose(context, purpose);
        X509_STORE_CTX_set_flags(context, X509_V_FLAG_NO_CHECK_TIME);
        if (X509_verify_cert(context) != 1)
            add(findings->problems, "%s is no good as a %s with the CA in %s: %s", PKI_HOST_CERT,
                role, PKI_CA_CERT,
                X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
    } else {
        add(findings->problems, "can't verify %s: no memory", PKI_HOST_CERT);
    }
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
}

static void check_certs(struct findings *findings, X509 *ca, X509 *cert, EVP_PKEY *key)
{
    if (ca)
        check_dates(findings, PKI_CA_CERT, ca);
    if (cert)
        check_dates(findings, PKI_HOST_CERT, cert);
    if (ca && cert) {
        check_chain(findings, ca, cert, X509_PURPOSE_SSL_SERVER, "server");
        check_chain(findings, ca, cert, X509_PURPOSE_SSL_CLIENT, "client");
    }
    if (cert && key && X509_check_private_key(cert, key) != 1)
        add(findings->problems, "%s is not the key of %s", PKI_HOST_KEY, PKI_HOST_CERT);
    ERR_clear_error();
}

/* {"subject", "names", "expires"}; null for none. */
static json_t *describe(const X509 *cert)
{
    char subject[PKI_TEXT_MAX], date[PKI_DATE_MAX];
    struct pki_names names;
    json_t *list;

    if (!cert)
        return json_null();
    pki_names_of(cert, &names);
    list = json_array();
    for (size_t i = 0; i < names.count; i++)
        json_array_append_new(list, output_json_string(names.items[i].text));
    return json_pack("{so so ss}", "subject", output_json_string(pki_subject(cert, subject)),
                     "names", list, "expires", pki_date(pki_expires(cert), date));
}

static void print_cert(const char *name, const X509 *cert)
{
    char subject[PKI_TEXT_MAX], date[PKI_DATE_MAX];
    struct pki_names names;

    if (!cert)
        return;
    pki_names_of(cert, &names);
    printf("%-13s %s", name, output_clean(pki_subject(cert, subject)));
    for (size_t i = 0; i < names.count; i++)
        printf("%s%s", i ? ", " : "; for ", output_clean(names.items[i].text));
    printf("; valid until %s\n", pki_day(pki_expires(cert), date));
}

static enum command_exit report(const struct client *client, struct findings *findings,
                                const X509 *ca, const X509 *cert)
{
    bool ok = json_array_size(findings->problems) == 0;
    json_t *sentence;
    size_t i;

    if (client->json) {
        output_json(json_pack("{ss sb so so sO sO}", "type", "check", "ok", (int)ok, "ca",
                              describe(ca), "certificate", describe(cert), "problems",
                              findings->problems, "warnings", findings->warnings));
        return ok ? COMMAND_DONE : COMMAND_FAILED;
    }
    print_cert(PKI_CA_CERT, ca);
    print_cert(PKI_HOST_CERT, cert);
    fflush(stdout);
    json_array_foreach (findings->problems, i, sentence)
        fprintf(stderr, "bistream: %s\n", json_string_value(sentence));
    json_array_foreach (findings->warnings, i, sentence)
        fprintf(stderr, "bistream: warning: %s\n", json_string_value(sentence));
    if (ok)
        puts("The key fits the certificate, and the CA signed it.");
    return ok ? COMMAND_DONE : COMMAND_FAILED;
}

enum command_exit pki_check_files(const struct client *client, const struct pki_options *options)
{
    struct findings findings = {.problems = json_array(), .warnings = json_array()};
    struct error err = ERROR_INIT;
    CLEANUP_CERT X509 *ca = NULL;
    CLEANUP_CERT X509 *cert = NULL;
    CLEANUP_KEY EVP_PKEY *key = NULL;
    enum command_exit exit_code;

    ca = pki_read_cert(options->dir, PKI_CA_CERT, &err);
    if (!ca)
        add(findings.problems, "%s", err.text);
    cert = pki_read_cert(options->dir, PKI_HOST_CERT, &err);
    if (!cert)
        add(findings.problems, "%s", err.text);
    key = pki_read_key(options->dir, PKI_HOST_KEY, &err);
    if (!key)
        add(findings.problems, "%s", err.text);
    check_key_file(&findings, options->dir);
    check_certs(&findings, ca, cert, key);
    exit_code = report(client, &findings, ca, cert);
    json_decref(findings.problems);
    json_decref(findings.warnings);
    return exit_code;
}
