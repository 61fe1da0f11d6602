/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Making and unmaking image files: see volume.h.
 *
 * The order in volume_create(): image under a name of its own; old image aside; rename without
 * replacing.  Each step that fails undoes those before it, so there is no state in which neither
 * the old nor the new image has a name.
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

static int remember_inode(const char *path, struct volume *volume, struct error *err)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return error_set_errno(err, errno, "can't look at the new image %s", path);
    volume->device = st.st_dev;
    volume->inode = st.st_ino;
    volume->created = true;
    return 0;
}

static int set_aside(const struct volume_spec *spec, const char *id, struct volume *volume,
                     struct error *err)
{
    CLEANUP_FREE char *aside = NULL;
    int r;

    if (!spec->returning || access(spec->path, F_OK) < 0)
        return 0;
    if (asprintf(&aside, "%s.before-%s", spec->path, id) < 0) {
        aside = NULL;
        return error_set(err, ENOMEM, "no memory to set %s aside", spec->path);
    }
    r = rename_noreplace(spec->path, aside, err);
    if (r == 0)
        volume->aside = take_ptr(aside);
    return r;
}

static int put_back(const struct volume *volume, struct error *err)
{
    return volume->aside ? rename_noreplace(volume->aside, volume->path, err) : 0;
}

static int make_and_name(const struct volume_spec *spec, const char *fresh, const char *id,
                         struct volume *volume, struct error *err)
{
    int r;

    r = image_create(fresh, spec->format, spec->size, spec->backing, spec->backing_format, err);
    if (r < 0)
        return r;
    r = remember_inode(fresh, volume, err);
    if (r < 0)
        return r;
    r = set_aside(spec, id, volume, err);
    if (r < 0)
        return r;
    r = rename_noreplace(fresh, spec->path, err);
    if (r < 0)
        return r;
    return sync_folder_of(spec->path, err);
}

int volume_create(const struct volume_spec *spec, const char *id, struct volume *ret,
                  struct error *err)
{
    struct volume volume = {.path = strdup(spec->path)};
    CLEANUP_FREE char *fresh = NULL;
    int r;

    if (asprintf(&fresh, "%s.new-%s", spec->path, id) < 0)
        fresh = NULL;
    if (!volume.path || !fresh) {
        volume_clear(&volume);
        return error_set(err, ENOMEM, "no memory to create %s", spec->path);
    }
    if (!spec->returning && access(spec->path, F_OK) == 0) {
        volume_clear(&volume);
        return error_set(err, EEXIST, "a file %s exists already; move it away or delete it",
                         spec->path);
    }
    r = make_and_name(spec, fresh, id, &volume, err);
    if (r < 0) {
        struct error undoing = ERROR_INIT;

        unlink(fresh); /* its name holds a random id: nobody else's */
        if (volume_undo(&volume, &undoing) < 0)
            log_error("volume %s: %s", spec->path, undoing.text);
        volume_clear(&volume);
        return r;
    }
    *ret = volume;
    return 0;
}

int volume_undo(const struct volume *volume, struct error *err)
{
    struct stat st;

    if (volume->created && lstat(volume->path, &st) == 0 && st.st_dev == volume->device &&
        st.st_ino == volume->inode && unlink(volume->path) < 0)
        return error_set_errno(err, errno, "can't delete %s, an image without use", volume->path);
    if (put_back(volume, err) < 0)
        return error_prefix(err, "the guest's old image stays at %s", volume->aside);
    return volume->created ? sync_folder_of(volume->path, err) : 0;
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
    free(volume->aside);
    *volume = (struct volume){.path = NULL};
}
