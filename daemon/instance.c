/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* What a running daemon has in the file system beside its sockets: see instance.h. */
#include "config.h"

#include "daemon/instance.h"
#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

/* Makes PATH with MODE, and with 0755 what is missing above it. */
static int make_folder(const char *path, mode_t mode, struct error *err)
{
    CLEANUP_FREE char *copy = strdup(path);
    struct stat status;

    if (!copy)
        return error_set(err, ENOMEM, "can't make the folder %s: memory is short", path);
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            return error_set_errno(err, errno, "can't make the folder %s", copy);
        *slash = '/';
    }
    if (mkdir(path, mode) < 0 && errno != EEXIST)
        return error_set_errno(err, errno, "can't make the folder %s", path);
    if (stat(path, &status) < 0)
        return error_set_errno(err, errno, "can't look at the folder %s", path);
    if (!S_ISDIR(status.st_mode))
        return error_set(err, ENOTDIR, "%s is no folder; move it away or configure another path",
                         path);
    return 0;
}

int instance_make_folders(const struct config *config, struct error *err)
{
    int r = make_folder(config->run_dir, 0755, err);

    if (r == 0)
        r = make_folder(config->state_dir, 0700, err);
    if (r == 0)
        r = make_folder(config->pool_dir, 0700, err);
    return r;
}

/* FD could not be locked: says who has it. */
static int explain_taken(int fd, const struct config *config, struct error *err)
{
    char pid[16] = "";

    if (pread(fd, pid, sizeof pid - 1, 0) < 0)
        pid[0] = '\0';
    pid[strcspn(pid, "\n")] = '\0';
    return error_set(err, EBUSY,
                     "another bistreamd (pid %s) uses the state folder %s: stop it, or configure "
                     "another state_dir here",
                     pid[0] ? pid : "not known", config->state_dir);
}

int instance_lock(const struct config *config, struct error *err)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_CLOSE int fd = -1;

    if (asprintf(&path, "%s/bistreamd.pid", config->state_dir) < 0) {
        path = NULL;
        return error_set(err, ENOMEM, "can't lock %s: memory is short", config->state_dir);
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return error_set_errno(err, errno, "can't open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return explain_taken(fd, config, err);
        return error_set_errno(err, errno, "can't lock %s", path);
    }
    if (ftruncate(fd, 0) < 0 || dprintf(fd, "%d\n", (int)getpid()) < 0)
        return error_set_errno(err, errno, "can't write %s", path);
    return take_fd(&fd);
}

int instance_write_port(const struct config *config, int port, struct error *err)
{
    CLEANUP_FREE char *path = NULL, *fresh = NULL;
    CLEANUP_FCLOSE FILE *file = NULL;

    if (asprintf(&path, "%s/port", config->run_dir) < 0) {
        path = NULL;
        return error_set(err, ENOMEM, "can't write the port file: memory is short");
    }
    if (asprintf(&fresh, "%s.new", path) < 0) {
        fresh = NULL;
        return error_set(err, ENOMEM, "can't write the port file: memory is short");
    }
    file = fopen(fresh, "we");
    if (!file || fprintf(file, "%d\n", port) < 0 || fflush(file) != 0 || rename(fresh, path) < 0)
        return error_set_errno(err, errno, "can't write the port file %s", path);
    return 0;
}

void instance_remove_port(const struct config *config)
{
    CLEANUP_FREE char *path = NULL;

    if (asprintf(&path, "%s/port", config->run_dir) < 0)
        path = NULL;
    else
        unlink(path);
}
