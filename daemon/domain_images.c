/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The images that a definition names, before its guest is started: those that are missing are made,
 * the others must be what the definition says.  An image is never changed here, and none is removed
 * when the start fails later.
 */
#include "config.h"

#include "daemon/domain_private.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "qemu/image.h"

#include <errno.h>
#include <stdlib.h>

static int make_image(const struct definition_disk *disk, const char *path, struct error *err)
{
    int r;

    if (disk->readonly)
        return error_set(err, ENOENT, "there is no image %s, and one that is only read is not made",
                         path);
    if (!disk->size)
        return error_set(
            err, ENOENT,
            "there is no image %s; to have it made, say its \"size\" in the definition", path);
    r = image_create(path, disk->format, disk->size, NULL, NULL, err);
    if (r == 0)
        log_info("disk %s: made the image %s (%s, %llu bytes)", disk->target, path, disk->format,
                 (unsigned long long)disk->size);
    return r;
}

static int look_at_image(const struct definition_disk *disk, const char *path, uint64_t *ret_size,
                         struct error *err)
{
    struct image_info info;
    int r;

    r = image_info_read(path, disk->format, &info, err);
    if (r < 0)
        return r;
    if (disk->size && disk->size != info.virtual_size)
        r = error_set(err, EINVAL,
                      "the image %s has %llu bytes, but the definition says %llu; leave out "
                      "\"size\" to take it as it is",
                      path, (unsigned long long)info.virtual_size, (unsigned long long)disk->size);
    else
        *ret_size = info.virtual_size;
    image_info_release(&info);
    return r;
}

int images_prepare(const struct config *config, const struct definition *definition,
                   uint64_t ret_sizes[BS_DISKS_MAX], struct error *err)
{
    for (size_t i = 0; i < definition->disk_count; i++) {
        const struct definition_disk *disk = &definition->disks[i];
        CLEANUP_FREE char *path = NULL;
        int r;

        ret_sizes[i] = disk->size;
        if (!disk->file)
            continue;
        path = definition_disk_path(disk, config->pool_dir);
        if (!path)
            return error_set(err, ENOMEM, "no memory for the path of disk %s", disk->target);
        if (access(path, F_OK) == 0)
            r = look_at_image(disk, path, &ret_sizes[i], err);
        else if (errno == ENOENT)
            r = make_image(disk, path, err);
        else
            r = error_set_errno(err, errno, "can't reach the image %s", path);
        if (r < 0) {
            error_prefix(err, "disk %s", disk->target);
            return r;
        }
    }
    return 0;
}
