/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What the two halves of the QMP client share: qmp.c, which runs in the callers' threads, and
 * qmp_link.c, which runs in the QMP thread.  For these two files only.
 *
 * One lock per connection, a leaf: neither handlers nor checks run under it.
 */
#ifndef QEMU_QMP_LINK_H
#define QEMU_QMP_LINK_H

#include "common/loop.h"
#include "common/ring.h"
#include "qemu/qmp.h"
#include "qemu/qmp_input.h"

#include <pthread.h>
#include <sys/queue.h>

struct qmp_call {
    json_int_t id;
    json_t *reply;
    TAILQ_ENTRY(qmp_call) link;
};

struct qmp {
    struct loop *loop;
    char *path;
    int pidfd;
    pid_t pid;
    struct qmp_handlers handlers;
    void *opaque;
    char version[32]; /* set with the greeting, constant afterwards */
    bool oob;

    /* The QMP thread's. */
    int fd;
    struct loop_fd *watch;
    struct qmp_input input;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    TAILQ_HEAD(, qmp_call) calls;
    json_int_t last_id;
    uint64_t bell;
    struct ring output;
    struct loop_work flush; /* runs qmp_link_flush() */
    bool flush_posted;
    int passed;       /* a descriptor that goes along with the next bytes of the output; -1: none */
    json_t *greeting; /* written once */
    bool live;        /* handlers are called */
    bool closed;
    char reason[128]; /* why it was closed */
};

struct loop *qmp_thread_loop(struct qmp_thread *thread);

/* For loop_call(): starts to read from QMP->fd.  Returns 0 or a negative errno. */
int qmp_link_attach(void *qmp);
/* For loop_call(): no handler runs any more afterwards.  Returns 0. */
int qmp_link_detach(void *qmp);
/* Closes what was to go along with the output, if there is anything.  Under the lock. */
void qmp_link_drop_passed(struct qmp *qmp);
/* Writes what callers have appended to the output. */
void qmp_link_flush(struct loop_work *work);

#endif
