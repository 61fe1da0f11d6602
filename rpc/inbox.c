/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Whole messages out of a byte stream: see inbox.h.
 *
 * The decoder hands on slices; they are put together here.  Memory grows with the bytes that have
 * really come, so that a header alone, which promises a megabyte, costs nothing.
 */
#include "config.h"

#include "rpc/inbox.h"
#include "common/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_SIZE = 4096 };

static int begin(void *opaque, const struct bs_header *header, size_t length)
{
    struct rpc_inbox *inbox = opaque;

    if (header->type == BS_STREAM) /* there is no session here that a frame could belong to */
        return -EPROTO;
    inbox->message.header = *header;
    inbox->message.length = length;
    inbox->filled = 0;
    return 0;
}

static int payload(void *opaque, const uint8_t *data, size_t length)
{
    struct rpc_inbox *inbox = opaque;

    if (inbox->size < inbox->filled + length) {
        size_t size = inbox->size ? inbox->size : FIRST_SIZE;
        uint8_t *grown;

        while (size < inbox->filled + length)
            size *= 2;
        size = min_size(size, inbox->message.length);
        grown = realloc(inbox->message.payload, size);
        if (!grown)
            return -ENOMEM;
        inbox->message.payload = grown;
        inbox->size = size;
    }
    memcpy(inbox->message.payload + inbox->filled, data, length);
    inbox->filled += length;
    return 0;
}

static int end(void *opaque)
{
    struct rpc_inbox *inbox = opaque;

    inbox->complete = true;
    return 0;
}

static const struct rpc_decoder_callbacks callbacks = {begin, payload, end};

int rpc_inbox_feed(struct rpc_inbox *inbox, const uint8_t *data, size_t length, size_t *ret_used)
{
    int r;

    if (inbox->complete) { /* the last message has been dealt with */
        rpc_message_clear(&inbox->message);
        inbox->filled = inbox->size = 0;
        inbox->complete = false;
    }
    inbox->decoder.callbacks = &callbacks;
    inbox->decoder.opaque = inbox;
    inbox->decoder.stop_after_message = true;
    r = rpc_decoder_feed(&inbox->decoder, data, length, ret_used);
    return r < 0 ? r : inbox->complete;
}

void rpc_inbox_clear(struct rpc_inbox *inbox)
{
    rpc_message_clear(&inbox->message);
    memset(inbox, 0, sizeof *inbox);
}

bool rpc_inbox_is_keepalive(const struct rpc_message *message, uint8_t **ret_data,
                            size_t *ret_length)
{
    struct bs_header pong = {
        .prog = BS_KEEPALIVE_PROGRAM,
        .vers = BS_KEEPALIVE_VERSION,
        .procedure = BS_KEEPALIVE_PONG,
        .type = BS_EVENT,
    };

    *ret_data = NULL;
    if (message->header.prog != BS_KEEPALIVE_PROGRAM || message->header.type != BS_EVENT)
        return false;
    if (message->header.procedure == BS_KEEPALIVE_PING &&
        rpc_message_encode(&pong, NULL, NULL, ret_data, ret_length) < 0)
        *ret_data = NULL;
    return true;
}
