/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The message codec: see message.h.
 *
 * Decoding: the 28 bytes of length word and header are gathered in the decoder, since they may come
 * in any pieces; the payload never is, its pieces are handed on where they lie.  The length word
 * is judged as soon as its four bytes are there, so that a stream of garbage ends at once instead
 * of being waited for.
 *
 * A payload has exactly one valid encoding.  XDR's own decoder is more lenient: it ignores what the
 * padding holds, takes any number but 0 for "present", and stores a string that contains a NUL so
 * that C sees only its beginning.  What was decoded is therefore encoded again and must give the
 * same bytes; nothing hides from the checks behind it.
 *
 * What a peer can make XDR allocate before the bytes are seen to be missing: one string, or one
 * array at each level of nesting, of the size named in protocol.x.  The largest are BS_MESSAGE_MAX
 * bytes of an error's text and, among the calls, BS_DEFINITION_MAX of a definition; it is freed
 * at once when the payload ends early.
 */
#include "config.h"

#include "rpc/message.h"
#include "common/checked.h"
#include "common/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static_assert(BS_MESSAGE_MAX <= INT32_MAX && BS_FRAME_MESSAGE_MAX <= BS_MESSAGE_MAX,
              "lengths fit into XDR's and C's integers");
static_assert(BS_ERROR_TEXT_MAX <= BS_MESSAGE_MAX, "a text never allocates more than a message");

static uint32_t get_u32(const uint8_t *in)
{
    return (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];
}

static uint64_t get_u64(const uint8_t *in)
{
    return (uint64_t)get_u32(in) << 32 | get_u32(in + 4);
}

static uint8_t *put_u32(uint8_t *out, uint32_t value)
{
    out[0] = (uint8_t)(value >> 24);
    out[1] = (uint8_t)(value >> 16);
    out[2] = (uint8_t)(value >> 8);
    out[3] = (uint8_t)value;
    return out + 4;
}

static uint8_t *put_u64(uint8_t *out, uint64_t value)
{
    return put_u32(put_u32(out, (uint32_t)(value >> 32)), (uint32_t)value);
}

size_t rpc_head_decode(const uint8_t in[RPC_HEAD_SIZE], struct bs_header *ret)
{
    size_t length = get_u32(in);

    in += BS_LENGTH_SIZE;
    ret->prog = get_u32(in);
    ret->vers = get_u32(in + 4);
    ret->procedure = (int)get_u32(in + 8);
    ret->type = (int)get_u32(in + 12);
    ret->serial = get_u32(in + 16);
    ret->status = (int)get_u32(in + 20);
    return length;
}

static uint8_t *put_head(uint8_t *out, const struct bs_header *header, size_t length)
{
    out = put_u32(out, (uint32_t)length);
    out = put_u32(out, header->prog);
    out = put_u32(out, header->vers);
    out = put_u32(out, (uint32_t)header->procedure);
    out = put_u32(out, (uint32_t)header->type);
    out = put_u32(out, header->serial);
    return put_u32(out, (uint32_t)header->status);
}

void rpc_head_encode(uint8_t out[RPC_HEAD_SIZE], const struct bs_header *header, size_t payload)
{
    put_head(out, header, RPC_HEAD_SIZE + payload);
}

/* ---- decoding ------------------------------------------------------------------------------- */

static int check_header(const struct bs_header *header, size_t length)
{
    if (header->type < BS_CALL || header->type > BS_STREAM)
        return -EPROTO;
    if (header->status < BS_OK || header->status > BS_CONTINUE)
        return -EPROTO;
    if (header->type == BS_STREAM && length > BS_FRAME_MESSAGE_MAX)
        return -EPROTO;
    return 0;
}

/* Gathers the head.  Sets *RET_USED; the header has been announced once in_payload is true. */
static int feed_head(struct rpc_decoder *decoder, const uint8_t *data, size_t length,
                     size_t *ret_used)
{
    size_t n = min_size(length, sizeof decoder->head - decoder->head_used);
    struct bs_header header;
    size_t message;
    int r;

    memcpy(decoder->head + decoder->head_used, data, n);
    decoder->head_used += n;
    *ret_used = n;
    if (decoder->head_used < BS_LENGTH_SIZE)
        return 0;
    message = get_u32(decoder->head);
    if (message < RPC_HEAD_SIZE || message > BS_MESSAGE_MAX)
        return -EPROTO;
    if (decoder->head_used < RPC_HEAD_SIZE)
        return 0;
    rpc_head_decode(decoder->head, &header);
    r = check_header(&header, message);
    if (r < 0)
        return r;
    r = decoder->callbacks->begin(decoder->opaque, &header, message - RPC_HEAD_SIZE);
    if (r < 0)
        return r;
    decoder->payload_left = message - RPC_HEAD_SIZE;
    decoder->in_payload = true;
    return 0;
}

/* Hands on what DATA holds of the payload.  The message has ended once in_payload is false. */
static int feed_payload(struct rpc_decoder *decoder, const uint8_t *data, size_t length,
                        size_t *ret_used)
{
    size_t n = min_size(length, decoder->payload_left);
    int r;

    *ret_used = n;
    if (n > 0) {
        r = decoder->callbacks->payload(decoder->opaque, data, n);
        if (r < 0)
            return r;
        decoder->payload_left -= n;
    }
    if (decoder->payload_left > 0)
        return 0;
    decoder->in_payload = false;
    decoder->head_used = 0;
    return decoder->callbacks->end(decoder->opaque);
}

int rpc_decoder_feed(struct rpc_decoder *decoder, const uint8_t *data, size_t length,
                     size_t *ret_used)
{
    size_t used = 0;
    int r = 0;

    /* An empty payload ends with its header, so it isn't the input alone that drives this. */
    while (r == 0 && (used < length || (decoder->in_payload && decoder->payload_left == 0))) {
        size_t n = 0;

        if (!decoder->in_payload) {
            r = feed_head(decoder, data + used, length - used, &n);
        } else {
            r = feed_payload(decoder, data + used, length - used, &n);
            if (r == 0 && !decoder->in_payload && decoder->stop_after_message) {
                used += n;
                break;
            }
        }
        used += n;
    }
    *ret_used = used;
    return r;
}

/* ---- whole messages ------------------------------------------------------------------------- */

void rpc_message_clear(struct rpc_message *message)
{
    free(message->payload);
    memset(message, 0, sizeof *message);
}

/* Encodes VALUE into SIZE bytes at OUT, which it must fill. */
static bool encode_exactly(uint8_t *out, size_t size, xdrproc_t proc, void *value)
{
    XDR xdr;
    bool ok;

    xdrmem_create(&xdr, (char *)out, (u_int)size, XDR_ENCODE);
    ok = proc(&xdr, value) && xdr_getpos(&xdr) == size;
    xdr_destroy(&xdr);
    return ok;
}

/* Returns 0 when VALUE encodes to PAYLOAD again, -EBADMSG, or -ENOMEM. */
static int check_canonical(const uint8_t *payload, size_t length, xdrproc_t proc, void *value)
{
    CLEANUP_FREE uint8_t *again = NULL;

    if (xdr_sizeof(proc, value) != length)
        return -EBADMSG;
    if (length == 0)
        return 0;
    again = malloc(length);
    if (!again)
        return -ENOMEM;
    if (!encode_exactly(again, length, proc, value) || memcmp(again, payload, length) != 0)
        return -EBADMSG;
    return 0;
}

int rpc_payload_decode(const uint8_t *payload, size_t length, xdrproc_t proc, void *ret)
{
    XDR xdr;
    int r = 0;

    if (length > BS_MESSAGE_MAX)
        return -EBADMSG;
    /* XDR only says "no"; malloc() leaves its reason in errno. */
    errno = 0;
    xdrmem_create(&xdr, (char *)(uintptr_t)payload, (u_int)length, XDR_DECODE);
    if (!proc(&xdr, ret))
        r = errno == ENOMEM ? -ENOMEM : -EBADMSG;
    else if (xdr_getpos(&xdr) != length)
        r = -EBADMSG;
    xdr_destroy(&xdr);
    if (r == 0)
        r = check_canonical(payload, length, proc, ret);
    if (r < 0)
        xdr_free(proc, ret);
    return r;
}

int rpc_message_encode(const struct bs_header *header, xdrproc_t proc, const void *payload,
                       uint8_t **ret_data, size_t *ret_length)
{
    CLEANUP_FREE uint8_t *data = NULL;
    void *value = (void *)(uintptr_t)payload; /* XDR_ENCODE changes nothing in it */
    size_t size = 0;

    if (proc) {
        size = xdr_sizeof(proc, value);
        if (size > BS_MESSAGE_MAX - RPC_HEAD_SIZE)
            return -E2BIG;
    }
    data = malloc(RPC_HEAD_SIZE + size);
    if (!data)
        return -ENOMEM;
    put_head(data, header, RPC_HEAD_SIZE + size);
    /* xdr_sizeof() is 0 for a value that XDR refuses, and for one that is empty. */
    if (proc && !encode_exactly(data + RPC_HEAD_SIZE, size, proc, value))
        return -EINVAL;
    *ret_data = take_ptr(data);
    *ret_length = RPC_HEAD_SIZE + size;
    return 0;
}

/* ---- frames --------------------------------------------------------------------------------- */

void rpc_frame_encode(uint8_t out[RPC_FRAME_OVERHEAD], uint32_t serial,
                      const struct bs_frame *frame, size_t data_length)
{
    const struct bs_header header = {
        .prog = BS_PROGRAM,
        .vers = BS_VERSION,
        .procedure = BS_PROC_BISTREAM_OPEN,
        .type = BS_STREAM,
        .serial = serial,
        .status = BS_CONTINUE,
    };

    assert(data_length <= BS_FRAME_MESSAGE_MAX - RPC_FRAME_OVERHEAD);
    out = put_head(out, &header, RPC_FRAME_OVERHEAD + data_length);
    out = put_u32(out, frame->type);
    out = put_u32(out, frame->channel);
    out = put_u64(out, frame->offset);
    put_u64(out, frame->limit);
}

void rpc_frame_decode(const uint8_t in[BS_FRAME_HEADER_SIZE], struct bs_frame *ret)
{
    ret->type = get_u32(in);
    ret->channel = get_u32(in + 4);
    ret->offset = get_u64(in + 8);
    ret->limit = get_u64(in + 16);
}
