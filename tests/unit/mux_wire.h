/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * One end of a session, the other end of which is the test itself: it says frames and reads what is
 * answered as lines of text.
 *
 *     struct wire *w = wire_new(true);
 *     wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "nbd/vda");
 *     assert_string_equal(wire_events(w), "opened 2 nbd/vda\n");
 *     assert_string_equal(wire_frames(w), "");
 */
#ifndef TESTS_UNIT_MUX_WIRE_H
#define TESTS_UNIT_MUX_WIRE_H

#include "mux/session.h"
#include "rpc/message.h"

enum { WIRE_SERIAL = 77 };

struct wire {
    struct mux_session *session;
    struct mux_callbacks callbacks;
    uint64_t now;
    size_t take; /* that data() takes at most of each piece; SIZE_MAX in the beginning */
    bool urgent; /* what mux_session_send() said last */
    char events[16384], frames[65536];
    size_t events_used, frames_used;
    uint8_t buffer[1024 * 1024];
};

/* First windows of 100 bytes, 4 channels from each side, 100000 bytes of memory, no PING. */
struct mux_config wire_config(bool opener);
/* The first PING has been taken off already (and stays unanswered). */
struct wire *wire_new(bool opener);
struct wire *wire_new_with(struct mux_config config);
/* In two steps, of which the second returns false when mux_session_new() does. */
struct wire *wire_prepare(void);
bool wire_start(struct wire *w, struct mux_config config);
void wire_free(struct wire *w);

/* Says a frame with TEXT behind it (NULL: nothing).  Returns what mux_session_receive() does. */
int wire_say(struct wire *w, enum bs_frame_type type, uint32_t channel, uint64_t offset,
             uint64_t limit, const char *text);
/* DATA of LENGTH bytes, all 'x'. */
int wire_say_data(struct wire *w, uint32_t channel, uint64_t offset, size_t length);
int wire_say_bytes(struct wire *w, const void *data, size_t length);
/* Writes a frame to OUT, which is large enough.  Returns its length. */
size_t wire_encode(uint8_t *out, const struct bs_frame *frame, const void *data, size_t length);

/* What went out since the last call, a frame per line, and the callbacks since the last call:
 *   OPEN 1 nbd/vda | DATA 1 @0 +5 | LIMIT 1 received 5 limit 105 | EOF 1 @5 | RESET 1 code 2 text |
 *   PING 1 | PONG 1 | KEEPALIVE | CLOSE code 2 text
 *   opened 2 nbd/vda | data 2 +5 | eof 2 | writable 2 | reset 2 code 2 text | forgotten 2 |
 *   closed code 0 text */
const char *wire_frames(struct wire *w);
const char *wire_events(struct wire *w);
/* The same, but at most SIZE bytes of frames. */
const char *wire_frames_within(struct wire *w, size_t size);

/* Opens a channel from the session's side; its OPEN has gone out. */
uint32_t wire_open(struct wire *w);
/* Hands over LENGTH bytes; all of them must be accepted. */
void wire_write(struct wire *w, uint32_t channel, size_t length);

#endif
