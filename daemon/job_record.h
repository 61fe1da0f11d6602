/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A migration that has ended, in JSON: state_dir/jobs/ID.json.
 *
 *   {"version": 1, "id": "0123...", "name": "web", "destination": "bistream://hostb",
 *    "phase": "confirm", "mode": "bistream", "fallback": "", "outcome": "completed", "error": "",
 *    "started": 1764000000, "elapsed_ms": 12345, "downtime_ms": 18,
 *    "parts": [{"target": "", "total": 1, "transferred": 1, "remaining": 0, "rate": 1}],
 *    "dirty_rate": 0, "bandwidth": 0, "round_trip_us": 230, "link_losses": 0, "stall_ms": 0}
 *
 * The fields are those of struct bs_job_info.  Every one is required, and checked: what is read goes
 * into a message, whose limits it has to keep.
 */
#ifndef DAEMON_JOB_RECORD_H
#define DAEMON_JOB_RECORD_H

#include "common/error.h"
#include "rpc/protocol.h"

#include <jansson.h>

#define JOB_RECORD_VERSION 1

/* A new reference; NULL without memory. */
json_t *job_record_to_json(const struct bs_job_info *info);

/* Into RET, zeroed and for xdr_free() in either case.  Returns 0, or a negative errno with ERR. */
int job_record_from_json(const json_t *json, struct bs_job_info *ret, struct error *err);

#endif
