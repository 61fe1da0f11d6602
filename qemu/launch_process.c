/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A running QEMU's process: finding it again, its end, its last words: see launch.h.
 *
 * A pidfd names one process for good, a pid only as long as it lives; so everything here goes by
 * pidfd.  QEMU holds a POSIX lock on its pid file, which the kernel drops when it ends, however it
 * does; F_GETLK tells who holds it.
 */
#include "config.h"

#include "qemu/launch.h"
#include "common/cleanup.h"
#include "common/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

enum { WORDS_TAIL = 4096 };

bool launch_wait_end(int pidfd, unsigned timeout_ms)
{
    uint64_t deadline = loop_clock() + timeout_ms * LOOP_MS;
    struct pollfd pollfd = {.fd = pidfd, .events = POLLIN};

    for (;;) {
        uint64_t now = loop_clock();
        uint64_t ms = now < deadline ? (deadline - now + LOOP_MS - 1) / LOOP_MS : 0;
        int n = poll(&pollfd, 1, (int)ms);

        if (n > 0)
            return true;
        if ((n < 0 && errno != EINTR) || now >= deadline)
            return false;
    }
}

bool launch_ended(int pidfd)
{
    return launch_wait_end(pidfd, 0);
}

/* The pid behind PIDFD, as /proc says it; 0 when it has ended. */
static pid_t pid_of(int pidfd)
{
    CLEANUP_FCLOSE FILE *info = NULL;
    char path[64], line[128];
    int pid = 0;

    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    info = fopen(path, "re");
    while (info && fgets(line, sizeof line, info)) {
        if (sscanf(line, "Pid: %d", &pid) == 1)
            break;
    }
    return pid > 0 ? pid : 0;
}

static int send_signal(int pidfd, int number)
{
    pid_t pid;

    if (pidfd_send_signal(pidfd, number, NULL, 0) == 0)
        return 0;
    if (errno != ENOSYS) /* which is what valgrind says up to 3.20 */
        return -errno;
    pid = pid_of(pidfd);
    return pid == 0 ? -ESRCH : kill(pid, number) < 0 ? -errno : 0;
}

int launch_terminate(int pidfd, unsigned timeout_ms)
{
    int r = send_signal(pidfd, SIGTERM);

    if (r < 0)
        return r == -ESRCH ? 0 : r;
    return launch_wait_end(pidfd, timeout_ms) ? 0 : -ETIMEDOUT;
}

int launch_kill(int pidfd, unsigned timeout_ms, struct error *err)
{
    int r = send_signal(pidfd, SIGKILL);

    if (r < 0 && r != -ESRCH)
        return error_set_errno(err, -r, "can't kill QEMU");
    if (!launch_wait_end(pidfd, timeout_ms))
        return error_set(err, ETIMEDOUT,
                         "QEMU was killed but hasn't ended yet: it is stuck in the kernel, most "
                         "likely behind a disk that doesn't answer");
    return 0;
}

/* --- finding it again --- */

/* Returns the pid of the process that holds the lock, 0 for none, or a negative errno. */
static pid_t lock_holder(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_GETLK, &lock) < 0)
        return -errno;
    return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

pid_t launch_lock_holder(const char *pidfile)
{
    CLEANUP_CLOSE int fd = open(pidfile, O_RDWR | O_CLOEXEC);

    return fd >= 0 ? lock_holder(fd) : errno == ENOENT ? 0 : -errno;
}

/* A pidfd of process PID, which holds the lock on FD.  Returns -ESRCH when it has ended since. */
static int open_holder(int fd, pid_t pid)
{
    CLEANUP_CLOSE int pidfd = pidfd_open(pid, 0);

    if (pidfd < 0)
        return -errno;
    if (lock_holder(fd) != pid) /* the pidfd may be another process's by now */
        return -ESRCH;
    return take_fd(&pidfd);
}

int launch_find_holder(const char *pidfile, int *ret_pidfd)
{
    CLEANUP_CLOSE int fd = open(pidfile, O_RDWR | O_CLOEXEC);
    pid_t holder = fd >= 0 ? lock_holder(fd) : errno == ENOENT ? 0 : -errno;
    int r = holder > 0 ? open_holder(fd, holder) : holder < 0 ? holder : -ESRCH;

    if (r < 0)
        return r;
    *ret_pidfd = r;
    return 0;
}

int launch_find(const char *qmp_socket, const char *pidfile, pid_t *ret_pid, int *ret_pidfd,
                struct error *err)
{
    CLEANUP_CLOSE int fd = open(pidfile, O_RDWR | O_CLOEXEC), peer_pidfd = -1;
    pid_t holder = fd >= 0 ? lock_holder(fd) : errno == ENOENT ? 0 : -errno, peer = 0;
    struct error why = ERROR_INIT;
    int r;

    if (holder < 0)
        return error_set_errno(err, -holder, "can't see who holds QEMU's pid file %s", pidfile);
    r = qmp_peer(qmp_socket, &peer, &peer_pidfd, &why);
    if (holder > 0 && (r < 0 || peer != holder)) {
        r = open_holder(fd, holder);
        if (r < 0)
            return error_set_errno(err, -r, "can't watch QEMU, process %d", (int)holder);
        *ret_pid = holder;
        *ret_pidfd = r;
        return 0;
    }
    if (r == -ENOENT || r == -ECONNREFUSED)
        return error_set(err, ESRCH, "the QEMU of %s has ended", pidfile);
    if (r < 0)
        return error_set(err, -r, "%s", why.text);
    if (holder == 0)
        return error_set(err, EEXIST, "process %d listens on %s, but doesn't hold the pid file %s",
                         (int)peer, qmp_socket, pidfile);
    *ret_pid = peer;
    *ret_pidfd = take_fd(&peer_pidfd);
    return 0;
}

/* --- last words --- */

static void cut_last_line(char *text)
{
    char *end = text + strlen(text), *line;

    while (end > text && (end[-1] == '\n' || end[-1] == '\r'))
        *--end = '\0';
    line = strrchr(text, '\n');
    if (line)
        memmove(text, line + 1, strlen(line + 1) + 1);
}

void launch_words_since(const char *log, off_t since, char *ret, size_t size)
{
    CLEANUP_CLOSE int fd = open(log, O_RDONLY | O_CLOEXEC);
    char tail[WORDS_TAIL + 1];
    struct stat status;
    off_t from;
    ssize_t n;

    ret[0] = '\0';
    if (fd < 0 || fstat(fd, &status) < 0)
        return;
    from = status.st_size > WORDS_TAIL ? status.st_size - WORDS_TAIL : 0;
    n = pread(fd, tail, WORDS_TAIL, from > since ? from : since);
    if (n <= 0)
        return;
    tail[n] = '\0';
    cut_last_line(tail);
    snprintf(ret, size, "%s", tail);
}

void launch_last_words(const char *log, char *ret, size_t size)
{
    launch_words_since(log, 0, ret, size);
}
