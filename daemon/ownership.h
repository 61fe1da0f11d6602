/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Who owns the guest: the state tables of both sides.  At every instant at most one side may run
 * it, and one complete copy of its disks is never deleted; docs/safety.md tells how the tables see
 * to that.  Each side writes its state to its journal before it acts on it.
 */
#ifndef DAEMON_OWNERSHIP_H
#define DAEMON_OWNERSHIP_H

/* ---- the destination ------------------------------------------------------------------------- */

enum incoming_state {
    INCOMING_NONE,     /* never heard of it, or it is settled */
    INCOMING_PREPARED, /* it may come; written before anything is created */
    INCOMING_MINE,     /* decided: it is ours, and `cont` may have been sent */
    INCOMING_RUNNING,  /* `cont` has succeeded (or it stands here, as it stood at the source) */
    INCOMING_LOST,     /* it was ours and may have run, and its QEMU has died */
    INCOMING_NOT_MINE, /* fenced: its QEMU is dead and it will never run here */
};
#define INCOMING_STATES (INCOMING_NOT_MINE + 1)

enum incoming_message {
    INCOMING_FINISH,
    INCOMING_STATUS,
    INCOMING_SETTLE_OURS,
    INCOMING_SETTLE_THEIRS,
    INCOMING_SESSION_LOST,
    INCOMING_RESTART, /* of this daemon */
};
#define INCOMING_MESSAGES (INCOMING_RESTART + 1)

enum incoming_action {
    INCOMING_IGNORE,      /* nothing to do; "ok" where an answer is wanted */
    INCOMING_SAY_UNKNOWN, /* decides nothing at the source */
    INCOMING_DECIDE,      /* wait until it has arrived: MINE, `cont`, RUNNING, "mine"; else fence */
    INCOMING_SAY_MINE,    /* or "lost", if its QEMU has died: LOST */
    INCOMING_SAY_LOST,
    INCOMING_SAY_NOT_MINE,
    INCOMING_FENCE,        /* NOT_MINE, delete the volumes; "not mine" */
    INCOMING_FENCE_REMOVE, /* the same, and the entry is gone */
    INCOMING_REMOVE,       /* settled: old images go, the entry too */
    INCOMING_CLEAN,        /* the guest died here and lives at the source: volumes and entry go */
    INCOMING_CONFLICT,     /* both sides claim it: refused */
    INCOMING_TAKE_UP,      /* QEMU runs: RUNNING; stands: `cont`, RUNNING; gone: LOST */
};

enum incoming_action incoming_action(enum incoming_state state, enum incoming_message message);
/* May TO follow FROM? */
int incoming_may_follow(enum incoming_state from, enum incoming_state to);
const char *incoming_state_name(enum incoming_state state);
/* INCOMING_NONE for a name that there is none of. */
enum incoming_state incoming_state_by_name(const char *name);

/* ---- the source ------------------------------------------------------------------------------ */

enum outgoing_state {
    OUTGOING_NONE,
    OUTGOING_BEGUN,        /* written before Prepare: the destination may have something of it */
    OUTGOING_FINISH_ASKED, /* written before Finish: only the destination's answer decides */
    OUTGOING_OURS,         /* it runs on here; the destination has still to hear that */
    OUTGOING_THEIRS, /* it lives there; its QEMU here ends, and the destination has to hear it */
};
#define OUTGOING_STATES (OUTGOING_THEIRS + 1)

enum outgoing_event {
    OUTGOING_FAILS, /* a failure, an abort, the session lost */
    OUTGOING_SENDS_FINISH,
    OUTGOING_HEARS_MINE,
    OUTGOING_HEARS_NOT_MINE,
    OUTGOING_HEARS_NOTHING, /* "lost", "unknown", or no answer */
    OUTGOING_HEARS_SETTLED,
    OUTGOING_RESTARTS,
    OUTGOING_TOLD_KEEP,    /* by the operator: run it here */
    OUTGOING_TOLD_GIVE_UP, /* by the operator: leave it to the peer */
};
#define OUTGOING_EVENTS (OUTGOING_TOLD_GIVE_UP + 1)

/* What the state becomes; the same state: nothing changes.  "Too late" is how a caller reads
 * OUTGOING_FAILS that leaves FINISH_ASKED alone. */
enum outgoing_state outgoing_next(enum outgoing_state state, enum outgoing_event event);
const char *outgoing_state_name(enum outgoing_state state);
enum outgoing_state outgoing_state_by_name(const char *name);

#endif
