/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What systemd gives and is told; without libsystemd all of it does nothing.
 */
#ifndef DAEMON_SYSTEMD_H
#define DAEMON_SYSTEMD_H

#include "common/error.h"

/* Sockets that systemd listens on for us (FileDescriptorName=listen and =control), -1 for those
 * that it does not.  Call once.  Returns 0, or a negative errno with ERR. */
int systemd_take_sockets(int *ret_listen, int *ret_control, struct error *err);

void systemd_ready(void);
void systemd_stopping(void);

#endif
