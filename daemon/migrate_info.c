/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What is told of a migration when the operator asks: of one that runs, its figures as its thread last
 * took them down, so that asking never waits for QEMU; of those that have ended, what is remembered.
 */
#include "config.h"

#include "daemon/job_history.h"
#include "daemon/migrate.h"
#include "daemon/migrate_job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* With the job's lock. */
static int copy_parts(const struct migrate_figures *figures, struct bs_job_info *ret)
{
    ret->parts.parts_val = calloc(figures->part_count + 1, sizeof *ret->parts.parts_val);
    if (!ret->parts.parts_val)
        return -ENOMEM;
    for (u_int i = 0; i < figures->part_count; i++) {
        struct bs_progress *part = &ret->parts.parts_val[i];

        *part = figures->parts[i];
        part->target = strdup(figures->parts[i].target);
        ret->parts.parts_len++;
        if (!part->target)
            return -ENOMEM;
    }
    return 0;
}

/* Everything but what is only known at the end.  PHASE and ERROR are copied.  With the job's lock; for
 * xdr_free() in either case. */
static int describe(const struct migrate_job *job, const char *phase, const char *error,
                    struct bs_job_info *ret)
{
    const struct migrate_figures *figures = &job->figures;

    memcpy(ret->id, job->id, sizeof ret->id);
    ret->name = strdup(job->args.name);
    ret->destination = strdup(job->args.destination);
    ret->phase = strdup(phase);
    ret->mode = strdup(migrate_mode_text(job));
    ret->fallback = strdup(job->chosen && job->choice.fallback ? job->choice.fallback : "");
    ret->error = strdup(error);
    if (!ret->name || !ret->destination || !ret->phase || !ret->mode || !ret->fallback ||
        !ret->error)
        return -ENOMEM;
    ret->started = job->begun;
    ret->elapsed_ms = (loop_clock() - job->started) / LOOP_MS;
    ret->dirty_rate = figures->dirty_rate;
    ret->bandwidth = job->args.bandwidth;
    ret->round_trip_us = figures->round_trip_us;
    ret->stall_ms = figures->stall_ms;
    ret->link_losses = figures->link_losses;
    return copy_parts(figures, ret);
}

/* What was copied when it was last looked at is not all: it is now. */
static void complete_parts(struct bs_job_info *info)
{
    for (u_int i = 0; i < info->parts.parts_len; i++) {
        struct bs_progress *part = &info->parts.parts_val[i];

        if (*part->target)
            part->transferred += part->remaining;
        part->remaining = 0;
    }
}

void migrate_remember(struct migrate_job *job, const struct bs_migrate_result *result)
{
    struct bs_job_info info = {.name = NULL};
    int r;

    pthread_mutex_lock(&job->lock);
    r = describe(job, migrate_last_phase(job), result->error, &info);
    pthread_mutex_unlock(&job->lock);
    info.outcome = result->outcome;
    info.elapsed_ms = result->total_ms;
    info.downtime_ms = result->downtime_ms;
    if (result->outcome == BS_OUTCOME_COMPLETED)
        complete_parts(&info);
    if (r == 0)
        job_history_add(job->daemon->history, &info);
    xdr_free((xdrproc_t)xdr_bs_job_info, (char *)&info);
}

/* ---- the call -------------------------------------------------------------------------------- */

static int tell_running(struct migrate_jobs *jobs, const char *name, struct bs_job_info_ret *ret,
                        struct error *err)
{
    struct migrate_job *job;
    int r;

    ret->jobs.jobs_val = calloc(1, sizeof *ret->jobs.jobs_val);
    if (!ret->jobs.jobs_val)
        return error_set(err, ENOMEM, "no memory to describe the migration of %s", name);
    pthread_mutex_lock(&jobs->lock);
    job = migrate_find_job(jobs, name, err);
    r = job ? 0 : -err->code;
    if (job) {
        ret->jobs.jobs_len = 1;
        pthread_mutex_lock(&job->lock);
        if (describe(job, migrate_phase_name(job), job->last_known.code ? job->last_known.text : "",
                     ret->jobs.jobs_val) < 0)
            r = error_set(err, ENOMEM, "no memory to describe the migration of %s", name);
        pthread_mutex_unlock(&job->lock);
    }
    pthread_mutex_unlock(&jobs->lock);
    return r;
}

int migrate_handle_job_info(void *opaque, const void *args_, void *ret_, struct error *err)
{
    struct control_connection *connection = opaque;
    const struct bs_job_info_args *args = args_;
    struct bs_job_info_ret *ret = ret_;
    int r;

    if (!args->completed)
        return tell_running(connection->daemon->jobs, args->name, ret, err);
    r = job_history_list(connection->daemon->history, args->name, ret, err);
    if (r == 0 && ret->jobs.jobs_len == 0 && *args->name)
        r = error_set(err, ENOENT,
                      "no migration of a guest named %s that has ended is remembered here",
                      args->name);
    return r;
}
