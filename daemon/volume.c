/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Making and unmaking image files: see volume.h.
 *
 * The order: image under a name of its own; old image aside; rename without replacing.  At no moment
 * has an image no name, and each name tells whose it is.
 */
#include "config.h"

#include "daemon/volume.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "qemu/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* What was renamed or unlinked is on disk, not only in memory, when this returns 0. */
static int sync_folder_of(const char *path, struct error *err)
{
    CLEANUP_FREE char *folder = strdup(path);
    CLEANUP_CLOSE int fd = -1;
    char *slash;

    if (!folder)
        return error_set(err, ENOMEM, "no memory to name the folder of %s", path);
    slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder ? 1 : 0] = '\0';
    fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return error_set_errno(err, errno, "can't make sure that %s is on disk", path);
    return 0;
}

static int rename_noreplace(const char *from, const char *to, struct error *err)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno == EEXIST)
        return error_set(err, EEXIST, "a file %s exists already; move it away or delete it", to);
    return error_set_errno(err, errno, "can't rename %s to %s", from, to);
}

int volume_plan(const char *path, const char *id, bool returning, struct volume *ret,
                struct error *err)
{
    bool exists = access(path, F_OK) == 0;
    struct volume volume = {.path = strdup(path)};

    if (exists && !returning) {
        volume_clear(&volume);
        return error_set(err, EEXIST, "a file %s exists already; move it away or delete it", path);
    }
    if (asprintf(&volume.fresh, "%s.new-%s", path, id) < 0)
        volume.fresh = NULL;
    if (exists && asprintf(&volume.aside, "%s.before-%s", path, id) < 0)
        volume.aside = NULL;
    if (!volume.path || !volume.fresh || (exists && !volume.aside)) {
        volume_clear(&volume);
        return error_set(err, ENOMEM, "no memory to create %s", path);
    }
    *ret = volume;
    return 0;
}

/* The file at PATH is the one that was created. */
static int remember(struct volume *volume, const char *path, struct error *err)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return error_set_errno(err, errno, "can't look at the new image %s", path);
    volume->device = st.st_dev;
    volume->inode = st.st_ino;
    volume->created = true;
    return 0;
}

int volume_make(struct volume *volume, const struct volume_spec *spec, struct error *err)
{
    int r = image_create(volume->fresh, spec->format, spec->size, spec->backing,
                         spec->backing_format, err);

    return r == 0 ? remember(volume, volume->fresh, err) : r;
}

int volume_place(const struct volume *volume, struct error *err)
{
    int r = 0;

    if (volume->aside)
        r = rename_noreplace(volume->path, volume->aside, err);
    if (r == 0)
        r = rename_noreplace(volume->fresh, volume->path, err);
    return r == 0 ? sync_folder_of(volume->path, err) : r;
}

/* Is the file at PATH the one that was created? */
static bool is_ours(const struct volume *volume, const char *path)
{
    struct stat st;

    if (volume->kept && path == volume->path)
        return false;
    return volume->created && path && lstat(path, &st) == 0 && st.st_dev == volume->device &&
           st.st_ino == volume->inode;
}

static int put_back(const struct volume *volume, struct error *err)
{
    if (volume->aside && access(volume->aside, F_OK) == 0 &&
        rename_noreplace(volume->aside, volume->path, err) < 0)
        return error_prefix(err, "the guest's old image stays at %s", volume->aside);
    return sync_folder_of(volume->path, err);
}

int volume_undo(const struct volume *volume, struct error *err)
{
    const char *places[] = {volume->path, volume->partial};

    if (unlink(volume->fresh) < 0 && errno != ENOENT) /* its name holds the migration's id */
        return error_set_errno(err, errno, "can't delete %s, an image without use", volume->fresh);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (is_ours(volume, places[i]) && unlink(places[i]) < 0)
            return error_set_errno(err, errno, "can't delete %s, an image without use", places[i]);
    return put_back(volume, err);
}

int volume_keep(struct volume *volume, struct error *err)
{
    const char *at = is_ours(volume, volume->path)      ? volume->path
                     : access(volume->fresh, F_OK) == 0 ? volume->fresh
                                                        : NULL;
    int r = 0;

    if (at == volume->fresh) /* its inode may not have got into the journal any more */
        r = remember(volume, at, err);
    if (r == 0 && at)
        r = rename_noreplace(at, volume->partial, err);
    if (r == 0)
        volume->kept = true;
    return r == 0 ? put_back(volume, err) : r;
}

/* Whether the file has what a disk as SPEC says needs. */
static bool is_fit(const char *path, const struct volume_spec *spec)
{
    struct error err = ERROR_INIT;
    struct image_info info;
    bool fit;

    if (image_info_read(path, spec->format, &info, &err) < 0)
        return false;
    fit = info.virtual_size == spec->size && !info.backing_path == !spec->backing &&
          (!spec->backing || strcmp(info.backing_path, spec->backing) == 0);
    image_info_release(&info);
    return fit && image_check(path, spec->format, &err) == 0;
}

bool volume_take_up(struct volume *volume, const struct volume_spec *spec,
                    const struct volume *kept)
{
    struct error err = ERROR_INIT;

    if (strcmp(volume->path, kept->path) != 0 || !is_ours(kept, kept->partial) ||
        !is_fit(kept->partial, spec))
        return false;
    if (rename_noreplace(kept->partial, volume->fresh, &err) < 0 ||
        remember(volume, volume->fresh, &err) < 0) {
        log_warning("%s", err.text);
        return false;
    }
    return true;
}

int volume_sync(const struct volume *volume, struct error *err)
{
    CLEANUP_CLOSE int fd = open(volume->path, O_RDWR | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return error_set_errno(err, errno, "can't make sure that %s is on disk", volume->path);
    return 0;
}

int volume_settle(const struct volume *volume, struct error *err)
{
    if (!volume->aside)
        return 0;
    if (unlink(volume->aside) < 0 && errno != ENOENT)
        return error_set_errno(err, errno, "can't delete %s, the guest's old image", volume->aside);
    return sync_folder_of(volume->path, err);
}

/* ---- shared storage ---------------------------------------------------------------------------- */

/* Beside the file itself, wherever links lead. */
static char *marker_of(const char *path, const char *id)
{
    CLEANUP_FREE char *real = realpath(path, NULL);
    char *marker;

    if (!real || asprintf(&marker, "%s.shared-%s", real, id) < 0)
        return NULL;
    return marker;
}

int volume_mark_shared(const char *path, const char *id, char **ret_marker, struct error *err)
{
    CLEANUP_FREE char *marker = marker_of(path, id);
    CLEANUP_CLOSE int fd = -1;

    if (marker)
        fd = open(marker, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(err, errno, "can't lay a marker beside %s", path);
    *ret_marker = take_ptr(marker);
    return 0;
}

int volume_check_shared(const char *path, const char *id, struct error *err)
{
    CLEANUP_FREE char *marker = marker_of(path, id);

    if (marker && access(marker, F_OK) == 0)
        return 0;
    return error_set(err, EXDEV,
                     "%s here is not the source's file but another one (use --copy-storage-all, "
                     "or shared storage)",
                     path);
}

void volume_clear(struct volume *volume)
{
    free(volume->path);
    free(volume->fresh);
    free(volume->aside);
    free(volume->partial);
    *volume = (struct volume){.path = NULL};
}
