/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Errors on the wire (struct bs_error, libvirt's layout) from and to struct error.
 */
#ifndef RPC_ERROR_H
#define RPC_ERROR_H

#include "common/error.h"
#include "rpc/protocol.h"

enum { RPC_ERR_RPC = 39, RPC_FROM_RPC = 7 }; /* VIR_ERR_RPC, VIR_FROM_RPC */

/* Encodes a whole REPLY with status ERROR to CALL, byte for byte as libvirt 9 lays it out (level 2,
 * str1 "%s", str2 the sentence, int1 and int2 -1).  ERR->code -> virErrorNumber by a table, domain
 * RPC for those 39/7 cases that ERR->code ENOSYS stands for, VIR_FROM_QEMU (10) otherwise.
 * malloc'ed.  Returns 0 or -ENOMEM. */
int rpc_error_encode(const struct bs_header *call, const struct error *err, uint8_t **ret_data,
                     size_t *ret_length);

/* The same as a STREAM message, which gives up the stream that began with CALL. */
int rpc_error_encode_stream(const struct bs_header *call, const struct error *err,
                            uint8_t **ret_data, size_t *ret_length);

/* Decodes the payload of either.  39/7 becomes ENOSYS, whatever its text; other codes go
 * through the table backwards (EREMOTEIO for unknown ones).  The sentence is the peer's, with
 * control characters replaced.  Returns -ERR->code; -EBADMSG when it can't be decoded. */
int rpc_error_decode(const uint8_t *payload, size_t length, struct error *ret);

#endif
