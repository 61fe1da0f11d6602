/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream pki ca, bistream pki host.  Nothing is written before everything that can be known to
 * stand in the way has been looked for; the key is written before its certificate, so that a
 * certificate without its key never appears.
 */
#include "config.h"

#include "client/pki.h"

#include "client/output.h"
#include "client/pki_file.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

/* -EEXIST with ERR if DIR/NAME is there. */
static int refuse_existing(const char *dir, const char *name, struct error *err)
{
    CLEANUP_FREE char *path = pki_path(dir, name);

    if (path && access(path, F_OK) == 0)
        return error_set(err, EEXIST, "%s is there already; --force replaces it", path);
    return 0;
}

/* Writes KEY and CERT; a new key doesn't outlive the failure to write its certificate. */
static int write_pair(const char *dir, const char *key_name, EVP_PKEY *key, const char *cert_name,
                      X509 *cert, bool force, struct error *err)
{
    CLEANUP_FREE char *key_path = pki_path(dir, key_name);
    int result = pki_write_key(dir, key_name, key, force, err);

    if (result < 0)
        return result;
    result = pki_write_cert(dir, cert_name, cert, force, err);
    if (result < 0 && !force && key_path)
        unlink(key_path);
    return result;
}

/* ---- ca ------------------------------------------------------------------------------------- */

enum command_exit pki_make_ca(const struct client *client, const struct pki_options *options)
{
    struct error err = ERROR_INIT;
    CLEANUP_KEY EVP_PKEY *key = NULL;
    CLEANUP_CERT X509 *cert = NULL;
    char date[PKI_DATE_MAX];

    if (pki_make_dir(options->dir, &err) < 0 ||
        (!options->force && (refuse_existing(options->dir, PKI_CA_KEY, &err) < 0 ||
                             refuse_existing(options->dir, PKI_CA_CERT, &err) < 0)))
        return command_fail(&err);
    key = pki_key_new(&err);
    cert = key ? pki_ca_new(key, options->days ? options->days : PKI_CA_DAYS, &err) : NULL;
    if (!cert ||
        write_pair(options->dir, PKI_CA_KEY, key, PKI_CA_CERT, cert, options->force, &err) < 0)
        return command_fail(&err);
    if (client->json) {
        output_json(json_pack("{ss ss+ ss+ ss}", "type", "ca", "certificate", options->dir,
                              "/" PKI_CA_CERT, "key", options->dir, "/" PKI_CA_KEY, "expires",
                              pki_date(pki_expires(cert), date)));
        return COMMAND_DONE;
    }
    printf("%s/%s: the CA's certificate, for every host; valid until %s\n"
           "%s/%s: its key: keep it secret, no host needs it\n"
           "Now make each host's: bistream pki host NAME --pki-dir %s\n",
           options->dir, PKI_CA_CERT, pki_day(pki_expires(cert), date), options->dir, PKI_CA_KEY,
           options->dir);
    return COMMAND_DONE;
}

/* ---- host ----------------------------------------------------------------------------------- */

static int read_ca(const char *dir, X509 **ret_cert, EVP_PKEY **ret_key, struct error *err)
{
    CLEANUP_CERT X509 *cert = pki_read_cert(dir, PKI_CA_CERT, err);
    CLEANUP_KEY EVP_PKEY *key = cert ? pki_read_key(dir, PKI_CA_KEY, err) : NULL;
    char date[PKI_DATE_MAX];

    if (!cert || !key) {
        if (err->code == ENOENT)
            error_set(err, ENOENT,
                      "there is no CA in %s; make one with 'bistream pki ca', or name "
                      "its folder with --pki-dir",
                      dir);
        return -err->code;
    }
    if (X509_check_private_key(cert, key) != 1) {
        ERR_clear_error();
        return error_set(err, EINVAL, "%s/%s is not the key of %s/%s", dir, PKI_CA_KEY, dir,
                         PKI_CA_CERT);
    }
    if (X509_check_ca(cert) == 0)
        return error_set(err, EINVAL, "%s/%s is no CA's certificate: it may not sign others", dir,
                         PKI_CA_CERT);
    if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0)
        return error_set(err, EINVAL, "the CA in %s expired on %s", dir,
                         pki_day(pki_expires(cert), date));
    *ret_cert = take_ptr(cert);
    *ret_key = take_ptr(key);
    return 0;
}

/* The same CA may be there already; another is a mistake that --force overrules. */
static int check_ca_copy(const char *out, X509 *ca, bool force, bool *ret_needed, struct error *err)
{
    struct error ignored = ERROR_INIT;
    CLEANUP_CERT X509 *there = pki_read_cert(out, PKI_CA_CERT, &ignored);

    ERR_clear_error();
    *ret_needed = !there || X509_cmp(there, ca) != 0;
    if (!*ret_needed || force)
        return 0;
    return refuse_existing(out, PKI_CA_CERT, err);
}

static int make_host(const struct pki_options *options, const struct pki_names *names,
                     const char *out, X509 *ca, EVP_PKEY *ca_key, X509 **ret_cert,
                     struct error *err)
{
    CLEANUP_KEY EVP_PKEY *key = NULL;
    CLEANUP_CERT X509 *cert = NULL;
    bool ca_needed;

    if (pki_make_dir(out, err) < 0 || check_ca_copy(out, ca, options->force, &ca_needed, err) < 0)
        return -err->code;
    if (!options->force && (refuse_existing(out, PKI_HOST_KEY, err) < 0 ||
                            refuse_existing(out, PKI_HOST_CERT, err) < 0))
        return -err->code;
    key = pki_key_new(err);
    cert = key ? pki_host_new(names, key, options->days ? options->days : PKI_HOST_DAYS, ca, ca_key,
                              err)
               : NULL;
    if (!cert || write_pair(out, PKI_HOST_KEY, key, PKI_HOST_CERT, cert, options->force, err) < 0 ||
        (ca_needed && pki_write_cert(out, PKI_CA_CERT, ca, options->force, err) < 0))
        return -err->code;
    *ret_cert = take_ptr(cert);
    return 0;
}

static void report_host(const struct client *client, const struct pki_names *names, const char *out,
                        const X509 *cert, const X509 *ca)
{
    char date[PKI_DATE_MAX];
    time_t expires = pki_expires(cert);

    if (client->json) {
        json_t *list = json_array();

        for (size_t i = 0; i < names->count; i++)
            json_array_append_new(list, json_string(names->items[i].text));
        output_json(json_pack("{ss ss ss+ ss+ ss+ so ss}", "type", "host", "name",
                              names->items[0].text, "certificate", out, "/" PKI_HOST_CERT, "key",
                              out, "/" PKI_HOST_KEY, "ca", out, "/" PKI_CA_CERT, "names", list,
                              "expires", pki_date(expires, date)));
        return;
    }
    printf("%s: %s, %s and %s for ", out, PKI_CA_CERT, PKI_HOST_CERT, PKI_HOST_KEY);
    for (size_t i = 0; i < names->count; i++)
        printf("%s%s", i ? ", " : "", names->items[i].text);
    printf("; valid until %s%s\n", pki_day(expires, date),
           expires == pki_expires(ca) ? ", when the CA's certificate ends" : "");
    printf("They belong into %s on %s.\n", PKI_DEFAULT_DIR, names->items[0].text);
}

enum command_exit pki_make_host(const struct client *client, const struct pki_options *options,
                                const char *name)
{
    struct error err = ERROR_INIT;
    struct pki_names names = {.count = 0};
    CLEANUP_CERT X509 *ca = NULL;
    CLEANUP_KEY EVP_PKEY *ca_key = NULL;
    CLEANUP_CERT X509 *cert = NULL;
    CLEANUP_FREE char *out = options->out ? strdup(options->out) : pki_path(options->dir, name);

    if (pki_names_add(&names, PKI_NAME_ANY, name, &err) < 0)
        return command_fail(&err);
    for (size_t i = 0; i < options->extra.count; i++) {
        if (pki_names_add(&names, PKI_NAME_ANY, options->extra.items[i].text, &err) < 0)
            return command_fail(&err);
    }
    if (!out || read_ca(options->dir, &ca, &ca_key, &err) < 0 ||
        make_host(options, &names, out, ca, ca_key, &cert, &err) < 0) {
        error_prefix(&err, "can't make a certificate for %s", name);
        return command_fail(&err);
    }
    report_host(client, &names, out, cert, ca);
    return COMMAND_DONE;
}
