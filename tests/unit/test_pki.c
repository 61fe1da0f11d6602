/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Certificates for tests: see test_pki.h. */
#include "config.h"

#include "tests/unit/test_pki.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DAY = 24 * 60 * 60 };

struct test_ca {
    EVP_PKEY *key;
    X509 *certificate;
};

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "test_pki: %s failed\n", what);
    ERR_print_errors_fp(stderr);
    exit(99);
}

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    must(extension && X509_add_ext(certificate, extension, -1), value);
    X509_EXTENSION_free(extension);
}

static void add_part(X509_NAME *name, const char *type, const char *value)
{
    must(!value || X509_NAME_add_entry_by_txt(name, type, MBSTRING_UTF8,
                                              (const unsigned char *)value, -1, -1, 0),
         type);
}

static X509 *make(const char *o, const char *cn, EVP_PKEY *key, long serial, long begin, long end)
{
    X509 *certificate = X509_new();
    X509_NAME *name = X509_NAME_new();

    must(certificate && name, "allocation");
    add_part(name, "O", o);
    add_part(name, "CN", cn);
    must(X509_set_version(certificate, X509_VERSION_3) &&
             ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial) &&
             X509_set_subject_name(certificate, name) && X509_set_pubkey(certificate, key) &&
             X509_gmtime_adj(X509_getm_notBefore(certificate), begin) &&
             X509_gmtime_adj(X509_getm_notAfter(certificate), end),
         "a certificate");
    X509_NAME_free(name);
    return certificate;
}

struct test_ca *test_ca_new(const char *name)
{
    struct test_ca *ca = calloc(1, sizeof *ca);

    must(ca, "allocation");
    ca->key = EVP_EC_gen("P-256");
    must(ca->key, "a key");
    ca->certificate = make(NULL, name, ca->key, 1, -DAY, DAY);
    must(X509_set_issuer_name(ca->certificate, X509_get_subject_name(ca->certificate)), "issuer");
    add_extension(ca->certificate, ca->certificate, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(ca->certificate, ca->certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(ca->certificate, ca->certificate, NID_subject_key_identifier, "hash");
    must(X509_sign(ca->certificate, ca->key, EVP_sha256()) > 0, "signing");
    return ca;
}

void test_ca_free(struct test_ca *ca)
{
    X509_free(ca->certificate);
    EVP_PKEY_free(ca->key);
    free(ca);
}

static FILE *open_file(const char *dir, const char *file)
{
    char path[256];
    FILE *out;

    snprintf(path, sizeof path, "%s/%s", dir, file);
    out = fopen(path, "w");
    must(out, path);
    return out;
}

static void write_certificate(const char *dir, const char *file, X509 *certificate)
{
    FILE *out = open_file(dir, file);

    must(PEM_write_X509(out, certificate) && fclose(out) == 0, file);
}

static void write_crl(const char *dir, struct test_ca *ca, long serial)
{
    FILE *out = open_file(dir, "crl.pem");
    X509_CRL *crl = X509_CRL_new();
    X509_REVOKED *revoked = X509_REVOKED_new();
    ASN1_INTEGER *number = ASN1_INTEGER_new();
    ASN1_TIME *now = X509_gmtime_adj(NULL, -60), *next = X509_gmtime_adj(NULL, DAY);

    must(crl && revoked && number && now && next, "allocation");
    must(ASN1_INTEGER_set(number, serial) && X509_REVOKED_set_serialNumber(revoked, number) &&
             X509_REVOKED_set_revocationDate(revoked, now) &&
             X509_CRL_set_version(crl, X509_CRL_VERSION_2) &&
             X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->certificate)) &&
             X509_CRL_set1_lastUpdate(crl, now) && X509_CRL_set1_nextUpdate(crl, next) &&
             X509_CRL_add0_revoked(crl, revoked) && X509_CRL_sort(crl) &&
             X509_CRL_sign(crl, ca->key, EVP_sha256()) > 0 && PEM_write_X509_CRL(out, crl) &&
             fclose(out) == 0,
         "crl.pem");
    ASN1_INTEGER_free(number);
    ASN1_TIME_free(now);
    ASN1_TIME_free(next);
    X509_CRL_free(crl);
}

char *test_pki_dir(struct test_ca *ca, const struct test_certificate *options)
{
    static const struct test_certificate defaults;
    const struct test_certificate *o = options ? options : &defaults;
    struct test_ca *trusts = o->trusts ? o->trusts : ca;
    char *dir = strdup("/tmp/bistream-pki-XXXXXX");
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate;
    FILE *out;

    must(dir && mkdtemp(dir) && key, "a folder");
    certificate = make(o->o, o->cn ? o->cn : "host", key, o->serial ? o->serial : 1,
                       o->not_yet ? DAY : -2 * DAY, o->expired ? -DAY : 2 * DAY);
    must(X509_set_issuer_name(certificate, X509_get_subject_name(ca->certificate)), "issuer");
    add_extension(certificate, ca->certificate, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(certificate, ca->certificate, NID_subject_alt_name,
                  o->san ? o->san : "DNS:localhost,IP:127.0.0.1,IP:::1");
    must(X509_sign(certificate, ca->key, EVP_sha256()) > 0, "signing");

    write_certificate(dir, "cacert.pem", trusts->certificate);
    write_certificate(dir, "hostcert.pem", certificate);
    out = open_file(dir, "hostkey.pem");
    must(PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL) && fclose(out) == 0, "a key");
    if (o->revoke)
        write_crl(dir, trusts, o->revoke);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return dir;
}

void test_pki_for_qemu(const char *dir)
{
    static const char *const links[][2] = {
        {"cacert.pem", "ca-cert.pem"},     {"hostcert.pem", "server-cert.pem"},
        {"hostkey.pem", "server-key.pem"}, {"hostcert.pem", "client-cert.pem"},
        {"hostkey.pem", "client-key.pem"},
    };
    char path[256];

    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, links[i][1]);
        must(symlink(links[i][0], path) == 0, path);
    }
}

void test_pki_remove(char *dir)
{
    static const char *const files[] = {"cacert.pem",     "hostcert.pem",    "hostkey.pem",
                                        "crl.pem",        "ca-cert.pem",     "server-cert.pem",
                                        "server-key.pem", "client-cert.pem", "client-key.pem"};
    char path[256];

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    must(rmdir(dir) == 0, dir);
    free(dir);
}
