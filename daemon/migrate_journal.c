/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * state_dir/migrations/ID.json, the source's side:
 *
 *   {"version": 1, "side": "source", "state": "begun", "name": "web",
 *    "destination": "bistream://hostb", "mode": "bistream", "was_running": true,
 *    "synchronous": false, "undefine": false, "begun": 1764000000}
 *
 * A state is written before it is acted upon.  The guest stands still when FINISH_ASKED is, so what it
 * takes is on disk before, and all that is left to do then is a rename.
 */
#include "config.h"

#include "daemon/journal.h"
#include "daemon/migrate_job.h"
#include "daemon/statefile.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static json_t *to_json(const struct migrate_job *job, enum outgoing_state state)
{
    return json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:I}", "version", JOURNAL_VERSION, "side",
        JOURNAL_SOURCE, "state", outgoing_state_name(state), "name", job->args.name, "destination",
        job->args.destination, "mode", migrate_mode_text(job), "was_running", job->was_running,
        "synchronous", (job->args.flags & BS_MIGRATE_SYNCHRONOUS_WRITES) != 0, "undefine",
        (job->args.flags & BS_MIGRATE_UNDEFINE_SOURCE) != 0, "begun", (json_int_t)job->begun);
}

int migrate_journal_prepare_finish(struct migrate_job *job, struct error *err)
{
    json_t *json = to_json(job, OUTGOING_FINISH_ASKED);
    int r = statefile_prepare(job->daemon->journal, job->hex, json, err);

    json_decref(json);
    return r;
}

static int write_state(const struct migrate_job *job, enum outgoing_state state, struct error *err)
{
    json_t *json = to_json(job, state);
    int r = statefile_write(job->daemon->journal, job->hex, json, err);

    json_decref(json);
    return r;
}

int migrate_set_state(struct migrate_job *job, enum outgoing_state state, struct error *err)
{
    int r;

    if (state == OUTGOING_NONE)
        r = statefile_remove(job->daemon->journal, job->hex, err);
    else if (state == OUTGOING_FINISH_ASKED)
        r = statefile_commit(job->daemon->journal, job->hex, err);
    else
        r = write_state(job, state, err);
    if (r < 0)
        return error_prefix(err, "the journal of migration %s", job->hex);
    pthread_mutex_lock(&job->lock);
    job->state = state;
    pthread_mutex_unlock(&job->lock);
    log_info("migration %s (%s) out: journal: %s", job->hex, job->args.name,
             outgoing_state_name(state));
    return 0;
}

/* How long it has taken counts from there, also by loop_clock(), which may have begun anew since: its
 * differences are right all the same. */
static void read_begun(struct migrate_job *job, json_int_t begun)
{
    if (begun <= 0 || (uint64_t)begun > job->begun)
        return;
    job->started -= (job->begun - (uint64_t)begun) * LOOP_SECOND;
    job->begun = (uint64_t)begun;
}

int migrate_journal_read(struct migrate_job *job, const char *hex, struct error *err)
{
    json_t *json = statefile_read(job->daemon->journal, hex, err);
    const char *name = json_string_value(json_object_get(json, "name"));
    const char *destination = json_string_value(json_object_get(json, "destination"));
    int r = json ? 0 : -err->code;

    if (r == 0) {
        job->state = outgoing_state_by_name(json_string_value(json_object_get(json, "state")));
        job->was_running = json_is_true(json_object_get(json, "was_running"));
        job->choice.mode = migrate_mode_by_name(json_string_value(json_object_get(json, "mode")));
        job->chosen = job->choice.mode < MODES;
        if (json_is_true(json_object_get(json, "synchronous")))
            job->args.flags |= BS_MIGRATE_SYNCHRONOUS_WRITES;
        if (json_is_true(json_object_get(json, "undefine")))
            job->args.flags |= BS_MIGRATE_UNDEFINE_SOURCE;
        read_begun(job, json_integer_value(json_object_get(json, "begun")));
        if (job->state == OUTGOING_NONE || !name || !destination ||
            journal_id_from_text(hex, job->id) < 0)
            r = error_set(err, EINVAL, "state, name or destination is missing");
    }
    if (r == 0) {
        memcpy(job->hex, hex, sizeof job->hex);
        job->args.name = strdup(name);
        job->args.destination = strdup(destination);
        job->args.dname = strdup("");
        job->args.listen_address = strdup("");
        if (!job->args.name || !job->args.destination || !job->args.dname ||
            !job->args.listen_address)
            r = error_set(err, ENOMEM, "no memory for a migration");
    }
    json_decref(json);
    return r;
}
