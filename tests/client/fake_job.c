/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The fake daemon's jobs: see fake_daemon.h. */
#include "config.h"

#include "tests/client/fake_daemon.h"

#include <stdlib.h>
#include <string.h>

int handle_job_list(void *opaque, const void *in, void *out, struct error *err)
{
    static const struct {
        const char *name, *phase, *reason;
    } jobs[] = {{"web", "mirror", ""},
                {"db\033[2J", "unresolved", "can't connect to b.example:\nNo route to host"},
                {"mail", "settling", ""}};
    const u_int count = sizeof jobs / sizeof *jobs;
    struct bs_job_list_ret *ret = out;

    (void)opaque, (void)in, (void)err;
    ret->jobs.jobs_val = calloc(count, sizeof *ret->jobs.jobs_val);
    if (!ret->jobs.jobs_val)
        abort();
    ret->jobs.jobs_len = count;
    for (u_int i = 0; i < count; i++) {
        struct bs_job *job = &ret->jobs.jobs_val[i];

        memset(job->id, 0x10 + (int)i, sizeof job->id);
        job->name = fake_copy(jobs[i].name);
        job->destination = fake_copy("bistream://b.example");
        job->phase = fake_copy(jobs[i].phase);
        job->reason = fake_copy(jobs[i].reason);
    }
    return 0;
}

/* One of memory and one disk. */
static void fill_job(struct bs_job_info *job, const char *name, unsigned outcome)
{
    static const struct bs_progress parts[2] = {{NULL, 1000 * MIB, 400 * MIB, 600 * MIB, 100 * MIB},
                                                {NULL, 4000 * MIB, 4000 * MIB, 0, 200 * MIB}};

    memset(job->id, 0x10, sizeof job->id);
    job->name = fake_copy(name);
    job->destination = fake_copy("bistream://b.example");
    job->phase = fake_copy("memory");
    job->mode = fake_copy("tunnel");
    job->fallback = fake_copy("b.example knows no\033 better");
    job->outcome = outcome;
    job->error = fake_copy(outcome == BS_OUTCOME_FAILED ? "aborted by the operator" : "");
    job->started = 1764000000;
    job->elapsed_ms = 12345;
    job->downtime_ms = outcome == BS_OUTCOME_COMPLETED ? 18 : 0;
    job->parts.parts_len = 2;
    job->parts.parts_val = calloc(2, sizeof *job->parts.parts_val);
    if (!job->parts.parts_val)
        abort();
    for (int i = 0; i < 2; i++) {
        job->parts.parts_val[i] = parts[i];
        job->parts.parts_val[i].target = fake_copy(i ? "vda" : "");
    }
    job->dirty_rate = 5 * MIB;
    job->bandwidth = outcome ? 0 : 100 * MIB;
    job->round_trip_us = 230;
    job->link_losses = 2;
    job->stall_ms = 1500;
}

int handle_job_info(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_job_info_args *args = in;
    struct bs_job_info_ret *ret = out;
    u_int count = args->completed ? 2 : 1;

    (void)opaque;
    fprintf(fake_calls, "job info name='%s' completed=%d\n", args->name, args->completed);
    if (strcmp(args->name, "missing") == 0)
        return fake_no_domain(args->name, err);
    ret->jobs.jobs_val = calloc(count, sizeof *ret->jobs.jobs_val);
    if (!ret->jobs.jobs_val)
        abort();
    for (; ret->jobs.jobs_len < count; ret->jobs.jobs_len++)
        fill_job(&ret->jobs.jobs_val[ret->jobs.jobs_len], ret->jobs.jobs_len ? "db" : "web",
                 !args->completed     ? 0
                 : ret->jobs.jobs_len ? BS_OUTCOME_FAILED
                                      : BS_OUTCOME_COMPLETED);
    return 0;
}

int handle_job_set(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_job_set_args *args = in;

    (void)opaque, (void)out;
    fprintf(fake_calls, "job set name='%s' bandwidth=%llu\n", args->name,
            (unsigned long long)args->bandwidth);
    return strcmp(args->name, "missing") == 0 ? fake_no_domain(args->name, err) : 0;
}

int handle_job_abort(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_job_name_args *args = in;

    (void)opaque, (void)out;
    fprintf(fake_calls, "job abort name='%s'\n", args->name);
    return strcmp(args->name, "missing") == 0 ? fake_no_domain(args->name, err) : 0;
}

int handle_job_resolve(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_job_resolve_args *args = in;

    (void)opaque, (void)out;
    fprintf(fake_calls, "job resolve name='%s' resolve=%u\n", args->name, args->resolve);
    return strcmp(args->name, "missing") == 0 ? fake_no_domain(args->name, err) : 0;
}
