/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Both ends of the old protocol in one process, and the link between them.  Each end checks every byte
 * of the stream that it gets, and notes what its session tells; the clock is the test's.
 */
#ifndef TESTS_UNIT_TUNNEL_PAIR_H
#define TESTS_UNIT_TUNNEL_PAIR_H

#include "mux/session.h"
#include "rpc/message.h"

#define SECOND UINT64_C(1000000000)

enum { TUNNEL_SERIAL = 9 }; /* of the call that begins the stream */

struct tunnel_end {
    struct mux_session *session;
    size_t take;       /* that data() takes of the stream altogether; SIZE_MAX in the beginning */
    uint64_t received; /* bytes of the stream, each checked */
    uint8_t calls[65536];
    size_t calls_used;
    char events[1024];
};

struct tunnel {
    struct tunnel_end near, far; /* near is the opener */
    struct mux_callbacks callbacks;
    uint64_t now;
    size_t cut; /* the link delivers so many bytes at a time; 0: all */
};

/* PING: nanoseconds between two PINGs, 0: none.  Prepared: the call that begins the stream has come. */
struct tunnel *tunnel_new(uint64_t ping);
struct tunnel *tunnel_prepared(uint64_t ping);
void tunnel_free(struct tunnel *t);

/* All that there is to say reaches the other end, while that wants it. */
void tunnel_run(struct tunnel *t);
/* END was told exactly these EVENTS, each with a newline, since it was last asked. */
void tunnel_expect(struct tunnel_end *end, const char *events);

/* A message into OUT, of at least RPC_HEAD_SIZE and the PAYLOAD.  Returns its length. */
size_t tunnel_message(uint8_t *out, int type, int procedure, uint32_t serial, int status,
                      const char *payload);
/* END makes a call, beside the stream. */
void tunnel_call(struct tunnel_end *end, int procedure, uint32_t serial, const char *payload);

/* The byte at OFFSET of the stream. */
uint8_t tunnel_pattern(uint64_t offset);
/* The stream, at the opener.  Returns its channel, 1. */
uint32_t tunnel_open(struct tunnel *t);
/* As much as may be of the bytes from FROM to TO.  Returns where it ended. */
uint64_t tunnel_write(struct tunnel *t, uint64_t from, uint64_t to);
/* What waits at the far end is taken by its local socket. */
void tunnel_drain(struct tunnel_end *end);

#endif
