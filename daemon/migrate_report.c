/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What the operator sees of a migration: phases, progress, sentences, the result.
 */
#include "config.h"

#include "daemon/migrate_job.h"
#include "common/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { REPORT_INTERVAL_MS = 500 };

static const char *const phase_names[] = {
    [PHASE_BEGIN] = "begin",     [PHASE_PREPARE] = "prepare", [PHASE_MIRROR] = "mirror",
    [PHASE_MEMORY] = "memory",   [PHASE_SWITCH] = "switch",   [PHASE_FINISH] = "finish",
    [PHASE_CONFIRM] = "confirm",
};
static_assert(sizeof phase_names / sizeof *phase_names == PHASES, "each phase has a name");

const char *migrate_phase_name(const struct migrate_job *job)
{
    if (job->state == OUTGOING_FINISH_ASKED && job->last_known.code)
        return "unresolved";
    if (job->decided)
        return "settling";
    return phase_names[job->phase];
}

const char *migrate_mode_text(const struct migrate_job *job)
{
    return job->chosen ? migrate_mode_name(job->choice.mode) : "";
}

const char *migrate_last_phase(const struct migrate_job *job)
{
    return phase_names[job->phase];
}

/* To the client, if there is one. */
static int send_event(struct migrate_job *job, int procedure, xdrproc_t proc, const void *body)
{
    return job->connection ? control_send_event(job->connection, procedure, proc, body) : 0;
}

void migrate_say(struct migrate_job *job, const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    struct bs_migrate_notice notice = {.text = text};
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_info("migration %s (%s) out: %s", job->hex, job->args.name, text);
    memcpy(notice.id, job->id, sizeof notice.id);
    send_event(job, BS_PROC_EVENT_MIGRATE_NOTICE, (xdrproc_t)xdr_bs_migrate_notice, &notice);
}

/* ---- progress -------------------------------------------------------------------------------- */

static struct bs_progress disk_part(const char *target, uint64_t total, uint64_t done,
                                    uint64_t elapsed_ms)
{
    return (struct bs_progress){.target = (char *)(uintptr_t)target,
                                .total = total,
                                .transferred = done,
                                .remaining = total > done ? total - done : 0,
                                .rate = elapsed_ms ? done * 1000 / elapsed_ms : 0};
}

/* Takes down where it stands, for whoever asks. */
static void take_figures(struct migrate_job *job)
{
    struct migrate_figures *figures = &job->figures;
    uint64_t elapsed_ms = (loop_clock() - job->started) / LOOP_MS;
    struct pump_stats stats = {.round_trip = 0};

    if (job->pump)
        pump_get_stats(job->pump, NULL, &stats);
    pthread_mutex_lock(&job->lock);
    figures->parts[0] = (struct bs_progress){.target = (char *)"",
                                             .total = job->memory.ram_total,
                                             .transferred = job->memory.ram_transferred,
                                             .remaining = job->memory.ram_remaining,
                                             .rate = job->memory_rate};
    figures->part_count = 1;
    for (size_t i = 0; i < job->mirror_count; i++)
        figures->parts[figures->part_count++] = disk_part(
            job->mirrors[i].target, job->mirrors[i].total, job->mirrors[i].done, elapsed_ms);
    if (job->memory.disk_total) /* in the stream, all together */
        figures->parts[figures->part_count++] =
            disk_part("disks", job->memory.disk_total, job->memory.disk_transferred, elapsed_ms);
    figures->dirty_rate = job->memory.dirty_rate;
    if (job->pump) {
        figures->round_trip_us = stats.round_trip / 1000;
        figures->stall_ms = stats.silent_total / LOOP_MS;
        figures->link_losses = stats.link_losses;
        figures->away_ms = stats.away / LOOP_MS;
    }
    pthread_mutex_unlock(&job->lock);
}

static void send_progress(struct migrate_job *job)
{
    struct bs_migrate_progress progress = {.phase = (char *)phase_names[job->phase],
                                           .parts.parts_val = job->figures.parts};

    take_figures(job);
    memcpy(progress.id, job->id, sizeof progress.id);
    progress.parts.parts_len = job->figures.part_count;
    progress.away_ms = job->figures.away_ms;
    send_event(job, BS_PROC_EVENT_MIGRATE_PROGRESS, (xdrproc_t)xdr_bs_migrate_progress, &progress);
}

/* Bytes of RAM per second since the last look. */
static void measure_memory(struct migrate_job *job)
{
    const uint64_t sent = job->memory.ram_transferred, before = job->measured_bytes;
    const uint64_t now = loop_clock();

    if (sent + job->memory.disk_transferred != job->moved_bytes)
        job->moved = now;
    job->moved_bytes = sent + job->memory.disk_transferred;
    if (job->measured && now > job->measured && sent >= before)
        job->memory_rate = (sent - before) * LOOP_SECOND / (now - job->measured);
    job->measured = now;
    job->measured_bytes = sent;
}

/* How far it is, as QEMU says. */
static int look(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait = migrate_ask(job);
    struct migration_info memory;
    int r = 0;

    if (job->mirror_count && job->qmp)
        r = block_mirrors_query(job->qmp, job->mirrors, job->mirror_count, &wait, err);
    if (r < 0 || !job->migrating)
        return r;
    r = migration_query(job->qmp, &memory, &wait, err);
    if (r == 0) {
        job->memory = memory;
        measure_memory(job);
    }
    return r;
}

void migrate_report_progress(struct migrate_job *job)
{
    struct error err = ERROR_INIT;
    uint64_t now = loop_clock();

    if (now < job->next_report)
        return;
    job->next_report = now + REPORT_INTERVAL_MS * LOOP_MS;
    if (job->phase != PHASE_SWITCH && migrate_answered(job, look(job, &err)) < 0)
        log_debug("migration %s out: %s", job->hex, err.text);
    send_progress(job);
}

int migrate_enter(struct migrate_job *job, enum migrate_phase phase, struct error *err)
{
    int r = 0;

    pthread_mutex_lock(&job->lock);
    if (job->aborted && phase <= PHASE_FINISH)
        r = error_set(err, ECANCELED, "%s", job->aborted);
    else
        job->phase = phase;
    pthread_mutex_unlock(&job->lock);
    if (r < 0)
        return r;
    log_info("migration %s (%s) out: %s", job->hex, job->args.name, phase_names[phase]);
    send_progress(job);
    return 0;
}

/* ---- the result ----------------------------------------------------------------------------- */

void migrate_count_bytes(struct migrate_job *job)
{
    if (!job->pump)
        return;
    take_figures(job);
    for (size_t i = 0; i < job->mirror_count; i++) {
        char endpoint[BS_ENDPOINT_MAX];
        struct pump_stats stats;

        snprintf(endpoint, sizeof endpoint, "nbd/%s", job->mirrors[i].target);
        pump_get_stats(job->pump, endpoint, &stats);
        job->disk_bytes[i] = job->choice.mode == MODE_DIRECT ? job->mirrors[i].done : stats.sent;
    }
}

static void log_result(const struct migrate_job *job, const struct bs_migrate_result *result)
{
    char disks[1024] = "";

    if (result->outcome != BS_OUTCOME_COMPLETED) {
        log_error("migration %s (%s) out: %s", job->hex, job->args.name, result->error);
        return;
    }
    for (u_int i = 0; i < result->disks.disks_len; i++) {
        size_t used = strlen(disks);

        snprintf(disks + used, sizeof disks - used, ", %s %" PRIu64 " bytes",
                 result->disks.disks_val[i].target, result->disks.disks_val[i].bytes);
    }
    log_info("migration %s (%s) out: completed: mode %s, total %" PRIu64 " ms, downtime %" PRIu64
             " ms, memory %" PRIu64 " bytes%s",
             job->hex, job->args.name, result->mode, result->total_ms, result->downtime_ms,
             result->ram_bytes, disks);
}

void migrate_report_result(struct migrate_job *job, enum bs_outcome outcome,
                           const struct error *why)
{
    struct bs_disk_bytes disks[BS_DISKS_MAX];
    struct bs_migrate_result result = {.outcome = outcome,
                                       .mode = (char *)migrate_mode_text(job),
                                       .disks.disks_val = disks,
                                       .error = (char *)(why->code ? why->text : "")};

    memcpy(result.id, job->id, sizeof result.id);
    result.total_ms = (loop_clock() - job->started) / LOOP_MS;
    result.ram_bytes = job->memory.ram_transferred;
    if (outcome == BS_OUTCOME_COMPLETED) {
        result.error = (char *)"";
        if (job->was_running)
            result.downtime_ms = job->switched_us / 1000 +
                                 (job->paused_at ? (job->completed_at - job->paused_at) / LOOP_MS
                                                 : job->memory.downtime_ms);
    }
    for (size_t i = 0; i < job->mirror_count; i++)
        disks[result.disks.disks_len++] = (struct bs_disk_bytes){
            .target = (char *)job->mirrors[i].target, .bytes = job->disk_bytes[i]};
    log_result(job, &result);
    take_figures(job);
    if (outcome != BS_OUTCOME_UNRESOLVED)
        migrate_remember(job, &result);
    if (job->reported) /* as unresolved */
        return;
    job->reported = true;
    if (send_event(job, BS_PROC_EVENT_MIGRATE_RESULT, (xdrproc_t)xdr_bs_migrate_result, &result) <
        0)
        log_info("migration %s out: nobody is there any more to hear the result", job->hex);
}
