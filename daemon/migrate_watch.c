/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What is looked after while a migration's thread waits for QEMU, several times a second: has it been
 * aborted, is the session there, have mirrors failed, is it time to report, has --timeout run out,
 * and is the guest held up?
 *
 * A migration may hold the guest up in four ways: its CPUs stand from the switch on (that wait has
 * its bound from the beginning); they stand while QEMU's main loop, and QMP with it, waits for a
 * mirror: when it connects, and when the guest is stopped and requests are under way; with
 * synchronous writes each of its writes waits for the destination; and after --timeout all of it
 * waits for the rest.  A path that has gone silent would make a moment of it an hour, so after
 * --stall-timeout the migration is given up.  Where the guest runs on, silence is only waited for.
 *
 * QEMU may leave any question open for that long.  What is asked in here waits without a deadline,
 * and looks meanwhile at what can end the migration: so an abort is heard at once, and QEMU, which
 * takes only a few commands ahead, is never asked anew while it is silent.
 */
#include "config.h"

#include "daemon/migrate_job.h"
#include "common/checked.h"
#include "common/log.h"
#include "qemu/guest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    TICK_MS = 250,
    CHASE_MS = 30000,      /* for a mirror to get ready ... */
    CHASE_LEFT = 64 << 20, /* ... when no more than this was left */
    BLOCK_CHUNK = 1 << 20, /* of a disk in the stream */
};

unsigned migrate_stall_ms(const struct migrate_job *job)
{
    return job->args.stall_timeout_ms ? job->args.stall_timeout_ms : job->daemon->config->stall_ms;
}

/* ---- held up --------------------------------------------------------------------------------- */

/* ns for which nothing has answered what the mirrors have sent. */
static uint64_t mirrors_wait(struct migrate_job *job)
{
    struct pump_stats stats;
    uint64_t longest = 0;

    if (!job->mirroring)
        return 0;
    if (job->choice.mode == MODE_DIRECT)
        return migrate_direct_waits(job);
    for (size_t i = 0; i < job->mirror_count; i++) {
        char endpoint[BS_ENDPOINT_MAX];

        snprintf(endpoint, sizeof endpoint, "nbd/%s", job->mirrors[i].target);
        pump_get_stats(job->pump, endpoint, &stats);
        longest = max_u64(longest, stats.waiting);
    }
    return longest;
}

/* A guest that --timeout is about to pause stands while all that is under way goes over, and under a cap
 * that takes its time: as long as something is answered, that is no stall. */
static bool qemu_stands_still(const struct migrate_job *job, uint64_t bound)
{
    return job->asked && loop_clock() - job->asked >= bound && !job->paused;
}

static int check_stall(struct migrate_job *job, enum migrate_phase phase, struct error *err)
{
    const unsigned bound_ms = migrate_stall_ms(job);
    const uint64_t bound = bound_ms * LOOP_MS;
    const bool synchronous = job->args.flags & BS_MIGRATE_SYNCHRONOUS_WRITES;

    if (qemu_stands_still(job, bound))
        return error_set(err, ETIME,
                         "QEMU stood still for %g s and the guest with it, waiting for the "
                         "destination (--stall-timeout)",
                         bound_ms / 1000.0);
    if ((synchronous || job->paused) && mirrors_wait(job) >= bound)
        return error_set(
            err, ETIME, "%s waited for %s for %g s without an answer (--stall-timeout)",
            job->paused ? "the guest, which --timeout has paused," : "the guest's writes",
            job->args.destination, bound_ms / 1000.0);
    if (phase == PHASE_MEMORY && migrate_direct_shakes(job) >= bound)
        return error_set(err, ETIME,
                         "QEMU's connection for memory got no answer from %s for %g s while "
                         "hands were being shaken (--stall-timeout)",
                         job->args.destination, bound_ms / 1000.0);
    if (job->paused && phase == PHASE_MEMORY && loop_clock() - job->moved >= bound)
        return error_set(err, ETIME,
                         "the guest, which has been paused, waited for %g s in which "
                         "nothing of it went over to %s (--stall-timeout)",
                         bound_ms / 1000.0, job->args.destination);
    return 0;
}

/* ---- bandwidth ------------------------------------------------------------------------------- */

int migrate_throttle(struct migrate_job *job, uint64_t bandwidth, struct error *err)
{
    job->bandwidth = bandwidth;
    if (job->choice.mode == MODE_DIRECT)
        return migrate_direct_throttle(job, bandwidth, err);
    pump_set_bandwidth(job->pump, bandwidth);
    return 0;
}

/* The operator may have set another one meanwhile. */
static int check_bandwidth(struct migrate_job *job, struct error *err)
{
    uint64_t wanted;

    pthread_mutex_lock(&job->lock);
    wanted = job->args.bandwidth;
    pthread_mutex_unlock(&job->lock);
    return wanted == job->bandwidth ? 0 : migrate_throttle(job, wanted, err);
}

/* ---- what needs no answer of QEMU's ------------------------------------------------------------ */

static bool time_is_out(const struct migrate_job *job)
{
    return job->args.timeout_s && loop_clock() - job->started >= job->args.timeout_s * LOOP_SECOND;
}

/* What can end it at any moment, and a new cap. */
static int check_end(void *opaque, struct error *err)
{
    struct migrate_job *job = opaque;
    enum migrate_phase phase;
    int r = 0;

    pthread_mutex_lock(&job->lock);
    phase = job->phase;
    if (job->aborted) {
        r = error_set(err, ECANCELED, "%s", job->aborted);
    } else if (job->lost.code) {
        *err = job->lost;
        r = -err->code;
    }
    pthread_mutex_unlock(&job->lock);
    if (r < 0 || (phase != PHASE_MIRROR && phase != PHASE_MEMORY))
        return r;
    if (job->args.flags & BS_MIGRATE_TIMEOUT_ABORT && time_is_out(job))
        return error_set(err, ETIME, "not done after %u s (--timeout-abort)",
                         job->args.timeout_s);
    r = check_stall(job, phase, err);
    return r == 0 && job->choice.mode != MODE_DIRECT ? check_bandwidth(job, err) : r;
}

struct qmp_wait migrate_ask(struct migrate_job *job)
{
    job->asked = loop_clock();
    return (struct qmp_wait){
        .deadline = LOOP_NEVER, .check = check_end, .opaque = job, .tick_ms = TICK_MS};
}

int migrate_answered(struct migrate_job *job, int r)
{
    if (r == 0)
        job->asked = 0;
    return r;
}

/* ---- --timeout ------------------------------------------------------------------------------- */

/* That ends it, if so asked, see above. */
static int check_timeout(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait;

    if (job->paused || !job->was_running || !time_is_out(job))
        return 0;
    migrate_say(job, "not done after %u s (--timeout): the guest is paused until it is",
                job->args.timeout_s);
    job->paused = true;
    job->moved = loop_clock();
    wait = migrate_ask(job);
    return migrate_answered(job, migration_pause_guest(job->qmp, &wait, err));
}

/* ---- disks in the stream --------------------------------------------------------------------- */

/* The rest can be sent within the downtime, at the rate that there was until now.  A disk counts as
 * sent up to the chunk that was the last one. */
static bool little_is_left(const struct migrate_job *job)
{
    const struct migration_info *memory = &job->memory;
    const uint64_t chunks = job->plan.copies * BLOCK_CHUNK;
    const uint64_t sent = memory->ram_transferred + memory->disk_transferred;
    const uint64_t ms = (loop_clock() - job->started) / LOOP_MS + 1;
    const uint64_t downtime_ms =
        job->args.downtime_ms ? job->args.downtime_ms : MIGRATION_DOWNTIME_MS;

    return memory->disk_total && memory->disk_transferred + chunks >= memory->disk_total &&
           memory->ram_remaining / downtime_ms <= sent / ms;
}

/* QEMU doesn't stop the guest by itself then (qemu/migration.h, struct migration_setup). */
static int check_disks_gone(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait;

    if (job->choice.carrier != CARRIER_BLOCK || job->paused || !job->was_running ||
        !little_is_left(job))
        return 0;
    job->paused = true;
    job->paused_at = job->moved = loop_clock();
    wait = migrate_ask(job);
    return migrate_answered(job, migration_pause_guest(job->qmp, &wait, err));
}

/* ---- a mirror that never gets ready ------------------------------------------------------------ */

/* It is ready once nothing is left, in a single moment.  One that was close to that, over which more
 * has gone since than was left then, and that still isn't ready, is being written to all the time. */
static void check_ready(struct migrate_job *job, size_t number)
{
    const struct block_mirror *mirror = &job->mirrors[number];
    struct migrate_chase *chase = &job->chases[number];
    uint64_t left = mirror->total - min_u64(mirror->done, mirror->total), now = loop_clock();

    if (chase->told)
        return;
    if (mirror->state != BLOCK_MIRROR_RUNNING || left > CHASE_LEFT) {
        chase->since = 0;
    } else if (!chase->since) {
        *chase = (struct migrate_chase){.since = now, .until = mirror->done + left};
    } else if (now - chase->since >= CHASE_MS * LOOP_MS && mirror->done > chase->until) {
        chase->told = true;
        migrate_say(job,
                    "the guest writes to disk %s as fast as that is copied, so the copy may never "
                    "be complete: --copy-storage-synchronous-writes would have its writes wait for "
                    "the copy, and --timeout would pause it for the rest",
                    mirror->target);
    }
}

static void check_chases(struct migrate_job *job)
{
    if (job->args.flags & BS_MIGRATE_SYNCHRONOUS_WRITES || job->paused || !job->was_running)
        return;
    for (size_t i = 0; i < job->mirror_count; i++)
        check_ready(job, i);
}

/* ---- all of it ------------------------------------------------------------------------------- */

int migrate_check(void *opaque, struct error *err)
{
    struct migrate_job *job = opaque;
    int r = check_end(job, err);

    if (r < 0 || job->phase < PHASE_MIRROR || job->phase > PHASE_SWITCH)
        return r;
    migrate_report_progress(job);
    if (job->phase == PHASE_SWITCH)
        return 0;
    r = check_end(job, err); /* it may have left QEMU without an answer, because of that */
    if (r == 0)
        r = block_mirrors_check(job->mirrors, job->mirror_count, err);
    if (r == 0)
        r = check_timeout(job, err);
    if (r == 0)
        r = check_disks_gone(job, err);
    if (r == 0)
        r = check_bandwidth(job, err); /* mode direct's */
    if (r == 0 && job->phase == PHASE_MIRROR)
        check_chases(job);
    return r;
}

struct qmp_wait migrate_wait_until(struct migrate_job *job, uint64_t deadline)
{
    return (struct qmp_wait){
        .deadline = deadline, .check = migrate_check, .opaque = job, .tick_ms = TICK_MS};
}

struct qmp_wait migrate_wait_ms(struct migrate_job *job, unsigned ms)
{
    return migrate_wait_until(job, loop_clock() + ms * LOOP_MS);
}
