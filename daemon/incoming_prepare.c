/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Prepare at the destination, from top to bottom: whose guest is it, is there room, volumes, QEMU,
 * exports, sizes, and the socket for the migration stream.  Nothing is undone here: whatever was
 * made is in struct incoming, and incoming.c's fence takes it away again.
 */
#include "config.h"

#include "daemon/incoming_private.h"
#include "daemon/access.h"
#include "daemon/socket_folder.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "qemu/block.h"
#include "qemu/caps.h"
#include "qemu/image.h"
#include "qemu/migration.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { QMP_TIMEOUT_MS = 30000 };

static int check_closing(void *opaque, struct error *err)
{
    struct incoming *in = opaque;

    if (atomic_load(&in->closing))
        return error_set(err, ECANCELED, "the source gave the migration up");
    return 0;
}

struct qmp_wait incoming_wait(struct incoming *in, unsigned ms)
{
    return (struct qmp_wait){.deadline = loop_clock() + ms * LOOP_MS,
                             .check = check_closing,
                             .opaque = in,
                             .tick_ms = 100};
}

static const char *format_name(unsigned format)
{
    return format == BS_FORMAT_RAW ? "raw" : format == BS_FORMAT_QCOW2 ? "qcow2" : NULL;
}

/* The cookie is a peer's data: each field is looked at before anything is done with it. */
static int check_cookie(const struct bs_cookie_source *cookie, struct error *err)
{
    if (cookie->flags & ~(unsigned)(BS_COOKIE_RUNNING | BS_COOKIE_PERSISTENT | BS_COOKIE_BLOCK))
        return error_set(err, EINVAL, "the guest is to be treated in a way not known here");
    for (u_int i = 0; i < cookie->disks.disks_len; i++) {
        const struct bs_cookie_disk *disk = &cookie->disks.disks_val[i];

        if (!format_name(disk->format))
            return error_set(err, EINVAL, "disk %s has a format that is not known here",
                             disk->target);
        if (disk->flags & ~(unsigned)(BS_DISK_COPY | BS_DISK_INCREMENTAL | BS_DISK_SHARED))
            return error_set(err, EINVAL, "disk %s is to be treated in a way not known here",
                             disk->target);
        if ((disk->flags & BS_DISK_INCREMENTAL) &&
            (!format_name(disk->backing_format) || !*disk->backing || *disk->backing == '.' ||
             strchr(disk->backing, '/')))
            return error_set(err, EINVAL, "disk %s: '%s' is no name for a backing file",
                             disk->target, disk->backing);
        for (u_int k = 0; k < i; k++)
            if (strcmp(cookie->disks.disks_val[k].target, disk->target) == 0)
                return error_set(err, EINVAL, "disk %s is named twice", disk->target);
    }
    return 0;
}

/* What belongs to this host is given to a peer's guest by this host's configuration alone. */
static int check_nics(const struct incoming *in, struct error *err)
{
    for (size_t i = 0; i < in->definition->nic_count; i++) {
        const char *ifname = in->definition->nics[i].ifname;

        if (ifname && !access_tap(in->daemon->config->tap_allow, ifname))
            return error_set(err, EACCES,
                             "nics[%zu].ifname: no guest that comes from a peer may use the tap "
                             "device %s; have it added to tap_allow in the configuration",
                             i, ifname);
    }
    return 0;
}

static int read_definition(struct incoming *in, const struct bs_migrate_prepare_args *args,
                           struct error *err)
{
    in->definition =
        definition_parse(args->definition, strlen(args->definition), DEFINITION_PEER, err);
    if (!in->definition)
        return error_prefix(err, "the guest's definition is refused");
    if (strcmp(in->definition->name, args->name) != 0 ||
        memcmp(in->definition->uuid, args->uuid, UUID_SIZE) != 0)
        return error_set(err, EINVAL,
                         "the guest's definition has another name or UUID than the call");
    if (check_nics(in, err) < 0)
        return error_prefix(err, "the guest's definition is refused");
    return 0;
}

/* An attached QEMU that waits under this name, or a domain of our own. */
static int take_domain(struct incoming *in, struct error *err)
{
    in->domain =
        in->offline ? NULL : domain_take_incoming(in->daemon->domains, in->name, in->uuid, err);
    if (in->domain) {
        definition_free(in->definition); /* it has disks of its own */
        in->definition = NULL;
        return 0;
    }
    if (!in->offline && err->code != ENOENT)
        return -err->code;
    if (!in->definition)
        return error_set(err, ENOENT,
                         "%s was attached at the source, so a QEMU must wait for it here: start "
                         "one with -incoming defer and give it to bistream attach --incoming",
                         in->name);
    in->domain = domain_new_incoming(in->daemon->domains, in->definition, err);
    return in->domain ? 0 : -err->code;
}

static const struct definition_disk *definition_find(const struct definition *definition,
                                                     const char *target)
{
    for (size_t i = 0; i < definition->disk_count; i++)
        if (strcmp(definition->disks[i].target, target) == 0)
            return &definition->disks[i];
    return NULL;
}

/* Each copy has to fit for itself when it is full, and all together as they are now. */
static int check_space(struct incoming *in, struct error *err)
{
    const char *pool = in->daemon->config->pool_dir;
    uint64_t kept = incoming_kept_bytes(in), together = 0;

    for (u_int i = 0; i < in->cookie->disks.disks_len; i++) {
        const struct bs_cookie_disk *disk = &in->cookie->disks.disks_val[i];

        if (!(disk->flags & BS_DISK_COPY))
            continue;
        if (image_check_space(pool, disk->size - min_u64(kept, disk->size), err) < 0)
            return error_prefix(err, "no room for disk %s", disk->target);
        if (!checked_add_u64(together, disk->allocated, &together))
            together = UINT64_MAX;
    }
    if (image_check_space(pool, together - min_u64(kept, together), err) < 0)
        return error_prefix(err, "no room for the disks together");
    return 0;
}

/* The backing file has to be in this host's pool already, the same to all appearances. */
static int find_backing(struct incoming *in, const struct bs_cookie_disk *disk, char **ret_path,
                        struct error *err)
{
    const struct image_use use = {.format = format_name(disk->backing_format)};
    CLEANUP_FREE char *path = NULL;
    struct image_info info;
    bool same;

    if (asprintf(&path, "%s/%s", in->daemon->config->pool_dir, disk->backing) < 0) {
        path = NULL;
        return error_set(err, ENOMEM, "no memory for the backing file's path");
    }
    if (domains_check_image(in->daemon->domains, path, &use, err) < 0)
        return error_prefix(err, "disk %s can't have its backing file", disk->target);
    if (image_info_read(path, format_name(disk->backing_format), &info, err) < 0)
        return error_prefix(err, "disk %s needs its backing file here: copy %s to %s first",
                            disk->target, disk->backing, in->daemon->config->pool_dir);
    same = info.virtual_size == disk->backing_size;
    image_info_release(&info);
    if (!same)
        return error_set(err, EINVAL,
                         "disk %s: the backing file %s here has another size than the source's",
                         disk->target, path);
    *ret_path = take_ptr(path);
    return 0;
}

/* Names what will be created for DISK, and changes nothing. */
static int plan_volume(struct incoming *in, const struct bs_cookie_disk *disk,
                       const struct definition_disk *defined, struct error *err)
{
    CLEANUP_FREE char *path = definition_disk_path(defined, in->daemon->config->pool_dir);
    CLEANUP_FREE char *backing = NULL;
    const struct image_use use = {.self = in->domain, .writable = true};
    const char *format = format_name(disk->format);
    struct volume *volume;
    int r;

    if (!path)
        return error_set(err, EINVAL, "disk %s has no file in the guest's definition",
                         disk->target);
    if (strcmp(format, defined->format) != 0)
        return error_set(err, EINVAL, "disk %s is %s in the definition and %s in the cookie",
                         disk->target, defined->format, format);
    r = domains_check_image(in->daemon->domains, path, &use, err);
    if (r < 0)
        return error_prefix(err, "disk %s", disk->target);
    if (disk->flags & BS_DISK_INCREMENTAL) {
        r = find_backing(in, disk, &backing, err);
        if (r < 0)
            return r;
    }
    volume = &in->volumes[in->volume_count];
    r = volume_plan(path, in->hex, domain_left_image(in->domain, path), volume, err);
    if (r < 0)
        return r;
    in->volume_count++;
    if (volume->aside && domains_check_unused(in->daemon->domains, path, in->domain, err) < 0)
        return error_prefix(err, "disk %s: the guest's old image can't be replaced", disk->target);
    return 0;
}

static int make_volume(struct incoming *in, const struct bs_cookie_disk *disk,
                       struct volume *volume, struct error *err)
{
    CLEANUP_FREE char *backing = NULL;
    struct volume_spec spec = {.format = format_name(disk->format), .size = disk->size};
    int r;

    if (disk->flags & BS_DISK_INCREMENTAL) {
        r = find_backing(in, disk, &backing, err);
        if (r < 0)
            return r;
        spec.backing = backing;
        spec.backing_format = format_name(disk->backing_format);
    }
    return incoming_offline_take_up(in, volume, &spec) ? 0 : volume_make(volume, &spec, err);
}

/* A disk that isn't copied must be here, or reach here by shared storage. */
static int check_present(struct incoming *in, const struct bs_cookie_disk *disk,
                         const struct definition_disk *defined, struct error *err)
{
    CLEANUP_FREE char *path = definition_disk_path(defined, in->daemon->config->pool_dir);
    const struct image_use use = {
        .self = in->domain, .writable = !defined->readonly, .format = format_name(disk->format)};
    struct image_info info;
    bool same;

    if (!path)
        return error_set(err, EINVAL, "disk %s has no file in the guest's definition",
                         disk->target);
    if (access(path, F_OK) < 0)
        return error_set(err, errno,
                         "disk %s is not copied, and there is no %s here (use --copy-storage-all, "
                         "or shared storage)",
                         disk->target, path);
    if (domains_check_image(in->daemon->domains, path, &use, err) < 0 ||
        image_info_read(path, format_name(disk->format), &info, err) < 0)
        return error_prefix(err, "disk %s is not copied, and its image here is of no use",
                            disk->target);
    same = info.virtual_size == disk->size;
    image_info_release(&info);
    if (!same)
        return error_set(err, EINVAL, "disk %s is not copied, and %s here has another size",
                         disk->target, path);
    if (!defined->readonly && volume_check_shared(path, in->hex, err) < 0)
        return error_prefix(err, "disk %s is not copied", disk->target);
    return 0;
}

/* An image that the cookie does not tell of would be given to the guest without a look at it. */
static int check_all_told(const struct incoming *in, struct error *err)
{
    for (size_t i = 0; i < in->definition->disk_count; i++) {
        const char *target = in->definition->disks[i].target;
        bool told = !in->definition->disks[i].file;

        for (u_int k = 0; k < in->cookie->disks.disks_len && !told; k++)
            told = strcmp(in->cookie->disks.disks_val[k].target, target) == 0;
        if (!told)
            return error_set(err, EINVAL, "the cookie does not tell what becomes of disk %s",
                             target);
    }
    return 0;
}

/* What will be created, and what has to be here already. */
static int plan_volumes(struct incoming *in, struct error *err)
{
    int r = check_all_told(in, err);

    if (r == 0)
        r = check_space(in, err);
    in->volumes = calloc(in->cookie->disks.disks_len + 1, sizeof *in->volumes);
    if (r == 0 && !in->volumes)
        r = error_set(err, ENOMEM, "no memory for a list of volumes");
    for (u_int i = 0; r == 0 && i < in->cookie->disks.disks_len; i++) {
        const struct bs_cookie_disk *disk = &in->cookie->disks.disks_val[i];
        const struct definition_disk *defined = definition_find(in->definition, disk->target);

        if (!defined)
            r = error_set(err, EINVAL, "disk %s is not in the guest's definition", disk->target);
        else if (disk->flags & BS_DISK_COPY)
            r = plan_volume(in, disk, defined, err);
        else
            r = check_present(in, disk, defined, err);
        if (r == 0)
            r = check_closing(in, err);
    }
    return r;
}

/* Each step is in the journal before the next: names, then inodes, then the names that they keep. */
static int make_volumes(struct incoming *in, struct error *err)
{
    size_t made = 0;
    int r = 0;

    for (u_int i = 0; r == 0 && i < in->cookie->disks.disks_len; i++) {
        const struct bs_cookie_disk *disk = &in->cookie->disks.disks_val[i];

        if (disk->flags & BS_DISK_COPY)
            r = make_volume(in, disk, &in->volumes[made++], err);
        if (r == 0)
            r = check_closing(in, err);
    }
    if (r == 0)
        r = incoming_journal_write(in, err);
    if (r == 0)
        incoming_drop_kept(in);
    for (size_t i = 0; r == 0 && i < in->volume_count; i++)
        r = volume_place(&in->volumes[i], err);
    return r;
}

int incoming_name_sockets(struct incoming *in, struct error *err)
{
    in->folder = socket_folder_name(in->daemon->config->run_dir, "in", in->hex);
    if (!in->folder || asprintf(&in->nbd_socket, "%s/nbd", in->folder) < 0)
        in->nbd_socket = NULL;
    if (!in->nbd_socket || asprintf(&in->migration_socket, "%s/ram", in->folder) < 0)
        in->migration_socket = NULL;
    return in->migration_socket ? 0 : error_set(err, ENOMEM, "no memory for the sockets' paths");
}

static int make_folder(struct incoming *in, struct error *err)
{
    int r = socket_folder_make(in->folder, err);

    if (r < 0)
        free(take_ptr(in->folder)); /* another migration's, perhaps: not the fence's to remove */
    return r;
}

/* How disks that are copied get here. */
static bool by_nbd(const struct incoming *in)
{
    return !(in->cookie->flags & BS_COOKIE_BLOCK);
}

static int export_disk(struct incoming *in, struct qmp *qmp, const struct bs_cookie_disk *disk,
                       const struct domain_disk *here, struct error *err)
{
    struct qmp_wait wait = incoming_wait(in, QMP_TIMEOUT_MS);
    int r;

    if (here->empty || here->readonly)
        return error_set(err, EINVAL, "disk %s can't be written to here", disk->target);
    r = block_export_add(qmp, here->device, disk->target, &wait, err);
    if (r < 0 || in->nbd_port) /* a TCP port lets nobody in but the source's QEMU */
        return r;
    return block_export_check(in->nbd_socket, disk->target, disk->size, QMP_TIMEOUT_MS, err);
}

static int check_size(const struct bs_cookie_disk *disk, const struct domain_disk *here,
                      struct error *err)
{
    if (here->size != disk->size)
        return error_set(err, EINVAL, "disk %s has %ju bytes here and %ju at the source",
                         disk->target, (uintmax_t)here->size, (uintmax_t)disk->size);
    return 0;
}

/* Each is as large here as there; what is copied by NBD is exported by its target's name, writable. */
static int offer_disks(struct incoming *in, struct qmp *qmp, struct error *err)
{
    struct domain_disk *disks = NULL;
    size_t count = 0;
    int r = domain_disks(in->domain, &disks, &count, err);

    for (u_int i = 0; r == 0 && i < in->cookie->disks.disks_len; i++) {
        const struct bs_cookie_disk *disk = &in->cookie->disks.disks_val[i];
        const struct domain_disk *here = NULL;

        for (size_t k = 0; k < count && !here; k++)
            if (strcmp(disks[k].target, disk->target) == 0)
                here = &disks[k];
        if (!here)
            r = error_set(err, EINVAL, "the QEMU here has no disk %s", disk->target);
        else
            r = check_size(disk, here, err);
        if (r == 0 && disk->flags & BS_DISK_COPY && by_nbd(in))
            r = export_disk(in, qmp, disk, here, err);
    }
    domain_disks_free(disks, count);
    return r;
}

/* QEMU listens: for NBD clients, and for the stream. */
static int listen_here(struct incoming *in, struct qmp *qmp, struct error *err)
{
    const struct migration_setup setup = {
        .source = false, .block = !by_nbd(in), .zero_blocks = !by_nbd(in)};
    struct qmp_wait wait = incoming_wait(in, QMP_TIMEOUT_MS);
    int r = migration_prepare(qmp, &setup, &wait, err);

    if (r == 0 && by_nbd(in))
        r = block_exports_start(qmp, QEMU_ADDRESS_UNIX(in->nbd_socket), NULL, NULL, &wait, err);
    if (r == 0)
        r = offer_disks(in, qmp, err);
    if (r == 0)
        r = migration_incoming(qmp, QEMU_ADDRESS_UNIX(in->migration_socket), &wait, err);
    return r;
}

static int await_stream(struct incoming *in, const struct bs_migrate_prepare_direct_args *direct,
                        struct error *err)
{
    struct qmp_wait wait = incoming_wait(in, QMP_TIMEOUT_MS);
    struct qmp *qmp = domain_qmp(in->domain, err);
    struct qemu_caps caps;
    int r = qmp ? qemu_caps_query(qmp, &caps, &wait, err) : -err->code;

    if (r == 0)
        r = qemu_caps_require(&caps, false, by_nbd(in), err);
    if (r < 0)
        return r;
    return direct ? incoming_direct_listen(in, qmp, direct, offer_disks, err)
                  : listen_here(in, qmp, err);
}

int incoming_fill_cookie(const struct incoming *in, struct bs_cookie_destination *ret,
                         struct error *err)
{
    ret->migration = strdup(in->offline ? "" : "migration");
    ret->disks.disks_val = calloc(in->cookie->disks.disks_len + 1, sizeof *ret->disks.disks_val);
    if (!ret->migration || !ret->disks.disks_val)
        return error_set(err, ENOMEM, "no memory for the cookie");
    for (u_int i = 0; i < in->cookie->disks.disks_len; i++) {
        const struct bs_cookie_disk *disk = &in->cookie->disks.disks_val[i];
        struct bs_cookie_endpoint *to = &ret->disks.disks_val[ret->disks.disks_len];

        if (!(disk->flags & BS_DISK_COPY) || !by_nbd(in))
            continue;
        ret->disks.disks_len++;
        to->target = strdup(disk->target);
        if (asprintf(&to->endpoint, "nbd/%s", disk->target) < 0)
            to->endpoint = NULL;
        if (!to->target || !to->endpoint)
            return error_set(err, ENOMEM, "no memory for the cookie");
    }
    return 0;
}

/* Volumes alone. */
static int make_images(struct incoming *in, struct error *err)
{
    int r = make_volumes(in, err);

    return r == 0 ? incoming_offline_serve(in, err) : r;
}

/* Volumes and a QEMU of our own; an attached one has both. */
static int make_guest(struct incoming *in, struct error *err)
{
    int r = make_volumes(in, err);
    struct qmp_wait wait = incoming_wait(in, QMP_TIMEOUT_MS); /* it may take long to start */

    return r == 0 ? domain_start_incoming(in->domain, &wait, err) : r;
}

int incoming_prepare(struct incoming *in, const struct bs_migrate_prepare_args *args,
                     const struct bs_migrate_prepare_direct_args *direct, struct error *err)
{
    int r = check_cookie(in->cookie, err);

    if (r == 0 && *args->definition)
        r = read_definition(in, args, err);
    if (r == 0)
        r = take_domain(in, err);
    if (r == 0 && in->definition)
        r = plan_volumes(in, err);
    if (r == 0 && in->offline)
        r = incoming_offline_plan(in, err);
    if (r == 0) /* before anything is created */
        r = incoming_set_state(in, INCOMING_PREPARED, err);
    if (r == 0)
        r = incoming_name_sockets(in, err);
    if (r == 0)
        r = make_folder(in, err);
    if (r == 0 && in->offline)
        r = make_images(in, err);
    else if (r == 0 && in->definition)
        r = make_guest(in, err);
    if (r == 0 && !in->offline)
        r = await_stream(in, direct, err);
    if (r == 0)
        r = incoming_journal_prepare_mine(in, err);
    return r;
}
