/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Whose the guest is, at the source: Finish, Confirm, rolling back, and what a restarted daemon does
 * about the migrations in its journal.
 *
 * Until Finish is sent every failure rolls back, and the guest runs on here.  Finish is sent only
 * once QEMU says `completed`, from where it can't go on by itself, and FINISH_ASKED is written
 * before.  From then on the destination's answer decides alone: "mine" or "not mine".  Without one
 * the guest stays paused and the job is `unresolved`; it goes on asking, over new sessions, until
 * there is an answer or the operator takes the decision (`bistream job resolve`).
 *
 * Once decided (OURS, THEIRS, written before it is acted upon) the destination has to hear it; if it
 * can't be reached, that is tried in the background, when the guest has long been let go.
 *
 * Our ends of the sockets are closed before QEMU is asked to cancel anything: while a path is silent
 * the other order hangs QEMU's monitor.
 */
#include "config.h"

#include "daemon/link.h"
#include "daemon/migrate_job.h"
#include "daemon/retry.h"
#include "common/checked.h"
#include "common/log.h"
#include "io/net.h"
#include "qemu/guest.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

enum {
    QMP_TIMEOUT_MS = 30000,
    FINISH_TIMEOUT_MS = 120000, /* longer than the destination's own bounds together */
    FINISH_LEAST_MS = 1000,
    STATUS_TIMEOUT_MS = 60000, /* a fence waits for a QEMU to die */
    WHY_TIMEOUT_MS = 3000,     /* for what would only be good to know */
    SETTLE_TIMEOUT_MS = 20000,
    ABORT_SETTLE_MS = 1000, /* the operator waits, and the destination cleans up by itself too */
    CLOSE_TIMEOUT_MS = 5000,
    NOTICE_TIMEOUT_MS = 10000, /* for QEMU to see that its socket was closed */
    PATIENCE_MS = 10000,       /* after which the operator is told that there is no answer */
    ASK_LONGEST_MS = 30000,    /* between two questions; the guest stands still */
    SETTLE_LONGEST_MS = 300000,
};

static void append(struct error *err, const char *between, const char *text)
{
    size_t used = strlen(err->text);

    snprintf(err->text + used, sizeof err->text - used, "%s%s", between, text);
}

/* Writes STATE.  A journal that can't be written holds up nothing here: read again after a crash,
 * the old state leads to the same end. */
static void enter_state(struct migrate_job *job, enum outgoing_state state)
{
    struct error err = ERROR_INIT;

    if (migrate_set_state(job, state, &err) == 0)
        return;
    log_error("migration %s (%s) out: %s", job->hex, job->args.name, err.text);
    job->unwritten = true;
    pthread_mutex_lock(&job->lock);
    job->state = state;
    pthread_mutex_unlock(&job->lock);
}

/* The destination may forget what was decided once it has heard it, so it stands here before: else
 * nobody would know after a crash. */
static int write_decision(struct migrate_job *job, struct error *err)
{
    int r = 0;

    if (!job->unwritten)
        return 0;
    r = migrate_set_state(job, job->state, err);
    if (r == 0 && job->domain)
        r = domain_store(job->domain, err);
    job->unwritten = r < 0;
    return r;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static enum bs_owner read_answer(const struct bs_migrate_finish_ret *ret, struct error *err)
{
    switch (ret->owner) {
    case BS_OWNER_MINE:
        return BS_OWNER_MINE;
    case BS_OWNER_NOT_MINE:
        error_set(err, EIO, "the destination could not take the guest over%s%s",
                  *ret->reason ? ": " : "", ret->reason);
        return BS_OWNER_NOT_MINE;
    case BS_OWNER_LOST:
        error_set(err, EIO, "the guest was lost at the destination after it may have run%s%s",
                  *ret->reason ? ": " : "", ret->reason);
        return BS_OWNER_LOST;
    default:
        error_set(err, EIO, "the destination doesn't know whose the guest is%s%s",
                  *ret->reason ? ": " : "", ret->reason);
        return BS_OWNER_UNKNOWN;
    }
}

/* For how long the guest may be held up yet before the destination decides: what is left of the bound,
 * and time enough for a QEMU that is well. */
static unsigned finish_wait_ms(const struct migrate_job *job)
{
    const uint64_t bound = migrate_stall_ms(job);
    const uint64_t held = (loop_clock() - job->held_since) / LOOP_MS;

    if (!job->qmp || qmp_closed(job->qmp)) /* it can't be let go of */
        return 0;
    return (unsigned)max_u64(bound - min_u64(held, bound), FINISH_LEAST_MS);
}

static int call_finish(struct migrate_job *job, struct pump *pump, int timeout_ms,
                       struct bs_migrate_finish_ret *ret, struct error *err)
{
    struct bs_migrate_finish_args args = {.wait_ms = finish_wait_ms(job)};

    memcpy(args.id, job->id, sizeof args.id);
    return pump_call(pump, BS_PROC_MIGRATE_FINISH, (xdrproc_t)xdr_bs_migrate_finish_args, &args,
                     (xdrproc_t)xdr_bs_migrate_finish_ret, ret, timeout_ms, err);
}

static int call_status(struct migrate_job *job, struct pump *pump, int timeout_ms,
                       struct bs_migrate_finish_ret *ret, struct error *err)
{
    struct bs_migrate_status_args args;

    memcpy(args.id, job->id, sizeof args.id);
    return pump_call(pump, BS_PROC_MIGRATE_STATUS, (xdrproc_t)xdr_bs_migrate_status_args, &args,
                     (xdrproc_t)xdr_bs_migrate_finish_ret, ret, timeout_ms, err);
}

/* FINISH or STATUS.  Returns whose the guest is, as far as is known; ERR holds the reason unless it
 * is theirs. */
static enum bs_owner ask(struct migrate_job *job, struct pump *pump, int procedure, int timeout_ms,
                         struct error *err)
{
    const bool finish = procedure == BS_PROC_MIGRATE_FINISH;
    struct bs_migrate_finish_ret ret = {.reason = NULL};
    enum bs_owner owner;

    if ((finish ? call_finish : call_status)(job, pump, timeout_ms, &ret, err) < 0)
        return BS_OWNER_UNKNOWN;
    if (job->completed_at && finish) {
        uint64_t answered = (loop_clock() - job->completed_at) / 1000;

        job->switched_us = answered - min_u64(answered, ret.resumed_us);
    }
    owner = read_answer(&ret, err);
    xdr_free((xdrproc_t)xdr_bs_migrate_finish_ret, (char *)&ret);
    return owner;
}

static int settle(struct migrate_job *job, struct pump *pump, int timeout_ms, struct error *err)
{
    struct bs_migrate_settle_args args = {.settle = job->state == OUTGOING_THEIRS ? BS_SETTLE_THEIRS
                                                    : migrate_offline_keeps(job)
                                                        ? BS_SETTLE_OURS_KEEP
                                                        : BS_SETTLE_OURS};

    if (write_decision(job, err) < 0)
        return -err->code;
    memcpy(args.id, job->id, sizeof args.id);
    return pump_call(pump, BS_PROC_MIGRATE_SETTLE, (xdrproc_t)xdr_bs_migrate_settle_args, &args,
                     NULL, NULL, timeout_ms, err);
}

static struct pump *new_session(struct migrate_job *job, struct error *err)
{
    static const struct pump_handlers none = {.opaque = NULL};

    return link_open_migration(job->daemon, job->args.destination, &none, job->poke_fd, NULL, err);
}

/* ---- when it fails --------------------------------------------------------------------------- */

/* Ended by force while a write is on its way to both sides, a copy with synchronous writes takes QEMU
 * with it (qemu/block_mirror.c).  To stop the guest is to wait for such writes, which have failed by
 * now: there is no connection any more. */
static int end_writes(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait = qmp_wait_ms(QMP_TIMEOUT_MS);
    char state[32];
    bool running;
    int r;

    if (!(job->args.flags & BS_MIGRATE_SYNCHRONOUS_WRITES))
        return 0;
    r = guest_run_state(job->qmp, state, &running, &wait, err);
    return r == 0 && running ? guest_stop(job->qmp, &wait, err) : r;
}

static void undo_in_qemu(struct migrate_job *job)
{
    struct qmp_wait wait = qmp_wait_ms(NOTICE_TIMEOUT_MS);
    struct error err = ERROR_INIT;
    int r;

    if (job->continued) /* its socket is closed: QEMU is about to end the migration by itself */
        migration_wait_end(job->qmp, &wait, NULL);
    wait = qmp_wait_ms(QMP_TIMEOUT_MS);
    if (job->migrating) {
        r = migration_cancel(job->qmp, &wait, &err);
        if (r < 0 && r != -EALREADY)
            migrate_say(job, "%s", err.text);
    }
    r = job->mirroring ? end_writes(job, &err) : 0;
    wait = qmp_wait_ms(QMP_TIMEOUT_MS); /* what came before may have used up its own */
    if (r == 0 && job->mirroring)
        r = block_mirrors_remove(job->qmp, &wait, &err);
    if (r < 0)
        migrate_say(job, "%s", err.text);
    migrate_direct_clear(job);
}

/* QEMU often only knows that its socket broke; the session knows why. */
static void add_what_is_known(struct migrate_job *job, struct error *why)
{
    pthread_mutex_lock(&job->lock);
    if (job->session_ended && why->code == ECONNRESET)
        *why = job->lost; /* the same, and whose session it was */
    else if (job->lost.code && !strstr(why->text, job->lost.text))
        append(why, "; ", job->lost.text);
    pthread_mutex_unlock(&job->lock);
}

/* The guest runs on here, if it ran.  WHY gets what is left to say about it. */
static void run_on(struct migrate_job *job, struct error *why)
{
    struct error err = ERROR_INIT;
    struct qmp_wait wait;

    if (!job->qmp || qmp_closed(job->qmp)) {
        error_set(why, why->code, "its QEMU here has ended; the guest is shut off");
        return;
    }
    undo_in_qemu(job);
    wait = qmp_wait_ms(QMP_TIMEOUT_MS);
    if (job->was_running && migration_resume_source(job->qmp, &wait, &err) < 0)
        append(why, "; the guest does not run here: ", err.text);
}

/* The QEMU there may have died, and have said why.  The guest runs on here already. */
static void add_what_destination_knows(struct migrate_job *job, struct error *why)
{
    struct bs_migrate_finish_ret ret = {.reason = NULL};
    bool reachable;

    pthread_mutex_lock(&job->lock);
    reachable = job->pump && job->prepared && !job->session_ended && !job->aborted && job->qmp &&
                !job->stalled && !qmp_closed(job->qmp); /* else ours died first */
    pthread_mutex_unlock(&job->lock);
    if (!reachable || call_status(job, job->pump, WHY_TIMEOUT_MS, &ret, NULL) < 0)
        return;
    if (*ret.reason)
        append(why, "; at the destination ", ret.reason);
    xdr_free((xdrproc_t)xdr_bs_migrate_finish_ret, (char *)&ret);
}

static void roll_back(struct migrate_job *job, struct error *why)
{
    job->stalled = why->code == ETIME;
    if (job->state != OUTGOING_NONE)
        enter_state(job, OUTGOING_OURS);
    if (job->pump) /* a session that is about to end has ended then, and told why */
        pump_close_endpoint(job->pump, NULL);
    add_what_is_known(job, why);
    migrate_direct_break(job);
    if (!migrate_is_offline(job))
        run_on(job, why);
    add_what_destination_knows(job, why);
}

/* ---- when it runs there ---------------------------------------------------------------------- */

/* Whatever goes wrong here from now on is said, and changes nothing. */
static void confirm(struct migrate_job *job)
{
    struct qmp_wait wait = qmp_wait_ms(QMP_TIMEOUT_MS);
    struct net_address peer;
    struct error err = ERROR_INIT;

    migrate_enter(job, PHASE_CONFIRM, &err);
    if (job->completed_at && migration_wait_postmigrate(job->qmp, &job->memory, &wait, &err) < 0)
        log_warning("migration %s out: its figures are not final: %s", job->hex, err.text);
    error_clear(&err);
    if (!job->domain) /* undefined meanwhile, before a restart */
        return;
    if (net_parse_uri(job->args.destination, &peer, &err) < 0 ||
        domain_mark_moved(job->domain, peer.host, &err) < 0 ||
        (job->args.flags & BS_MIGRATE_UNDEFINE_SOURCE &&
         domain_forget_moved(job->domain, &err) < 0)) {
        job->unwritten = true;
        migrate_say(job, "the guest runs at the destination, but here: %s", err.text);
    }
}

/* ---- asking until there is an answer --------------------------------------------------------- */

/* Sleeps, unless it is poked or the daemon stops.  Returns false in the latter case. */
static bool pause_for(struct migrate_job *job, unsigned ms)
{
    struct pollfd fds[] = {{.fd = job->daemon->stop_fd, .events = POLLIN},
                           {.fd = job->poke_fd, .events = POLLIN}};
    eventfd_t ignored;

    poll(fds, 2, (int)ms);
    if (fds[1].revents)
        eventfd_read(job->poke_fd, &ignored);
    return !fds[0].revents;
}

static enum migrate_resolve take_resolution(struct migrate_job *job)
{
    enum migrate_resolve resolve;

    pthread_mutex_lock(&job->lock);
    resolve = job->resolve;
    job->resolve = RESOLVE_ASK;
    pthread_mutex_unlock(&job->lock);
    return resolve;
}

/* A QEMU that has died can't be resumed: then the destination may still take the guest over. */
static enum bs_owner ask_anew(struct migrate_job *job, struct error *err)
{
    int procedure =
        job->qmp && !qmp_closed(job->qmp) ? BS_PROC_MIGRATE_STATUS : BS_PROC_MIGRATE_FINISH;
    struct pump *pump = new_session(job, err);
    enum bs_owner owner;

    if (!pump)
        return BS_OWNER_UNKNOWN;
    owner = ask(job, pump, procedure,
                procedure == BS_PROC_MIGRATE_STATUS ? STATUS_TIMEOUT_MS : FINISH_TIMEOUT_MS, err);
    pump_close(pump, BS_CLOSE_DONE, "asked", CLOSE_TIMEOUT_MS);
    pump_free(pump);
    return owner;
}

static enum outgoing_event event_of(enum bs_owner owner, enum migrate_resolve resolve)
{
    if (owner == BS_OWNER_MINE)
        return OUTGOING_HEARS_MINE; /* whatever the operator thought */
    if (owner == BS_OWNER_NOT_MINE)
        return OUTGOING_HEARS_NOT_MINE;
    return resolve == RESOLVE_KEEP      ? OUTGOING_TOLD_KEEP
           : resolve == RESOLVE_GIVE_UP ? OUTGOING_TOLD_GIVE_UP
                                        : OUTGOING_HEARS_NOTHING;
}

static void forget_reason(struct migrate_job *job)
{
    pthread_mutex_lock(&job->lock);
    error_clear(&job->last_known);
    pthread_mutex_unlock(&job->lock);
}

/* Why there is no answer, or nobody to be told what was decided: for `job list`, and a line in the log
 * if RETRY finds it worth one. */
static void note_reason(struct migrate_job *job, struct retry *retry, const char *what,
                        const struct error *why)
{
    pthread_mutex_lock(&job->lock);
    job->last_known = *why;
    pthread_mutex_unlock(&job->lock);
    if (retry_is_news(retry, why->text, loop_clock()))
        log_warning("migration %s (%s) out: %s: %s", job->hex, job->args.name, what, why->text);
}

static void tell_unresolved(struct migrate_job *job, const struct error *last)
{
    struct error err = *last;

    if (job->reported)
        return;
    error_prefix(&err,
                 "whether the guest runs at %s is not known, so it stays paused here, and asking "
                 "goes on (see bistream job resolve)",
                 job->args.destination);
    migrate_report_result(job, BS_OUTCOME_UNRESOLVED, &err);
}

/* Until the destination's answer, or the operator, has decided, OWNER being its first answer, to what
 * was asked at ASKED (loop_clock()).  Returns false when the daemon stops before that. */
static bool decide(struct migrate_job *job, enum bs_owner owner, uint64_t asked, struct error *err)
{
    enum migrate_resolve resolve = RESOLVE_ASK;
    struct retry retry;

    retry_begin(&retry, asked);
    for (;;) {
        enum outgoing_state next = outgoing_next(job->state, event_of(owner, resolve));

        if (next != job->state) {
            enter_state(job, next);
            forget_reason(job);
            return true;
        }
        note_reason(job, &retry, "unresolved", err);
        if (loop_clock() - retry.begun >= PATIENCE_MS * LOOP_MS || owner == BS_OWNER_LOST)
            tell_unresolved(job, err);
        if (!pause_for(job, retry_next(&retry, loop_clock(), ASK_LONGEST_MS)))
            return false;
        resolve = take_resolution(job);
        owner = ask_anew(job, err);
    }
}

/* ---- settling -------------------------------------------------------------------------------- */

static void settled(struct migrate_job *job)
{
    enter_state(job, outgoing_next(job->state, OUTGOING_HEARS_SETTLED));
}

/* Over the session that there is.  Returns how long its orderly end is worth waiting for. */
static int settle_at_once(struct migrate_job *job)
{
    struct error err = ERROR_INIT;
    int timeout_ms;

    pthread_mutex_lock(&job->lock);
    timeout_ms = job->aborted || job->stalled ? ABORT_SETTLE_MS : SETTLE_TIMEOUT_MS;
    pthread_mutex_unlock(&job->lock);

    if (!job->pump || !job->prepared) {
        if (job->state != OUTGOING_NONE && !job->prepared)
            settled(job); /* nobody has heard of it */
        return CLOSE_TIMEOUT_MS;
    }
    if (settle(job, job->pump, timeout_ms, &err) == 0) {
        settled(job);
        return CLOSE_TIMEOUT_MS;
    }
    log_warning("migration %s (%s) out: the destination is told later: %s", job->hex,
                job->args.name, err.text);
    return 0;
}

/* Nothing is lost by that here: what was decided is done already. */
static bool is_dropped(struct migrate_job *job)
{
    bool dropped;

    pthread_mutex_lock(&job->lock);
    dropped = job->dropped;
    pthread_mutex_unlock(&job->lock);
    if (dropped)
        log_warning("migration %s (%s) out: dropped by the operator; if %s is ever back, it still "
                    "has its entry of the migration%s",
                    job->hex, job->args.name, job->args.destination,
                    job->state == OUTGOING_THEIRS ? ", and images of the guest's that it set aside"
                                                  : "");
    return dropped;
}

/* Over a session of its own. */
static int settle_anew(struct migrate_job *job, struct error *err)
{
    struct pump *pump = new_session(job, err);
    int r = pump ? settle(job, pump, SETTLE_TIMEOUT_MS, err) : -err->code;

    if (pump)
        pump_close(pump, BS_CLOSE_DONE, "settled", CLOSE_TIMEOUT_MS);
    pump_free(pump);
    return r;
}

void migrate_settle(struct migrate_job *job)
{
    struct retry retry;

    retry_begin(&retry, loop_clock());
    while (job->state != OUTGOING_NONE &&
           pause_for(job, retry_next(&retry, loop_clock(), SETTLE_LONGEST_MS))) {
        struct error err = ERROR_INIT;

        if (is_dropped(job) || settle_anew(job, &err) == 0)
            settled(job);
        else
            note_reason(job, &retry, "the destination has still to hear what was decided", &err);
    }
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* From FINISH_ASKED, OWNER being the first answer, to OURS or THEIRS. */
static enum bs_outcome resolve(struct migrate_job *job, enum bs_owner owner, uint64_t asked,
                               struct error *err)
{
    if (!decide(job, owner, asked, err))
        return BS_OUTCOME_UNRESOLVED;
    if (job->state == OUTGOING_THEIRS) {
        error_clear(err);
        confirm(job);
        return BS_OUTCOME_COMPLETED;
    }
    roll_back(job, err);
    return BS_OUTCOME_FAILED;
}

/* Finish can't be sent over a session that has ended, so the guest is still certainly ours. */
static int check_session(struct migrate_job *job, struct error *err)
{
    int r = 0;

    pthread_mutex_lock(&job->lock);
    if (job->session_ended) {
        *err = job->lost;
        r = -err->code;
    }
    pthread_mutex_unlock(&job->lock);
    return r;
}

enum bs_outcome migrate_run(struct migrate_job *job, struct error *err)
{
    enum bs_outcome outcome;
    int patience_ms = 0;
    int r = migrate_perform(job, err);

    if (r == 0)
        r = migrate_enter(job, PHASE_FINISH, err);
    if (r == 0)
        r = check_session(job, err);
    if (r == 0)
        r = migrate_set_state(job, OUTGOING_FINISH_ASKED, err);
    if (r < 0) {
        roll_back(job, err);
        outcome = BS_OUTCOME_FAILED;
    } else {
        const uint64_t asked = loop_clock();
        enum bs_owner owner = ask(job, job->pump, BS_PROC_MIGRATE_FINISH, FINISH_TIMEOUT_MS, err);

        outcome = resolve(job, owner, asked, err);
    }
    if (outcome != BS_OUTCOME_UNRESOLVED)
        patience_ms = settle_at_once(job);
    if (job->pump)
        pump_close(job->pump, outcome == BS_OUTCOME_COMPLETED ? BS_CLOSE_DONE : BS_CLOSE_CANCELLED,
                   outcome == BS_OUTCOME_COMPLETED ? "migration completed" : err->text,
                   patience_ms);
    return outcome;
}

enum bs_outcome migrate_run_again(struct migrate_job *job, struct error *err)
{
    const uint64_t asked = loop_clock();

    /* What that QEMU was doing is not known any more: everything of ours is looked for. */
    job->migrating = job->mirroring = job->prepared = job->restarted = true;
    migrate_offline_clear(job);
    switch (job->state) {
    case OUTGOING_THEIRS:
        confirm(job);
        return BS_OUTCOME_COMPLETED;
    case OUTGOING_FINISH_ASKED:
        return resolve(job, ask_anew(job, err), asked, err);
    default:
        error_set(err, ECANCELED, "bistreamd was started again in the middle of it");
        roll_back(job, err);
        return BS_OUTCOME_FAILED;
    }
}
