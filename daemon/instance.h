/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What a running daemon has in the file system beside its sockets: folders, a lock, a port file.
 */
#ifndef DAEMON_INSTANCE_H
#define DAEMON_INSTANCE_H

#include "common/error.h"
#include "daemon/conf.h"

/* Makes the folders that are missing: run_dir (0755: clients reach the control socket through it),
 * state_dir and pool_dir (0700). */
int instance_make_folders(const struct config *config, struct error *err);

/* Locks state_dir/bistreamd.pid, so that no second daemon uses the same folder, and writes our pid
 * into it.  Returns the descriptor that holds the lock, or a negative errno with ERR. */
int instance_lock(const struct config *config, struct error *err);

/* run_dir/port has the TCP port in decimal while the daemon runs: with `listen = "...:0"` it is the
 * only way to learn it.  It appears, in one piece, when both sockets accept. */
int instance_write_port(const struct config *config, int port, struct error *err);
void instance_remove_port(const struct config *config);

#endif
