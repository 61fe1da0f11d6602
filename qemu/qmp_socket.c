/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Connecting to a QMP socket: see qmp_socket.h, and qmp_peer() in qmp.h.
 *
 * The kernel notes at listen(2) who listens, and tells it to whom connects: SO_PEERCRED gives the
 * pid, and since Linux 6.5 SO_PEERPIDFD a pidfd.  Older ones leave the way from the pid to a pidfd
 * to us, and in between the process could end and its number be given to another one; so the
 * connection is looked at once more after that: had QEMU ended before, it would be hung up.
 */
#include "config.h"

#include "qemu/qmp_socket.h"
#include "common/cleanup.h"
#include "qemu/qmp.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>

#ifndef SO_PEERPIDFD /* headers older than the kernel */
#define SO_PEERPIDFD 77
#endif

int qmp_socket_address(const char *path, struct sockaddr_un *ret, struct error *err)
{
    memset(ret, 0, sizeof *ret);
    ret->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof ret->sun_path)
        return error_set(err, ENAMETOOLONG, "%s is too long for a socket: %zu characters at most",
                         path, sizeof ret->sun_path - 1);
    memcpy(ret->sun_path, path, strlen(path) + 1);
    return 0;
}

static int connect_error(const char *path, int code, struct error *err)
{
    switch (code) {
    case ENOENT:
    case ECONNREFUSED:
        return error_set(err, code, "no QEMU listens on %s", path);
    case EAGAIN:
        return error_set(
            err, EBUSY, "QEMU takes no more connections on %s: other QMP clients wait there", path);
    default:
        return error_set_errno(err, code, "can't connect to QEMU at %s", path);
    }
}

static bool hung_up(int fd)
{
    struct pollfd pollfd = {.fd = fd};

    return poll(&pollfd, 1, 0) == 1 && (pollfd.revents & (POLLHUP | POLLERR));
}

static int open_peer(int fd, pid_t pid)
{
    int pidfd;
    socklen_t length = sizeof pidfd;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) == 0)
        return pidfd;
    return pidfd_open(pid, 0);
}

static int find_process(int fd, const char *path, pid_t *ret_pid, int *ret_pidfd, struct error *err)
{
    CLEANUP_CLOSE int pidfd = -1;
    struct ucred peer;
    socklen_t length = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return error_set_errno(err, errno, "can't ask who listens on %s", path);
    if (peer.pid <= 0)
        return error_set(err, ESRCH,
                         "who listens on %s can't be seen from here: a process of another PID "
                         "namespace",
                         path);
    pidfd = open_peer(fd, peer.pid);
    if (pidfd < 0 && errno != ESRCH)
        return error_set_errno(err, errno, "can't watch QEMU, process %d", (int)peer.pid);
    if (pidfd < 0 || hung_up(fd))
        return error_set(err, ECONNREFUSED, "the QEMU that listened on %s has just ended", path);
    *ret_pid = peer.pid;
    *ret_pidfd = take_fd(&pidfd);
    return 0;
}

int qmp_socket_connect(const char *path, pid_t *ret_pid, int *ret_pidfd, struct error *err)
{
    CLEANUP_CLOSE int fd = -1;
    struct sockaddr_un address;
    int r;

    r = qmp_socket_address(path, &address, err);
    if (r < 0)
        return r;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set_errno(err, errno, "can't make a socket for QEMU at %s", path);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return connect_error(path, errno, err);
    r = find_process(fd, path, ret_pid, ret_pidfd, err);
    if (r < 0)
        return r;
    return take_fd(&fd);
}

int qmp_peer(const char *socket_path, pid_t *ret_pid, int *ret_pidfd, struct error *err)
{
    int fd = qmp_socket_connect(socket_path, ret_pid, ret_pidfd, err);

    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}
