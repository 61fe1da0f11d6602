/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The folder in run_dir that holds the sockets of one migration on one side. */
#ifndef DAEMON_SOCKET_FOLDER_H
#define DAEMON_SOCKET_FOLDER_H

#include "common/error.h"

/* RUN_DIR/PREFIX-ID, cut so that a socket's path has room behind it; nothing is made.  malloc'ed, NULL
 * without memory. */
char *socket_folder_name(const char *run_dir, const char *prefix, const char *id);
int socket_folder_make(const char *path, struct error *err);
/* With all that is in it.  Fine when it isn't there; PATH may be NULL. */
void socket_folder_remove(const char *path);

#endif
