/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Running a helper program: see child.h.
 *
 * Its output goes to memory files that are read when it has ended, so there is nothing to be served
 * while it runs, and it can't get stuck behind a full pipe.
 */
#include "config.h"

#include "qemu/child.h"
#include "common/cleanup.h"
#include "qemu/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { OUTPUT_MAX = 1 << 20, KILL_MS = 10000 }; /* qemu-img info writes some kB */

extern char **environ;

/* The whole of memory file FD, NUL-terminated; NULL when there is no memory or it is too long. */
static char *read_all(int fd)
{
    struct stat status;
    size_t size;
    char *text;

    if (fstat(fd, &status) < 0 || status.st_size > OUTPUT_MAX)
        return NULL;
    size = (size_t)status.st_size;
    text = malloc(size + 1);
    if (!text)
        return NULL;
    if (pread(fd, text, size, 0) != (ssize_t)size) {
        free(text);
        return NULL;
    }
    text[size] = '\0';
    return text;
}

static int start(char *const argv[], int out, int errors, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t set;
    int r;

    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawn_file_actions_adddup2(&actions, errors, 2);
    sigemptyset(&set);
    posix_spawnattr_setsigmask(&attr, &set);
    sigaddset(&set, SIGPIPE);
    posix_spawnattr_setsigdefault(&attr, &set);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    r = posix_spawnp(ret_pid, argv[0], &actions, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

/* Returns 0 when it ended in time, whatever its status. */
static int wait_for(pid_t pid, const char *name, unsigned timeout_ms, int *ret_status,
                    struct error *err)
{
    CLEANUP_CLOSE int pidfd = pidfd_open(pid, 0); /* not reaped yet, so it is the one */
    bool ended = pidfd >= 0 && launch_wait_end(pidfd, timeout_ms);

    if (!ended)
        kill(pid, SIGKILL);
    while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
        ;
    return ended ? 0 : error_set(err, ETIMEDOUT, "%s took too long and was ended", name);
}

/* What it has to say may take several lines, and we say one sentence. */
static void join_lines(char *text)
{
    size_t length = strlen(text);

    while (length > 0 && text[length - 1] == '\n')
        text[--length] = '\0';
    for (; *text; text++) {
        if (*text == '\n')
            *text = ' ';
    }
}

static int failed(const char *name, int errors, struct error *err)
{
    CLEANUP_FREE char *words = read_all(errors);

    if (words)
        join_lines(words);
    return error_set(err, EIO, "%s failed: %s", name,
                     words && *words ? words : "it gave no reason");
}

int child_run(char *const argv[], unsigned timeout_ms, char **ret_output, struct error *err)
{
    CLEANUP_CLOSE int out = memfd_create("stdout", MFD_CLOEXEC);
    CLEANUP_CLOSE int errors = memfd_create("stderr", MFD_CLOEXEC);
    int status = 0, r;
    pid_t pid;

    if (out < 0 || errors < 0)
        return error_set_errno(err, errno, "can't run %s", argv[0]);
    r = start(argv, out, errors, &pid);
    if (r < 0)
        return error_set_errno(err, -r, "can't run %s", argv[0]);
    r = wait_for(pid, argv[0], timeout_ms, &status, err);
    if (r < 0)
        return r;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return failed(argv[0], errors, err);
    if (!ret_output)
        return 0;
    *ret_output = read_all(out);
    return *ret_output ? 0 : error_set(err, ENOMEM, "%s wrote too much", argv[0]);
}
