/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream job info: how far a migration is, or how those went that have ended; under virsh
 * domjobinfo's names where it has the same.
 */
#include "config.h"

#include "client/job.h"

#include "client/connection.h"
#include "client/output.h"
#include "client/progress.h"
#include "common/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { COLUMNS = 5 };

static const char *status_word(unsigned outcome)
{
    switch (outcome) {
    case 0:
        return "running";
    case BS_OUTCOME_COMPLETED:
        return "completed";
    case BS_OUTCOME_FAILED:
        return "failed";
    default:
        return "unresolved";
    }
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static json_t *text_or_null(const char *text)
{
    return *text ? output_json_string(text) : json_null();
}

static json_t *number_or_null(uint64_t number)
{
    return number ? json_integer((json_int_t)number) : json_null();
}

static json_t *part_json(const struct bs_progress *part)
{
    return json_pack("{sI sI sI sI}", "total", (json_int_t)part->total, "transferred",
                     (json_int_t)part->transferred, "remaining", (json_int_t)part->remaining,
                     "rate", (json_int_t)part->rate);
}

static json_t *job_json(const struct bs_job_info *job)
{
    json_t *memory = NULL, *disks = json_array();
    char id[OUTPUT_UUID_SIZE];

    for (u_int i = 0; i < job->parts.parts_len; i++) {
        const struct bs_progress *part = &job->parts.parts_val[i];
        json_t *json = part_json(part);

        if (*part->target) {
            json_object_set_new(json, "target", output_json_string(part->target));
            json_array_append_new(disks, json);
        } else {
            json_decref(memory);
            memory = json;
        }
    }
    return json_pack("{ss so so ss so so so so sI sI sI so so sI so so sI sI}", "id",
                     output_uuid(job->id, id), "name", output_json_string(job->name), "destination",
                     output_json_string(job->destination), "status", status_word(job->outcome),
                     "phase", output_json_string(job->phase), "mode", text_or_null(job->mode),
                     "fallback", text_or_null(job->fallback), "error", text_or_null(job->error),
                     "started", (json_int_t)job->started, "elapsed_ms", (json_int_t)job->elapsed_ms,
                     "downtime_ms", (json_int_t)job->downtime_ms, "memory",
                     memory ? memory : json_null(), "disks", disks, "dirty_rate",
                     (json_int_t)job->dirty_rate, "bandwidth", number_or_null(job->bandwidth),
                     "round_trip_us", number_or_null(job->round_trip_us), "link_losses",
                     (json_int_t)job->link_losses, "stall_ms", (json_int_t)job->stall_ms);
}

static void print_json(const struct bs_job_info_ret *ret, bool completed)
{
    json_t *array = json_array();

    for (u_int i = 0; i < ret->jobs.jobs_len; i++)
        json_array_append_new(array, job_json(&ret->jobs.jobs_val[i]));
    if (completed) {
        output_json(array);
        return;
    }
    output_json(json_incref(json_array_get(array, 0)));
    json_decref(array);
}

/* ---- text ----------------------------------------------------------------------------------- */

static void print_label(const char *label)
{
    printf("%-16s ", label);
}

/* Nothing for an empty TEXT. */
static void print_text(const char *label, const char *text)
{
    if (!*text)
        return;
    print_label(label);
    output_text(text);
    putchar('\n');
}

static void print_rate(const char *label, uint64_t rate)
{
    char text[PROGRESS_TEXT_MAX];

    if (rate)
        print_text(label, progress_rate(rate, text));
}

static void print_seconds(const char *label, uint64_t ms)
{
    print_label(label);
    printf("%" PRIu64 ".%" PRIu64 " s\n", ms / 1000, ms % 1000 / 100);
}

static void print_started(uint64_t started)
{
    time_t seconds = (time_t)started;
    struct tm local;
    char text[64];

    if (localtime_r(&seconds, &local) && strftime(text, sizeof text, "%F %T %z", &local))
        print_text("Started:", text);
}

static int print_parts(const struct bs_job_info *job, struct error *err)
{
    size_t rows = (size_t)job->parts.parts_len + 1;
    CLEANUP_FREE const char **cells = calloc(rows * COLUMNS, sizeof *cells);
    CLEANUP_FREE char *texts = calloc(rows * COLUMNS, PROGRESS_TEXT_MAX);
    static const char *const heading[COLUMNS] = {"Part", "Total", "Transferred", "Remaining",
                                                 "Rate"};

    if (!cells || !texts)
        return error_set_errno(err, ENOMEM, "can't show the migration of %s", job->name);
    for (size_t i = 0; i < COLUMNS; i++)
        cells[i] = heading[i];
    for (size_t row = 1; row < rows; row++) {
        const struct bs_progress *part = &job->parts.parts_val[row - 1];
        char *text = texts + row * COLUMNS * PROGRESS_TEXT_MAX;
        const char **cell = &cells[row * COLUMNS];

        cell[0] = *part->target ? output_clean(part->target) : "memory";
        cell[1] = progress_size(part->total, text);
        cell[2] = progress_size(part->transferred, text + PROGRESS_TEXT_MAX);
        cell[3] = progress_size(part->remaining, text + 2 * PROGRESS_TEXT_MAX);
        cell[4] = progress_rate(part->rate, text + 3 * PROGRESS_TEXT_MAX);
    }
    putchar('\n');
    output_table(cells, rows, COLUMNS);
    return 0;
}

static int print_job(const struct bs_job_info *job, struct error *err)
{
    char id[OUTPUT_UUID_SIZE];

    print_text("Guest:", job->name);
    print_text("Migration:", output_uuid(job->id, id));
    print_text("Destination:", job->destination);
    if (job->outcome)
        print_text("Outcome:", status_word(job->outcome));
    print_text(job->outcome ? "Last phase:" : "Phase:", job->phase);
    print_text("Reason:", job->error);
    print_text("Mode:", job->mode);
    print_text("Fall back:", job->fallback);
    print_started(job->started);
    print_seconds("Time elapsed:", job->elapsed_ms);
    if (job->outcome == BS_OUTCOME_COMPLETED) {
        print_label("Total downtime:");
        printf("%" PRIu64 " ms\n", (uint64_t)job->downtime_ms);
    }
    print_rate("Bandwidth cap:", job->bandwidth);
    print_rate("Dirty rate:", job->dirty_rate);
    if (job->round_trip_us) {
        print_label("Round trip:");
        printf("%" PRIu64 ".%03" PRIu64 " ms\n", (uint64_t)job->round_trip_us / 1000,
               (uint64_t)job->round_trip_us % 1000);
    }
    print_label("Link losses:");
    printf("%u\n", job->link_losses);
    print_seconds("Stall time:", job->stall_ms);
    return print_parts(job, err);
}

static int print_jobs(const struct bs_job_info_ret *ret, struct error *err)
{
    int r = 0;

    for (u_int i = 0; r == 0 && i < ret->jobs.jobs_len; i++) {
        if (i > 0)
            putchar('\n');
        r = print_job(&ret->jobs.jobs_val[i], err);
    }
    return r;
}

enum command_exit job_info(const struct client *client, const struct job_options *options)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_job_info_args args = {.name = options->name, .completed = options->completed};
    struct bs_job_info_ret ret = {0};
    struct error err = ERROR_INIT;

    connection = connection_open(client->uri, &err);
    if (connection && connection_call(connection, BS_PROC_JOB_INFO, (xdrproc_t)xdr_bs_job_info_args,
                                      &args, (xdrproc_t)xdr_bs_job_info_ret, &ret, &err) == 0) {
        if (!options->completed && ret.jobs.jobs_len != 1)
            error_set(&err, EPROTO, "bistreamd's answer describes no migration");
        else if (client->json)
            print_json(&ret, options->completed);
        else
            print_jobs(&ret, &err);
        xdr_free((xdrproc_t)xdr_bs_job_info_ret, (char *)&ret);
    }
    return err.code ? command_fail(&err) : COMMAND_DONE;
}
