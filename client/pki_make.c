/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream pki ca, bistream pki host, bistream pki direct.  Nothing is written before everything that can be known to
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

/* ---- host, direct --------------------------------------------------------------------------- */

/* The files of a host, for bistreamd or for QEMU, whose TLS has names of its own. */
struct files {
    const char *action; /* of bistream pki */
    const char *ca;
    struct {
        const char *key, *cert;
    } pairs[2];
    size_t count; /* of pairs */
};

static const struct files host_files = {
    .action = "host", .ca = PKI_CA_CERT, .pairs = {{PKI_HOST_KEY, PKI_HOST_CERT}}, .count = 1};
static const struct files direct_files = {
    .action = "direct",
    .ca = "ca-cert.pem",
    .pairs = {{"server-key.pem", "server-cert.pem"}, {"client-key.pem", "client-cert.pem"}},
    .count = 2};

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
static int check_ca_copy(const char *out, const char *name, X509 *ca, bool force, bool *ret_needed,
                         struct error *err)
{
    struct error ignored = ERROR_INIT;
    CLEANUP_CERT X509 *there = pki_read_cert(out, name, &ignored);

    ERR_clear_error();
    *ret_needed = !there || X509_cmp(there, ca) != 0;
    if (!*ret_needed || force)
        return 0;
    return refuse_existing(out, name, err);
}

/* The host that all of this is about. */
struct host {
    const struct pki_options *options;
    const struct files *files;
    struct pki_names names;
    const char *out;
    X509 *ca;
    EVP_PKEY *ca_key;
    time_t expires; /* set by make_pair() */
};

static int make_pair(struct host *host, size_t number, struct error *err)
{
    const struct pki_options *options = host->options;
    CLEANUP_KEY EVP_PKEY *key = pki_key_new(err);
    CLEANUP_CERT X509 *cert = NULL;

    if (key)
        cert = pki_host_new(&host->names, key, options->days ? options->days : PKI_HOST_DAYS,
                            host->ca, host->ca_key, err);
    if (!cert)
        return -err->code;
    host->expires = pki_expires(cert);
    return write_pair(host->out, host->files->pairs[number].key, key,
                      host->files->pairs[number].cert, cert, options->force, err);
}

static int make_files(struct host *host, struct error *err)
{
    const struct files *files = host->files;
    bool force = host->options->force, ca_needed;
    int r = pki_make_dir(host->out, err);

    if (r == 0)
        r = check_ca_copy(host->out, files->ca, host->ca, force, &ca_needed, err);
    for (size_t i = 0; r == 0 && !force && i < files->count; i++) {
        r = refuse_existing(host->out, files->pairs[i].key, err);
        if (r == 0)
            r = refuse_existing(host->out, files->pairs[i].cert, err);
    }
    for (size_t i = 0; r == 0 && i < files->count; i++)
        r = make_pair(host, i, err);
    if (r == 0 && ca_needed)
        r = pki_write_cert(host->out, files->ca, host->ca, force, err);
    return r;
}

static void report_json(const struct host *host)
{
    json_t *list = json_array(), *report;
    char date[PKI_DATE_MAX];

    for (size_t i = 0; i < host->names.count; i++)
        json_array_append_new(list, json_string(host->names.items[i].text));
    report = json_pack("{ss ss ss++ so ss}", "type", host->files->action, "name",
                       host->names.items[0].text, "ca", host->out, "/", host->files->ca, "names",
                       list, "expires", pki_date(host->expires, date));
    if (host->files == &host_files)
        json_object_update_new(report,
                               json_pack("{ss+ ss+}", "certificate", host->out, "/" PKI_HOST_CERT,
                                         "key", host->out, "/" PKI_HOST_KEY));
    else
        json_object_set_new(report, "folder", json_string(host->out));
    output_json(report);
}

static void report_text(const struct host *host)
{
    const struct files *files = host->files;
    char date[PKI_DATE_MAX];

    printf("%s: %s", host->out, files->ca);
    for (size_t i = 0; i < files->count; i++)
        printf(", %s%s %s", files->pairs[i].cert, i + 1 < files->count ? "," : " and",
               files->pairs[i].key);
    printf(" for ");
    for (size_t i = 0; i < host->names.count; i++)
        printf("%s%s", i ? ", " : "", host->names.items[i].text);
    printf("; valid until %s%s\n", pki_day(host->expires, date),
           host->expires == pki_expires(host->ca) ? ", when the CA's certificate ends" : "");
    if (files == &host_files)
        printf("They belong into %s on %s.\n", PKI_DEFAULT_DIR, host->names.items[0].text);
    else
        printf("They belong into a folder of their own on %s, which direct_pki_dir names there.\n",
               host->names.items[0].text);
}

static enum command_exit make_host(const struct client *client, struct host *host, const char *name)
{
    const struct pki_options *options = host->options;
    struct error err = ERROR_INIT;
    CLEANUP_CERT X509 *ca = NULL;
    CLEANUP_KEY EVP_PKEY *ca_key = NULL;

    if (!host->out)
        error_set(&err, ENOMEM, "no memory for a folder's name");
    if (err.code || pki_names_add(&host->names, PKI_NAME_ANY, name, &err) < 0)
        return command_fail(&err);
    for (size_t i = 0; i < options->extra.count; i++) {
        if (pki_names_add(&host->names, PKI_NAME_ANY, options->extra.items[i].text, &err) < 0)
            return command_fail(&err);
    }
    if (read_ca(options->dir, &ca, &ca_key, &err) == 0) {
        host->ca = ca;
        host->ca_key = ca_key;
        make_files(host, &err);
    }
    if (err.code) {
        error_prefix(&err, "can't make a certificate for %s", name);
        return command_fail(&err);
    }
    if (client->json)
        report_json(host);
    else
        report_text(host);
    return COMMAND_DONE;
}

enum command_exit pki_make_host(const struct client *client, const struct pki_options *options,
                                const char *name)
{
    CLEANUP_FREE char *out = pki_path(options->dir, name);
    struct host host = {
        .options = options, .files = &host_files, .out = options->out ? options->out : out};

    return make_host(client, &host, name);
}

/* The far QEMU lets a subject in, so each host must have one of its own. */
enum command_exit pki_make_direct(const struct client *client, const struct pki_options *options,
                                  const char *name)
{
    CLEANUP_FREE char *folder = pki_path(options->dir, name);
    CLEANUP_FREE char *out = folder ? pki_path(folder, "direct") : NULL;
    struct host host = {
        .options = options, .files = &direct_files, .out = options->out ? options->out : out};
    struct error err = ERROR_INIT;

    if (strlen(name) > PKI_COMMON_NAME_MAX) {
        error_set(&err, EINVAL,
                  "can't make a certificate for %s: QEMU knows a host by its certificate's common "
                  "name, which has at most %d characters",
                  name, PKI_COMMON_NAME_MAX);
        return command_fail(&err);
    }
    return make_host(client, &host, name);
}
