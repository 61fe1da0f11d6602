/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The running daemon: all its parts, started in order and stopped in reverse.
 */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include "common/error.h"
#include "daemon/conf.h"

/* Serves until SIGTERM or SIGINT, which must be blocked.  Returns 0 when it was stopped and nothing
 * is half done, or a negative errno with ERR when it could not start. */
int server_run(const struct config *config, struct error *err);

#endif
