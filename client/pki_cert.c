/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Keys and certificates with OpenSSL 3.  A host's certificate serves both roles, since a bistreamd
 * is a server to one peer and a client of the next; its names stand in the subject alternative
 * name, where TLS looks for them.  Every certificate is valid from an hour ago on, so that a clock
 * that is a little slow doesn't refuse it.
 */
#include "config.h"

#include "client/pki_cert.h"

#include "client/pki_file.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

enum {
    CLOCK_SKEW = 3600, /* seconds */
    DAY = 86400,
    SERIAL_BITS = 159, /* RFC 5280, 4.1.2.2: positive, 20 octets at most */
};

struct extension {
    int nid;
    const char *value;
};

/* ---- names ---------------------------------------------------------------------------------- */

/* A host name as RFC 1123 has it; '_' is let through, since people use it. */
static bool is_host_name(const char *text)
{
    size_t length = strlen(text);

    if (length == 0 || length > PKI_NAME_MAX)
        return false;
    for (const char *label = text;;) {
        size_t size = strcspn(label, ".");

        if (size == 0 || size > 63 || label[0] == '-' || label[size - 1] == '-')
            return false;
        if (strspn(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") <
            size)
            return false;
        if (label[size] == '\0')
            return true;
        label += size + 1;
    }
}

/* Writes an IP address in its usual form. */
static bool parse_address(const char *text, char *out, socklen_t size)
{
    unsigned char address[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, text, address) == 1)
        return inet_ntop(AF_INET, address, out, size) != NULL;
    if (inet_pton(AF_INET6, text, address) == 1)
        return inet_ntop(AF_INET6, address, out, size) != NULL;
    return false;
}

static bool append_name(struct pki_names *names, const char *text, bool is_address)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcasecmp(names->items[i].text, text) == 0)
            return true;
    }
    if (names->count == PKI_NAMES_MAX)
        return false;
    snprintf(names->items[names->count].text, sizeof names->items[0].text, "%s", text);
    names->items[names->count].is_address = is_address;
    names->count++;
    return true;
}

int pki_names_add(struct pki_names *names, enum pki_name_kind kind, const char *text,
                  struct error *err)
{
    char address[INET6_ADDRSTRLEN];
    bool is_address = parse_address(text, address, sizeof address);

    if (kind == PKI_NAME_ADDRESS && !is_address)
        return error_set(err, EINVAL, "'%s' is no IP address", text);
    if ((kind == PKI_NAME_DNS && is_address) || (!is_address && !is_host_name(text)))
        return error_set(err, EINVAL, "'%s' is no host name", text);
    if (!append_name(names, is_address ? address : text, is_address))
        return error_set(err, EINVAL, "a certificate can't have more than %d names", PKI_NAMES_MAX);
    return 0;
}

/* "DNS:a.example,IP:192.0.2.1", malloc'ed; NULL without memory.  The names hold no comma. */
static char *format_names(const struct pki_names *names)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    if (!stream)
        return NULL;
    for (size_t i = 0; i < names->count; i++)
        fprintf(stream, "%s%s:%s", i ? "," : "", names->items[i].is_address ? "IP" : "DNS",
                names->items[i].text);
    if (fclose(stream) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- making --------------------------------------------------------------------------------- */

EVP_PKEY *pki_key_new(struct error *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    if (!key)
        pki_error(err, EIO, "can't make a P-256 key");
    return key;
}

static bool set_serial(X509 *cert)
{
    BIGNUM *number = BN_new();
    bool ok = number && BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) &&
              BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));

    BN_free(number);
    return ok;
}

static bool set_subject(X509 *cert, const char *name)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    const char *field = "CN";

    /* A longer name doesn't fit there; the alternative name has it anyway. */
    if (strlen(name) > PKI_COMMON_NAME_MAX) {
        field = "O";
        name = "bistream host";
    }
    return X509_NAME_add_entry_by_txt(subject, field, MBSTRING_UTF8, (const unsigned char *)name,
                                      -1, -1, 0);
}

static bool set_validity(X509 *cert, const X509 *issuer, unsigned days)
{
    time_t now = time(NULL);

    if (!ASN1_TIME_set(X509_getm_notBefore(cert), now - CLOCK_SKEW) ||
        !ASN1_TIME_set(X509_getm_notAfter(cert), now + (time_t)days * DAY))
        return false;
    if (issuer && ASN1_TIME_compare(X509_get0_notAfter(cert), X509_get0_notAfter(issuer)) > 0)
        return X509_set1_notAfter(cert, X509_get0_notAfter(issuer));
    return true;
}

static bool add_extensions(X509 *cert, X509 *issuer, const struct extension *list, size_t count)
{
    X509V3_CTX context;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    for (size_t i = 0; i < count; i++) {
        X509_EXTENSION *extension =
            X509V3_EXT_nconf_nid(NULL, &context, list[i].nid, list[i].value);
        bool ok = extension && X509_add_ext(cert, extension, -1);

        X509_EXTENSION_free(extension);
        if (!ok)
            return false;
    }
    return true;
}

/* A certificate without extensions and signature yet.  ISSUER NULL: its own. */
static X509 *new_cert(const char *name, EVP_PKEY *key, unsigned days, const X509 *issuer)
{
    X509 *cert = X509_new();

    if (cert && X509_set_version(cert, X509_VERSION_3) && set_serial(cert) &&
        set_subject(cert, name) &&
        X509_set_issuer_name(cert, X509_get_subject_name(issuer ? issuer : cert)) &&
        set_validity(cert, issuer, days) && X509_set_pubkey(cert, key))
        return cert;
    X509_free(cert);
    return NULL;
}

X509 *pki_ca_new(EVP_PKEY *key, unsigned days, struct error *err)
{
    static const struct extension extensions[] = {
        {NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
        {NID_key_usage, "critical,keyCertSign,cRLSign"},
        {NID_subject_key_identifier, "hash"},
    };
    CLEANUP_CERT X509 *cert = new_cert("bistream CA", key, days, NULL);

    if (!cert || !add_extensions(cert, cert, extensions, sizeof extensions / sizeof *extensions) ||
        !X509_sign(cert, key, EVP_sha256())) {
        pki_error(err, EIO, "can't make the CA's certificate");
        return NULL;
    }
    return take_ptr(cert);
}

X509 *pki_host_new(const struct pki_names *names, EVP_PKEY *key, unsigned days, X509 *ca,
                   EVP_PKEY *ca_key, struct error *err)
{
    CLEANUP_FREE char *alternative = format_names(names);
    /* keyEncipherment means nothing for this kind of key, but GnuTLS users such as libvirt and
     * QEMU look for it. */
    const struct extension extensions[] = {
        {NID_basic_constraints, "critical,CA:FALSE"},
        {NID_key_usage, "critical,digitalSignature,keyEncipherment"},
        {NID_ext_key_usage, "serverAuth,clientAuth"},
        {NID_subject_key_identifier, "hash"},
        {NID_authority_key_identifier, "keyid:always"},
        {NID_subject_alt_name, alternative},
    };
    CLEANUP_CERT X509 *cert = alternative ? new_cert(names->items[0].text, key, days, ca) : NULL;

    if (!cert || !add_extensions(cert, ca, extensions, sizeof extensions / sizeof *extensions) ||
        !X509_sign(cert, ca_key, EVP_sha256())) {
        pki_error(err, EIO, "can't make the certificate of %s", names->items[0].text);
        return NULL;
    }
    return take_ptr(cert);
}

/* ---- telling -------------------------------------------------------------------------------- */

char *pki_subject(const X509 *cert, char out[PKI_TEXT_MAX])
{
    BIO *bio = BIO_new(BIO_s_mem());
    int length = 0;

    if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253) >= 0)
        length = BIO_read(bio, out, PKI_TEXT_MAX - 1);
    out[length > 0 ? length : 0] = '\0';
    BIO_free(bio);
    return out;
}

void pki_names_of(const X509 *cert, struct pki_names *ret)
{
    GENERAL_NAMES *list = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

    ret->count = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(list); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(list, i);
        const ASN1_STRING *value = name->type == GEN_DNS     ? name->d.dNSName
                                   : name->type == GEN_IPADD ? name->d.iPAddress
                                                             : NULL;
        const unsigned char *data = value ? ASN1_STRING_get0_data(value) : NULL;
        int length = value ? ASN1_STRING_length(value) : 0;
        char text[PKI_NAME_MAX + 1];

        if (name->type == GEN_DNS)
            snprintf(text, sizeof text, "%.*s", length, (const char *)data);
        else if ((length != 4 && length != 16) ||
                 !inet_ntop(length == 4 ? AF_INET : AF_INET6, data, text, sizeof text))
            continue;
        append_name(ret, text, name->type == GEN_IPADD);
    }
    GENERAL_NAMES_free(list);
}

time_t pki_expires(const X509 *cert)
{
    struct tm when;

    return ASN1_TIME_to_tm(X509_get0_notAfter(cert), &when) ? timegm(&when) : 0;
}

static const char *format_time(const char *format, time_t when, char out[PKI_DATE_MAX])
{
    struct tm fields;

    if (!gmtime_r(&when, &fields) || strftime(out, PKI_DATE_MAX, format, &fields) == 0)
        out[0] = '\0';
    return out;
}

const char *pki_date(time_t when, char out[PKI_DATE_MAX])
{
    return format_time("%Y-%m-%dT%H:%M:%SZ", when, out);
}

const char *pki_day(time_t when, char out[PKI_DATE_MAX])
{
    return format_time("%Y-%m-%d", when, out);
}
