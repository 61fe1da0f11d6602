/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Keys and certificates as PEM files: read whole, written whole or not at all.
 */
#ifndef CLIENT_PKI_FILE_H
#define CLIENT_PKI_FILE_H

#include "common/cleanup.h"
#include "common/error.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>

#define PKI_DEFAULT_DIR "/etc/pki/bistream"
#define PKI_CA_CERT "cacert.pem"
#define PKI_CA_KEY "cakey.pem"
#define PKI_HOST_CERT "hostcert.pem"
#define PKI_HOST_KEY "hostkey.pem"

static inline void pki_cleanup_key(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

static inline void pki_cleanup_cert(X509 **cert)
{
    X509_free(*cert);
}

#define CLEANUP_KEY CLEANUP(pki_cleanup_key)
#define CLEANUP_CERT CLEANUP(pki_cleanup_cert)

/* "DIR/NAME", malloc'ed; NULL without memory. */
char *pki_path(const char *dir, const char *name);

/* Makes DIR and what is missing above it, mode 0755.  Returns 0, or a negative errno with ERR. */
int pki_make_dir(const char *dir, struct error *err);

/* Each reads the first object of its kind in DIR/NAME.  NULL with ERR. */
X509 *pki_read_cert(const char *dir, const char *name, struct error *err);
EVP_PKEY *pki_read_key(const char *dir, const char *name, struct error *err);

/* Each writes DIR/NAME: keys with mode 0600, certificates with 0644, on disk when it returns.  A
 * file that is there already is left alone (-EEXIST) unless REPLACE; readers never see half of
 * one.  Return 0, or a negative errno with ERR. */
int pki_write_cert(const char *dir, const char *name, X509 *cert, bool replace, struct error *err);
int pki_write_key(const char *dir, const char *name, EVP_PKEY *key, bool replace,
                  struct error *err);

/* As error_set(), with what OpenSSL said last behind the sentence; forgets what else it said. */
int pki_error(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
