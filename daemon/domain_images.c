/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The images that a definition names, before its guest is started: those that are missing are made,
 * the others must be what the definition says.  An image is never changed here, and none is removed
 * when the start fails later.
 *
 * And whose an image is: a peer's guest may not be given what belongs to another one here, whatever
 * its definition says, and no image is taken from under a guest, or from under an image that builds
 * upon it.  Files are compared by device and inode, so links don't hide anything.
 */
#include "config.h"

#include "daemon/domain_private.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "qemu/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

/* ---- whose an image is ------------------------------------------------------------------------ */

/* A disk of a domain: taken down under the registry's lock, looked at without it. */
struct claim {
    char *path;
    char *domain;
    char format[16];
    bool own, readonly;
};

static void claims_free(struct claim *claims, size_t count)
{
    for (size_t i = 0; claims && i < count; i++) {
        free(claims[i].path);
        free(claims[i].domain);
    }
    free(claims);
}

/* Takes over PATH, NULL without memory. */
static bool add_claim(struct claim *claim, const struct domain *domain, char *path,
                      const char *format, bool readonly)
{
    *claim = (struct claim){.path = path, .domain = strdup(domain->name), .readonly = readonly};
    snprintf(claim->format, sizeof claim->format, "%s", format ? format : "");
    return claim->path && claim->domain;
}

static size_t count_disks(const struct domain *domain)
{
    return (domain->definition ? domain->definition->disk_count : 0) +
           (domain->previous ? domain->previous->disk_count : 0) + domain->drive_count;
}

static bool claim_defined(const struct domain *domain, const struct definition *definition,
                          struct claim *claims, size_t *count)
{
    const char *pool = domain->domains->config->pool_dir;

    for (size_t i = 0; definition && i < definition->disk_count; i++) {
        const struct definition_disk *disk = &definition->disks[i];

        if (disk->file && !add_claim(&claims[(*count)++], domain, definition_disk_path(disk, pool),
                                     disk->format, disk->readonly))
            return false;
    }
    return true;
}

static bool claim_drives(const struct domain *domain, struct claim *claims, size_t *count)
{
    for (size_t i = 0; i < domain->drive_count; i++) {
        const struct domain_disk *drive = &domain->drives[i];

        if (!drive->empty && !add_claim(&claims[(*count)++], domain, strdup(drive->path),
                                        drive->format, drive->readonly))
            return false;
    }
    return true;
}

/* All disks of all domains; of SELF those of the time before it moved.  With the lock held. */
static bool collect(struct domains *domains, const struct domain *self, struct claim **ret,
                    size_t *ret_count)
{
    const struct domain *domain;
    size_t most = 0;
    bool done = true;

    LIST_FOREACH(domain, &domains->list, link)
    most += count_disks(domain);
    *ret_count = 0;
    *ret = calloc(most + 1, sizeof **ret);
    if (!*ret)
        return false;
    LIST_FOREACH(domain, &domains->list, link)
    {
        size_t first = *ret_count;

        done = done && claim_defined(domain, domain->previous, *ret, ret_count);
        if (domain != self)
            done = done && claim_defined(domain, domain->definition, *ret, ret_count) &&
                   claim_drives(domain, *ret, ret_count);
        for (size_t i = first; i < *ret_count; i++)
            (*ret)[i].own = domain == self;
    }
    return done;
}

static bool is_same_file(const char *path, const char *other)
{
    struct stat status, other_status;

    return strcmp(path, other) == 0 ||
           (stat(path, &status) == 0 && stat(other, &other_status) == 0 &&
            status.st_dev == other_status.st_dev && status.st_ino == other_status.st_ino);
}

/* Whether CLAIM leaves no room for USE of the image at PATH. */
static bool is_against(const struct claim *claim, const char *path, const struct image_use *use)
{
    if (claim->own ? !use->format || strcmp(use->format, claim->format) == 0
                   : claim->readonly && !use->writable)
        return false;
    return is_same_file(path, claim->path);
}

static int refuse_image(const struct claim *claim, const char *path, const struct image_use *use,
                        struct error *err)
{
    if (claim->own)
        return error_set(err, EEXIST, "the guest's image %s is %s here, not %s", path,
                         claim->format, use->format);
    return error_set(err, EEXIST, "the image %s belongs to the domain %s here", path,
                     claim->domain);
}

int domains_check_image(struct domains *domains, const char *path, const struct image_use *use,
                        struct error *err)
{
    struct claim *claims;
    size_t count;
    bool collected;
    int r = 0;

    domains_lock(domains);
    collected = collect(domains, use->self, &claims, &count);
    domains_unlock(domains);
    if (!collected)
        r = error_set(err, ENOMEM, "no memory to find out whose image %s is", path);
    for (size_t i = 0; r == 0 && i < count; i++)
        if (is_against(&claims[i], path, use))
            r = refuse_image(&claims[i], path, use, err);
    claims_free(claims, count);
    return r;
}

/* ---- what builds upon an image ---------------------------------------------------------------- */

enum { LAYERS_MAX = 256 }; /* of an image; more would be a circle */

/* The file that an image names as its backing file; NULL: none, or no file of this host. */
static const char *backing_file(const struct image_info *info)
{
    const char *path = info->backing_path;

    if (path && strncmp(path, "file:", strlen("file:")) == 0)
        path += strlen("file:");
    return path && (path[0] == '/' || strncmp(path, "json:", strlen("json:")) == 0) ? path : NULL;
}

/* Puts the layer below LAYER in its place; NULL: there is none.  Returns 0, or a negative errno with
 * ERR when that can't be found out. */
static int descend(char **layer, char format[16], struct error *err)
{
    struct image_info info;
    const char *below;
    int r;

    if (strcmp(format, "raw") == 0 || (access(*layer, F_OK) < 0 && errno == ENOENT)) {
        free(take_ptr(*layer));
        return 0;
    }
    r = image_info_read(*layer, *format ? format : NULL, &info, err);
    if (r < 0)
        return r;
    below = backing_file(&info);
    free(*layer);
    *layer = below ? strdup(below) : NULL;
    snprintf(format, 16, "%s", info.backing_format ? info.backing_format : "");
    if (below && !*layer)
        r = error_set(err, ENOMEM, "no memory for the path of a backing file");
    image_info_release(&info);
    return r;
}

/* Refuses when the image of CLAIM is PATH (unless it is the guest's own), or builds upon it. */
static int check_claim_unused(const struct claim *claim, const char *path, struct error *err)
{
    CLEANUP_FREE char *layer = claim->path[0] == '/' ? strdup(claim->path) : NULL;
    char format[16];
    int r = 0;

    snprintf(format, sizeof format, "%s", claim->format);
    for (unsigned depth = 0; r == 0 && layer; depth++) {
        if ((depth > 0 || !claim->own) && is_same_file(path, layer))
            return error_set(err, EEXIST,
                             "%s is %s%s of the domain %s here; undefine that, or make its disk "
                             "independent of this image (qemu-img rebase), first",
                             path, depth > 0 ? "a backing file of " : "",
                             depth > 0 ? claim->path : "a disk", claim->domain);
        r = depth < LAYERS_MAX
                ? descend(&layer, format, err)
                : error_set(err, ELOOP, "%s has too many backing files", claim->path);
    }
    return r < 0 ? error_prefix(err, "can't find out whether the domain %s needs %s", claim->domain,
                                path)
                 : 0;
}

/* A QEMU that is no domain here can have it open as well; it holds locks on all of its images. */
static int check_unlocked(const char *path, struct error *err)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0 || fcntl(fd, F_OFD_GETLK, &lock) < 0)
        return error_set_errno(err, errno, "can't find out whether %s is in use", path);
    if (lock.l_type == F_UNLCK)
        return 0;
    return error_set(err, EBUSY,
                     "%s is in use by a program that is no domain here (fuser names it)", path);
}

int domains_check_unused(struct domains *domains, const char *path, const struct domain *self,
                         struct error *err)
{
    struct claim *claims;
    size_t count;
    bool collected;
    int r = 0;

    domains_lock(domains);
    collected = collect(domains, self, &claims, &count);
    domains_unlock(domains);
    if (!collected)
        r = error_set(err, ENOMEM, "no memory to find out who needs %s", path);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = check_claim_unused(&claims[i], path, err);
    claims_free(claims, count);
    return r < 0 ? r : check_unlocked(path, err);
}
