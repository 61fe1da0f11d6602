/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * UNIX sockets of QEMU's, and the processes behind them.
 */
#ifndef QEMU_QMP_SOCKET_H
#define QEMU_QMP_SOCKET_H

#include "common/error.h"

#include <sys/types.h>
#include <sys/un.h>

/* Returns 0, or -ENAMETOOLONG with ERR set. */
int qmp_socket_address(const char *path, struct sockaddr_un *ret, struct error *err);

/* Connects, and asks the kernel who listens.  Returns a non-blocking fd, or a negative errno with
 * ERR set. */
int qmp_socket_connect(const char *path, pid_t *ret_pid, int *ret_pidfd, struct error *err);

#endif
