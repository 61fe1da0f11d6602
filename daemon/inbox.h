/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Whole messages out of a byte stream: what the control socket and links without a session read
 * with.
 */
#ifndef DAEMON_INBOX_H
#define DAEMON_INBOX_H

#include "rpc/message.h"

/* Zeroed memory is an empty inbox. */
struct inbox {
    struct rpc_decoder decoder;
    struct rpc_message message; /* complete when inbox_feed() has returned 1 */
    size_t filled, size;        /* of the payload's memory, which grows as bytes come */
    bool complete;
};

/* Feeds up to LENGTH bytes; *RET_USED of them were used.  Returns 1 when MESSAGE is complete (feed
 * again, the rest, for the next), 0 when all bytes were used and more are needed, -EPROTO for what
 * is no message or is a frame, -ENOMEM. */
int inbox_feed(struct inbox *inbox, const uint8_t *data, size_t length, size_t *ret_used);
void inbox_clear(struct inbox *inbox);

/* True for a message of libvirt's keepalive program.  A PING's answer goes into *RET_DATA
 * (malloc'ed; NULL when there is none to give, or no memory for it). */
bool inbox_is_keepalive(const struct rpc_message *message, uint8_t **ret_data, size_t *ret_length);

#endif
