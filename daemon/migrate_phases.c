/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A migration at the source, from top to bottom, until QEMU has sent everything: Begin, Prepare
 * (migrate_prepare.c), Perform.  The modes differ in where QEMU's connections lead, and in whether
 * disks go along as mirrors or in the stream.
 *
 * Whatever fails here ends in migrate_owner.c's roll_back(), and the guest runs on here.
 */
#include "config.h"

#include "daemon/migrate_job.h"
#include "qemu/guest.h"
#include "qemu/tls.h"

#include <errno.h>
#include <string.h>

enum { QMP_TIMEOUT_MS = 30000 };

/* ---- Begin ----------------------------------------------------------------------------------- */

static void say_to(void *opaque, const char *sentence)
{
    migrate_say(opaque, "%s", sentence);
}

static int check_state(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait = migrate_wait_ms(job, QMP_TIMEOUT_MS);
    char state[32];
    int r = guest_run_state(job->qmp, state, &job->was_running, &wait, err);

    if (r < 0 || job->was_running || strcmp(state, "paused") == 0 ||
        strcmp(state, "prelaunch") == 0)
        return r;
    if (strcmp(state, "postmigrate") == 0)
        return error_set(err, EBUSY,
                         "domain %s stands where an earlier migration left it, without an answer "
                         "from the destination; find out where it shall run first",
                         job->args.name);
    return error_set(err, EBUSY, "domain %s is in state '%s' and can't be migrated", job->args.name,
                     state);
}

/* What flags ask of this QEMU. */
static int check_caps(const struct migrate_job *job, struct error *err)
{
    if (job->args.flags & BS_MIGRATE_AUTO_CONVERGE && !job->caps.auto_converge)
        return error_set(err, ENOTSUP,
                         "the guest's QEMU can't be made to converge: it lacks the "
                         "migration capability auto-converge");
    if (job->args.flags & BS_MIGRATE_SYNCHRONOUS_WRITES && !job->caps.mirror_copy_mode)
        return error_set(err, ENOTSUP,
                         "the guest's QEMU has no mirrors that --copy-storage-synchronous-writes "
                         "asks for");
    return 0;
}

static int plan(struct migrate_job *job, struct error *err)
{
    return migrate_plan_make(&job->plan, job->domain, &job->args, say_to, job, err);
}

static int begin(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait = migrate_wait_ms(job, QMP_TIMEOUT_MS);
    int r = 0;

    if (migrate_is_offline(job)) {
        r = migrate_offline_begin(job, err);
        return r == 0 ? plan(job, err) : r;
    }
    r = check_state(job, err);
    if (r == 0)
        r = qemu_caps_query(job->qmp, &job->caps, &wait, err);
    if (r == 0)
        r = check_caps(job, err);
    if (r == 0)
        r = block_check_no_jobs(job->qmp, &wait, err);
    return r == 0 ? plan(job, err) : r;
}

/* ---- Perform --------------------------------------------------------------------------------- */

static int set_up(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait = migrate_wait_ms(job, QMP_TIMEOUT_MS);
    const struct migration_setup setup = {
        .source = true,
        .return_path = job->choice.mode != MODE_TUNNEL,
        .auto_converge = job->args.flags & BS_MIGRATE_AUTO_CONVERGE,
        .block = job->choice.carrier == CARRIER_BLOCK,
        .zero_blocks = job->choice.carrier == CARRIER_BLOCK,
        .block_incremental = job->plan.tops > 0,
        .downtime_ms = job->args.downtime_ms,
        .tls_creds = job->choice.tls ? QEMU_TLS_CREDS : NULL,
        .tls_hostname = job->choice.tls ? job->direct_host : NULL,
    };
    int r = migrate_direct_set_up(job, err);

    if (r == 0)
        r = migration_prepare(job->qmp, &setup, &wait, err);
    return r == 0 ? migrate_throttle(job, job->args.bandwidth, err) : r;
}

static int mirror_disks(struct migrate_job *job, struct error *err)
{
    struct qmp_wait bounded = migrate_wait_ms(job, QMP_TIMEOUT_MS);
    struct qmp_wait unbounded = migrate_wait_until(job, LOOP_NEVER);
    int r = migrate_enter(job, PHASE_MIRROR, err);

    job->mirroring = job->mirror_count > 0;
    for (size_t i = 0; r == 0 && i < job->mirror_count; i++)
        r = block_mirror_start(job->qmp, &job->mirrors[i], &bounded, err);
    if (r == 0 && job->mirror_count)
        r = block_mirrors_wait_ready(job->qmp, job->mirrors, job->mirror_count, &unbounded, err);
    return r;
}

static int start_stream(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait = migrate_wait_ms(job, QMP_TIMEOUT_MS);

    if (job->choice.mode == MODE_DIRECT)
        return migrate_direct_start(job, err);
    job->migrating = true;
    job->moved = loop_clock();
    return migration_start(job->qmp, &job->ram_address, &wait, err);
}

static int send_memory(struct migrate_job *job, struct error *err)
{
    struct qmp_wait unbounded = migrate_wait_until(job, LOOP_NEVER);
    int r = migrate_enter(job, PHASE_MEMORY, err);

    if (r == 0)
        r = start_stream(job, err);
    if (r == 0)
        r = migration_wait(job->qmp, MIGRATION_PRE_SWITCHOVER, &job->memory, &unbounded, err);
    return r;
}

/* The last writes, then the rest of RAM and the devices. */
static int send_rest(struct migrate_job *job, const struct qmp_wait *wait, struct error *err)
{
    int r = 0;

    if (job->mirror_count)
        r = block_mirrors_complete(job->qmp, job->mirrors, job->mirror_count, wait, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&job->lock);
    job->mirrors_complete = true;
    pthread_mutex_unlock(&job->lock);
    r = migration_continue(job->qmp, wait, err);
    job->continued = r != -EREMOTEIO && r != -ENOSYS; /* else QEMU refused */
    if (r == 0)
        r = migration_wait(job->qmp, MIGRATION_COMPLETED, &job->memory, wait, err);
    job->completed_at = loop_clock();
    if (r == 0)
        migrate_direct_sent(job);
    return r;
}

/* The guest stands still, for as long as it may be held up and no longer. */
static int switch_over(struct migrate_job *job, struct error *err)
{
    const unsigned bound_ms = migrate_stall_ms(job);
    struct qmp_wait wait = migrate_wait_ms(job, bound_ms);
    int r = migrate_enter(job, PHASE_SWITCH, err);

    job->held_since = loop_clock();
    pump_set_bandwidth(job->pump, 0); /* a cap would only make the guest stand longer */
    if (r == 0)
        r = send_rest(job, &wait, err);
    if (r == -ETIMEDOUT)
        return error_set(err, ETIME,
                         "the guest stood still for %g s, and the rest of it had not gone "
                         "over to %s (--stall-timeout)",
                         bound_ms / 1000.0, job->args.destination);
    return r;
}

static int perform(struct migrate_job *job, struct error *err)
{
    int r = set_up(job, err);

    if (r == 0)
        r = mirror_disks(job, err);
    if (r == 0)
        r = send_memory(job, err);
    if (r == 0)
        r = switch_over(job, err);
    return r;
}

int migrate_perform(struct migrate_job *job, struct error *err)
{
    int r = begin(job, err);

    if (r == 0)
        r = migrate_connect(job, err);
    if (r == 0)
        r = migrate_set_state(job, OUTGOING_BEGUN, err);
    if (r == 0)
        r = migrate_prepare(job, err);
    if (r == 0)
        r = migrate_journal_prepare_finish(job, err);
    if (r == 0)
        r = migrate_is_offline(job) ? migrate_offline_perform(job, err) : perform(job, err);
    return r;
}
