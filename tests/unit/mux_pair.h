/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Both ends of a session in one process, with users that know what they wrote and check every byte
 * that they read.  The clock is the test's; what one side sends lies on the way until the test
 * delivers it, in any pieces, each direction for itself.
 *
 * The users behave as the pump does: they write only what mux_channel_space() allows and, once that
 * was 0, not before writable(); they send when mux_session_wants_send() says so, and call
 * mux_session_tick() at the deadline.  So whatever the session forgets to say shows as a deadlock.
 */
#ifndef TESTS_UNIT_MUX_PAIR_H
#define TESTS_UNIT_MUX_PAIR_H

#include "mux/session.h"
#include "rpc/protocol.h"

enum { PAIR_CHANNELS = 2100 }; /* numbers below that */

/* One side's view of a channel. */
struct pair_user {
    bool open;      /* known here and not gone */
    bool forgotten; /* forgotten() came, or the session ended around it */
    bool reset;     /* by either side */
    uint64_t plan;  /* bytes to write, and then the end */
    uint64_t written, read;
    bool can_write; /* space was not 0 since the last writable() */
    bool ended;     /* mux_channel_end() was said */
    bool eof;       /* eof() came */
    bool eof_taken; /* and was passed on */
};

struct pair_side {
    struct pair *pair;
    int index; /* 0: opener */
    struct mux_session *session;
    struct pair_user users[PAIR_CHANNELS];
    uint32_t highest;       /* number that was ever used */
    uint64_t plan_of_peers; /* for channels that the peer opens */
    bool closed;
    uint64_t close_code;
    char close_text[512];

    /* on its way from here to the other side */
    uint8_t *link;
    size_t link_used, link_size;
};

struct pair {
    struct pair_side sides[2];
    struct mux_callbacks callbacks;
    uint64_t now;
    /* How many of LENGTH bytes a user takes at once; NULL: all. */
    size_t (*take)(struct pair_side *side, uint32_t channel, size_t length);
};

/* CONFIG as the opener has it; the acceptor's is its mirror, with a memory of its own. */
struct pair *pair_new(const struct mux_config *config, uint64_t acceptor_memory);
void pair_free(struct pair *pair);
struct pair_side *pair_other(const struct pair_side *side);

/* Opens a channel that shall carry PLAN bytes one way and PLAN_BACK the other.  Returns its number,
 * 0 when the peer allows no more. */
uint32_t pair_open(struct pair_side *side, uint64_t plan, uint64_t plan_back);

/* Each does something if there is something to do, and returns whether. */
bool pair_write(struct pair_side *side, uint32_t channel, size_t most); /* and the end, behind it */
bool pair_read(struct pair_side *side, uint32_t channel, size_t most);  /* and the end, behind it */
bool pair_send(struct pair_side *side, size_t buffer_size);
bool pair_deliver(struct pair_side *from, size_t most);
bool pair_tick(struct pair_side *side);
void pair_reset(struct pair_side *side, uint32_t channel);

/* Both caps hold, and the pools hold what the channels do. */
void pair_check(const struct pair *pair);

/* Does everything that can be done, moving the clock on where only that helps, until nothing is
 * left to do. */
void pair_run(struct pair *pair);
/* Everything planned has been written, read, ended and forgotten on both sides. */
void pair_check_finished(const struct pair *pair);

#endif
