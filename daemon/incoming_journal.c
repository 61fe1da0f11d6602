/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * state_dir/migrations/ID.json, the destination's side:
 *
 *   {"version": 1, "side": "destination", "state": "prepared", "peer": "hosta", "name": "web",
 *    "uuid": "...", "running": true, "offline": false,
 *    "persistent": false, "since": 0, "definition": {...} or null for an attached QEMU,
 *    "volumes": [{"path": "...", "fresh": "...", "aside": "..." or null,
 *                 "partial": "..." or null, "kept": false, "created": true, "device": 1, "inode": 2}]}
 *
 * A state is written before it is acted upon.  A version that is not known is left alone.
 */
#include "config.h"

#include "daemon/incoming_private.h"
#include "daemon/journal.h"
#include "daemon/statefile.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- writing --------------------------------------------------------------------------------- */

static json_t *volumes_to_json(const struct incoming *in)
{
    json_t *list = json_array();

    for (size_t i = 0; i < in->volume_count; i++) {
        const struct volume *volume = &in->volumes[i];

        json_array_append_new(list, json_pack("{s:s, s:s, s:s?, s:s?, s:b, s:b, s:I, s:I}", "path",
                                              volume->path, "fresh", volume->fresh, "aside",
                                              volume->aside, "partial", volume->partial, "kept",
                                              volume->kept, "created", volume->created, "device",
                                              (json_int_t)volume->device, "inode",
                                              (json_int_t)volume->inode));
    }
    return list;
}

static json_t *to_json(const struct incoming *in, enum incoming_state state)
{
    char uuid[UUID_TEXT_SIZE];

    uuid_to_text(in->uuid, uuid);
    return json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:I, s:o, s:o}", "version", JOURNAL_VERSION,
        "side", JOURNAL_DESTINATION, "state", incoming_state_name(state), "peer", in->peer, "name",
        in->name, "uuid", uuid, "running", in->running, "offline", in->offline, "persistent",
        in->persistent, "since", (json_int_t)in->since, "definition",
        in->definition ? definition_to_json(in->definition, DEFINITION_PEER) : json_null(),
        "volumes", volumes_to_json(in));
}

static int write_state(struct incoming *in, enum incoming_state state, struct error *err)
{
    json_t *json = to_json(in, state);
    int r = statefile_write(in->daemon->journal, in->hex, json, err);

    json_decref(json);
    return r;
}

int incoming_journal_write(struct incoming *in, struct error *err)
{
    return write_state(in, in->state, err);
}

int incoming_journal_prepare_mine(struct incoming *in, struct error *err)
{
    json_t *json = to_json(in, INCOMING_MINE);
    int r = statefile_prepare(in->daemon->journal, in->hex, json, err);

    json_decref(json);
    return r;
}

int incoming_set_state(struct incoming *in, enum incoming_state state, struct error *err)
{
    int r;

    if (state == INCOMING_NOT_MINE && in->state != INCOMING_NOT_MINE)
        in->since = time(NULL);
    if (!incoming_may_follow(in->state, state))
        return error_set(err, EINVAL, "migration %s is '%s' and can't become '%s'", in->hex,
                         incoming_state_name(in->state), incoming_state_name(state));
    if (state == INCOMING_NONE)
        r = statefile_remove(in->daemon->journal, in->hex, err);
    else if (state == INCOMING_MINE)
        r = statefile_commit(in->daemon->journal, in->hex, err);
    else
        r = write_state(in, state, err);
    if (r < 0)
        return error_prefix(err, "the journal of migration %s", in->hex);
    in->state = state;
    log_info("migration %s (%s) in: %s", in->hex, in->name, incoming_state_name(state));
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

static char *copy_string(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? strdup(text) : NULL;
}

static int read_volumes(struct incoming *in, const json_t *list, struct error *err)
{
    const json_t *each;
    size_t i;

    in->volumes = calloc(json_array_size(list) + 1, sizeof *in->volumes);
    if (!in->volumes)
        return error_set(err, ENOMEM, "no memory for its volumes");
    json_array_foreach (list, i, each) {
        struct volume *volume = &in->volumes[in->volume_count++];

        volume->path = copy_string(each, "path");
        volume->fresh = copy_string(each, "fresh");
        volume->aside = copy_string(each, "aside");
        volume->partial = copy_string(each, "partial");
        volume->kept = json_is_true(json_object_get(each, "kept"));
        volume->created = json_is_true(json_object_get(each, "created"));
        volume->device = (dev_t)json_integer_value(json_object_get(each, "device"));
        volume->inode = (ino_t)json_integer_value(json_object_get(each, "inode"));
        if (!volume->path || !volume->fresh)
            return error_set(err, EINVAL, "volume %zu has no path", i);
    }
    return 0;
}

static int from_json(struct incoming *in, const json_t *json, struct error *err)
{
    const json_t *definition = json_object_get(json, "definition");
    const char *uuid = json_string_value(json_object_get(json, "uuid"));

    in->state = incoming_state_by_name(json_string_value(json_object_get(json, "state")));
    in->peer = copy_string(json, "peer");
    in->name = copy_string(json, "name");
    in->running = json_is_true(json_object_get(json, "running"));
    in->persistent = !json_is_false(json_object_get(json, "persistent"));
    in->offline = in->keep = json_is_true(json_object_get(json, "offline"));
    in->since = json_integer_value(json_object_get(json, "since"));
    if (in->state == INCOMING_NONE || !in->peer || !in->name || !uuid ||
        uuid_from_text(uuid, in->uuid) < 0)
        return error_set(err, EINVAL, "state, peer, name or uuid is missing");
    if (json_is_object(definition)) {
        in->definition = definition_from_json(definition, DEFINITION_PEER, err);
        if (!in->definition)
            return -err->code;
    }
    return read_volumes(in, json_object_get(json, "volumes"), err);
}

struct incoming *incoming_journal_read(struct daemon *daemon, const char *hex, struct error *err)
{
    struct incoming *in = incoming_new_entry(daemon);
    json_t *json = statefile_read(daemon->journal, hex, err);
    int r = json && in ? 0 : -ENOMEM;

    if (r == 0)
        r = journal_id_from_text(hex, in->id);
    if (r == 0) {
        memcpy(in->hex, hex, sizeof in->hex);
        r = from_json(in, json, err);
    }
    if (r == 0)
        r = incoming_name_sockets(in, err);
    json_decref(json);
    if (r == 0)
        return in;
    if (in)
        incoming_free_entry(in);
    return NULL;
}
