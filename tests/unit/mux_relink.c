/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* A pair whose link breaks: see mux_relink.h. */
#include "config.h"

#include "tests/unit/mux_relink.h"
#include "tests/unit/unit.h"
#include "common/checked.h"
#include "mux/internal.h"

#include <errno.h>
#include <stdlib.h>

enum { OPENER = 0, ACCEPTOR = 1, FIRST_SERIAL = 1000 };

struct relink *relink_new(struct pair *pair)
{
    struct relink *r = calloc(1, sizeof *r);

    assert_non_null(r);
    r->pair = pair;
    r->on[OPENER] = r->on[ACCEPTOR] = true;
    return r;
}

void relink_drop(struct relink_message *message)
{
    xdr_free((xdrproc_t)xdr_bs_resume_state, (char *)&message->state);
    *message = (struct relink_message){.attempt = 0};
}

void relink_free(struct relink *r)
{
    for (int i = 0; i < RELINK_CALLS; i++) {
        relink_drop(&r->calls[i]);
        relink_drop(&r->replies[i]);
    }
    pair_free(r->pair);
    free(r);
}

/* The place of a new one: a free one, or that of the oldest, which is lost. */
static struct relink_message *place(struct relink_message *messages)
{
    struct relink_message *oldest = messages;

    for (int i = 1; i < RELINK_CALLS; i++)
        if (messages[i].attempt < oldest->attempt)
            oldest = &messages[i];
    relink_drop(oldest);
    return oldest;
}

/* ---- resuming --------------------------------------------------------------------------------- */

bool relink_lose(struct relink *r, int side)
{
    /* A session from which no frame came ends with its link. */
    if (!r->pair->sides[OPENER].session->heard || !r->pair->sides[ACCEPTOR].session->heard)
        return false;
    if (!r->on[side] || !mux_session_link_lost(r->pair->sides[side].session, r->pair->now))
        return false;
    r->on[side] = false;
    assert_false(mux_session_wants_send(r->pair->sides[side].session));
    return true;
}

bool relink_call(struct relink *r)
{
    struct pair_side *opener = &r->pair->sides[OPENER];
    struct relink_message *call;

    if (r->on[OPENER] || opener->closed)
        return false;
    call = place(r->calls);
    assert_int_equal(mux_session_resume_state(opener->session, &call->state), 0);
    call->attempt = ++r->attempt;
    r->waiting = true;
    return true;
}

static void go_on(struct relink *r, int side, uint32_t attempt, const struct bs_resume_state *peer)
{
    struct pair_side *s = &r->pair->sides[side];
    struct error err = ERROR_INIT;

    if (mux_session_resume(s->session, FIRST_SERIAL + attempt, peer, r->pair->now, &err) < 0)
        fail_msg("side %d can't resume: %s", side, err.text);
    s->link_used = 0;
    r->link[side] = attempt;
    r->on[side] = true;
}

bool relink_deliver_call(struct relink *r, int i)
{
    struct pair_side *acceptor = &r->pair->sides[ACCEPTOR];
    struct relink_message *call = &r->calls[i], *reply;
    struct error err = ERROR_INIT;

    if (call->attempt == 0)
        return false;
    if (call->attempt <= r->accepted) {
        r->stale++;
        relink_drop(call);
        return true;
    }
    reply = place(r->replies);
    reply->closed = acceptor->closed;
    if (!acceptor->closed) {
        if (mux_session_resume_check(acceptor->session, &call->state, &err) < 0)
            fail_msg("a resume is refused: %s", err.text);
        assert_true(mux_session_link_lost(acceptor->session, r->pair->now));
        assert_int_equal(mux_session_resume_state(acceptor->session, &reply->state), 0);
        go_on(r, ACCEPTOR, call->attempt, &call->state);
        r->silent[OPENER] = r->silent[ACCEPTOR] = false;
    }
    reply->attempt = r->accepted = call->attempt;
    relink_drop(call);
    return true;
}

bool relink_deliver_reply(struct relink *r, int i)
{
    struct pair_side *opener = &r->pair->sides[OPENER];
    struct relink_message *reply = &r->replies[i];

    if (reply->attempt == 0)
        return false;
    if (r->waiting && reply->attempt == r->attempt && !opener->closed) {
        r->waiting = false;
        if (reply->closed) {
            mux_session_closed_there(opener->session, r->pair->sides[ACCEPTOR].close_code);
        } else {
            go_on(r, OPENER, reply->attempt, &reply->state);
            r->resumed++;
        }
    }
    relink_drop(reply);
    return true;
}

void relink_mend(struct relink *r)
{
    relink_lose(r, OPENER);
    if (r->on[OPENER])
        return; /* it can't be lost */
    for (int i = 0; i < RELINK_CALLS; i++) {
        relink_drop(&r->calls[i]);
        relink_drop(&r->replies[i]);
    }
    if (!relink_call(r))
        return;
    for (int i = 0; i < RELINK_CALLS; i++)
        relink_deliver_call(r, i);
    for (int i = 0; i < RELINK_CALLS; i++)
        relink_deliver_reply(r, i);
}

/* ---- frames ----------------------------------------------------------------------------------- */

bool relink_send(struct relink *r, int side, size_t buffer_size)
{
    return r->on[side] && pair_send(&r->pair->sides[side], buffer_size);
}

bool relink_deliver(struct relink *r, int from, size_t most)
{
    if (!r->on[!from] || r->link[0] != r->link[1] || r->silent[from])
        return false;
    return pair_deliver(&r->pair->sides[from], most);
}

bool relink_tick(struct relink *r, int side)
{
    struct mux_session *session = r->pair->sides[side].session;

    if (mux_session_deadline(session) > r->pair->now)
        return false;
    if (mux_session_tick(session, r->pair->now) == -ETIMEDOUT)
        assert_true(relink_lose(r, side));
    return true;
}

static bool run_side(struct relink *r, int i)
{
    struct pair_side *side = &r->pair->sides[i];
    bool did = relink_tick(r, i);

    for (uint32_t c = 0; c <= side->highest; c++) {
        did |= pair_write(side, c, SIZE_MAX);
        did |= pair_read(side, c, SIZE_MAX);
    }
    did |= relink_send(r, i, 256 * 1024);
    did |= relink_deliver(r, i, SIZE_MAX);
    return did;
}

void relink_run(struct relink *r)
{
    uint64_t far = r->pair->now + 60 * UINT64_C(1000000000);

    for (;;) {
        bool did = run_side(r, 0);
        uint64_t next;

        did |= run_side(r, 1);
        if (did)
            continue;
        next = min_u64(mux_session_deadline(r->pair->sides[0].session),
                       mux_session_deadline(r->pair->sides[1].session));
        if (next > far)
            return;
        r->pair->now = next;
    }
}
