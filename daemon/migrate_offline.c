/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What mode offline has of its own at the source: a guest that is shut off has no QEMU that could
 * mirror its disks, so a qemu-storage-daemon serves its images here, read-only, another one serves the
 * new ones there, and qemu/copy.h carries and compares them through channels of the session.
 *
 * Whose the guest is goes by the same tables as for a guest that runs; the job on its domain keeps
 * everybody from starting it meanwhile.
 */
#include "config.h"

#include "daemon/migrate_job.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "qemu/copy.h"
#include "qemu/storage.h"

#include <errno.h>
#include <string.h>

enum { DIGEST_TIMEOUT_MS = 120000 /* one range of a busy disk, behind others' */ };

bool migrate_is_offline(const struct migrate_job *job)
{
    return job->args.flags & BS_MIGRATE_OFFLINE || job->choice.mode == MODE_OFFLINE;
}

/* ---- Begin ----------------------------------------------------------------------------------- */

int migrate_offline_begin(struct migrate_job *job, struct error *err)
{
    char state[BS_NAME_MAX];

    if (domain_state(job->domain) != DOMAIN_SHUT_OFF) {
        domain_state_text(job->domain, state, sizeof state);
        return error_set(err, EBUSY,
                         "domain %s is %s; --offline is for one that is shut off: leave it out, or "
                         "shut the guest down first",
                         job->args.name, state);
    }
    if (!(job->args.flags & BS_MIGRATE_COPY_STORAGE_INC))
        job->args.flags |= BS_MIGRATE_COPY_STORAGE_ALL;
    return 0;
}

/* ---- copying --------------------------------------------------------------------------------- */

struct offline_copy {
    struct migrate_job *job;
    struct copy_disk *disks; /* one per mirror of the job */
};

/* For the threads that copy. */
static int check(void *opaque, struct error *err)
{
    struct offline_copy *copy = opaque;
    struct migrate_job *job = copy->job;
    int r = 0;

    pthread_mutex_lock(&job->lock);
    if (job->aborted) {
        r = error_set(err, ECANCELED, "%s", job->aborted);
    } else if (job->session_ended) {
        *err = job->lost;
        r = -err->code;
    }
    pthread_mutex_unlock(&job->lock);
    return r;
}

/* What the destination has, by its own word. */
static int ask_digest(void *opaque, const char *target, uint64_t offset, uint64_t length,
                      uint8_t ret[COPY_DIGEST_SIZE], struct error *err)
{
    struct offline_copy *copy = opaque;
    struct bs_volume_digest_args args = {
        .target = (char *)(uintptr_t)target, .offset = offset, .length = length};
    struct bs_volume_digest_ret answer;
    struct error why = ERROR_INIT;
    int r = check(copy, err);

    if (r < 0)
        return r;
    memcpy(args.id, copy->job->id, sizeof args.id);
    r = pump_call(copy->job->pump, BS_PROC_VOLUME_DIGEST, (xdrproc_t)xdr_bs_volume_digest_args,
                  &args, (xdrproc_t)xdr_bs_volume_digest_ret, &answer, DIGEST_TIMEOUT_MS, err);
    if (r == 0)
        memcpy(ret, answer.digest, COPY_DIGEST_SIZE);
    else if (check(copy, &why) < 0)
        *err = why; /* which is why the call was cancelled */
    else
        error_prefix(err, "disk %s can't be compared at the destination", target);
    return r < 0 ? -err->code : 0;
}

/* On the job's thread.  Whoever waits for an answer from the destination when the job ends is called
 * back. */
static void report(void *opaque)
{
    struct offline_copy *copy = opaque;
    struct migrate_job *job = copy->job;
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < job->mirror_count; i++) {
        job->mirrors[i].total = copy->disks[i].total;
        job->mirrors[i].done = copy->disks[i].done;
    }
    if (migrate_check(job, &err) < 0)
        pump_cancel_calls(job->pump);
}

static const struct migrate_disk *find_disk(const struct migrate_job *job, const char *target)
{
    size_t i = 0;

    while (strcmp(job->plan.chosen[i].disk->target, target) != 0) /* it was made from one of them */
        i++;
    return &job->plan.chosen[i];
}

/* Lists for both ends of each copy, in the mirrors' order. */
static void list_disks(const struct migrate_job *job, const char *socket_path,
                       struct copy_disk *copies, struct storage_disk *images)
{
    for (size_t i = 0; i < job->mirror_count; i++) {
        const struct block_mirror *mirror = &job->mirrors[i];
        const struct domain_disk *disk = find_disk(job, mirror->target)->disk;

        images[i] = (struct storage_disk){
            .target = disk->target, .path = disk->path, .format = disk->format};
        copies[i] = (struct copy_disk){.target = mirror->target,
                                       .source_socket = socket_path,
                                       .destination_socket = job->disk_sockets[i],
                                       .size = disk->size,
                                       .top = mirror->top};
    }
}

static char *path_in_folder(const struct migrate_job *job, const char *name)
{
    char *path;

    return asprintf(&path, "%s/%s", job->folder, name) < 0 ? NULL : path;
}

/* Serves the images while they are copied. */
static int copy_images(struct offline_copy *copy, const struct storage *storage, struct error *err)
{
    const struct copy_handlers handlers = {
        .check = check, .digest = ask_digest, .progress = report, .opaque = copy};
    struct error stopping = ERROR_INIT;
    int r = storage_start(storage, err);

    if (r < 0)
        return r;
    r = copy_disks(copy->disks, storage->n_disks, &handlers, err);
    if (storage_stop(storage->pidfile, &stopping) < 0) /* it has them open for reading only */
        log_error("migration %s out: %s", copy->job->hex, stopping.text);
    return r;
}

int migrate_offline_perform(struct migrate_job *job, struct error *err)
{
    CLEANUP_FREE char *socket_path = path_in_folder(job, "storage");
    CLEANUP_FREE char *pidfile = path_in_folder(job, "storage.pid");
    CLEANUP_FREE struct copy_disk *copies = calloc(job->mirror_count + 1, sizeof *copies);
    CLEANUP_FREE struct storage_disk *images = calloc(job->mirror_count + 1, sizeof *images);
    struct offline_copy copy = {.job = job, .disks = copies};
    const struct storage storage = {.socket_path = socket_path,
                                    .pidfile = pidfile,
                                    .disks = images,
                                    .n_disks = job->mirror_count};
    int r = migrate_enter(job, PHASE_MIRROR, err);

    if (r < 0 || !job->mirror_count)
        return r;
    if (!socket_path || !pidfile || !copies || !images)
        return error_set(err, ENOMEM, "no memory to copy the disks");
    list_disks(job, socket_path, copies, images);
    r = migrate_throttle(job, job->args.bandwidth, err);
    return r == 0 ? copy_images(&copy, &storage, err) : r;
}

/* ---- afterwards ------------------------------------------------------------------------------ */

void migrate_offline_clear(struct migrate_job *job)
{
    CLEANUP_FREE char *pidfile = job->folder ? path_in_folder(job, "storage.pid") : NULL;
    struct error err = ERROR_INIT;

    if (migrate_is_offline(job) && pidfile && storage_stop(pidfile, &err) < 0)
        log_error("migration %s out: %s", job->hex, err.text);
}

bool migrate_offline_keeps(struct migrate_job *job)
{
    bool stopping, keeps;

    if (!migrate_is_offline(job))
        return false;
    pthread_mutex_lock(&job->daemon->jobs->lock);
    stopping = job->daemon->jobs->stopping;
    pthread_mutex_unlock(&job->daemon->jobs->lock);
    pthread_mutex_lock(&job->lock);
    keeps = job->aborted ? stopping : job->session_ended || job->restarted;
    pthread_mutex_unlock(&job->lock);
    return keeps;
}
