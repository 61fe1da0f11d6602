/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What is looked after while a migration's thread waits for QEMU, several times a second: has it been
 * aborted, is the session there, have mirrors failed, is it time to report, has --timeout run out,
 * and is the guest held up?
 *
 * A migration may hold the guest up in three ways: its CPUs stand from the switch on (that wait has
 * its bound from the beginning); they stand a little earlier, when QEMU stops them and its main loop,
 * QMP with it, then waits for the mirrors' requests; and with synchronous writes each of its writes
 * waits for the destination.  A path that has gone silent would make a moment of it an hour, so after
 * --stall-timeout the migration is given up.  Where the guest runs on, silence is only waited for.
 */
#include "config.h"

#include "daemon/migrate_job.h"
#include "common/checked.h"
#include "common/log.h"
#include "qemu/guest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { TICK_MS = 250, STOP_TIMEOUT_MS = 10000 };

unsigned migrate_stall_ms(const struct migrate_job *job)
{
    return job->args.stall_timeout_ms ? job->args.stall_timeout_ms : job->daemon->config->stall_ms;
}

/* ---- held up --------------------------------------------------------------------------------- */

/* ns for which nothing has answered what the guest's writes wait for. */
static uint64_t writes_wait(struct migrate_job *job)
{
    struct pump_stats stats;
    uint64_t longest = 0;

    if (job->choice.mode ==
        MODE_DIRECT) { /* QEMU's own connections: only the host can be watched */
        pump_get_stats(job->pump, NULL, &stats);
        return stats.silent;
    }
    for (size_t i = 0; i < job->mirror_count; i++) {
        char endpoint[BS_ENDPOINT_MAX];

        snprintf(endpoint, sizeof endpoint, "nbd/%s", job->mirrors[i].target);
        pump_get_stats(job->pump, endpoint, &stats);
        longest = max_u64(longest, stats.waiting);
    }
    return longest;
}

static int check_stall(struct migrate_job *job, enum migrate_phase phase, struct error *err)
{
    const uint64_t bound = migrate_stall_ms(job) * LOOP_MS;
    const uint64_t now = loop_clock();

    if (phase == PHASE_MEMORY && job->mute_since && now - job->mute_since >= bound)
        return error_set(err, ETIMEDOUT,
                         "QEMU stood still for %u seconds and the guest with it, waiting for the "
                         "destination (--stall-timeout)",
                         migrate_stall_ms(job) / 1000);
    if (job->args.flags & BS_MIGRATE_SYNCHRONOUS_WRITES && job->mirroring &&
        writes_wait(job) >= bound)
        return error_set(err, ETIMEDOUT,
                         "the guest's writes waited for %s for %u seconds without an answer "
                         "(--stall-timeout)",
                         job->args.destination, migrate_stall_ms(job) / 1000);
    return 0;
}

/* ---- --timeout ------------------------------------------------------------------------------- */

static int check_timeout(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait = qmp_wait_ms(STOP_TIMEOUT_MS);

    if (!job->args.timeout_s || job->timed_out ||
        loop_clock() - job->started < job->args.timeout_s * LOOP_SECOND)
        return 0;
    job->timed_out = true;
    if (job->args.flags & BS_MIGRATE_TIMEOUT_ABORT)
        return error_set(err, ETIMEDOUT, "not done after %u seconds (--timeout-abort)",
                         job->args.timeout_s);
    if (!job->was_running)
        return 0;
    migrate_say(job, "not done after %u seconds (--timeout): the guest is paused until it is",
                job->args.timeout_s);
    return migration_pause_guest(job->qmp, &wait, err);
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

/* ---- all of it ------------------------------------------------------------------------------- */

int migrate_check(void *opaque, struct error *err)
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
    migrate_report_progress(job);
    r = block_mirrors_check(job->mirrors, job->mirror_count, err);
    if (r == 0)
        r = check_stall(job, phase, err);
    if (r == 0)
        r = check_timeout(job, err);
    if (r == 0)
        r = check_bandwidth(job, err);
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
