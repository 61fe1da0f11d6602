/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The message decoder.  The input is a stream; it is decoded at once, byte by byte, and in pieces
 * with a stop after each message, and must mean the same every time.
 */
#include "config.h"

#include "rpc/message.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* What a stream means: how far it went and how it ended, and a sum over all that was said. */
struct meaning {
    int result;
    size_t messages, used;
    uint64_t sum;
    size_t left; /* of the payload that was announced */
    bool open;
};

static void add(struct meaning *meaning, const void *data, size_t length)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < length; i++)
        meaning->sum = (meaning->sum ^ bytes[i]) * UINT64_C(1099511628211);
}

static int on_begin(void *opaque, const struct bs_header *header, size_t length)
{
    struct meaning *meaning = opaque;

    MUST(!meaning->open);
    MUST(length <= BS_MESSAGE_MAX - BS_LENGTH_SIZE - BS_HEADER_SIZE);
    MUST(header->type >= BS_CALL && header->type <= BS_STREAM);
    meaning->open = true;
    meaning->left = length;
    add(meaning, header, sizeof *header);
    add(meaning, &length, sizeof length);
    return header->serial == 0xdeadbeef ? -ECANCELED : 0;
}

static int on_payload(void *opaque, const uint8_t *data, size_t length)
{
    struct meaning *meaning = opaque;

    MUST(meaning->open && length > 0 && length <= meaning->left);
    meaning->left -= length;
    add(meaning, data, length);
    return 0;
}

static int on_end(void *opaque)
{
    struct meaning *meaning = opaque;

    MUST(meaning->open && meaning->left == 0);
    meaning->open = false;
    meaning->messages++;
    return 0;
}

static struct meaning decode(const uint8_t *data, size_t length, size_t piece, bool stop)
{
    static const struct rpc_decoder_callbacks callbacks = {on_begin, on_payload, on_end};
    struct meaning meaning = {.sum = UINT64_C(14695981039346656037)};
    struct rpc_decoder decoder = {
        .callbacks = &callbacks,
        .opaque = &meaning,
        .stop_after_message = stop,
    };

    while (meaning.used < length && meaning.result == 0) {
        size_t left = length - meaning.used, n = left < piece ? left : piece, used = 0;
        size_t messages = meaning.messages;

        meaning.result = rpc_decoder_feed(&decoder, data + meaning.used, n, &used);
        MUST(used <= n && (used > 0 || meaning.result < 0));
        MUST(used == n || meaning.result < 0 || (stop && meaning.messages == messages + 1));
        meaning.used += used;
    }
    return meaning;
}

static void same(const struct meaning *a, const struct meaning *b)
{
    MUST(a->result == b->result);
    MUST(a->messages == b->messages);
    MUST(a->sum == b->sum);
    /* a bad header is noticed in the byte that makes it bad, or later */
    MUST(a->result < 0 || a->used == b->used);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct meaning whole = decode(data, length, SIZE_MAX, false);
    struct meaning bytes = decode(data, length, 1, false);
    struct meaning stops = decode(data, length, length > 0 ? data[0] + 1u : 1, true);

    same(&whole, &bytes);
    same(&whole, &stops);
    return 0;
}
