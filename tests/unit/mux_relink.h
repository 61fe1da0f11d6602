/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A pair (mux_pair.h) whose link breaks and is replaced.  Links have numbers: 0, then the attempt
 * that made them.  What the opener sent stays on its way until the acceptor leaves that link; calls
 * and replies of BISTREAM_RESUME are on their way likewise, and arrive in any order, late, or never.
 */
#ifndef TESTS_UNIT_MUX_RELINK_H
#define TESTS_UNIT_MUX_RELINK_H

#include "tests/unit/mux_pair.h"

enum { RELINK_CALLS = 4 }; /* on their way at a time, each way */

struct relink_message {
    uint32_t attempt; /* 0: none */
    struct bs_resume_state state;
    bool closed; /* a reply: the acceptor's session is over */
};

struct relink {
    struct pair *pair;
    uint32_t link[2]; /* that each side was on last */
    bool on[2];       /* and is still on */
    bool silent[2];   /* what that side says doesn't arrive any more, on the newest link */
    uint32_t attempt; /* the opener's last */
    bool waiting;     /* for the reply to it */
    uint32_t accepted;
    unsigned stale; /* calls that were refused as such */
    unsigned resumed;
    struct relink_message calls[RELINK_CALLS], replies[RELINK_CALLS];
};

/* PAIR is taken over. */
struct relink *relink_new(struct pair *pair);
void relink_free(struct relink *r);

/* Each returns whether there was anything to do. */
bool relink_lose(struct relink *r, int side);       /* that side notices that its link is lost */
bool relink_call(struct relink *r);                 /* the opener begins another attempt */
bool relink_deliver_call(struct relink *r, int i);  /* calls[i] arrives */
bool relink_deliver_reply(struct relink *r, int i); /* replies[i] arrives */
void relink_drop(struct relink_message *message);   /* it never will */
bool relink_send(struct relink *r, int side, size_t buffer_size);
bool relink_deliver(struct relink *r, int from, size_t most);
bool relink_tick(struct relink *r, int side); /* a link that is found dead is lost */

/* Loses what links there are and makes a new one, by however many attempts that takes. */
void relink_mend(struct relink *r);
/* pair_run(), over the links. */
void relink_run(struct relink *r);

#endif
