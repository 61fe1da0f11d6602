/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What the operator asks about jobs, and says to them: abort, list, set, resolve.  A guest has one job at a
 * time that it is held by; one that only has to be settled with the destination doesn't count.
 */
#include "config.h"

#include "daemon/migrate.h"
#include "daemon/migrate_job.h"
#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

int migrate_check_bandwidth(uint64_t bandwidth, struct error *err)
{
    if (bandwidth <= INT64_MAX)
        return 0;
    return error_set(err, EINVAL,
                     "a bandwidth of %" PRIu64 " bytes per second is more than QEMU takes",
                     bandwidth);
}

int migrate_handle_abort(void *opaque, const void *args_, void *ret, struct error *err)
{
    struct control_connection *connection = opaque;
    struct migrate_jobs *jobs = connection->daemon->jobs;
    const struct bs_migrate_abort_args *args = args_;
    struct migrate_job *job;
    int r;

    (void)ret;
    pthread_mutex_lock(&jobs->lock);
    LIST_FOREACH(job, &jobs->list, link)
    {
        if (memcmp(job->id, args->id, sizeof args->id) == 0)
            break;
    }
    r = job ? migrate_job_abort(job, "aborted by the operator", err)
            : error_set(err, ENOENT, "no such migration runs here; it may have just ended");
    pthread_mutex_unlock(&jobs->lock);
    return r;
}

struct migrate_job *migrate_find_job(struct migrate_jobs *jobs, const char *name, struct error *err)
{
    struct migrate_job *job;

    LIST_FOREACH(job, &jobs->list, link)
    {
        bool decided;

        pthread_mutex_lock(&job->lock);
        decided = job->decided;
        pthread_mutex_unlock(&job->lock);
        if (!decided && strcmp(job->args.name, name) == 0)
            return job;
    }
    error_set(err, ENOENT, "no migration of a guest named %s runs here; bistream job list has all",
              name);
    return NULL;
}

/* The migrations of the guest NAME that are decided, and whose destination can't be told, are not
 * settled any more.  Without any, WHY stays.  With the list's lock. */
static int drop_settling(struct migrate_jobs *jobs, const char *name, struct error *why)
{
    struct migrate_job *job;
    bool dropped = false;

    LIST_FOREACH(job, &jobs->list, link)
    {
        pthread_mutex_lock(&job->lock);
        if (job->decided && job->last_known.code && strcmp(job->args.name, name) == 0)
            dropped = job->dropped = eventfd_write(job->poke_fd, 1) == 0;
        pthread_mutex_unlock(&job->lock);
    }
    if (dropped)
        error_clear(why);
    return -why->code;
}

int migrate_handle_job_abort(void *opaque, const void *args_, void *ret, struct error *err)
{
    struct control_connection *connection = opaque;
    struct migrate_jobs *jobs = connection->daemon->jobs;
    const struct bs_job_name_args *args = args_;
    struct migrate_job *job;
    int r;

    (void)ret;
    pthread_mutex_lock(&jobs->lock);
    job = migrate_find_job(jobs, args->name, err);
    r = job ? migrate_job_abort(job, "aborted by the operator", err)
            : drop_settling(jobs, args->name, err);
    pthread_mutex_unlock(&jobs->lock);
    return r;
}

/* ---- list ------------------------------------------------------------------------------------ */

static int describe(struct migrate_job *job, struct bs_job *ret)
{
    memcpy(ret->id, job->id, sizeof ret->id);
    ret->name = strdup(job->args.name);
    ret->destination = strdup(job->args.destination);
    pthread_mutex_lock(&job->lock);
    ret->phase = strdup(migrate_phase_name(job));
    ret->reason = strdup(job->last_known.code ? job->last_known.text : "");
    pthread_mutex_unlock(&job->lock);
    return ret->name && ret->destination && ret->phase && ret->reason ? 0 : -ENOMEM;
}

int migrate_handle_job_list(void *opaque, const void *args, void *ret_, struct error *err)
{
    struct control_connection *connection = opaque;
    struct migrate_jobs *jobs = connection->daemon->jobs;
    struct bs_job_list_ret *ret = ret_;
    struct migrate_job *job;
    size_t count = 0;
    int r = 0;

    (void)args;
    pthread_mutex_lock(&jobs->lock);
    LIST_FOREACH(job, &jobs->list, link)
    {
        count++;
    }
    ret->jobs.jobs_val = calloc(count + 1, sizeof *ret->jobs.jobs_val);
    if (!ret->jobs.jobs_val)
        r = -ENOMEM;
    LIST_FOREACH(job, &jobs->list, link)
    {
        if (r == 0 && ret->jobs.jobs_len < BS_JOBS_MAX)
            r = describe(job, &ret->jobs.jobs_val[ret->jobs.jobs_len++]);
    }
    pthread_mutex_unlock(&jobs->lock);
    return r == 0 ? 0 : error_set(err, ENOMEM, "no memory for the list of jobs");
}

/* ---- set ------------------------------------------------------------------------------------- */

/* The job's thread looks at it several times a second, and at once if it waits for QEMU. */
static int set_bandwidth(struct migrate_job *job, uint64_t bandwidth, struct error *err)
{
    int r = 0;

    pthread_mutex_lock(&job->lock);
    if (job->phase >= PHASE_SWITCH) {
        r = error_set(err, EBUSY, "too late: %s is being switched over to %s", job->args.name,
                      job->args.destination);
    } else {
        job->args.bandwidth = bandwidth;
        if (job->qmp)
            qmp_wake(job->qmp);
        log_info("migration %s (%s) out: bandwidth: %" PRIu64 " bytes per second", job->hex,
                 job->args.name, bandwidth);
    }
    pthread_mutex_unlock(&job->lock);
    return r;
}

int migrate_handle_job_set(void *opaque, const void *args_, void *ret, struct error *err)
{
    struct control_connection *connection = opaque;
    struct migrate_jobs *jobs = connection->daemon->jobs;
    const struct bs_job_set_args *args = args_;
    struct migrate_job *job;
    int r;

    (void)ret;
    r = migrate_check_bandwidth(args->bandwidth, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&jobs->lock);
    job = migrate_find_job(jobs, args->name, err);
    r = job ? set_bandwidth(job, args->bandwidth, err) : -err->code;
    pthread_mutex_unlock(&jobs->lock);
    return r;
}

/* ---- resolve --------------------------------------------------------------------------------- */

/* Only a job whose Finish was never answered has anything to resolve; the destination is asked once
 * more before the operator's word counts. */
static int resolve(struct migrate_job *job, enum migrate_resolve resolve, struct error *err)
{
    int r = 0;

    pthread_mutex_lock(&job->lock);
    if (job->state != OUTGOING_FINISH_ASKED)
        r = error_set(err, EINVAL,
                      "the migration of %s is not unresolved (%s); bistream job abort ends it",
                      job->args.name, migrate_phase_name(job));
    else if (!job->last_known.code)
        r = error_set(err, EBUSY, "%s has just been asked to take %s over; wait for its answer",
                      job->args.destination, job->args.name);
    else
        job->resolve = resolve;
    pthread_mutex_unlock(&job->lock);
    if (r == 0)
        eventfd_write(job->poke_fd, 1);
    return r;
}

int migrate_handle_job_resolve(void *opaque, const void *args_, void *ret, struct error *err)
{
    struct control_connection *connection = opaque;
    struct migrate_jobs *jobs = connection->daemon->jobs;
    const struct bs_job_resolve_args *args = args_;
    struct migrate_job *job;
    int r;

    (void)ret;
    if (args->resolve != BS_RESOLVE_KEEP && args->resolve != BS_RESOLVE_GIVE_UP)
        return error_set(err, EINVAL, "a job can't be resolved as %u", args->resolve);
    pthread_mutex_lock(&jobs->lock);
    job = migrate_find_job(jobs, args->name, err);
    r = job ? resolve(job, args->resolve == BS_RESOLVE_KEEP ? RESOLVE_KEEP : RESOLVE_GIVE_UP, err)
            : -err->code;
    pthread_mutex_unlock(&jobs->lock);
    return r;
}
