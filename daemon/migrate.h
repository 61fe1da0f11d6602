/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Migrations that go out: one job thread each, from Begin to Confirm.
 */
#ifndef DAEMON_MIGRATE_H
#define DAEMON_MIGRATE_H

#include "common/error.h"

struct control_connection;
struct daemon;
struct migrate_jobs;

struct migrate_jobs *migrate_jobs_new(struct daemon *daemon);
/* Takes up the migrations that the journal holds from before.  Once, before any client. */
int migrate_jobs_recover(struct daemon *daemon, struct error *err);
/* Asks all jobs to abort, lets those past the point of no return finish, and waits for all. */
void migrate_jobs_stop(struct migrate_jobs *jobs);
/* After migrate_jobs_stop().  NULL is fine. */
void migrate_jobs_free(struct migrate_jobs *jobs);

/* Handlers for RPC_CALLER_LOCAL (rpc/dispatch.h); OPAQUE is the struct control_connection.
 * MIGRATE starts a job and returns its id; events with that id follow on the connection.  A job
 * goes on when its connection ends. */
int migrate_handle_migrate(void *opaque, const void *args, void *ret, struct error *err);
int migrate_handle_abort(void *opaque, const void *args, void *ret, struct error *err);
/* The same by the guest's name, and what the operator says about an unresolved one. */
int migrate_handle_job_list(void *opaque, const void *args, void *ret, struct error *err);
int migrate_handle_job_info(void *opaque, const void *args, void *ret, struct error *err);
int migrate_handle_job_set(void *opaque, const void *args, void *ret, struct error *err);
int migrate_handle_job_abort(void *opaque, const void *args, void *ret, struct error *err);
int migrate_handle_job_resolve(void *opaque, const void *args, void *ret, struct error *err);

#endif
