/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The local sockets of a forward: see forward_socket.h.
 *
 * A socket's file may be replaced behind our back (another forward, another daemon); device and
 * inode are remembered so that only our own is removed in the end.
 */
#include "config.h"

#include "daemon/forward_socket.h"
#include "common/cleanup.h"
#include "io/net.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

enum { DEFAULT_MODE = 0600 };

int forward_owner_find(const char *user, unsigned mode, struct forward_owner *ret,
                       struct error *err)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];

    if (mode > 0777)
        return error_set(err, EINVAL, "a socket can't have the mode %o", mode);
    ret->mode = mode ? mode : DEFAULT_MODE;
    ret->uid = (uid_t)-1;
    if (user[0] == '\0')
        return 0;
    if (getpwnam_r(user, &entry, buffer, sizeof buffer, &found) != 0 || !found)
        return error_set(err, EINVAL, "there is no user \"%s\" to own the sockets", user);
    ret->uid = entry.pw_uid;
    return 0;
}

static int check_path(const char *path, struct error *err)
{
    if (path[0] != '/')
        return error_set(err, EINVAL, "can't forward \"%s\": a path from the root (/...) is wanted",
                         path);
    if (strlen(path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return error_set(err, ENAMETOOLONG,
                         "can't forward \"%s\": a socket's path has at most %zu bytes", path,
                         sizeof((struct sockaddr_un *)NULL)->sun_path - 1);
    return 0;
}

struct forward_socket *forward_sockets_new(const struct bs_forward_pair *pairs, unsigned count,
                                           struct error *err)
{
    struct forward_socket *sockets;

    if (count == 0) {
        error_set(err, EINVAL, "a forward needs at least one pair LOCAL:REMOTE of sockets");
        return NULL;
    }
    for (unsigned i = 0; i < count; i++)
        if (check_path(pairs[i].local, err) < 0 || check_path(pairs[i].remote, err) < 0)
            return NULL;
    sockets = calloc(count, sizeof *sockets);
    for (unsigned i = 0; sockets && i < count; i++) {
        sockets[i].local = strdup(pairs[i].local);
        sockets[i].remote = strdup(pairs[i].remote);
        if (!sockets[i].local || !sockets[i].remote) {
            forward_sockets_free(sockets, i + 1);
            sockets = NULL;
        }
    }
    if (!sockets)
        error_set(err, ENOMEM, "memory is short");
    return sockets;
}

void forward_sockets_free(struct forward_socket *sockets, unsigned count)
{
    for (unsigned i = 0; sockets && i < count; i++) {
        free(sockets[i].local);
        free(sockets[i].remote);
    }
    free(sockets);
}

static int listen_one(struct forward_socket *socket, const struct forward_owner *owner,
                      struct pump *pump, struct error *err)
{
    char endpoint[BS_ENDPOINT_MAX + 1];
    struct stat status;
    CLEANUP_CLOSE int fd = net_listen_unix(socket->local, owner->mode, err);

    if (fd < 0)
        return fd;
    if (fstatat(AT_FDCWD, socket->local, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return error_set_errno(err, errno, "can't look at the socket %s", socket->local);
    socket->made = true;
    socket->device = status.st_dev;
    socket->inode = status.st_ino;
    if (owner->uid != (uid_t)-1 &&
        fchownat(AT_FDCWD, socket->local, owner->uid, (gid_t)-1, AT_SYMLINK_NOFOLLOW) < 0)
        return error_set_errno(err, errno, "can't give the socket %s to user %u", socket->local,
                               (unsigned)owner->uid);
    snprintf(endpoint, sizeof endpoint, "unix:%s", socket->remote);
    return pump_listen(pump, take_fd(&fd), endpoint, err);
}

int forward_sockets_listen(struct forward_socket *sockets, unsigned count,
                           const struct forward_owner *owner, struct pump *pump, struct error *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < count; i++)
        r = listen_one(&sockets[i], owner, pump, err);
    return r;
}

void forward_sockets_remove(struct forward_socket *sockets, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct stat status;

        if (sockets[i].made &&
            fstatat(AT_FDCWD, sockets[i].local, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            status.st_dev == sockets[i].device && status.st_ino == sockets[i].inode)
            unlink(sockets[i].local);
        sockets[i].made = false;
    }
}

int forward_sockets_describe(const struct forward_socket *sockets, unsigned count,
                             struct bs_forward_pair *ret)
{
    for (unsigned i = 0; i < count; i++) {
        ret[i].local = strdup(sockets[i].local);
        ret[i].remote = strdup(sockets[i].remote);
        if (!ret[i].local || !ret[i].remote)
            return -ENOMEM;
    }
    return 0;
}
