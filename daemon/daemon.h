/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What the parts of bistreamd share.  Set up by main before any thread starts and constant
 * afterwards; each part guards its own insides.
 */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include "common/loop.h"
#include "daemon/conf.h"
#include "io/tls.h"

struct daemon {
    const struct config *config;
    struct loop *loop; /* the main loop: accepts, shakes hands, reads first calls */
    struct tls_context *tls;
    int stop_fd; /* becomes readable when the daemon stops: ends every waiting in link.h */
    char qemu_version[32];  /* "7.2.22", or empty: no QEMU here */
    uint64_t qemu_features; /* BS_FEATURE_QEMU_*: what it can do */
    char hostname[256];
    char *journal; /* folder of the migrations' journal: daemon/journal.h */

    struct control *control;              /* daemon/control.h */
    struct peers *peers;                  /* daemon/peer.h */
    struct domains *domains;              /* daemon/domain.h */
    struct qmp_thread *qmp;               /* qemu/qmp.h: the one QMP loop thread */
    struct incoming_migrations *incoming; /* daemon/incoming.h */
    struct ports *ports;                  /* daemon/ports.h */
    struct migrate_jobs *jobs;            /* daemon/migrate.h */
    struct job_history *history;          /* daemon/job_history.h */
    struct forwards *forwards;            /* daemon/forward.h */
};

#endif
