/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Prepare at the source: reach the destination, learn what is there, choose the mode; then, once the
 * journal knows of the attempt, have the destination make the guest ready, and offer QEMU the sockets
 * that lead there.  Until the call that prepares is sent nothing has been touched on either side.
 */
#include "config.h"

#include "daemon/link.h"
#include "daemon/migrate_job.h"
#include "daemon/socket_folder.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "io/net.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PREPARE_TIMEOUT_MS = 120000 /* volumes, and a QEMU that starts */ };

/* ---- the session ----------------------------------------------------------------------------- */

/* Whoever waits for QEMU looks at the job again. */
static void wake(struct migrate_job *job)
{
    if (job->qmp)
        qmp_wake(job->qmp);
}

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
    wake(job);
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
    wake(job);
}

static void on_link_lost(void *opaque, const struct error *why)
{
    (void)why; /* the pump has logged it */
    migrate_say(opaque, "link lost, resuming");
}

static void on_link_resumed(void *opaque, uint64_t ns)
{
    migrate_say(opaque, "link is back after %.1f s", (double)ns / (double)LOOP_SECOND);
}

/* RET is what the destination says of itself. */
static int open_session(struct migrate_job *job, struct bs_host_info_ret *ret, struct error *err)
{
    const struct pump_handlers handlers = {.channel_reset = on_reset,
                                           .link_lost = on_link_lost,
                                           .link_resumed = on_link_resumed,
                                           .ended = on_ended,
                                           .opaque = job};
    struct pump *pump =
        link_open_migration(job->daemon, job->args.destination, &handlers, job->abort_fd, ret, err);

    pthread_mutex_lock(&job->lock);
    job->pump = pump;
    pthread_mutex_unlock(&job->lock);
    return pump ? 0 : -err->code;
}

/* ---- the mode -------------------------------------------------------------------------------- */

static uint64_t features_here(const struct migrate_job *job)
{
    uint64_t features = BS_FEATURE_TUNNEL;
    struct error unused = ERROR_INIT;

    if (qemu_caps_nbd(&job->caps))
        features |= BS_FEATURE_QEMU_NBD;
    if (job->caps.block)
        features |= BS_FEATURE_QEMU_BLOCK;
    if (job->daemon->config->offer_bistream)
        features |= BS_FEATURE_BISTREAM;
    if (direct_pki_check(job->daemon->config->direct_pki_dir, NULL, &unused) == 0)
        features |= BS_FEATURE_DIRECT_TLS;
    return features;
}

static int choose(struct migrate_job *job, const struct bs_host_info_ret *info, struct error *err)
{
    struct migrate_question question = {
        .flags = job->args.flags, .here = features_here(job), .there = info->features};
    struct migrate_choice choice;

    migrate_plan_ask(&job->plan, &question);
    if (!*info->qemu_version) /* only attached ones, then, which will tell */
        question.there |= BS_FEATURE_QEMU_NBD;
    if (migrate_choose(&question, &choice, err) < 0)
        return error_prefix(err, "%s (bistreamd %s, QEMU %s)", info->hostname, info->vers,
                            *info->qemu_version ? info->qemu_version : "not there");
    pthread_mutex_lock(&job->lock);
    job->choice = choice;
    job->chosen = true;
    job->direct_id = info->features & BS_FEATURE_DIRECT_ID;
    pthread_mutex_unlock(&job->lock);
    if (choice.fallback)
        migrate_say(job, "falling back to mode %s%s: %s", migrate_mode_name(choice.mode),
                    choice.carrier == CARRIER_BLOCK ? ", disks by QEMU's own block migration" : "",
                    choice.fallback);
    if (choice.mode == MODE_DIRECT && !choice.tls)
        migrate_say(job, "memory and disks go over the network unencrypted (--no-tls)");
    if (!choice.fallback)
        log_info("migration %s (%s) out: mode %s", job->hex, job->args.name,
                 migrate_mode_name(choice.mode));
    return 0;
}

static int check_qemu(struct migrate_job *job, struct error *err)
{
    return qemu_caps_require(&job->caps, job->choice.mode != MODE_TUNNEL,
                             job->choice.carrier == CARRIER_NBD, err);
}

int migrate_connect(struct migrate_job *job, struct error *err)
{
    struct bs_host_info_ret info = {0};
    int r = migrate_enter(job, PHASE_PREPARE, err);

    if (r == 0)
        r = open_session(job, &info, err);
    if (r == 0)
        r = choose(job, &info, err);
    if (r == 0 && !migrate_is_offline(job))
        r = check_qemu(job, err);
    xdr_free((xdrproc_t)xdr_bs_host_info_ret, (char *)&info);
    return r;
}

/* ---- the call -------------------------------------------------------------------------------- */

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

static unsigned cookie_flags(const struct migrate_job *job)
{
    const uint64_t flags = job->args.flags;

    return (job->was_running && !(flags & BS_MIGRATE_SUSPEND) ? BS_COOKIE_RUNNING : 0) |
           (flags & BS_MIGRATE_PERSISTENT ? BS_COOKIE_PERSISTENT : 0) |
           (job->choice.carrier == CARRIER_BLOCK ? BS_COOKIE_BLOCK : 0);
}

/* ARGS points into DEFINITION and JOB, but for the cookie. */
static int fill_args(struct migrate_job *job, struct bs_migrate_prepare_args *args,
                     char **definition, struct error *err)
{
    int r = write_definition(job, definition, err);

    if (r < 0)
        return r;
    memcpy(args->id, job->id, sizeof args->id);
    domain_uuid(job->domain, (uint8_t *)args->uuid);
    args->name = *job->args.dname ? job->args.dname : job->args.name;
    args->definition = *definition;
    args->cookie.flags = cookie_flags(job);
    return migrate_plan_cookie(&job->plan, &args->cookie, err);
}

static int call(struct migrate_job *job, int procedure, xdrproc_t args_proc, const void *args,
                xdrproc_t ret_proc, void *ret, struct error *err)
{
    int r;

    job->prepared = true;
    r = pump_call(job->pump, procedure, args_proc, args, ret_proc, ret, PREPARE_TIMEOUT_MS, err);
    if (r < 0 && r != -ETIMEDOUT && r != -ECONNRESET && r != -ECANCELED)
        error_prefix(err, "at the destination");
    return r;
}

static unsigned direct_flags(const struct migrate_job *job)
{
    return (job->choice.tls ? BS_DIRECT_TLS : 0) | (job->direct_id ? BS_DIRECT_ID : 0);
}

static int call_direct(struct migrate_job *job, const struct bs_migrate_prepare_args *prepare,
                       struct error *err)
{
    char subject[DIRECT_PKI_SUBJECT_MAX];
    struct bs_migrate_prepare_direct_args args = {.prepare = *prepare,
                                                  .flags = direct_flags(job),
                                                  .listen_address = job->args.listen_address};
    struct bs_migrate_prepare_direct_ret ret = {0};
    int r = migrate_direct_subject(job, subject, err);

    if (r < 0)
        return r;
    args.subject = subject;
    r = call(job, BS_PROC_MIGRATE_PREPARE_DIRECT, (xdrproc_t)xdr_bs_migrate_prepare_direct_args,
             &args, (xdrproc_t)xdr_bs_migrate_prepare_direct_ret, &ret, err);
    job->migration_port = ret.migration_port;
    job->nbd_port = ret.nbd_port;
    return r;
}

static int call_tunnel(struct migrate_job *job, const struct bs_migrate_prepare_args *prepare,
                       struct error *err)
{
    const struct bs_migrate_prepare_tunnel_args args = {.prepare = *prepare};

    return call(job, BS_PROC_MIGRATE_PREPARE_TUNNEL, (xdrproc_t)xdr_bs_migrate_prepare_tunnel_args,
                &args, NULL, NULL, err);
}

/* RET is filled in mode bistream alone; for xdr_free(). */
static int call_prepare(struct migrate_job *job, struct bs_migrate_prepare_ret *ret,
                        struct error *err)
{
    CLEANUP_FREE char *definition = NULL;
    struct bs_migrate_prepare_args args = {.name = NULL};
    int r = fill_args(job, &args, &definition, err);

    if (r == 0 && job->choice.mode == MODE_TUNNEL)
        r = call_tunnel(job, &args, err);
    else if (r == 0 && job->choice.mode == MODE_DIRECT)
        r = call_direct(job, &args, err);
    else if (r == 0)
        r = call(job,
                 migrate_is_offline(job) ? BS_PROC_MIGRATE_PREPARE_OFFLINE
                                         : BS_PROC_MIGRATE_PREPARE,
                 (xdrproc_t)xdr_bs_migrate_prepare_args, &args,
                 (xdrproc_t)xdr_bs_migrate_prepare_ret, ret, err);
    xdr_free((xdrproc_t)xdr_bs_cookie_source, (char *)&args.cookie);
    return r;
}

/* ---- where QEMU is to connect to -------------------------------------------------------------- */

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

/* The next mirror: how its disk goes along. */
static struct block_mirror *add_mirror(struct migrate_job *job, const struct migrate_disk *disk)
{
    size_t number = job->mirror_count++;

    job->mirrors[number] =
        (struct block_mirror){.number = (unsigned)number,
                              .target = disk->disk->target,
                              .device = disk->disk->device,
                              .export_name = disk->disk->target,
                              .top = disk->top,
                              .write_blocking = job->args.flags & BS_MIGRATE_SYNCHRONOUS_WRITES};
    return &job->mirrors[number];
}

/* A listening socket for a disk: QEMU's NBD client dials it. */
static int offer_disk(struct migrate_job *job, const struct migrate_disk *disk,
                      const struct bs_cookie_destination *cookie, struct error *err)
{
    char **path = &job->disk_sockets[job->mirror_count];
    const char *endpoint = endpoint_of(cookie, disk->disk->target);

    if (!endpoint)
        return error_set(err, EPROTO, "the destination names no endpoint for disk %s",
                         disk->disk->target);
    if (asprintf(path, "%s/nbd-%zu", job->folder, job->mirror_count) < 0) {
        *path = NULL;
        return error_set(err, ENOMEM, "no memory for a socket's path");
    }
    add_mirror(job, disk)->address.path = *path;
    return listen_for(job, *path, endpoint, err);
}

/* ENDPOINT is where the migration stream goes; "": there is none. */
static int offer_sockets(struct migrate_job *job, const char *endpoint,
                         const struct bs_cookie_destination *cookie, struct error *err)
{
    int r;

    job->folder = socket_folder_name(job->daemon->config->run_dir, "out", job->hex);
    if (!job->folder || asprintf(&job->ram_socket, "%s/ram", job->folder) < 0)
        job->ram_socket = NULL;
    if (!job->ram_socket)
        return error_set(err, ENOMEM, "no memory for the channels' sockets");
    job->ram_address.path = job->ram_socket;
    r = socket_folder_make(job->folder, err);
    if (r == 0 && *endpoint)
        r = listen_for(job, job->ram_socket, endpoint, err);
    for (size_t i = 0; r == 0 && i < job->plan.chosen_count; i++)
        if (job->plan.chosen[i].copy && job->choice.carrier == CARRIER_NBD)
            r = offer_disk(job, &job->plan.chosen[i], cookie, err);
    return r;
}

static int offer(struct migrate_job *job, const struct bs_migrate_prepare_ret *ret,
                 struct error *err)
{
    job->disk_sockets = calloc(job->plan.copies + 1, sizeof *job->disk_sockets);
    job->mirrors = calloc(job->plan.copies + 1, sizeof *job->mirrors);
    job->chases = calloc(job->plan.copies + 1, sizeof *job->chases);
    job->disk_bytes = calloc(job->plan.copies + 1, sizeof *job->disk_bytes);
    if (!job->disk_sockets || !job->mirrors || !job->chases || !job->disk_bytes)
        return error_set(err, ENOMEM, "no memory for a list of disks");
    switch (job->choice.mode) {
    case MODE_DIRECT:
        for (size_t i = 0; i < job->plan.chosen_count; i++)
            if (job->plan.chosen[i].copy && job->choice.carrier == CARRIER_NBD)
                add_mirror(job, &job->plan.chosen[i]);
        return migrate_direct_aim(job, err);
    case MODE_TUNNEL:
        return offer_sockets(job, "migration", NULL, err);
    default:
        return offer_sockets(job, ret->cookie.migration, &ret->cookie, err);
    }
}

int migrate_prepare(struct migrate_job *job, struct error *err)
{
    struct bs_migrate_prepare_ret ret = {.cookie.migration = NULL};
    int r = migrate_plan_mark_shared(&job->plan, job->hex, err);

    if (r == 0)
        r = migrate_check(job, err); /* an abort since then has found no call to cancel */
    if (r == 0)
        r = call_prepare(job, &ret, err);
    if (r == -ECANCELED)
        migrate_check(job, err);     /* which says why */
    migrate_plan_unmark(&job->plan); /* the destination has looked for them */
    if (r == 0)
        r = offer(job, &ret, err);
    xdr_free((xdrproc_t)xdr_bs_migrate_prepare_ret, (char *)&ret);
    return r;
}
