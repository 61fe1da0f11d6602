/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What is told of a domain: its disks as QEMU has them, for a migration, and the object that
 * `bistream info --json` prints.
 */
#include "config.h"

#include "daemon/domain_private.h"
#include "common/cleanup.h"
#include "qemu/block.h"
#include "qemu/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- disks ----------------------------------------------------------------------------------- */

static void disk_clear(struct domain_disk *disk)
{
    free(disk->target);
    free(disk->device);
    free(disk->path);
    free(disk->format);
    free(disk->backing);
    free(disk->backing_format);
}

void domain_disks_free(struct domain_disk *disks, size_t count)
{
    for (size_t i = 0; disks && i < count; i++)
        disk_clear(&disks[i]);
    free(disks);
}

static int fill_disk(struct domain_disk *disk, const struct block_drive *drive, struct error *err)
{
    disk->target = strdup(drive->name);
    disk->size = drive->size;
    disk->readonly = drive->readonly;
    disk->empty = !drive->inserted;
    if (!disk->empty) {
        disk->device = strdup(drive->node);
        disk->path = strdup(drive->filename);
        disk->format = strdup(drive->format);
    }
    if (!disk->target || (!disk->empty && (!disk->device || !disk->path || !disk->format)))
        return error_set(err, ENOMEM, "no memory for the disks of a guest");
    return 0;
}

int drives_query(struct qmp *qmp, struct domain_disk **ret, size_t *ret_count, struct error *err)
{
    struct qmp_wait wait = qmp_wait_ms(VM_COMMAND_MS);
    struct block_drive *drives;
    struct domain_disk *disks;
    size_t drive_count, count = 0;
    int r;

    r = block_drives_query(qmp, &drives, &drive_count, &wait, err);
    if (r < 0)
        return r;
    disks = calloc(drive_count + 1, sizeof *disks);
    if (!disks)
        r = error_set(err, ENOMEM, "no memory for the disks of a guest");
    for (size_t i = 0; r == 0 && i < drive_count; i++)
        if (drives[i].name[0]) /* an empty drive without a name can't be asked for */
            r = fill_disk(&disks[count++], &drives[i], err);
    block_drives_free(drives, drive_count);
    if (r < 0) {
        domain_disks_free(disks, count);
        return r;
    }
    *ret = disks;
    *ret_count = count;
    return 0;
}

/* The backing file, as it stands in the image: of qcow2, the only format that we know with one. */
static int add_backing(struct domain_disk *disk, struct error *err)
{
    struct image_info image, backing;
    int r;

    if (disk->empty || strcmp(disk->format, "qcow2") != 0 || disk->path[0] != '/')
        return 0;
    r = image_info_read(disk->path, disk->format, &image, err);
    if (r < 0 || !image.backing_path) {
        if (r == 0)
            image_info_release(&image);
        return r;
    }
    r = image_info_read(image.backing_path, image.backing_format, &backing, err);
    if (r == 0) {
        disk->backing = take_ptr(image.backing_path);
        disk->backing_format = take_ptr(image.backing_format);
        disk->backing_size = backing.virtual_size;
        image_info_release(&backing);
    }
    image_info_release(&image);
    return r;
}

/* Whether DISK is the definition's TARGET.  An empty drive has no node, only the alias that
 * qemu/launch.h gave it; it is called by its target from here on. */
static bool is_disk_of(struct domain_disk *disk, const char *target)
{
    static const char alias[] = "drive-";

    if (strcmp(disk->target, target) == 0)
        return true;
    if (!disk->empty || strncmp(disk->target, alias, strlen(alias)) != 0 ||
        strcmp(disk->target + strlen(alias), target) != 0)
        return false;
    memmove(disk->target, disk->target + strlen(alias), strlen(target) + 1);
    return true;
}

/* Puts DISKS into the definition's order.  Each must be there; one that the definition doesn't have
 * (plugged in by somebody else) comes last. */
static int order_by_definition(const struct domain *domain, struct domain_disk *disks, size_t count,
                               struct error *err)
{
    for (size_t i = 0; i < domain->definition->disk_count; i++) {
        const char *target = domain->definition->disks[i].target;
        struct domain_disk found;
        size_t k = i;

        while (k < count && !is_disk_of(&disks[k], target))
            k++;
        if (k >= count)
            return error_set(err, ENODEV, "the QEMU of %s has no disk %s any more", domain->name,
                             target);
        found = disks[k];
        memmove(&disks[i + 1], &disks[i], (k - i) * sizeof *disks);
        disks[i] = found;
    }
    return 0;
}

int domain_disks(struct domain *domain, struct domain_disk **ret, size_t *ret_count,
                 struct error *err)
{
    struct qmp *qmp = domain_qmp(domain, err);
    struct domain_disk *disks = NULL;
    size_t count = 0;
    int r;

    if (!qmp)
        return -EHOSTUNREACH;
    r = drives_query(qmp, &disks, &count, err);
    if (r == 0 && domain->definition)
        r = order_by_definition(domain, disks, count, err);
    for (size_t i = 0; r == 0 && i < count; i++) {
        r = add_backing(&disks[i], err);
        if (r < 0)
            error_prefix(err, "disk %s", disks[i].target);
    }
    if (r < 0) {
        error_prefix(err, "domain %s", domain->name);
        domain_disks_free(disks, count);
        return r;
    }
    *ret = disks;
    *ret_count = count;
    return 0;
}

static int read_image(const struct domain *domain, const struct definition_disk *defined,
                      struct domain_disk *disk, struct error *err)
{
    struct image_info info;
    int r;

    disk->target = strdup(defined->target);
    disk->readonly = defined->readonly;
    disk->empty = !defined->file;
    if (disk->empty)
        return disk->target ? 0 : error_set(err, ENOMEM, "no memory for the disks of a guest");
    disk->path = definition_disk_path(defined, domain->domains->config->pool_dir);
    disk->format = strdup(defined->format);
    if (!disk->target || !disk->path || !disk->format)
        return error_set(err, ENOMEM, "no memory for the disks of a guest");
    r = image_info_read(disk->path, disk->format, &info, err);
    if (r == 0) {
        disk->size = info.virtual_size;
        image_info_release(&info);
        r = add_backing(disk, err);
    }
    return r < 0 ? error_prefix(err, "disk %s", disk->target) : 0;
}

int domain_images(struct domain *domain, struct domain_disk **ret, size_t *ret_count,
                  struct error *err)
{
    const struct definition *definition = domain->definition;
    struct domain_disk *disks = calloc(definition->disk_count + 1, sizeof *disks);
    size_t count = 0;
    int r = disks ? 0 : error_set(err, ENOMEM, "no memory for the disks of a guest");

    while (r == 0 && count < definition->disk_count) {
        r = read_image(domain, &definition->disks[count], &disks[count], err);
        count++;
    }
    if (r < 0) {
        error_prefix(err, "domain %s", domain->name);
        domain_disks_free(disks, count);
        return r;
    }
    *ret = disks;
    *ret_count = count;
    return 0;
}

/* ---- info ------------------------------------------------------------------------------------ */

/* "s?" packs NULL as null; sizes that are not known are null as well. */
static json_t *size_or_null(uint64_t size)
{
    return size ? json_integer((json_int_t)size) : json_null();
}

static json_t *disks_of_definition(const struct domain *domain)
{
    json_t *array = json_array();

    for (size_t i = 0; array && i < domain->definition->disk_count; i++) {
        const struct definition_disk *disk = &domain->definition->disks[i];
        CLEANUP_FREE char *path = definition_disk_path(disk, domain->domains->config->pool_dir);

        if (json_array_append_new(array, json_pack("{s:s, s:s?, s:s?, s:o, s:b, s:b}", "target",
                                                   disk->target, "file", path, "format",
                                                   path ? disk->format : NULL, "size",
                                                   size_or_null(disk->size), "readonly",
                                                   disk->readonly, "empty", !disk->file)) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *disks_of_qemu(const struct domain *domain)
{
    json_t *array = json_array();

    for (size_t i = 0; array && i < domain->drive_count; i++) {
        const struct domain_disk *disk = &domain->drives[i];

        if (json_array_append_new(array, json_pack("{s:s, s:s?, s:s?, s:o, s:b, s:b}", "target",
                                                   disk->target, "file", disk->path, "format",
                                                   disk->format, "size", size_or_null(disk->size),
                                                   "readonly", disk->readonly, "empty",
                                                   disk->empty)) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* What only a definition of our own knows. */
static json_t *own_info(const struct domain *domain)
{
    const struct definition *definition = domain->definition;
    CLEANUP_FREE char *serial = vm_serial_log(domain);
    bool vnc = domain->pid && strcmp(definition->display, "vnc") == 0;

    return json_pack("{s:s, s:i, s:I, s:o, s:s?, s:s, s:s?, s:s?}", "machine", definition->machine,
                     "vcpus", (int)definition->vcpus, "memory", (json_int_t)definition->memory,
                     "disks", disks_of_definition(domain), "qmp",
                     domain->pid ? domain->admin_socket : NULL, "log", domain->qemu_log,
                     "serial_log", serial, "vnc", vnc ? domain->vnc_socket : NULL);
}

static json_t *attached_info(const struct domain *domain)
{
    return json_pack("{s:s, s:n, s:o, s:o, s:n, s:n, s:n, s:n}", "machine", domain->machine,
                     "vcpus", "memory", size_or_null(domain->memory), "disks",
                     disks_of_qemu(domain), "qmp", "log", "serial_log", "vnc");
}

json_t *domain_info(struct domain *domain)
{
    char uuid[UUID_TEXT_SIZE], state[BS_TEXT_MAX];
    json_t *json, *more;

    uuid_to_text(domain->uuid, uuid);
    domains_lock(domain->domains);
    domain_state_text_locked(domain, state, sizeof state);
    json = json_pack("{s:s, s:s, s:s, s:o, s:b, s:b, s:s?, s:s?}", "name", domain->name, "uuid",
                     uuid, "state", state, "pid",
                     domain->pid ? json_integer(domain->pid) : json_null(), "attached",
                     domain->attached, "persistent", !domain->attached && !domain->transient,
                     "moved_to", domain->moved_to, "job", domain->job);
    more = domain->attached ? attached_info(domain) : own_info(domain);
    domains_unlock(domain->domains);
    if (!json || !more || json_object_update(json, more) < 0) {
        json_decref(json);
        json = NULL;
    }
    json_decref(more);
    return json;
}
