/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Proofs of BISTREAM_RESUME: that one knows a session's secret, on this TLS connection and no other.
 * docs/protocol.md, section 13, says what they are made of.
 */
#ifndef IO_PROOF_H
#define IO_PROOF_H

#include "io/tls.h"
#include "rpc/protocol.h"

enum proof_kind { PROOF_CALL, PROOF_REPLY };

/* Returns 0, or a negative errno with ERR. */
int proof_make(const struct tls *tls, enum proof_kind kind, const uint8_t secret[BS_SECRET_SIZE],
               const uint8_t id[BS_ID_SIZE], uint32_t attempt, uint8_t ret[BS_PROOF_SIZE],
               struct error *err);
/* In constant time. */
bool proof_equal(const void *a, const void *b);

#endif
