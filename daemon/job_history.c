/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The migrations that have ended: see job_history.h. */
#include "config.h"

#include "daemon/job_history.h"

#include "common/log.h"
#include "daemon/job_record.h"
#include "daemon/journal.h"
#include "daemon/statefile.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

struct entry {
    char hex[2 * BS_ID_SIZE + 1]; /* the file's name */
    char *name;                   /* of the guest */
    uint64_t ended;               /* milliseconds since 1970 */
    json_t *record;               /* has been looked at: job_record_from_json() succeeds */
    TAILQ_ENTRY(entry) link;
};

struct job_history {
    char *folder;
    pthread_mutex_t lock;               /* the list, and the files; a leaf */
    TAILQ_HEAD(entry_list, entry) list; /* the last first */
    unsigned count;
};

static void entry_free(struct entry *entry)
{
    free(entry->name);
    json_decref(entry->record);
    free(entry);
}

/* Takes over RECORD, also on failure.  Returns NULL with ERR for one that can't be used. */
static struct entry *entry_new(json_t *record, struct error *err)
{
    struct entry *entry = calloc(1, sizeof *entry);
    struct bs_job_info info = {.name = NULL};

    if (!entry) {
        json_decref(record);
        error_set(err, ENOMEM, "no memory for a job that has ended");
        return NULL;
    }
    entry->record = record;
    if (job_record_from_json(record, &info, err) == 0) {
        journal_id_to_text((const uint8_t *)info.id, entry->hex);
        entry->ended = info.started * 1000 + info.elapsed_ms;
        entry->name = strdup(info.name);
        if (!entry->name)
            error_set(err, ENOMEM, "no memory for a job that has ended");
    }
    xdr_free((xdrproc_t)xdr_bs_job_info, (char *)&info);
    if (entry->name)
        return entry;
    entry_free(entry);
    return NULL;
}

/* Puts ENTRY where it belongs by its time.  With the lock. */
static void insert(struct job_history *history, struct entry *entry)
{
    struct entry *other;

    history->count++;
    TAILQ_FOREACH(other, &history->list, link)
    {
        if (other->ended <= entry->ended) {
            TAILQ_INSERT_BEFORE(other, entry, link);
            return;
        }
    }
    TAILQ_INSERT_TAIL(&history->list, entry, link);
}

/* Forgets the oldest until there are few enough.  With the lock. */
static void prune(struct job_history *history)
{
    while (history->count > BS_COMPLETED_MAX) {
        struct entry *oldest = TAILQ_LAST(&history->list, entry_list);
        struct error err = ERROR_INIT;

        if (statefile_remove(history->folder, oldest->hex, &err) < 0)
            log_warning("ended migration %s (%s): %s", oldest->hex, oldest->name, err.text);
        TAILQ_REMOVE(&history->list, oldest, link);
        history->count--;
        entry_free(oldest);
    }
}

static void load_one(void *opaque, const char *name)
{
    struct job_history *history = opaque;
    struct error err = ERROR_INIT;
    json_t *record = statefile_read(history->folder, name, &err);
    struct entry *entry = record ? entry_new(record, &err) : NULL;

    if (entry && strcmp(entry->hex, name) != 0)
        error_set(&err, EINVAL, "it is another migration's");
    if (!err.code) {
        insert(history, entry);
        return;
    }
    log_warning("ended migrations: %s/%s.json is left out: %s", history->folder, name, err.text);
    if (entry)
        entry_free(entry);
}

struct job_history *job_history_open(const char *state_dir)
{
    struct job_history *history = calloc(1, sizeof *history);
    struct error err = ERROR_INIT;

    if (!history || asprintf(&history->folder, "%s/jobs", state_dir) < 0) {
        free(history);
        return NULL;
    }
    TAILQ_INIT(&history->list);
    pthread_mutex_init(&history->lock, NULL);
    if (mkdir(history->folder, 0700) < 0 && errno != EEXIST)
        log_warning("ended migrations are forgotten with this daemon: can't make the folder %s: %s",
                    history->folder, strerror(errno));
    else if (statefile_list(history->folder, load_one, history, &err) < 0)
        log_warning("ended migrations: %s", err.text);
    prune(history);
    return history;
}

void job_history_free(struct job_history *history)
{
    struct entry *entry;

    if (!history)
        return;
    while ((entry = TAILQ_FIRST(&history->list))) {
        TAILQ_REMOVE(&history->list, entry, link);
        entry_free(entry);
    }
    pthread_mutex_destroy(&history->lock);
    free(history->folder);
    free(history);
}

static bool is_known(const struct job_history *history, const struct entry *entry)
{
    const struct entry *other;

    TAILQ_FOREACH(other, &history->list, link)
    {
        if (strcmp(other->hex, entry->hex) == 0)
            return true;
    }
    return false;
}

void job_history_add(struct job_history *history, const struct bs_job_info *info)
{
    struct error err = ERROR_INIT;
    struct entry *entry = entry_new(job_record_to_json(info), &err);

    if (!entry) {
        log_warning("ended migration of %s: not remembered: %s", info->name, err.text);
        return;
    }
    pthread_mutex_lock(&history->lock);
    if (is_known(history, entry)) {
        entry_free(entry);
    } else {
        if (statefile_write(history->folder, entry->hex, entry->record, &err) < 0)
            log_warning("ended migration %s (%s): forgotten with this daemon: %s", entry->hex,
                        entry->name, err.text);
        insert(history, entry);
        prune(history);
    }
    pthread_mutex_unlock(&history->lock);
}

int job_history_list(struct job_history *history, const char *name, struct bs_job_info_ret *ret,
                     struct error *err)
{
    const struct entry *entry;
    int r = 0;

    pthread_mutex_lock(&history->lock);
    ret->jobs.jobs_val = calloc(history->count + 1, sizeof *ret->jobs.jobs_val);
    if (!ret->jobs.jobs_val)
        r = error_set(err, ENOMEM, "no memory for the jobs that have ended");
    TAILQ_FOREACH(entry, &history->list, link)
    {
        if (r == 0 && (!*name || strcmp(entry->name, name) == 0))
            r = job_record_from_json(entry->record, &ret->jobs.jobs_val[ret->jobs.jobs_len++], err);
    }
    pthread_mutex_unlock(&history->lock);
    return r;
}
