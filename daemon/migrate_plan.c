/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Which disks go along, and how.  Everything that the guest can write to is copied when storage is
 * to be copied at all, unless --migrate-disks names some; what can't be copied is left out with a
 * sentence, or refused if it was asked for by name.
 */
#include "config.h"

#include "daemon/migrate_job.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "daemon/volume.h"
#include "qemu/image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool copies_storage(const struct bs_migrate_args *args)
{
    return args->flags & (BS_MIGRATE_COPY_STORAGE_ALL | BS_MIGRATE_COPY_STORAGE_INC);
}

static bool is_named(const struct bs_migrate_args *args, const char *target)
{
    for (u_int i = 0; i < args->disks.disks_len; i++)
        if (strcmp(args->disks.disks_val[i], target) == 0)
            return true;
    return false;
}

static unsigned format_number(const char *format)
{
    if (!format)
        return 0;
    return strcmp(format, "raw") == 0     ? BS_FORMAT_RAW
           : strcmp(format, "qcow2") == 0 ? BS_FORMAT_QCOW2
                                          : 0;
}

static int check_names(const struct migrate_plan *plan, const struct bs_migrate_args *args,
                       struct error *err)
{
    char known[256] = "";

    if (args->disks.disks_len && !copies_storage(args))
        return error_set(err, EINVAL,
                         "--migrate-disks needs --copy-storage-all or --copy-storage-inc");
    for (size_t k = 0; k < plan->disk_count; k++) {
        size_t used = strlen(known);

        snprintf(known + used, sizeof known - used, "%s%s", k ? ", " : "", plan->disks[k].target);
    }
    for (u_int i = 0; i < args->disks.disks_len; i++) {
        const char *name = args->disks.disks_val[i];
        bool found = false;

        for (size_t k = 0; k < plan->disk_count && !found; k++)
            found = strcmp(plan->disks[k].target, name) == 0;
        if (!found)
            return error_set(err, EINVAL, "the guest has no disk '%s'; it has %s", name,
                             *known ? known : "none at all");
    }
    return 0;
}

/* Why DISK can't be copied; NULL: it can. */
static const char *why_not(const struct domain_disk *disk)
{
    if (disk->empty)
        return "is empty";
    if (disk->readonly)
        return "is read-only";
    if (!format_number(disk->format))
        return "is neither raw nor qcow2";
    return NULL;
}

static int choose(struct migrate_plan *plan, const struct domain_disk *disk, bool attached,
                  const struct bs_migrate_args *args,
                  void (*say)(void *opaque, const char *sentence), void *opaque, struct error *err)
{
    const char *reason = why_not(disk);
    struct migrate_disk *chosen;
    char sentence[256];

    if (reason && is_named(args, disk->target))
        return error_set(err, EINVAL, "disk %s %s and can't be copied", disk->target, reason);
    if (disk->empty) {
        snprintf(sentence, sizeof sentence, "drive %s is empty: nothing to copy", disk->target);
        say(opaque, sentence);
        return 0;
    }
    if (!format_number(disk->format))
        return error_set(err, ENOTSUP, "disk %s %s", disk->target, reason);
    chosen = &plan->chosen[plan->chosen_count++];
    chosen->disk = disk;
    chosen->copy =
        copies_storage(args) && !reason && (!args->disks.disks_len || is_named(args, disk->target));
    chosen->top = chosen->copy && (args->flags & BS_MIGRATE_COPY_STORAGE_INC) && disk->backing;
    /* Whoever attaches a QEMU has given both of them their images. */
    chosen->shared = !chosen->copy && !disk->readonly && !attached;
    plan->copies += chosen->copy;
    plan->tops += chosen->top;
    if (copies_storage(args) && !chosen->copy) {
        snprintf(sentence, sizeof sentence,
                 "disk %s is not copied (%s): its image must be at the destination", disk->target,
                 reason ? reason : "not in --migrate-disks");
        say(opaque, sentence);
    }
    return 0;
}

int migrate_plan_make(struct migrate_plan *plan, struct domain *domain,
                      const struct bs_migrate_args *args,
                      void (*say)(void *opaque, const char *sentence), void *opaque,
                      struct error *err)
{
    int r = args->flags & BS_MIGRATE_OFFLINE
                ? domain_images(domain, &plan->disks, &plan->disk_count, err)
                : domain_disks(domain, &plan->disks, &plan->disk_count, err);

    if (r == 0 && plan->disk_count > BS_DISKS_MAX)
        r = error_set(err, E2BIG, "the guest has %zu disks; %d is the most that can move",
                      plan->disk_count, BS_DISKS_MAX);
    if (r == 0)
        r = check_names(plan, args, err);
    if (r < 0)
        return r;
    plan->chosen = calloc(plan->disk_count + 1, sizeof *plan->chosen);
    if (!plan->chosen)
        return error_set(err, ENOMEM, "no memory for a list of disks");
    for (size_t i = 0; r == 0 && i < plan->disk_count; i++)
        r = choose(plan, &plan->disks[i], domain_attached(domain), args, say, opaque, err);
    return r;
}

void migrate_plan_ask(const struct migrate_plan *plan, struct migrate_question *question)
{
    question->copies = plan->copies > 0;
    question->some_tops = plan->tops > 0;
    question->some_wholes = plan->tops < plan->copies;
    for (size_t i = 0; i < plan->chosen_count; i++)
        if (!plan->chosen[i].copy && !plan->chosen[i].disk->readonly)
            question->some_stay = true;
}

int migrate_plan_mark_shared(struct migrate_plan *plan, const char *id, struct error *err)
{
    for (size_t i = 0; i < plan->chosen_count; i++) {
        struct migrate_disk *chosen = &plan->chosen[i];

        if (chosen->shared && volume_mark_shared(chosen->disk->path, id, &chosen->marker, err) < 0)
            return error_prefix(err, "disk %s", chosen->disk->target);
    }
    return 0;
}

void migrate_plan_unmark(struct migrate_plan *plan)
{
    for (size_t i = 0; i < plan->chosen_count; i++) {
        char *marker = take_ptr(plan->chosen[i].marker);

        if (marker && unlink(marker) < 0)
            log_warning("can't remove the marker %s: %s", marker, strerror(errno));
        free(marker);
    }
}

void migrate_plan_clear(struct migrate_plan *plan)
{
    migrate_plan_unmark(plan);
    free(plan->chosen);
    domain_disks_free(plan->disks, plan->disk_count);
    memset(plan, 0, sizeof *plan);
}

/* Bytes that the image takes here; 0 when this daemon can't look at it (an attached QEMU's). */
static uint64_t allocated_bytes(const struct domain_disk *disk)
{
    struct image_info info;
    struct error err = ERROR_INIT;
    uint64_t bytes;

    if (image_info_read(disk->path, disk->format, &info, &err) < 0) {
        log_info("disk %s: %s", disk->target, err.text);
        return 0;
    }
    bytes = info.actual_size;
    image_info_release(&info);
    return bytes;
}

static int fill_backing(const struct domain_disk *disk, struct bs_cookie_disk *ret,
                        struct error *err)
{
    const char *slash = strrchr(disk->backing, '/');

    ret->backing_format = format_number(disk->backing_format);
    if (!ret->backing_format)
        return error_set(err, ENOTSUP,
                         "disk %s: its image doesn't say the format of its backing file; say it "
                         "with qemu-img rebase -u -F, or use --copy-storage-all",
                         disk->target);
    ret->flags |= BS_DISK_INCREMENTAL;
    ret->backing_size = disk->backing_size;
    ret->backing = strdup(slash ? slash + 1 : disk->backing);
    return 0;
}

static int fill_disk(const struct migrate_disk *chosen, struct bs_cookie_disk *ret,
                     struct error *err)
{
    const struct domain_disk *disk = chosen->disk;
    int r = 0;

    ret->target = strdup(disk->target);
    ret->size = disk->size;
    ret->format = format_number(disk->format);
    if (chosen->shared)
        ret->flags = BS_DISK_SHARED;
    if (chosen->copy) {
        ret->flags = BS_DISK_COPY;
        ret->allocated = allocated_bytes(disk);
    }
    if (chosen->top)
        r = fill_backing(disk, ret, err);
    if (!ret->backing)
        ret->backing = strdup("");
    if (r == 0 && (!ret->target || !ret->backing))
        r = error_set(err, ENOMEM, "no memory for the cookie");
    return r;
}

int migrate_plan_cookie(const struct migrate_plan *plan, struct bs_cookie_source *ret,
                        struct error *err)
{
    int r = 0;

    ret->disks.disks_val = calloc(plan->chosen_count + 1, sizeof *ret->disks.disks_val);
    if (!ret->disks.disks_val)
        return error_set(err, ENOMEM, "no memory for the cookie");
    for (size_t i = 0; r == 0 && i < plan->chosen_count; i++)
        r = fill_disk(&plan->chosen[i], &ret->disks.disks_val[ret->disks.disks_len++], err);
    return r;
}
