/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Copying disks: see copy.h.
 *
 * First each side is asked which ranges of each disk it holds anything in.  Then a few threads take
 * ranges, of one disk after the other, each over connections of its own.  A range goes through
 *
 *     the destination has something there:  compare, and that's it if they are alike;
 *                                           else compare in small steps, and copy what differs
 *     it has nothing:                       copy
 *     compare:                              else the copy is bad
 *
 * so that while some threads wait for a comparison the others fill the line.  A thread flushes its
 * connection before it leaves a disk.  The first failure ends them all.
 */
#include "config.h"

#include "qemu/copy_link.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "common/loop.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum {
    WORKERS = 8,    /* threads, for all disks together */
    MEND = 1 << 20, /* bytes: what is compared apart in a range that broke off half way */
    PROGRESS_MS = 500,
};

/* What is known of a disk beside struct copy_disk. */
struct disk {
    struct copy_disk *spec;
    uint64_t ranges, next; /* NEXT under the lock */
    uint8_t *here, *there; /* for each range: anything in it at the source, at the destination? */
    uint64_t total;        /* bytes at the source */
    _Atomic uint64_t done, carried;
};

struct copier {
    const struct copy_handlers *handlers;
    struct disk *disks;
    size_t count;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a worker has ended */
    size_t working;
    atomic_bool failed;
    struct error *err; /* the first failure's */
};

struct worker {
    pthread_t thread;
    struct copier *copier;
    size_t number;
    struct disk *disk; /* that its links lead to; NULL: none yet */
    struct copy_link source, destination;
};

/* ---- what each side holds -------------------------------------------------------------------- */

static struct copy_link describe_link(struct copier *copier, const struct disk *disk,
                                      const char *side)
{
    return (struct copy_link){.target = disk->spec->target,
                              .side = side,
                              .check = copier->handlers->check,
                              .opaque = copier->handlers->opaque};
}

static int survey_side(struct copier *copier, struct disk *disk, const char *socket_path,
                       const char *side, uint8_t **ret, struct error *err)
{
    struct copy_link link = describe_link(copier, disk, side);
    struct copy_map map = {
        .length = disk->spec->size, .block = COPY_RANGE, .bits = calloc(disk->ranges + 1, 1)};
    int r;

    if (!map.bits)
        return error_set(err, ENOMEM, "no memory to copy disk %s", disk->spec->target);
    *ret = map.bits;
    r = copy_link_open(&link, socket_path, err);
    if (r == 0)
        r = copy_link_check_size(&link, disk->spec->size, err);
    if (r == 0)
        r = copy_link_map(&link, &map, err);
    copy_link_close(&link);
    for (uint64_t i = 0; i < disk->ranges; i++)
        map.bits[i] &= disk->spec->top ? COPY_TOP : COPY_DATA;
    if (*ret == disk->here)
        disk->total = disk->spec->top ? map.top : map.data;
    return r;
}

static int survey(struct copier *copier, struct disk *disk, struct error *err)
{
    int r;

    disk->ranges = (disk->spec->size + COPY_RANGE - 1) / COPY_RANGE;
    r = survey_side(copier, disk, disk->spec->source_socket, "at the source", &disk->here, err);
    return r == 0 ? survey_side(copier, disk, disk->spec->destination_socket, "at the destination",
                                &disk->there, err)
                  : r;
}

/* ---- one range ------------------------------------------------------------------------------- */

static uint64_t range_offset(uint64_t range)
{
    return range * COPY_RANGE;
}

static uint64_t range_length(const struct disk *disk, uint64_t range)
{
    return min_u64(COPY_RANGE, disk->spec->size - range_offset(range));
}

/* Returns 1 when both sides have the same from OFFSET on, 0 when not, or a negative errno with ERR. */
static int compare(struct worker *worker, uint64_t offset, uint64_t length, struct error *err)
{
    const struct copy_handlers *handlers = worker->copier->handlers;
    uint8_t here[COPY_DIGEST_SIZE], there[COPY_DIGEST_SIZE];
    int r =
        handlers->digest(handlers->opaque, worker->disk->spec->target, offset, length, there, err);

    if (r == 0)
        r = copy_link_digest(&worker->source, offset, length, here, err);
    return r < 0 ? r : memcmp(here, there, sizeof here) == 0;
}

/* What is at the destination already counts as done. */
static int count_done(struct worker *worker, uint64_t offset, uint64_t length, struct error *err)
{
    struct disk *disk = worker->disk;
    uint8_t bits = 0;
    struct copy_map map = {.offset = offset, .length = length, .block = COPY_RANGE, .bits = &bits};
    int r = copy_link_map(&worker->source, &map, err);

    if (r == 0)
        atomic_fetch_add(&disk->done, disk->spec->top ? map.top : map.data);
    return r;
}

static int carry(struct worker *worker, uint64_t offset, uint64_t length, bool fresh,
                 struct error *err)
{
    struct disk *disk = worker->disk;
    const struct copy_range range = {.source = &worker->source,
                                     .destination = &worker->destination,
                                     .offset = offset,
                                     .length = length,
                                     .fresh = fresh,
                                     .top = disk->spec->top,
                                     .done = &disk->done,
                                     .carried = &disk->carried};

    return copy_range_run(&range, err);
}

/* Carries what differs in a range that the destination has something of. */
static int mend(struct worker *worker, uint64_t offset, uint64_t length, struct error *err)
{
    uint64_t end = offset + length;
    int r = 0;

    for (; r == 0 && offset < end; offset += length) {
        length = min_u64(MEND, end - offset);
        r = compare(worker, offset, length, err);
        if (r == 1)
            r = count_done(worker, offset, length, err);
        else if (r == 0)
            r = carry(worker, offset, length, false, err);
    }
    return r;
}

static int copy_one(struct worker *worker, uint64_t range, struct error *err)
{
    const struct disk *disk = worker->disk;
    uint64_t offset = range_offset(range), length = range_length(disk, range);
    int r = disk->there[range] ? compare(worker, offset, length, err) : 0;

    if (r == 1)
        return count_done(worker, offset, length, err);
    if (r == 0)
        r = disk->there[range] ? mend(worker, offset, length, err)
                               : carry(worker, offset, length, true, err);
    if (r == 0)
        r = compare(worker, offset, length, err);
    if (r == 0)
        return error_set(err, EILSEQ,
                         "disk %s: the %" PRIu64 " bytes at %" PRIu64 " are not the same at the "
                         "destination as at the source after they were copied; check the storage "
                         "and the memory of both hosts",
                         disk->spec->target, length, offset);
    return r < 0 ? r : 0;
}

/* ---- the workers ----------------------------------------------------------------------------- */

/* A range of DISK that is worth a look. */
static bool take_of(struct disk *disk, uint64_t *ret_range)
{
    for (; disk->next < disk->ranges; disk->next++) {
        if (disk->here[disk->next] || disk->there[disk->next]) {
            *ret_range = disk->next++;
            return true;
        }
    }
    return false;
}

/* Preferably of the disk that WORKER is at; NULL: all are taken. */
static struct disk *take(struct worker *worker, uint64_t *ret_range)
{
    struct copier *copier = worker->copier;
    struct disk *found = NULL;

    pthread_mutex_lock(&copier->lock);
    if (worker->disk && take_of(worker->disk, ret_range))
        found = worker->disk;
    for (size_t i = 0; !found && i < copier->count; i++)
        if (take_of(&copier->disks[(worker->number + i) % copier->count], ret_range))
            found = &copier->disks[(worker->number + i) % copier->count];
    pthread_mutex_unlock(&copier->lock);
    return found;
}

/* What it has written is on disk then. */
static int leave(struct worker *worker, struct error *err)
{
    int r = worker->destination.nbd ? copy_link_flush(&worker->destination, err) : 0;

    copy_link_close(&worker->source);
    copy_link_close(&worker->destination);
    return r;
}

static int turn_to(struct worker *worker, struct disk *disk, struct error *err)
{
    int r = leave(worker, err);

    if (r < 0)
        return r;
    worker->disk = disk;
    worker->source = describe_link(worker->copier, disk, "at the source");
    worker->destination = describe_link(worker->copier, disk, "at the destination");
    r = copy_link_open(&worker->source, disk->spec->source_socket, err);
    return r == 0 ? copy_link_open(&worker->destination, disk->spec->destination_socket, err) : r;
}

static int work(struct worker *worker, struct error *err)
{
    struct disk *disk;
    uint64_t range;
    int r = 0;

    while (r == 0 && !atomic_load(&worker->copier->failed) && (disk = take(worker, &range))) {
        if (disk != worker->disk)
            r = turn_to(worker, disk, err);
        if (r == 0)
            r = copy_one(worker, range, err);
    }
    return r == 0 ? leave(worker, err) : r;
}

static void *worker_thread(void *opaque)
{
    struct worker *worker = opaque;
    struct copier *copier = worker->copier;
    struct error err = ERROR_INIT;
    int r = work(worker, &err);

    copy_link_close(&worker->source);
    copy_link_close(&worker->destination);
    pthread_mutex_lock(&copier->lock);
    if (r < 0 && !atomic_exchange(&copier->failed, true))
        *copier->err = err;
    copier->working--;
    pthread_cond_signal(&copier->changed);
    pthread_mutex_unlock(&copier->lock);
    return NULL;
}

static void report(struct copier *copier)
{
    for (size_t i = 0; i < copier->count; i++) {
        struct disk *disk = &copier->disks[i];

        disk->spec->total = disk->total;
        disk->spec->done = min_u64(atomic_load(&disk->done), disk->total);
        disk->spec->carried = atomic_load(&disk->carried);
    }
    if (copier->handlers->progress)
        copier->handlers->progress(copier->handlers->opaque);
}

/* Until all workers have ended. */
static void watch(struct copier *copier)
{
    pthread_mutex_lock(&copier->lock);
    while (copier->working) {
        uint64_t until = loop_clock() + PROGRESS_MS * LOOP_MS;
        struct timespec deadline = {.tv_sec = (time_t)(until / LOOP_SECOND),
                                    .tv_nsec = (long)(until % LOOP_SECOND)};

        if (pthread_cond_clockwait(&copier->changed, &copier->lock, CLOCK_MONOTONIC, &deadline) !=
            ETIMEDOUT)
            continue;
        pthread_mutex_unlock(&copier->lock);
        report(copier);
        pthread_mutex_lock(&copier->lock);
    }
    pthread_mutex_unlock(&copier->lock);
}

static void run_workers(struct copier *copier)
{
    struct worker workers[WORKERS];
    size_t started = 0;

    copier->working = WORKERS;
    for (; started < WORKERS; started++) {
        struct worker *worker = &workers[started];
        int r;

        *worker = (struct worker){.copier = copier, .number = started};
        r = pthread_create(&worker->thread, NULL, worker_thread, worker);
        if (r == 0)
            continue;
        pthread_mutex_lock(&copier->lock);
        copier->working -= WORKERS - started; /* those that there are will do */
        if (started == 0 && !atomic_exchange(&copier->failed, true))
            error_set_errno(copier->err, r, "can't start copying");
        pthread_mutex_unlock(&copier->lock);
        break;
    }
    watch(copier);
    for (size_t i = 0; i < started; i++)
        pthread_join(workers[i].thread, NULL);
}

int copy_disks(struct copy_disk *disks, size_t count, const struct copy_handlers *handlers,
               struct error *err)
{
    CLEANUP_FREE struct disk *all = calloc(count + 1, sizeof *all);
    struct error why = ERROR_INIT;
    struct copier copier = {.handlers = handlers, .disks = all, .count = count, .err = &why};
    int r = all ? 0 : error_set(&why, ENOMEM, "no memory for the disks' copies");

    pthread_mutex_init(&copier.lock, NULL);
    pthread_cond_init(&copier.changed, NULL);
    for (size_t i = 0; all && i < count; i++)
        all[i].spec = &disks[i];
    for (size_t i = 0; r == 0 && i < count; i++)
        r = survey(&copier, &all[i], &why);
    if (r == 0) {
        report(&copier);
        run_workers(&copier);
        report(&copier);
    }
    for (size_t i = 0; all && i < count; i++) {
        free(all[i].here);
        free(all[i].there);
    }
    pthread_cond_destroy(&copier.changed);
    pthread_mutex_destroy(&copier.lock);
    if (why.code)
        return error_set(err, why.code, "%s", why.text);
    return 0;
}
