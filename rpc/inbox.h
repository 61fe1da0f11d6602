/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Whole messages out of a byte stream: what both ends of the control socket, and of links without a
 * session, read with.
 */
#ifndef RPC_INBOX_H
#define RPC_INBOX_H

#include "rpc/message.h"

/* Zeroed memory is an empty inbox. */
struct rpc_inbox {
    struct rpc_decoder decoder;
    struct rpc_message message; /* complete when rpc_inbox_feed() has returned 1 */
    size_t filled, size;        /* of the payload's memory, which grows as bytes come */
    bool complete;
};

/* Feeds up to LENGTH bytes; *RET_USED of them were used.  Returns 1 when MESSAGE is complete (feed
 * again, the rest, for the next), 0 when all bytes were used and more are needed, -EPROTO for what
 * is no message or is a frame, -ENOMEM. */
int rpc_inbox_feed(struct rpc_inbox *inbox, const uint8_t *data, size_t length, size_t *ret_used);
void rpc_inbox_clear(struct rpc_inbox *inbox);

/* True for a message of libvirt's keepalive program.  A PING's answer goes into *RET_DATA
 * (malloc'ed; NULL when there is none to give, or no memory for it). */
bool rpc_inbox_is_keepalive(const struct rpc_message *message, uint8_t **ret_data,
                            size_t *ret_length);

#endif
