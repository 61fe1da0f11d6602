/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Proofs of BISTREAM_RESUME: see proof.h. */
#include "config.h"

#include "io/proof.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <string.h>

static const char *const labels[] = {
    [PROOF_CALL] = "bistream resume call",
    [PROOF_REPLY] = "bistream resume reply",
};

enum { EXPORTED = 32, LABEL_MAX = 32 };

static size_t put(uint8_t *to, size_t at, const void *from, size_t length)
{
    memcpy(to + at, from, length);
    return at + length;
}

int proof_make(const struct tls *tls, enum proof_kind kind, const uint8_t secret[BS_SECRET_SIZE],
               const uint8_t id[BS_ID_SIZE], uint32_t attempt, uint8_t ret[BS_PROOF_SIZE],
               struct error *err)
{
    uint8_t text[LABEL_MAX + BS_ID_SIZE + sizeof attempt + EXPORTED], exported[EXPORTED];
    const uint32_t number = htonl(attempt);
    unsigned length = 0;
    size_t n;

    if (tls_export(tls, "EXPORTER-bistream-resume", exported, sizeof exported) < 0)
        return error_set(err, EIO, "the TLS connection gives out no key to prove anything by");
    n = put(text, 0, labels[kind], strlen(labels[kind]));
    n = put(text, n, id, BS_ID_SIZE);
    n = put(text, n, &number, sizeof number);
    n = put(text, n, exported, sizeof exported);
    if (!HMAC(EVP_sha256(), secret, BS_SECRET_SIZE, text, n, ret, &length) ||
        length != BS_PROOF_SIZE)
        return error_set(err, EIO, "OpenSSL can't make an HMAC-SHA256");
    return 0;
}

bool proof_equal(const void *a, const void *b)
{
    return CRYPTO_memcmp(a, b, BS_PROOF_SIZE) == 0;
}
