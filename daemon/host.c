/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* What HOST_INFO says of this host: see host.h. */
#include "config.h"

#include "daemon/host.h"
#include "daemon/direct_pki.h"
#include "daemon/peer.h"
#include "common/cleanup.h"
#include "common/loop.h"
#include "rpc/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>

#define VERSION_TIMEOUT (5 * LOOP_SECOND)

extern char **environ;

/* Starts BINARY --version with its output in *RET_FD and no signal blocked.  Returns whether it runs. */
static bool spawn_version(const char *binary, pid_t *ret_pid, int *ret_fd)
{
    char option[] = "--version";
    char *argv[] = {(char *)(uintptr_t)binary, option, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    int fds[2], r;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return false;
    sigemptyset(&none);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
    r = posix_spawnp(ret_pid, binary, &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(fds[1]);
    if (r == 0)
        *ret_fd = fds[0];
    else
        close(fds[0]);
    return r == 0;
}

/* Reads until the end of output, until BUFFER is full or time is up. */
static void read_output(int fd, char *buffer, size_t size)
{
    uint64_t end = loop_clock() + VERSION_TIMEOUT, now;
    size_t used = 0;

    while (used < size - 1 && (now = loop_clock()) < end) {
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (poll(&pollfd, 1, (int)((end - now) / LOOP_MS) + 1) <= 0)
            continue;
        n = read(fd, buffer + used, size - 1 - used);
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    buffer[used] = '\0';
}

char *host_qemu_version(const char *qemu_binary)
{
    static const char before[] = "QEMU emulator version ";
    char output[256];
    const char *version;
    CLEANUP_CLOSE int fd = -1;
    pid_t pid;

    if (!spawn_version(qemu_binary, &pid, &fd))
        return strdup("");
    read_output(fd, output, sizeof output);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    version = strstr(output, before);
    if (!version)
        return strdup("");
    version += sizeof before - 1;
    return strndup(version, strcspn(version, " \n"));
}

static int describe(const struct daemon *daemon, struct bs_host_info_ret *info, struct error *err)
{
    info->vers = strdup(PACKAGE_VERSION);
    info->hostname = strdup(daemon->hostname);
    info->qemu_version = strdup(daemon->qemu_version);
    info->features = BS_FEATURE_TUNNEL | BS_FEATURE_QEMU_NBD | BS_FEATURE_QEMU_BLOCK;
    if (daemon->config->direct_first)
        info->features |= BS_FEATURE_DIRECT;
    if (direct_pki_check(daemon->config->direct_pki_dir, NULL, err) == 0)
        info->features |= BS_FEATURE_DIRECT_TLS;
    error_clear(err);
    if (daemon->config->offer_bistream)
        info->features |= BS_FEATURE_BISTREAM;
    if (!info->vers || !info->hostname || !info->qemu_version)
        return error_set(err, ENOMEM, "memory is short");
    return 0;
}

int host_handle_info(void *opaque, const void *args, void *ret, struct error *err)
{
    const struct peer_link *link = opaque;

    (void)args;
    return describe(link->daemon, ret, err);
}

int host_handle_info_in_session(void *opaque, const void *args, void *ret, struct error *err)
{
    const struct peer_session *session = opaque;

    (void)args;
    return describe(session->daemon, ret, err);
}
