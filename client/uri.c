/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Sockets as operators write them: see uri.h. */
#include "config.h"

#include "client/uri.h"

#include "common/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int copy_path(const char *path, size_t length, char ret[URI_SOCKET_MAX], struct error *err)
{
    if (length == 0)
        return error_set(err, EINVAL, "a socket's path is missing");
    if (length >= URI_SOCKET_MAX)
        return error_set(err, ENAMETOOLONG,
                         "the socket's path %.*s is too long: %zu bytes, and %d is the most that a "
                         "UNIX socket takes",
                         (int)length, path, length, URI_SOCKET_MAX - 1);
    memcpy(ret, path, length);
    ret[length] = '\0';
    return 0;
}

int uri_control_socket(const char *uri, char ret[URI_SOCKET_MAX], struct error *err)
{
    static const char scheme[] = "unix://";

    if (!uri)
        uri = getenv(URI_ENVIRONMENT);
    if (!uri || !*uri)
        uri = URI_DEFAULT_SOCKET;
    if (strncmp(uri, scheme, sizeof scheme - 1) == 0) {
        uri += sizeof scheme - 1;
        if (*uri != '/')
            return error_set(err, EINVAL, "the daemon's URI is unix:///PATH, not unix://%s", uri);
    } else if (strstr(uri, "://")) {
        return error_set(err, EINVAL,
                         "can't connect to %s: the daemon is reached on this host, through "
                         "unix:///PATH or /PATH",
                         uri);
    }
    return copy_path(uri, strlen(uri), ret, err);
}

int uri_absolute_socket(const char *path, char ret[URI_SOCKET_MAX], struct error *err)
{
    CLEANUP_FREE char *folder = NULL;
    CLEANUP_FREE char *absolute = NULL;

    if (*path == '/' || *path == '\0')
        return copy_path(path, strlen(path), ret, err);
    folder = getcwd(NULL, 0);
    if (!folder)
        return error_set_errno(err, errno, "can't tell the current folder's path, for %s", path);
    if (asprintf(&absolute, "%s/%s", folder, path) < 0) {
        absolute = NULL;
        return error_set_errno(err, ENOMEM, "can't make the path %s absolute", path);
    }
    return copy_path(absolute, strlen(absolute), ret, err);
}

int uri_forward_pair(const char *text, char ret_local[URI_SOCKET_MAX],
                     char ret_remote[URI_SOCKET_MAX], struct error *err)
{
    const char *colon = strstr(text, ":/");
    CLEANUP_FREE char *local = NULL;
    int result;

    /* A colon in LOCAL is fine as long as only one reading makes sense. */
    if (!colon || colon == text || strstr(colon + 1, ":/"))
        return error_set(err, EINVAL,
                         "'%s' is not LOCAL:REMOTE, where REMOTE is an absolute path at the other "
                         "end",
                         text);
    local = strndup(text, (size_t)(colon - text));
    if (!local)
        return error_set_errno(err, ENOMEM, "can't read '%s'", text);
    result = uri_absolute_socket(local, ret_local, err);
    return result < 0 ? result : copy_path(colon + 1, strlen(colon + 1), ret_remote, err);
}
