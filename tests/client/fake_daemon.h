/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* What the files of the fake daemon share: a client of its, and who answers which call. */
#ifndef TESTS_CLIENT_FAKE_DAEMON_H
#define TESTS_CLIENT_FAKE_DAEMON_H

#include "rpc/dispatch.h"

#include <stdbool.h>
#include <stdio.h>

#define MIB (UINT64_C(1) << 20)

struct fake_client {
    int fd;
    char migration[64];  /* the name under way, if any */
    unsigned forward;    /* likewise, its id */
    bool forward_breaks; /* right after the reply */
    bool abort;          /* was asked for */
    const char *release; /* the file that "stubborn" waits for */
    struct rpc_message message;
    size_t received;
};

/* Where calls are noted, a line each. */
extern FILE *fake_calls;

/* Never fails. */
char *fake_copy(const char *text);
/* The process ends with its client. */
void fake_send(struct fake_client *client, const void *data, size_t length);
void fake_send_event(struct fake_client *client, unsigned program, int procedure, xdrproc_t proc,
                     const void *body);
int fake_no_domain(const char *name, struct error *err);

/* Each answers the call after which it is named; OPAQUE is the client. */
typedef int fake_handler(void *opaque, const void *in, void *out, struct error *err);

/* fake_domain.c */
fake_handler handle_start, handle_attach, handle_list, handle_info, handle_shutdown, handle_destroy,
    handle_undefine;

/* fake_migration.c; what follows upon the replies to a migration and to its abort */
fake_handler handle_migrate, handle_abort;
void fake_migration_run(struct fake_client *client);
void fake_migration_aborted(struct fake_client *client);

/* fake_job.c */
fake_handler handle_job_list, handle_job_info, handle_job_set, handle_job_abort, handle_job_resolve;

/* fake_forward.c; and what follows upon the reply to a forward that breaks */
fake_handler handle_probe, handle_forward_start, handle_forward_list, handle_forward_stop;
void fake_forward_break(struct fake_client *client);

#endif
