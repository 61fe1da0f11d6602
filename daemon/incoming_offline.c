/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What mode offline has of its own at the destination.  No QEMU is started: a qemu-storage-daemon
 * serves the new volumes, writable, while they are copied into, and has ended when Finish decides.
 *
 * A copy that broke off isn't thrown away.  Its fence renames the volumes to NAME.partial-GUEST, and the
 * entry stays as "not mine", with their inodes, for as long as the source hasn't given the copy up
 * itself.  The next attempt of the same guest from the same peer takes up those that suit it, the
 * source compares before it copies, and the earlier entry goes with what is left of it; so it does
 * when the guest comes in any other way.
 */
#include "config.h"

#include "daemon/incoming.h"
#include "daemon/incoming_private.h"
#include "daemon/peer_session.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "qemu/block.h"
#include "qemu/copy.h"
#include "qemu/storage.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXPORT_TIMEOUT_MS = 30000 };

static_assert(COPY_DIGEST_SIZE == BS_DIGEST_SIZE, "both are SHA-256");

static char *pidfile_of(const struct incoming *in)
{
    char *path;

    return asprintf(&path, "%s/nbd.pid", in->folder) < 0 ? NULL : path;
}

/* ---- Prepare --------------------------------------------------------------------------------- */

/* The volumes are made in the cookie's order. */
static size_t list_disks(const struct incoming *in, struct storage_disk *ret)
{
    size_t count = 0;

    for (u_int i = 0; i < in->cookie->disks.disks_len; i++) {
        const struct bs_cookie_disk *disk = &in->cookie->disks.disks_val[i];

        if (!(disk->flags & BS_DISK_COPY))
            continue;
        ret[count] =
            (struct storage_disk){.target = disk->target,
                                  .path = in->volumes[count].path,
                                  .format = disk->format == BS_FORMAT_RAW ? "raw" : "qcow2"};
        count++;
    }
    return count;
}

int incoming_offline_serve(struct incoming *in, struct error *err)
{
    CLEANUP_FREE struct storage_disk *disks = calloc(in->volume_count + 1, sizeof *disks);
    CLEANUP_FREE char *pidfile = pidfile_of(in);
    struct storage storage = {
        .socket_path = in->nbd_socket, .pidfile = pidfile, .writable = true, .disks = disks};
    int r;

    if (!disks || !pidfile)
        return error_set(err, ENOMEM, "no memory for a list of disks");
    storage.n_disks = list_disks(in, disks);
    if (!storage.n_disks)
        return 0;
    r = storage_start(&storage, err);
    for (u_int i = 0; r == 0 && i < in->cookie->disks.disks_len; i++) {
        const struct bs_cookie_disk *disk = &in->cookie->disks.disks_val[i];

        if (disk->flags & BS_DISK_COPY)
            r = block_export_check(in->nbd_socket, disk->target, disk->size, EXPORT_TIMEOUT_MS,
                                   err);
    }
    if (r == 0)
        in->keep = true;
    return r;
}

int incoming_offline_stop(struct incoming *in, struct error *err)
{
    CLEANUP_FREE char *pidfile = in->folder ? pidfile_of(in) : NULL;

    if (!in->folder)
        return 0;
    return pidfile ? storage_stop(pidfile, err)
                   : error_set(err, ENOMEM, "no memory to end the storage daemon");
}

int incoming_offline_arrive(struct incoming *in, struct error *err)
{
    int r = incoming_offline_stop(in, err);

    for (size_t i = 0; r == 0 && i < in->volume_count; i++)
        r = volume_sync(&in->volumes[i], err);
    return r;
}

/* ---- what the source compares with ------------------------------------------------------------ */

static int check_closing(void *opaque, struct error *err)
{
    struct incoming *in = opaque;

    if (atomic_load(&in->closing))
        return error_set(err, ECANCELED, "the source gave the migration up");
    return 0;
}

int incoming_handle_volume_digest(void *opaque, const void *args_, void *ret_, struct error *err)
{
    struct peer_session *session = opaque;
    const struct bs_volume_digest_args *args = args_;
    struct bs_volume_digest_ret *ret = ret_;
    struct incoming *in = session->incoming;

    if (!in || !in->offline || !atomic_load(&in->ready) ||
        memcmp(in->id, args->id, sizeof in->id) != 0)
        return error_set(err, ENOENT, "no such migration was prepared in this session");
    if (args->length > BS_DIGEST_RANGE_MAX)
        return error_set(err, EINVAL, "%ju bytes are more than can be compared at a time",
                         (uintmax_t)args->length);
    return copy_digest(in->nbd_socket, args->target, args->offset, args->length, check_closing, in,
                       (uint8_t *)ret->digest, err);
}

/* ---- copies that broke off --------------------------------------------------------------------- */

bool incoming_offline_keep(struct incoming *in)
{
    struct error writing = ERROR_INIT;
    size_t kept = 0;

    for (size_t i = 0; i < in->volume_count; i++) {
        struct volume *volume = &in->volumes[i];
        struct error err = ERROR_INIT;

        if (volume_keep(volume, &err) < 0) {
            log_warning("migration %s in: what was copied can't be kept: %s", in->hex, err.text);
            return false;
        }
        if (access(volume->partial, F_OK) < 0) /* never made, or deleted by somebody */
            continue;
        kept++;
        log_info("migration %s (%s) in: what was copied is kept for the next attempt as %s",
                 in->hex, in->name, volume->partial);
    }
    if (kept && in->state == INCOMING_NOT_MINE && incoming_journal_write(in, &writing) < 0)
        log_error("migration %s in: %s", in->hex, writing.text);
    atomic_store(&in->kept, kept > 0);
    return kept > 0;
}

/* An earlier attempt of IN's guest that has left copies, referenced; SKIP of them are passed over. */
static struct incoming *find_kept(const struct incoming *in, size_t skip)
{
    struct incoming_migrations *all = in->daemon->incoming;
    struct incoming *other;

    pthread_mutex_lock(&all->lock);
    LIST_FOREACH(other, &all->list, link)
    {
        if (other != in && atomic_load(&other->kept) && strcmp(other->peer, in->peer) == 0 &&
            memcmp(other->uuid, in->uuid, BS_ID_SIZE) == 0 && skip-- == 0) {
            other->references++;
            break;
        }
    }
    pthread_mutex_unlock(&all->lock);
    return other;
}

uint64_t incoming_kept_bytes(struct incoming *in)
{
    struct incoming *other;
    uint64_t bytes = 0;

    for (size_t n = 0; (other = find_kept(in, n)); n++) {
        struct stat st;

        pthread_mutex_lock(&other->lock);
        for (size_t i = 0; i < other->volume_count; i++)
            if (stat(other->volumes[i].partial, &st) == 0)
                bytes += (uint64_t)st.st_blocks * 512;
        pthread_mutex_unlock(&other->lock);
        incoming_unref(other, false);
    }
    return bytes;
}

bool incoming_offline_take_up(struct incoming *in, struct volume *volume,
                              const struct volume_spec *spec)
{
    struct incoming *other;
    bool taken = false;

    for (size_t n = 0; in->offline && !taken && (other = find_kept(in, n)); n++) {
        pthread_mutex_lock(&other->lock);
        for (size_t i = 0; i < other->volume_count && !taken; i++)
            taken = volume_take_up(volume, spec, &other->volumes[i]);
        pthread_mutex_unlock(&other->lock);
        incoming_unref(other, false);
    }
    if (taken) {
        in->keep = true;
        log_info("migration %s (%s) in: goes on with what was copied to %s before", in->hex,
                 in->name, volume->path);
    }
    return taken;
}

void incoming_drop_kept(struct incoming *in)
{
    struct error err = ERROR_INIT;
    struct incoming *other;

    while (err.code == 0 && (other = find_kept(in, 0))) {
        bool settled = false;

        pthread_mutex_lock(&other->lock);
        atomic_store(&other->kept, false);
        other->keep = false;
        if (incoming_fence(other, &err) == 0 && !other->volume_count)
            settled = incoming_settled(other, false, &err) == 0;
        pthread_mutex_unlock(&other->lock);
        incoming_unref(other, settled);
    }
    if (err.code)
        log_warning("migration %s in: an earlier copy can't be removed: %s", in->hex, err.text);
}

int incoming_offline_plan(struct incoming *in, struct error *err)
{
    char uuid[UUID_TEXT_SIZE];

    uuid_to_text(in->uuid, uuid);
    for (size_t i = 0; i < in->volume_count; i++) {
        struct volume *volume = &in->volumes[i];

        if (asprintf(&volume->partial, "%s.partial-%s", volume->path, uuid) < 0) {
            volume->partial = NULL;
            return error_set(err, ENOMEM, "no memory to name what is copied");
        }
    }
    return 0;
}
