/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Running a helper program: see child.h.
 *
 * Its stdout is a pipe that we read until it closes, which is also how we see that it has ended;
 * stderr goes to a memory file that is read afterwards.
 */
#include "config.h"

#include "qemu/child.h"
#include "common/cleanup.h"
#include "common/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { OUTPUT_MAX = 1 << 18 }; /* qemu-img info writes some kB; fits on a stack */

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

/* Fills TEXT, OUTPUT_MAX bytes at the most and a NUL, up to the end of file.  Returns 0, -ETIMEDOUT
 * or -EFBIG. */
static int read_until_end(int fd, char *text, unsigned timeout_ms)
{
    uint64_t deadline = loop_clock() + timeout_ms * LOOP_MS, now;
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    size_t used = 0;
    ssize_t n = 1;

    while (n != 0) {
        now = loop_clock();
        if (now >= deadline)
            return -ETIMEDOUT;
        if (used == OUTPUT_MAX)
            return -EFBIG;
        if (poll(&pollfd, 1, (int)((deadline - now) / LOOP_MS) + 1) <= 0)
            continue;
        n = read(fd, text + used, OUTPUT_MAX - used);
        if (n < 0 && errno != EINTR)
            return -errno;
        used += n > 0 ? (size_t)n : 0;
    }
    text[used] = '\0';
    return 0;
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
    CLEANUP_CLOSE int errors = memfd_create("stderr", MFD_CLOEXEC);
    CLEANUP_CLOSE int ours = -1;
    int out[2], status = 0, r;
    char output[OUTPUT_MAX + 1];
    pid_t pid;

    if (errors < 0 || pipe2(out, O_CLOEXEC) < 0)
        return error_set_errno(err, errno, "can't run %s", argv[0]);
    ours = out[0];
    r = start(argv, out[1], errors, &pid);
    close(out[1]);
    if (r < 0)
        return error_set_errno(err, -r, "can't run %s", argv[0]);
    r = read_until_end(ours, output, timeout_ms);
    if (r < 0)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (r < 0)
        return error_set_errno(err, -r, "%s had to be ended", argv[0]);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return failed(argv[0], errors, err);
    if (ret_output && !(*ret_output = strdup(output)))
        return error_set(err, ENOMEM, "can't keep what %s says: out of memory", argv[0]);
    return 0;
}
