/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Making keys and certificates, and telling what is in one.
 */
#ifndef CLIENT_PKI_CERT_H
#define CLIENT_PKI_CERT_H

#include "common/error.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <time.h>

enum {
    PKI_CA_DAYS = 3650, /* ten years, and two for a host */
    PKI_HOST_DAYS = 730,
    PKI_DAYS_MAX = 36500,
    PKI_NAMES_MAX = 64,       /* names and addresses of one host */
    PKI_NAME_MAX = 253,       /* a DNS name, RFC 1035 */
    PKI_COMMON_NAME_MAX = 64, /* what a subject's CN holds; RFC 5280, ub-common-name */
    PKI_TEXT_MAX = 512,       /* a subject in one line */
    PKI_DATE_MAX = 32,
};

/* What a host is called: its names and addresses, the first is the one it was made for. */
struct pki_names {
    struct {
        char text[PKI_NAME_MAX + 1]; /* an address in its usual form */
        bool is_address;
    } items[PKI_NAMES_MAX];
    size_t count;
};

enum pki_name_kind { PKI_NAME_ANY, PKI_NAME_DNS, PKI_NAME_ADDRESS };

/* Checks and adds one; what is there already is not added again.  Returns 0, or -EINVAL with ERR.
 */
int pki_names_add(struct pki_names *names, enum pki_name_kind kind, const char *text,
                  struct error *err);

/* A P-256 key.  NULL with ERR. */
EVP_PKEY *pki_key_new(struct error *err);

/* A CA's own certificate for KEY.  NULL with ERR. */
X509 *pki_ca_new(EVP_PKEY *key, unsigned days, struct error *err);

/* A certificate for KEY, good as server and as client, signed by the CA.  It ends with the CA's at
 * the latest.  NULL with ERR. */
X509 *pki_host_new(const struct pki_names *names, EVP_PKEY *key, unsigned days, X509 *ca,
                   EVP_PKEY *ca_key, struct error *err);

/* The subject in one line (RFC 2253). */
char *pki_subject(const X509 *cert, char out[PKI_TEXT_MAX]);
/* The host names and addresses in its subject alternative name; others are left out. */
void pki_names_of(const X509 *cert, struct pki_names *ret);
/* When it ends. */
time_t pki_expires(const X509 *cert);
/* "2027-03-31T12:00:00Z", or the day alone. */
const char *pki_date(time_t when, char out[PKI_DATE_MAX]);
const char *pki_day(time_t when, char out[PKI_DATE_MAX]);

#endif
