/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What operators write for sockets: the daemon's (-c), and the pairs of a forward.
 */
#ifndef CLIENT_URI_H
#define CLIENT_URI_H

#include "common/error.h"

#include <sys/un.h>

#define URI_DEFAULT_SOCKET "/run/bistream/bistreamd.sock"
#define URI_ENVIRONMENT "BISTREAM_URI"

enum { URI_SOCKET_MAX = sizeof(((struct sockaddr_un *)NULL)->sun_path) };

/* The control socket's path from "/PATH", "PATH" or "unix:///PATH"; URI NULL: from the environment
 * or the default.  Returns 0, or -EINVAL with ERR. */
int uri_control_socket(const char *uri, char ret[URI_SOCKET_MAX], struct error *err);

/* Splits "LOCAL:REMOTE" (REMOTE begins with '/').  A LOCAL that is relative is made absolute,
 * since the daemon works in another folder.  Returns 0, or a negative errno with ERR. */
int uri_forward_pair(const char *text, char ret_local[URI_SOCKET_MAX],
                     char ret_remote[URI_SOCKET_MAX], struct error *err);

/* PATH, relative to the current folder if it doesn't begin with '/', as a socket's absolute path.
 * Returns 0, or a negative errno with ERR. */
int uri_absolute_socket(const char *path, char ret[URI_SOCKET_MAX], struct error *err);

#endif
