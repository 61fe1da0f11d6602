/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Jobs: one thread per migration that goes out.  The thread owns its job but for what stands under
 * the job's lock; the list of jobs is how an abort and the end of the daemon find them.
 */
#include "config.h"

#include "daemon/migrate.h"
#include "daemon/migrate_job.h"
#include "daemon/journal.h"
#include "daemon/socket_folder.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "io/tls.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>

struct migrate_jobs *migrate_jobs_new(struct daemon *daemon)
{
    struct migrate_jobs *jobs = calloc(1, sizeof *jobs);

    if (!jobs)
        return NULL;
    jobs->daemon = daemon;
    LIST_INIT(&jobs->list);
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_cond_init(&jobs->changed, NULL);
    return jobs;
}

void migrate_jobs_stop(struct migrate_jobs *jobs)
{
    struct migrate_job *job;

    pthread_mutex_lock(&jobs->lock);
    jobs->stopping = true;
    LIST_FOREACH(job, &jobs->list, link)
    {
        struct error err = ERROR_INIT;

        if (migrate_job_abort(job, "bistreamd is being stopped", &err) < 0)
            log_info("migration %s out: %s", job->hex, err.text);
    }
    while (jobs->running)
        pthread_cond_wait(&jobs->changed, &jobs->lock);
    pthread_mutex_unlock(&jobs->lock);
}

void migrate_jobs_free(struct migrate_jobs *jobs)
{
    if (!jobs)
        return;
    pthread_cond_destroy(&jobs->changed);
    pthread_mutex_destroy(&jobs->lock);
    free(jobs);
}

/* ---- one job --------------------------------------------------------------------------------- */

static int copy_args(const struct bs_migrate_args *from, struct bs_migrate_args *to)
{
    to->flags = from->flags;
    to->name = strdup(from->name);
    to->destination = strdup(from->destination);
    to->dname = strdup(from->dname);
    to->listen_address = strdup(from->listen_address);
    to->bandwidth = from->bandwidth;
    to->downtime_ms = from->downtime_ms;
    to->timeout_s = from->timeout_s;
    to->stall_timeout_ms = from->stall_timeout_ms;
    to->disks.disks_val = calloc(from->disks.disks_len + 1, sizeof *to->disks.disks_val);
    if (!to->name || !to->destination || !to->dname || !to->listen_address || !to->disks.disks_val)
        return -ENOMEM;
    for (u_int i = 0; i < from->disks.disks_len; i++) {
        to->disks.disks_val[i] = strdup(from->disks.disks_val[i]);
        if (!to->disks.disks_val[i])
            return -ENOMEM;
        to->disks.disks_len++;
    }
    return 0;
}

static void job_free(struct migrate_job *job)
{
    for (size_t i = 0; i < job->mirror_count; i++)
        free(job->disk_sockets[i]);
    free(job->disk_sockets);
    free(job->mirrors);
    free(job->chases);
    free(job->disk_bytes);
    free(job->ram_socket);
    migrate_direct_free(job->direct);
    free(job->direct_host);
    free(job->folder);
    migrate_plan_clear(&job->plan);
    if (job->connection)
        control_unref(job->connection);
    if (job->domain)
        domain_unref(job->domain);
    cleanup_close(&job->abort_fd);
    cleanup_close(&job->poke_fd);
    xdr_free((xdrproc_t)xdr_bs_migrate_args, (char *)&job->args);
    pthread_mutex_destroy(&job->lock);
    free(job);
}

int migrate_job_abort(struct migrate_job *job, const char *why, struct error *err)
{
    int r = 0;

    pthread_mutex_lock(&job->lock);
    if (job->phase >= PHASE_FINISH) {
        r = error_set(err, EBUSY, "too late: %s has been asked to take %s over; its answer decides",
                      job->args.destination, job->args.name);
    } else if (!job->aborted) {
        job->aborted = why;
        eventfd_write(job->abort_fd, 1);
        if (job->pump && job->phase == PHASE_PREPARE)
            pump_cancel_calls(job->pump);
        if (job->qmp)
            qmp_wake(job->qmp);
    }
    pthread_mutex_unlock(&job->lock);
    return r;
}

/* The pump's callbacks ring QEMU's bell, so it goes before the domain does. */
static void let_go(struct migrate_job *job)
{
    struct pump *pump;

    migrate_count_bytes(job);
    pthread_mutex_lock(&job->lock);
    pump = job->pump;
    job->pump = NULL;
    pthread_mutex_unlock(&job->lock);
    socket_folder_remove(job->folder);
    pump_free(pump);
    pthread_mutex_lock(&job->lock);
    job->qmp = NULL;
    job->decided = true;
    pthread_mutex_unlock(&job->lock);
    if (job->domain)
        domain_end_job(job->domain);
}

static void run(struct migrate_job *job)
{
    struct error err = ERROR_INIT;
    bool again = job->state != OUTGOING_NONE; /* known from the journal */
    enum bs_outcome outcome = again ? migrate_run_again(job, &err) : migrate_run(job, &err);

    let_go(job);
    migrate_report_result(job, outcome, &err); /* whoever reads it may start the next one */
    if (outcome != BS_OUTCOME_UNRESOLVED)
        migrate_settle(job);
}

static void *job_thread(void *opaque)
{
    struct migrate_job *job = opaque;
    struct migrate_jobs *jobs = job->daemon->jobs;

    run(job);
    pthread_mutex_lock(&jobs->lock);
    LIST_REMOVE(job, link);
    pthread_mutex_unlock(&jobs->lock);
    job_free(job);
    tls_thread_end();
    /* Only now: who waits for the last job frees what it used. */
    pthread_mutex_lock(&jobs->lock);
    jobs->running--;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}

/* A job with nothing to do yet.  Returns NULL with ERR. */
static struct migrate_job *job_new(struct daemon *daemon, struct error *err)
{
    struct migrate_job *job = calloc(1, sizeof *job);

    if (!job) {
        error_set(err, ENOMEM, "no memory for a migration");
        return NULL;
    }
    job->daemon = daemon;
    job->started = loop_clock();
    job->begun = (uint64_t)time(NULL);
    pthread_mutex_init(&job->lock, NULL);
    job->abort_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    job->poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (job->abort_fd >= 0 && job->poke_fd >= 0)
        return job;
    error_set_errno(err, errno, "can't begin a migration");
    job_free(job);
    return NULL;
}

static struct migrate_job *job_new_for(struct control_connection *connection,
                                       const struct bs_migrate_args *args, struct error *err)
{
    struct migrate_job *job = job_new(connection->daemon, err);

    if (!job)
        return NULL;
    if (getrandom(job->id, sizeof job->id, 0) != sizeof job->id ||
        copy_args(args, &job->args) < 0) {
        error_set(err, ENOMEM, "no memory for a migration");
        job_free(job);
        return NULL;
    }
    journal_id_to_text(job->id, job->hex);
    control_ref(connection);
    job->connection = connection;
    return job;
}

/* Takes the domain and its QEMU for the job.  Returns 0, or a negative errno with ERR. */
static int take_domain(struct migrate_job *job, struct error *err)
{
    job->domain = domains_find(job->daemon->domains, job->args.name, err);
    if (!job->domain)
        return -err->code;
    if (domain_begin_job(job->domain, "migrating", err) < 0)
        return -err->code;
    if (migrate_is_offline(job))
        return 0;
    job->qmp = domain_qmp(job->domain, err);
    if (!job->qmp) {
        domain_end_job(job->domain);
        return -err->code;
    }
    return 0;
}

static int start_thread(struct migrate_jobs *jobs, struct migrate_job *job, struct error *err)
{
    pthread_t thread;
    int r;

    pthread_mutex_lock(&jobs->lock);
    r = jobs->stopping ? ESHUTDOWN : pthread_create(&thread, NULL, job_thread, job);
    if (r == 0) {
        pthread_detach(thread);
        LIST_INSERT_HEAD(&jobs->list, job, link);
        jobs->running++;
    }
    pthread_mutex_unlock(&jobs->lock);
    return r == 0 ? 0 : error_set_errno(err, r, "can't start the migration of %s", job->args.name);
}

static int check_args(const struct bs_migrate_args *args, struct error *err)
{
    const uint64_t known = 2 * BS_MIGRATE_NO_FALLBACK - 1; /* all bits up to the last */
    const uint64_t both = BS_MIGRATE_COPY_STORAGE_ALL | BS_MIGRATE_COPY_STORAGE_INC;
    const uint64_t live = BS_MIGRATE_SYNCHRONOUS_WRITES | BS_MIGRATE_AUTO_CONVERGE |
                          BS_MIGRATE_TIMEOUT_ABORT | BS_MIGRATE_SUSPEND | BS_MIGRATE_DIRECT;

    if (args->flags & ~known)
        return error_set(err, ENOTSUP, "a flag of migrate is not known to this bistreamd");
    if ((args->flags & both) == both)
        return error_set(err, EINVAL,
                         "--copy-storage-all and --copy-storage-inc exclude each other");
    if (args->flags & BS_MIGRATE_SYNCHRONOUS_WRITES && !(args->flags & both))
        return error_set(err, EINVAL,
                         "--copy-storage-synchronous-writes wants --copy-storage-all or "
                         "--copy-storage-inc");
    if (!(args->flags & BS_MIGRATE_DIRECT) &&
        (args->flags & BS_MIGRATE_NO_TLS || *args->listen_address))
        return error_set(err, EINVAL, "--no-tls and --listen-address want --direct");
    if (args->flags & BS_MIGRATE_OFFLINE &&
        (args->flags & live || args->downtime_ms || args->timeout_s || args->stall_timeout_ms))
        return error_set(
            err, EINVAL,
            "--offline moves images alone: what shapes a guest that runs, and --direct, "
            "can't be had with it");
    if (migrate_check_bandwidth(args->bandwidth, err) < 0)
        return error_prefix(err, "--bandwidth");
    if (*args->dname && definition_check_name(args->dname, err) < 0)
        return error_prefix(err, "--dname");
    return 0;
}

/* Those of before a restart go on, however many there are. */
static int check_room(struct migrate_jobs *jobs, struct error *err)
{
    unsigned running;

    pthread_mutex_lock(&jobs->lock);
    running = jobs->running;
    pthread_mutex_unlock(&jobs->lock);
    if (running < BS_JOBS_MAX)
        return 0;
    return error_set(err, EAGAIN,
                     "%u migrations are under way from here, and %d are the most; bistream job "
                     "list shows them",
                     running, BS_JOBS_MAX);
}

int migrate_handle_migrate(void *opaque, const void *args_, void *ret_, struct error *err)
{
    struct control_connection *connection = opaque;
    const struct bs_migrate_args *args = args_;
    struct bs_migrate_ret *ret = ret_;
    struct migrate_job *job;
    int r = check_args(args, err);

    if (r == 0)
        r = check_room(connection->daemon->jobs, err);
    if (r < 0)
        return r;
    job = job_new_for(connection, args, err);
    if (!job)
        return -err->code;
    memcpy(ret->id, job->id, sizeof ret->id);
    log_info("migration %s (%s) out to %s, asked for by control %u", job->hex, args->name,
             args->destination, connection->id);
    r = take_domain(job, err);
    if (r == 0) {
        r = start_thread(connection->daemon->jobs, job, err);
        if (r == 0)
            return 0;
        domain_end_job(job->domain);
    }
    job_free(job);
    return r;
}

/* ---- after a restart -------------------------------------------------------------------------- */

/* Before any client may touch the domain.  Its QEMU may have ended. */
static void take_domain_again(struct migrate_job *job)
{
    struct error err = ERROR_INIT;

    job->domain = domains_find(job->daemon->domains, job->args.name, &err);
    if (job->domain && domain_begin_job(job->domain, "migrating", &err) < 0) {
        domain_unref(job->domain);
        job->domain = NULL;
    }
    if (migrate_is_offline(job) && job->domain) /* there is none */
        return;
    if (job->domain)
        job->qmp = domain_qmp(job->domain, &err);
    if (!job->qmp)
        log_warning("migration %s (%s) out: %s", job->hex, job->args.name, err.text);
}

static void recover(void *opaque, const char *hex)
{
    struct daemon *daemon = opaque;
    struct error err = ERROR_INIT;
    struct migrate_job *job = job_new(daemon, &err);

    if (job && migrate_journal_read(job, hex, &err) < 0) {
        job_free(job);
        job = NULL;
    }
    if (!job) {
        log_error("migration %s out: its journal can't be used: %s", hex, err.text);
        return;
    }
    log_info("migration %s (%s) out to %s: known from before as '%s'", hex, job->args.name,
             job->args.destination, outgoing_state_name(job->state));
    job->folder = socket_folder_name(daemon->config->run_dir, "out", hex);
    job->phase = PHASE_FINISH; /* it can't be aborted */
    take_domain_again(job);
    if (start_thread(daemon->jobs, job, &err) < 0) {
        log_error("%s", err.text);
        if (job->domain)
            domain_end_job(job->domain);
        job_free(job);
    }
}

int migrate_jobs_recover(struct daemon *daemon, struct error *err)
{
    return journal_each(daemon->journal, JOURNAL_SOURCE, recover, daemon, err);
}
