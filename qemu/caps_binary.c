/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What a QEMU binary can do: see caps.h.
 *
 * It is started as a guest's is, but without a machine, so that it takes no memory and no time, and is
 * killed once it has answered.  If we die before that, the next one who asks ends it.
 */
#include "config.h"

#include "qemu/caps.h"
#include "common/cleanup.h"
#include "qemu/launch.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { PATH_SIZE = 128, KILL_TIMEOUT_MS = 2000 };

/* Files of FOLDER; a socket's path may have no more than 107 characters anyway. */
struct files {
    char qmp[PATH_SIZE], pid[PATH_SIZE], log[PATH_SIZE];
};

static int name_files(const char *folder, struct files *files, struct error *err)
{
    if (snprintf(files->pid, PATH_SIZE, "%s/pid", folder) >= PATH_SIZE)
        return error_set(err, ENAMETOOLONG, "the path of the folder %s is too long", folder);
    snprintf(files->qmp, PATH_SIZE, "%s/qmp", folder);
    snprintf(files->log, PATH_SIZE, "%s/log", folder);
    return 0;
}

static void remove_files(const struct files *files)
{
    unlink(files->qmp);
    unlink(files->pid);
    unlink(files->log);
}

static void end_leftover(const struct files *files)
{
    CLEANUP_CLOSE int pidfd = -1;
    pid_t pid;

    if (launch_find(files->qmp, files->pid, &pid, &pidfd, NULL) == 0)
        launch_kill(pidfd, KILL_TIMEOUT_MS, NULL);
}

int qemu_caps_of_binary(struct qmp_thread *thread, const char *binary, const char *folder,
                        struct qemu_caps *ret, const struct qmp_wait *wait, struct error *err)
{
    struct files files;
    const struct launch launch = {.binary = binary,
                                  .name = "bistream",
                                  .machine = "none",
                                  .vcpus = 1,
                                  .memory = 1 << 20,
                                  .paused = true,
                                  .qmp_socket = files.qmp,
                                  .pidfile = files.pid,
                                  .log = files.log};
    struct qmp *qmp;
    int r = name_files(folder, &files, err);

    if (r < 0)
        return r;
    end_leftover(&files);
    qmp = launch_qemu(thread, &launch, wait, NULL, NULL, err);
    r = qmp ? qemu_caps_query(qmp, ret, wait, err) : -err->code;
    if (qmp)
        launch_kill(qmp_pidfd(qmp), KILL_TIMEOUT_MS, NULL);
    qmp_free(qmp);
    remove_files(&files);
    return r;
}
