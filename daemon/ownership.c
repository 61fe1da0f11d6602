/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The tables of ownership.h.  They were checked as models, with daemons and QEMUs dying at any step;
 * change a cell only with a schedule in hand that shows why, and bring it as a test.
 */
#include "config.h"

#include "daemon/ownership.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

/* ---- the destination ------------------------------------------------------------------------- */

static const enum incoming_action incoming_actions[INCOMING_STATES][INCOMING_MESSAGES] = {
    [INCOMING_NONE] =
        {
            [INCOMING_FINISH] = INCOMING_SAY_UNKNOWN,
            [INCOMING_STATUS] = INCOMING_SAY_UNKNOWN,
            [INCOMING_SETTLE_OURS] = INCOMING_IGNORE,
            [INCOMING_SETTLE_THEIRS] = INCOMING_IGNORE,
            [INCOMING_SESSION_LOST] = INCOMING_IGNORE,
            [INCOMING_RESTART] = INCOMING_IGNORE,
        },
    [INCOMING_PREPARED] =
        {
            [INCOMING_FINISH] = INCOMING_DECIDE,
            [INCOMING_STATUS] = INCOMING_FENCE,
            [INCOMING_SETTLE_OURS] = INCOMING_FENCE_REMOVE,
            [INCOMING_SETTLE_THEIRS] = INCOMING_FENCE_REMOVE,
            [INCOMING_SESSION_LOST] = INCOMING_FENCE,
            [INCOMING_RESTART] = INCOMING_FENCE,
        },
    [INCOMING_MINE] =
        {
            /* Under the lock of its id nobody meets it in passing: whoever finds it finds one whose
             * `cont` was sent and never answered. */
            [INCOMING_FINISH] = INCOMING_TAKE_UP,
            [INCOMING_STATUS] = INCOMING_TAKE_UP,
            [INCOMING_SETTLE_OURS] = INCOMING_CONFLICT,
            [INCOMING_SETTLE_THEIRS] = INCOMING_TAKE_UP,
            [INCOMING_SESSION_LOST] = INCOMING_IGNORE,
            [INCOMING_RESTART] = INCOMING_TAKE_UP,
        },
    [INCOMING_RUNNING] =
        {
            [INCOMING_FINISH] = INCOMING_SAY_MINE,
            [INCOMING_STATUS] = INCOMING_SAY_MINE,
            [INCOMING_SETTLE_OURS] = INCOMING_CONFLICT,
            [INCOMING_SETTLE_THEIRS] = INCOMING_REMOVE,
            [INCOMING_SESSION_LOST] = INCOMING_IGNORE,
            [INCOMING_RESTART] = INCOMING_IGNORE,
        },
    [INCOMING_LOST] =
        {
            [INCOMING_FINISH] = INCOMING_SAY_LOST,
            [INCOMING_STATUS] = INCOMING_SAY_LOST,
            [INCOMING_SETTLE_OURS] = INCOMING_CLEAN,
            [INCOMING_SETTLE_THEIRS] = INCOMING_REMOVE,
            [INCOMING_SESSION_LOST] = INCOMING_IGNORE,
            [INCOMING_RESTART] = INCOMING_IGNORE,
        },
    [INCOMING_NOT_MINE] =
        {
            [INCOMING_FINISH] = INCOMING_SAY_NOT_MINE,
            [INCOMING_STATUS] = INCOMING_SAY_NOT_MINE,
            [INCOMING_SETTLE_OURS] = INCOMING_FENCE_REMOVE,
            [INCOMING_SETTLE_THEIRS] = INCOMING_FENCE_REMOVE,
            [INCOMING_SESSION_LOST] = INCOMING_IGNORE,
            [INCOMING_RESTART] = INCOMING_FENCE, /* finish deleting */
        },
};

enum incoming_action incoming_action(enum incoming_state state, enum incoming_message message)
{
    return incoming_actions[state][message];
}

#define STEP(state) (1u << (state))

static const unsigned incoming_steps[] = {
    [INCOMING_NONE] = STEP(INCOMING_PREPARED),
    [INCOMING_PREPARED] = STEP(INCOMING_MINE) | STEP(INCOMING_NOT_MINE),
    /* Back only while this process knows that the guest has not run. */
    [INCOMING_MINE] = STEP(INCOMING_RUNNING) | STEP(INCOMING_LOST) | STEP(INCOMING_NOT_MINE),
    [INCOMING_RUNNING] = STEP(INCOMING_LOST) | STEP(INCOMING_NONE),
    [INCOMING_LOST] = STEP(INCOMING_NONE),
    [INCOMING_NOT_MINE] = STEP(INCOMING_NONE) | STEP(INCOMING_NOT_MINE),
};
static_assert(sizeof incoming_steps / sizeof incoming_steps[0] == INCOMING_STATES,
              "one row per state");

int incoming_may_follow(enum incoming_state from, enum incoming_state to)
{
    return (incoming_steps[from] & STEP(to)) != 0;
}

static const char *const incoming_names[] = {
    [INCOMING_NONE] = "none", [INCOMING_PREPARED] = "prepared",
    [INCOMING_MINE] = "mine", [INCOMING_RUNNING] = "running",
    [INCOMING_LOST] = "lost", [INCOMING_NOT_MINE] = "not mine",
};
static_assert(sizeof incoming_names / sizeof incoming_names[0] == INCOMING_STATES,
              "each state has a name");

const char *incoming_state_name(enum incoming_state state)
{
    return incoming_names[state];
}

enum incoming_state incoming_state_by_name(const char *name)
{
    for (size_t i = 0; name && i < INCOMING_STATES; i++)
        if (strcmp(incoming_names[i], name) == 0)
            return (enum incoming_state)i;
    return INCOMING_NONE;
}

/* ---- the source ------------------------------------------------------------------------------ */

/* A cell that isn't written leaves the state alone (OUTGOING_NONE can't be reached by it). */
static const enum outgoing_state outgoing_table[OUTGOING_STATES][OUTGOING_EVENTS] = {
    [OUTGOING_BEGUN] =
        {
            [OUTGOING_FAILS] = OUTGOING_OURS,
            [OUTGOING_SENDS_FINISH] = OUTGOING_FINISH_ASKED,
            [OUTGOING_RESTARTS] = OUTGOING_OURS,
        },
    [OUTGOING_FINISH_ASKED] =
        {
            [OUTGOING_HEARS_MINE] = OUTGOING_THEIRS,
            [OUTGOING_HEARS_NOT_MINE] = OUTGOING_OURS,
            [OUTGOING_TOLD_KEEP] = OUTGOING_OURS,
            [OUTGOING_TOLD_GIVE_UP] = OUTGOING_THEIRS,
        },
};

enum outgoing_state outgoing_next(enum outgoing_state state, enum outgoing_event event)
{
    enum outgoing_state next = outgoing_table[state][event];

    if (event == OUTGOING_HEARS_SETTLED && (state == OUTGOING_OURS || state == OUTGOING_THEIRS))
        return OUTGOING_NONE; /* nothing is left to be remembered */
    return next == OUTGOING_NONE ? state : next;
}

static const char *const outgoing_names[] = {
    [OUTGOING_NONE] = "none",
    [OUTGOING_BEGUN] = "begun",
    [OUTGOING_FINISH_ASKED] = "finish asked",
    [OUTGOING_OURS] = "ours",
    [OUTGOING_THEIRS] = "theirs",
};
static_assert(sizeof outgoing_names / sizeof outgoing_names[0] == OUTGOING_STATES,
              "each state has a name");

const char *outgoing_state_name(enum outgoing_state state)
{
    return outgoing_names[state];
}

enum outgoing_state outgoing_state_by_name(const char *name)
{
    for (size_t i = 0; name && i < OUTGOING_STATES; i++)
        if (strcmp(outgoing_names[i], name) == 0)
            return (enum outgoing_state)i;
    return OUTGOING_NONE;
}
