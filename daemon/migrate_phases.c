/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A migration at the source, from top to bottom: Begin, Prepare, Perform, Finish, Confirm.
 *
 * Until Finish is sent every failure ends in roll_back(), and the guest runs on here.  Finish is
 * sent only once QEMU says `completed`, from where it can't go on by itself; what the destination
 * answers decides alone, and no answer decides nothing: the guest stays paused, `unresolved`.
 *
 * Our ends of the sockets are closed before QEMU is asked to cancel anything: while a path is
 * silent the other order hangs QEMU's monitor.
 */
#include "config.h"

#include "daemon/link.h"
#include "daemon/migrate_job.h"
#include "daemon/socket_folder.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "io/net.h"
#include "qemu/caps.h"
#include "qemu/guest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    QMP_TIMEOUT_MS = 30000,
    SWITCH_TIMEOUT_MS = 30000,   /* the guest stands still meanwhile */
    PREPARE_TIMEOUT_MS = 120000, /* volumes, and a QEMU that starts */
    TICK_MS = 500,
};

/* ---- waiting --------------------------------------------------------------------------------- */

/* Asked by everything that waits for QEMU: is there still a reason to? */
static int check_job(void *opaque, struct error *err)
{
    struct migrate_job *job = opaque;
    enum migrate_phase phase;
    int r = 0;

    pthread_mutex_lock(&job->lock);
    phase = job->phase;
    if (job->aborted) {
        r = error_set(err, ECANCELED, "%s", job->aborted);
    } else if (job->lost.code) {
        *err = job->lost;
        r = -err->code;
    }
    pthread_mutex_unlock(&job->lock);
    if (r == 0 && (phase == PHASE_MIRROR || phase == PHASE_MEMORY)) {
        migrate_report_progress(job);
        r = block_mirrors_check(job->mirrors, job->mirror_count, err);
    }
    return r;
}

static struct qmp_wait wait_until(struct migrate_job *job, uint64_t deadline)
{
    return (struct qmp_wait){
        .deadline = deadline, .check = check_job, .opaque = job, .tick_ms = TICK_MS};
}

static struct qmp_wait wait_ms(struct migrate_job *job, unsigned ms)
{
    return wait_until(job, loop_clock() + ms * LOOP_MS);
}

/* ---- Begin ----------------------------------------------------------------------------------- */

static void say_to(void *opaque, const char *sentence)
{
    migrate_say(opaque, "%s", sentence);
}

static int check_state(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait = wait_ms(job, QMP_TIMEOUT_MS);
    char state[32];
    int r = guest_run_state(job->qmp, state, &job->was_running, &wait, err);

    if (r < 0 || job->was_running || strcmp(state, "paused") == 0 ||
        strcmp(state, "prelaunch") == 0)
        return r;
    if (strcmp(state, "postmigrate") == 0)
        return error_set(err, EBUSY,
                         "domain %s stands where an earlier migration left it, without an answer "
                         "from the destination; find out where it shall run first",
                         job->args.name);
    return error_set(err, EBUSY, "domain %s is in state '%s' and can't be migrated", job->args.name,
                     state);
}

static int begin(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait = wait_ms(job, QMP_TIMEOUT_MS);
    struct qemu_caps caps;
    int r = check_state(job, err);

    if (r == 0)
        r = qemu_caps_query(job->qmp, &caps, &wait, err);
    if (r == 0)
        r = qemu_caps_require(&caps, true, true, err);
    if (r == 0)
        r = block_check_no_jobs(job->qmp, &wait, err);
    if (r == 0)
        r = migrate_plan_make(&job->plan, job->domain, &job->args, say_to, job, err);
    if (r == 0)
        r = migrate_plan_mark_shared(&job->plan, job->hex, err);
    return r;
}

/* ---- Prepare --------------------------------------------------------------------------------- */

static bool matters(struct migrate_job *job, const char *endpoint)
{
    if (job->phase >= PHASE_FINISH)
        return false;
    return strcmp(endpoint, "migration") == 0 || !job->mirrors_complete;
}

static void on_reset(void *opaque, const char *endpoint, uint64_t code, const char *text)
{
    struct migrate_job *job = opaque;

    (void)code;
    pthread_mutex_lock(&job->lock);
    if (!job->lost.code && matters(job, endpoint))
        error_set(&job->lost, ECONNRESET, "the channel to %s broke: %s", endpoint,
                  *text ? text : "no reason given");
    pthread_mutex_unlock(&job->lock);
    qmp_wake(job->qmp);
}

static void on_ended(void *opaque, const struct error *why)
{
    struct migrate_job *job = opaque;

    pthread_mutex_lock(&job->lock);
    job->session_ended = true;
    if (!job->lost.code)
        error_set(&job->lost, ECONNRESET, "the session with %s ended: %s", job->args.destination,
                  why->code ? why->text : "closed by the peer");
    pthread_mutex_unlock(&job->lock);
    qmp_wake(job->qmp);
}

static int open_session(struct migrate_job *job, struct error *err)
{
    const struct pump_handlers handlers = {
        .channel_reset = on_reset, .ended = on_ended, .opaque = job};

    struct pump *pump = link_open_session(job->daemon, job->args.destination, BS_PURPOSE_MIGRATION,
                                          &handlers, job->abort_fd, err);

    pthread_mutex_lock(&job->lock);
    job->pump = pump;
    pthread_mutex_unlock(&job->lock);
    return pump ? 0 : -err->code;
}

/* The guest as the destination shall know it: without this host's paths, perhaps renamed.  Empty
 * for an attached QEMU, which meets another attached one. */
static int write_definition(struct migrate_job *job, char **ret, struct error *err)
{
    const struct definition *ours = domain_definition(job->domain);
    struct definition *theirs;
    int r = 0;

    if (!ours) {
        *ret = strdup("");
        return *ret ? 0 : error_set(err, ENOMEM, "no memory for the guest's definition");
    }
    theirs = definition_copy(ours);
    if (!theirs)
        return error_set(err, ENOMEM, "no memory for the guest's definition");
    if (*job->args.dname)
        r = definition_rename(theirs, job->args.dname, err);
    if (r == 0 && !(*ret = definition_to_text(theirs, DEFINITION_PEER)))
        r = error_set(err, ENOMEM, "no memory for the guest's definition");
    definition_free(theirs);
    return r;
}

static int call_prepare(struct migrate_job *job, struct bs_migrate_prepare_ret *ret,
                        struct error *err)
{
    CLEANUP_FREE char *definition = NULL;
    struct bs_migrate_prepare_args args = {
        .name = *job->args.dname ? job->args.dname : job->args.name,
        .cookie.flags = job->was_running ? BS_COOKIE_RUNNING : 0};
    int r = write_definition(job, &definition, err);

    if (r < 0)
        return r;
    args.definition = definition;
    memcpy(args.id, job->id, sizeof args.id);
    domain_uuid(job->domain, (uint8_t *)args.uuid);
    r = migrate_plan_cookie(&job->plan, &args.cookie, err);
    if (r == 0) {
        job->prepared = true;
        r = pump_call(job->pump, BS_PROC_MIGRATE_PREPARE, (xdrproc_t)xdr_bs_migrate_prepare_args,
                      &args, (xdrproc_t)xdr_bs_migrate_prepare_ret, ret, PREPARE_TIMEOUT_MS, err);
    }
    xdr_free((xdrproc_t)xdr_bs_cookie_source, (char *)&args.cookie);
    if (r < 0 && r != -ETIMEDOUT && r != -ECONNRESET && r != -ECANCELED)
        error_prefix(err, "at the destination");
    return r;
}

static int listen_for(struct migrate_job *job, const char *path, const char *endpoint,
                      struct error *err)
{
    int fd = net_listen_unix(path, 0600, err);

    return fd < 0 ? fd : pump_listen(job->pump, fd, endpoint, err);
}

static const char *endpoint_of(const struct bs_cookie_destination *cookie, const char *target)
{
    for (u_int i = 0; i < cookie->disks.disks_len; i++)
        if (strcmp(cookie->disks.disks_val[i].target, target) == 0)
            return cookie->disks.disks_val[i].endpoint;
    return NULL;
}

/* A listening socket for each disk that is copied: QEMU's NBD clients dial it. */
static int offer_disk(struct migrate_job *job, const struct migrate_disk *disk,
                      const struct bs_cookie_destination *cookie, struct error *err)
{
    size_t number = job->mirror_count;
    const char *endpoint = endpoint_of(cookie, disk->disk->target);
    char **path = &job->disk_sockets[number];

    if (!endpoint)
        return error_set(err, EPROTO, "the destination names no endpoint for disk %s",
                         disk->disk->target);
    if (asprintf(path, "%s/nbd-%zu", job->folder, number) < 0) {
        *path = NULL;
        return error_set(err, ENOMEM, "no memory for a socket's path");
    }
    job->mirrors[number] = (struct block_mirror){.number = (unsigned)number,
                                                 .target = disk->disk->target,
                                                 .device = disk->disk->device,
                                                 .address.path = *path,
                                                 .export_name = disk->disk->target,
                                                 .top = disk->top};
    job->mirror_count++;
    return listen_for(job, *path, endpoint, err);
}

static int offer_sockets(struct migrate_job *job, const struct bs_cookie_destination *cookie,
                         struct error *err)
{
    int r;

    job->folder = socket_folder_name(job->daemon->config->run_dir, "out", job->hex);
    if (!job->folder || asprintf(&job->ram_socket, "%s/ram", job->folder) < 0)
        job->ram_socket = NULL;
    job->disk_sockets = calloc(job->plan.copies + 1, sizeof *job->disk_sockets);
    job->mirrors = calloc(job->plan.copies + 1, sizeof *job->mirrors);
    job->disk_bytes = calloc(job->plan.copies + 1, sizeof *job->disk_bytes);
    if (!job->ram_socket || !job->disk_sockets || !job->mirrors || !job->disk_bytes)
        return error_set(err, ENOMEM, "no memory for the channels' sockets");
    r = socket_folder_make(job->folder, err);
    if (r < 0)
        return r;
    r = listen_for(job, job->ram_socket, cookie->migration, err);
    for (size_t i = 0; r == 0 && i < job->plan.chosen_count; i++)
        if (job->plan.chosen[i].copy)
            r = offer_disk(job, &job->plan.chosen[i], cookie, err);
    return r;
}

static int prepare(struct migrate_job *job, struct error *err)
{
    struct bs_migrate_prepare_ret ret = {.cookie.migration = NULL};
    int r = migrate_enter(job, PHASE_PREPARE, err);

    if (r == 0)
        r = open_session(job, err);
    if (r == 0)
        r = check_job(job, err); /* an abort since then has found no call to cancel */
    if (r == 0)
        r = call_prepare(job, &ret, err);
    if (r == -ECANCELED)
        check_job(job, err);         /* which says why */
    migrate_plan_unmark(&job->plan); /* the destination has looked for them */
    if (r < 0)
        return r;
    r = offer_sockets(job, &ret.cookie, err);
    xdr_free((xdrproc_t)xdr_bs_migrate_prepare_ret, (char *)&ret);
    return r;
}

/* ---- Perform --------------------------------------------------------------------------------- */

static int mirror_disks(struct migrate_job *job, struct error *err)
{
    const struct migration_setup setup = {.source = true, .return_path = true};
    struct qmp_wait bounded = wait_ms(job, QMP_TIMEOUT_MS);
    struct qmp_wait unbounded = wait_until(job, LOOP_NEVER);
    int r = migrate_enter(job, PHASE_MIRROR, err);

    if (r == 0)
        r = migration_prepare(job->qmp, &setup, &bounded, err);
    job->mirroring = job->mirror_count > 0;
    for (size_t i = 0; r == 0 && i < job->mirror_count; i++)
        r = block_mirror_start(job->qmp, &job->mirrors[i], &bounded, err);
    if (r == 0 && job->mirror_count)
        r = block_mirrors_wait_ready(job->qmp, job->mirrors, job->mirror_count, &unbounded, err);
    return r;
}

static int send_memory(struct migrate_job *job, struct error *err)
{
    struct qmp_wait bounded = wait_ms(job, QMP_TIMEOUT_MS);
    struct qmp_wait unbounded = wait_until(job, LOOP_NEVER);
    int r = migrate_enter(job, PHASE_MEMORY, err);

    if (r < 0)
        return r;
    job->migrating = true;
    r = migration_start(job->qmp, QEMU_ADDRESS_UNIX(job->ram_socket), &bounded, err);
    if (r == 0)
        r = migration_wait(job->qmp, MIGRATION_PRE_SWITCHOVER, &job->memory, &unbounded, err);
    return r;
}

/* The guest stands still: the last writes go over, then the rest of RAM and the devices. */
static int switch_over(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait = wait_ms(job, SWITCH_TIMEOUT_MS);
    int r = migrate_enter(job, PHASE_SWITCH, err);

    if (r == 0 && job->mirror_count)
        r = block_mirrors_complete(job->qmp, job->mirrors, job->mirror_count, &wait, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&job->lock);
    job->mirrors_complete = true;
    pthread_mutex_unlock(&job->lock);
    r = migration_continue(job->qmp, &wait, err);
    job->continued = r != -EREMOTEIO && r != -ENOSYS; /* else QEMU refused */
    if (r == 0)
        r = migration_wait(job->qmp, MIGRATION_COMPLETED, &job->memory, &wait, err);
    job->completed_at = loop_clock();
    return r;
}

static int perform(struct migrate_job *job, struct error *err)
{
    int r = mirror_disks(job, err);

    if (r == 0)
        r = send_memory(job, err);
    if (r == 0)
        r = switch_over(job, err);
    return r;
}

int migrate_perform(struct migrate_job *job, struct error *err)
{
    int r = begin(job, err);

    if (r == 0)
        r = migrate_set_state(job, OUTGOING_BEGUN, err);
    if (r == 0)
        r = prepare(job, err);
    if (r == 0)
        r = migrate_journal_prepare_finish(job, err);
    if (r == 0)
        r = perform(job, err);
    return r;
}
