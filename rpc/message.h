/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Messages: the codec between a byte stream and struct bs_header with its payload.
 */
#ifndef RPC_MESSAGE_H
#define RPC_MESSAGE_H

#include "rpc/protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- the head: length word and header -------------------------------------------------------- */

enum { RPC_HEAD_SIZE = BS_LENGTH_SIZE + BS_HEADER_SIZE };
/* For PAYLOAD bytes that the caller puts behind it. */
void rpc_head_encode(uint8_t out[RPC_HEAD_SIZE], const struct bs_header *header, size_t payload);
/* Checks nothing.  Returns the length of the whole message, as it says. */
size_t rpc_head_decode(const uint8_t in[RPC_HEAD_SIZE], struct bs_header *ret);

/* ---- decoding ------------------------------------------------------------------------------- */

struct rpc_decoder_callbacks {
    /* A header came, LENGTH bytes of payload follow.  Returns 0 to go on, or a negative errno that
     * ends decoding and is returned by rpc_decoder_feed(). */
    int (*begin)(void *opaque, const struct bs_header *header, size_t length);
    /* The next LENGTH (> 0) bytes of the payload, a slice of the input. */
    int (*payload)(void *opaque, const uint8_t *data, size_t length);
    /* The message is complete. */
    int (*end)(void *opaque);
};

/* Plain memory; no allocation.  Zero it, set the first two (and stop_after_message), then feed. */
struct rpc_decoder {
    const struct rpc_decoder_callbacks *callbacks;
    void *opaque;
    bool stop_after_message; /* feed() returns behind the end of each message */
    /* below: the codec's own */
    uint8_t head[RPC_HEAD_SIZE];
    size_t head_used;
    size_t payload_left;
    bool in_payload;
};

/* Feeds LENGTH bytes, split anywhere.  *RET_USED is how many were used (all, unless
 * stop_after_message or an error).  Returns 0; -EPROTO for a length below a header's or above
 * BS_MESSAGE_MAX (BS_FRAME_MESSAGE_MAX for STREAM), an unknown type or status; or what a callback
 * returned.  After an error the stream can't be decoded any further. */
int rpc_decoder_feed(struct rpc_decoder *decoder, const uint8_t *data, size_t length,
                     size_t *ret_used);

/* ---- whole messages (all but STREAM) -------------------------------------------------------- */

/* A message and its payload, malloc'ed. */
struct rpc_message {
    struct bs_header header;
    uint8_t *payload;
    size_t length;
};
void rpc_message_clear(struct rpc_message *message);

/* Decodes the payload with PROC into *RET (zeroed by the caller); all of it must be used.
 * Returns 0, -EBADMSG, or -ENOMEM; nothing is left to free after a failure. */
int rpc_payload_decode(const uint8_t *payload, size_t length, xdrproc_t proc, void *ret);

/* Encodes length word, header and payload (PROC NULL: none) into a malloc'ed buffer.  PAYLOAD stays
 * as it is, but must not lie in read-only memory: XDR writes NULL over an optional part's NULL.
 * Returns 0; -E2BIG past BS_MESSAGE_MAX; -ENOMEM; -EINVAL for a value XDR refuses. */
int rpc_message_encode(const struct bs_header *header, xdrproc_t proc, const void *payload,
                       uint8_t **ret_data, size_t *ret_length);

/* ---- frames ---------------------------------------------------------------------------------- */

/* Writes length word, header of a STREAM message and frame header (52 bytes) for DATA_LENGTH bytes
 * that the caller puts behind them. */
enum { RPC_FRAME_OVERHEAD = RPC_HEAD_SIZE + BS_FRAME_HEADER_SIZE };
void rpc_frame_encode(uint8_t out[RPC_FRAME_OVERHEAD], uint32_t serial,
                      const struct bs_frame *frame, size_t data_length);
void rpc_frame_decode(const uint8_t in[BS_FRAME_HEADER_SIZE], struct bs_frame *ret);

#endif
