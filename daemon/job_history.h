/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The last BS_COMPLETED_MAX migrations that have ended here, completed or failed: in memory, and each
 * in a file state_dir/jobs/ID.json (job_record.h), so that they outlive the daemon.  Nothing depends on
 * them: whatever goes wrong is said in the log.
 *
 * Any thread; the lock is a leaf.
 */
#ifndef DAEMON_JOB_HISTORY_H
#define DAEMON_JOB_HISTORY_H

#include "common/error.h"
#include "rpc/protocol.h"

struct job_history;

/* Reads the files; one that can't be used is named in the log and left alone.  Returns NULL without
 * memory. */
struct job_history *job_history_open(const char *state_dir);
void job_history_free(struct job_history *history); /* NULL is fine */

/* Remembers INFO, which stays the caller's, and forgets the oldest when there are too many.  A job that
 * is known already is left as it is: a daemon that was killed before the destination had heard the
 * outcome comes by here again, and knows less. */
void job_history_add(struct job_history *history, const struct bs_job_info *info);

/* Those of the guest NAME (empty: of any), the last first, for xdr_free().  Returns 0, or a negative
 * errno with ERR. */
int job_history_list(struct job_history *history, const char *name, struct bs_job_info_ret *ret,
                     struct error *err);

#endif
