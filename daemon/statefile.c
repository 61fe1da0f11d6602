/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Files that survive a crash: see statefile.h. */
#include "config.h"

#include "daemon/statefile.h"
#include "common/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdbool.h>
#include <string.h>

#define SUFFIX ".json"
#define NEW_SUFFIX ".json.new"

static char *path_of(const char *folder, const char *name, const char *suffix, struct error *err)
{
    char *path;

    if (asprintf(&path, "%s/%s%s", folder, name, suffix) >= 0)
        return path;
    error_set(err, ENOMEM, "no memory for the path of %s", name);
    return NULL;
}

static int sync_folder(const char *path, struct error *err)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return error_set_errno(err, errno, "can't make sure that %s is on disk", path);
    return 0;
}

static int write_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, data, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

int statefile_prepare(const char *folder, const char *name, const json_t *json, struct error *err)
{
    CLEANUP_FREE char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    CLEANUP_FREE char *path = path_of(folder, name, NEW_SUFFIX, err);
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (!path)
        return -ENOMEM;
    if (!text)
        return error_set(err, ENOMEM, "no memory to write %s", path);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set_errno(err, errno, "can't write %s", path);
    r = write_all(fd, text, strlen(text));
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    if (r < 0) {
        error_set_errno(err, -r, "can't write %s", path);
        unlink(path);
    }
    return r;
}

int statefile_commit(const char *folder, const char *name, struct error *err)
{
    CLEANUP_FREE char *from = path_of(folder, name, NEW_SUFFIX, err);
    CLEANUP_FREE char *to = path_of(folder, name, SUFFIX, err);

    if (!from || !to)
        return -ENOMEM;
    if (rename(from, to) < 0)
        return error_set_errno(err, errno, "can't rename %s to %s", from, to);
    return sync_folder(folder, err);
}

void statefile_forget(const char *folder, const char *name)
{
    CLEANUP_FREE char *path = path_of(folder, name, NEW_SUFFIX, NULL);

    if (path)
        unlink(path);
}

int statefile_write(const char *folder, const char *name, const json_t *json, struct error *err)
{
    int r = statefile_prepare(folder, name, json, err);

    return r == 0 ? statefile_commit(folder, name, err) : r;
}

int statefile_remove(const char *folder, const char *name, struct error *err)
{
    CLEANUP_FREE char *path = path_of(folder, name, SUFFIX, err);

    if (!path)
        return -ENOMEM;
    statefile_forget(folder, name);
    if (unlink(path) == 0)
        return sync_folder(folder, err);
    return errno == ENOENT ? 0 : error_set_errno(err, errno, "can't remove %s", path);
}

json_t *statefile_read(const char *folder, const char *name, struct error *err)
{
    CLEANUP_FREE char *path = path_of(folder, name, SUFFIX, err);
    CLEANUP_FCLOSE FILE *file = path ? fopen(path, "re") : NULL;
    json_error_t where;
    json_t *json;

    if (!path)
        return NULL;
    if (!file) {
        error_set_errno(err, errno, "can't read %s", path);
        return NULL;
    }
    json = json_loadf(file, JSON_REJECT_DUPLICATES, &where);
    if (!json)
        error_set(err, EINVAL, "%s, line %d: %s", path, where.line, where.text);
    return json;
}

static bool ends_with(const char *name, const char *suffix)
{
    size_t length = strlen(name), end = strlen(suffix);

    return length > end && strcmp(name + length - end, suffix) == 0;
}

int statefile_list(const char *folder, void (*each)(void *opaque, const char *name), void *opaque,
                   struct error *err)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;

    if (!dir)
        return error_set_errno(err, errno, "can't look into %s", folder);
    while ((entry = readdir(dir))) {
        if (ends_with(entry->d_name, NEW_SUFFIX)) {
            unlinkat(dirfd(dir), entry->d_name, 0);
        } else if (ends_with(entry->d_name, SUFFIX)) {
            entry->d_name[strlen(entry->d_name) - strlen(SUFFIX)] = '\0';
            each(opaque, entry->d_name);
        }
    }
    closedir(dir);
    return 0;
}
