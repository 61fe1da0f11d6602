/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Folders of sockets: see socket_folder.h. */
#include "config.h"

#include "daemon/socket_folder.h"
#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *socket_folder_name(const char *run_dir, const char *prefix, const char *id)
{
    char *path;

    return asprintf(&path, "%s/%s-%.12s", run_dir, prefix, id) < 0 ? NULL : path;
}

int socket_folder_make(const char *path, struct error *err)
{
    if (mkdir(path, 0700) < 0)
        return error_set_errno(err, errno, "can't make the folder %s", path);
    return 0;
}

void socket_folder_remove(const char *path)
{
    DIR *dir = path ? opendir(path) : NULL;
    const struct dirent *entry;

    if (!dir)
        return;
    while ((entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    if (rmdir(path) < 0)
        log_warning("can't remove the folder %s: %s", path, strerror(errno));
}
