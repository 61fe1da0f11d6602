/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Mirrors of the source's disks into the destination's exports: see block.h.
 *
 * Job and NBD node of mirror N are called bistream-mirror-N and bistream-nbd-N, whatever the disk
 * is called (a job's id may hold less characters than a drive's name).  Jobs are not dismissed by
 * themselves: a concluded one stays and tells by its error, or by having none, what became of the
 * copy.  So query-jobs says all that there is to know, and events only say when to look.
 *
 * A job that fails by itself frees what a write uses that is on its way to both sides (QEMU 7.2 and 8.2:
 * the heap is corrupt then, and the guest dies).  So a mirror with write_blocking stops at an error
 * rather than fail: it has an io-status then, which stands for the error here, and is ended when nothing
 * is written any more.
 *
 * Cleaning up goes by what QEMU lists under those names, not by what we believe to have started:
 * it copes with every state, also with what a killed daemon has left behind.
 */
#include "config.h"

#include "qemu/block.h"
#include "common/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define JOB_PREFIX "bistream-mirror-"
enum { NAME_MAX_SIZE = 32 }; /* QEMU's own limit for a node name */

static void job_id(unsigned number, char ret[NAME_MAX_SIZE])
{
    snprintf(ret, NAME_MAX_SIZE, JOB_PREFIX "%u", number);
}

static void node_name(unsigned number, char ret[NAME_MAX_SIZE])
{
    snprintf(ret, NAME_MAX_SIZE, BLOCK_MIRROR_NODE "%u", number);
}

/* --- starting --- */

/* Zeroes that the mirror writes become holes on the way, and unmaps are passed on. */
static int add_nbd_node(struct qmp *qmp, const struct block_mirror *mirror,
                        const struct qmp_wait *wait, struct error *err)
{
    char node[NAME_MAX_SIZE];
    json_t *args;

    node_name(mirror->number, node);
    args = json_pack("{s:s,s:s,s:o,s:s,s:s,s:s}", "driver", "nbd", "node-name", node, "server",
                     qemu_address_json(&mirror->address), "export", mirror->export_name,
                     "detect-zeroes", "unmap", "discard", "unmap");
    if (args && mirror->tls_creds)
        json_object_set_new(args, "tls-creds", json_string(mirror->tls_creds));
    if (args && mirror->tls_hostname)
        json_object_set_new(args, "tls-hostname", json_string(mirror->tls_hostname));
    return qmp_execute(qmp, "blockdev-add", args, wait, NULL, err);
}

static json_t *mirror_arguments(const struct block_mirror *mirror)
{
    char job[NAME_MAX_SIZE], node[NAME_MAX_SIZE];
    json_t *args;

    job_id(mirror->number, job);
    node_name(mirror->number, node);
    args = json_pack("{s:s,s:s,s:s,s:s,s:I,s:b}", "job-id", job, "device", mirror->device, "target",
                     node, "sync", mirror->top ? "top" : "full", "speed",
                     (json_int_t)mirror->bandwidth, "auto-dismiss", false);
    if (mirror->write_blocking && args) {
        json_object_set_new(args, "copy-mode", json_string("write-blocking"));
        json_object_set_new(args, "on-source-error", json_string("stop"));
        json_object_set_new(args, "on-target-error", json_string("stop"));
    }
    return args;
}

static int check_bandwidth(uint64_t bandwidth, struct error *err)
{
    if (bandwidth > INT64_MAX)
        return error_set(err, EINVAL,
                         "a bandwidth of %llu bytes per second is more than QEMU takes",
                         (unsigned long long)bandwidth);
    return 0;
}

int block_mirror_start(struct qmp *qmp, const struct block_mirror *mirror,
                       const struct qmp_wait *wait, struct error *err)
{
    int r = check_bandwidth(mirror->bandwidth, err);

    if (r == 0)
        r = add_nbd_node(qmp, mirror, wait, err);
    if (r == 0)
        r = qmp_execute(qmp, "blockdev-mirror", mirror_arguments(mirror), wait, NULL, err);
    if (r != 0)
        error_prefix(err, "can't mirror disk %s", mirror->target);
    return r;
}

int block_mirror_set_bandwidth(struct qmp *qmp, const struct block_mirror *mirror,
                               uint64_t bandwidth, const struct qmp_wait *wait, struct error *err)
{
    char job[NAME_MAX_SIZE];
    int r = check_bandwidth(bandwidth, err);

    if (r < 0)
        return r;
    job_id(mirror->number, job);
    return qmp_execute(qmp, "block-job-set-speed",
                       json_pack("{s:s,s:I}", "device", job, "speed", (json_int_t)bandwidth), wait,
                       NULL, err);
}

/* --- looking --- */

static const char *text_at(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));

    return value ? value : "";
}

static uint64_t number_at(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));

    return value > 0 ? (uint64_t)value : 0;
}

static const json_t *find_job(const json_t *jobs, const char *id)
{
    const json_t *job;
    size_t i;

    json_array_foreach (jobs, i, job) {
        if (strcmp(text_at(job, "id"), id) == 0)
            return job;
    }
    return NULL;
}

/* QEMU's JobStatus; what lies between ready and concluded ("waiting", "pending", "aborting") is on
 * its way. */
static enum block_mirror_state state_of(const json_t *job)
{
    const char *status = text_at(job, "status");

    if (!job)
        return BLOCK_MIRROR_NONE;
    if (strcmp(status, "ready") == 0 || strcmp(status, "standby") == 0)
        return BLOCK_MIRROR_READY;
    if (strcmp(status, "concluded") != 0)
        return BLOCK_MIRROR_RUNNING;
    return json_object_get(job, "error") ? BLOCK_MIRROR_FAILED : BLOCK_MIRROR_DONE;
}

static void read_mirror(const json_t *jobs, struct block_mirror *mirror)
{
    char id[NAME_MAX_SIZE];
    const json_t *job;

    job_id(mirror->number, id);
    job = find_job(jobs, id);
    mirror->state = state_of(job);
    if (!job)
        return;
    mirror->done = number_at(job, "current-progress");
    mirror->total = number_at(job, "total-progress");
    snprintf(mirror->error, sizeof mirror->error, "%s", text_at(job, "error"));
}

/* Of a job that has stopped at an error. */
static void read_io_status(const json_t *block_jobs, struct block_mirror *mirror)
{
    char id[NAME_MAX_SIZE];
    const json_t *job;
    size_t i;

    job_id(mirror->number, id);
    json_array_foreach (block_jobs, i, job) {
        const char *status = text_at(job, "io-status");

        if (strcmp(text_at(job, "device"), id) != 0 || !*status || strcmp(status, "ok") == 0)
            continue;
        mirror->state = BLOCK_MIRROR_FAILED;
        snprintf(mirror->error, sizeof mirror->error, "%s",
                 strcmp(status, "nospace") == 0 ? "No space left on device" : "Input/output error");
    }
}

static int query_io_status(struct qmp *qmp, struct block_mirror *mirrors, size_t count,
                           const struct qmp_wait *wait, struct error *err)
{
    json_t *jobs;
    int r = qmp_execute(qmp, "query-block-jobs", json_object(), wait, &jobs, err);

    if (r != 0)
        return r;
    for (size_t i = 0; i < count; i++)
        read_io_status(jobs, &mirrors[i]);
    json_decref(jobs);
    return 0;
}

int block_mirrors_query(struct qmp *qmp, struct block_mirror *mirrors, size_t count,
                        const struct qmp_wait *wait, struct error *err)
{
    bool may_stop = false;
    json_t *jobs;
    int r = qmp_execute(qmp, "query-jobs", json_object(), wait, &jobs, err);

    if (r != 0)
        return r;
    for (size_t i = 0; i < count; i++) {
        read_mirror(jobs, &mirrors[i]);
        may_stop = may_stop || mirrors[i].write_blocking;
    }
    json_decref(jobs);
    return may_stop ? query_io_status(qmp, mirrors, count, wait, err) : 0;
}

int block_mirrors_check(const struct block_mirror *mirrors, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (mirrors[i].state == BLOCK_MIRROR_FAILED)
            return error_set(err, EIO, "the copy of disk %s failed: %s", mirrors[i].target,
                             mirrors[i].error);
    }
    return 0;
}

/* 1: all are in STATE; 0: not yet; else one never will be. */
static int all_in_state(const struct block_mirror *mirrors, size_t count,
                        enum block_mirror_state state, struct error *err)
{
    int r = block_mirrors_check(mirrors, count, err);

    if (r < 0)
        return r;
    r = 1;
    for (size_t i = 0; i < count; i++) {
        if (mirrors[i].state == BLOCK_MIRROR_NONE ||
            (mirrors[i].state == BLOCK_MIRROR_DONE && state != BLOCK_MIRROR_DONE))
            return error_set(err, EIO, "the copy of disk %s was ended by someone else",
                             mirrors[i].target);
        if (mirrors[i].state != state)
            r = 0;
    }
    return r;
}

static int wait_for_state(struct qmp *qmp, struct block_mirror *mirrors, size_t count,
                          enum block_mirror_state state, const struct qmp_wait *wait,
                          struct error *err)
{
    uint64_t seen = qmp_bell(qmp);
    int r;

    for (;;) {
        r = block_mirrors_query(qmp, mirrors, count, wait, err);
        if (r == 0)
            r = all_in_state(mirrors, count, state, err);
        if (r == 0)
            r = qmp_wait_bell(qmp, &seen, wait, err);
        if (r == -ETIMEDOUT)
            error_prefix(err, "waiting for the copies of the disks");
        if (r != 0)
            return r == 1 ? 0 : r;
    }
}

int block_mirrors_wait_ready(struct qmp *qmp, struct block_mirror *mirrors, size_t count,
                             const struct qmp_wait *wait, struct error *err)
{
    return wait_for_state(qmp, mirrors, count, BLOCK_MIRROR_READY, wait, err);
}

/* --- completing --- */

/* Without force, a ready job that is cancelled completes its copy and ends. */
static int end_job(struct qmp *qmp, const char *id, bool force, const struct qmp_wait *wait,
                   struct error *err)
{
    return qmp_execute(qmp, "block-job-cancel",
                       json_pack("{s:s,s:b}", "device", id, "force", force), wait, NULL, err);
}

static int dismiss_job(struct qmp *qmp, const char *id, const struct qmp_wait *wait,
                       struct error *err)
{
    return qmp_execute(qmp, "job-dismiss", json_pack("{s:s}", "id", id), wait, NULL, err);
}

static int delete_node(struct qmp *qmp, const char *node, const struct qmp_wait *wait,
                       struct error *err)
{
    return qmp_execute(qmp, "blockdev-del", json_pack("{s:s}", "node-name", node), wait, NULL, err);
}

/* Has every mirror end.  One that has failed meanwhile refuses; its own reason is the better one.
 */
static int end_all(struct qmp *qmp, struct block_mirror *mirrors, size_t count,
                   const struct qmp_wait *wait, struct error *err)
{
    char id[NAME_MAX_SIZE];

    for (size_t i = 0; i < count; i++) {
        struct error refused = ERROR_INIT;
        int r;

        job_id(mirrors[i].number, id);
        r = end_job(qmp, id, false, wait, &refused);
        if (r == -EREMOTEIO) {
            r = block_mirrors_query(qmp, mirrors, count, wait, err);
            if (r == 0)
                r = block_mirrors_check(mirrors, count, err);
            if (r != 0)
                return r;
            r = -EREMOTEIO;
        }
        if (r != 0)
            return error_set(err, -r, "can't complete the copy of disk %s: %s", mirrors[i].target,
                             refused.text);
    }
    return 0;
}

int block_mirrors_complete(struct qmp *qmp, struct block_mirror *mirrors, size_t count,
                           const struct qmp_wait *wait, struct error *err)
{
    char name[NAME_MAX_SIZE];
    int r;

    r = block_mirrors_query(qmp, mirrors, count, wait, err);
    if (r == 0)
        r = block_mirrors_check(mirrors, count, err);
    if (r == 0)
        r = end_all(qmp, mirrors, count, wait, err);
    if (r == 0)
        r = wait_for_state(qmp, mirrors, count, BLOCK_MIRROR_DONE, wait, err);
    for (size_t i = 0; i < count && r == 0; i++) {
        job_id(mirrors[i].number, name);
        r = dismiss_job(qmp, name, wait, err);
        if (r == 0) {
            node_name(mirrors[i].number, name);
            r = delete_node(qmp, name, wait, err);
        }
    }
    return r;
}

/* --- cleaning up --- */

static bool has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Dismisses what has concluded, and with CANCEL ends the rest by force.  A refusal is no error: the
 * job has moved on meanwhile, and the next look tells where to.  Returns how many jobs may still
 * be there. */
static int sweep_jobs(struct qmp *qmp, bool cancel, const struct qmp_wait *wait, struct error *err)
{
    json_t *jobs, *job;
    int left = 0, r;
    size_t i;

    r = qmp_execute(qmp, "query-jobs", json_object(), wait, &jobs, err);
    if (r != 0)
        return r;
    json_array_foreach (jobs, i, job) {
        const char *id = text_at(job, "id");

        if (!has_prefix(id, JOB_PREFIX))
            continue;
        if (strcmp(text_at(job, "status"), "concluded") == 0)
            r = dismiss_job(qmp, id, wait, err);
        else {
            left++;
            r = cancel ? end_job(qmp, id, true, wait, err) : 0;
        }
        if (r != 0 && r != -EREMOTEIO)
            break;
        r = 0;
    }
    json_decref(jobs);
    return r != 0 ? r : left;
}

static int sweep_nodes(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    json_t *nodes, *node;
    size_t i;
    int r = qmp_execute(qmp, "query-named-block-nodes", json_pack("{s:b}", "flat", true), wait,
                        &nodes, err);

    if (r != 0)
        return r;
    json_array_foreach (nodes, i, node) {
        const char *name = text_at(node, "node-name");

        if (has_prefix(name, BLOCK_MIRROR_NODE) && r == 0)
            r = delete_node(qmp, name, wait, err);
    }
    json_decref(nodes);
    return r;
}

int block_mirrors_remove(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    uint64_t seen = qmp_bell(qmp);
    bool first = true;
    int left;

    while ((left = sweep_jobs(qmp, first, wait, err)) > 0) {
        int r = 0;

        if (!first) /* right after the cancels most have concluded */
            r = qmp_wait_bell(qmp, &seen, wait, err);
        if (r == -ETIMEDOUT)
            error_prefix(err, "waiting for the end of %d copies", left);
        if (r != 0)
            return r;
        first = false;
    }
    return left < 0 ? left : sweep_nodes(qmp, wait, err);
}
