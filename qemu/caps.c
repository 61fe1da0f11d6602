/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What a QEMU can do: see caps.h.
 *
 * query-qmp-schema lists every command, and for each the number of an object type with its
 * arguments; names of types are masked by QEMU, names of commands and members are not.
 */
#include "config.h"

#include "qemu/caps.h"
#include "common/cleanup.h"

#include <errno.h>
#include <string.h>

static void read_version(struct qmp *qmp, struct qemu_caps *caps)
{
    if (sscanf(qmp_version(qmp), "%u.%u.%u", &caps->major, &caps->minor, &caps->micro) != 3)
        caps->major = caps->minor = caps->micro = 0; /* for people only */
}

static bool has_capability(const json_t *list, const char *name)
{
    const json_t *entry;
    size_t i;

    json_array_foreach (list, i, entry) {
        const char *capability = json_string_value(json_object_get(entry, "capability"));

        if (capability && strcmp(capability, name) == 0)
            return true;
    }
    return false;
}

static void read_capabilities(const json_t *list, struct qemu_caps *caps)
{
    caps->events = has_capability(list, "events");
    caps->return_path = has_capability(list, "return-path");
    caps->pause_before_switchover = has_capability(list, "pause-before-switchover");
    caps->late_block_activate = has_capability(list, "late-block-activate");
    caps->block = has_capability(list, "block");
    caps->zero_blocks = has_capability(list, "zero-blocks");
    caps->validate_uuid = has_capability(list, "validate-uuid");
    caps->auto_converge = has_capability(list, "auto-converge");
    caps->postcopy_ram = has_capability(list, "postcopy-ram");
    caps->multifd = has_capability(list, "multifd");
    caps->dirty_bitmaps = has_capability(list, "dirty-bitmaps");
}

static const json_t *find_entity(const json_t *schema, const char *name)
{
    const json_t *entry;
    size_t i;

    json_array_foreach (schema, i, entry) {
        const char *entity = json_string_value(json_object_get(entry, "name"));

        if (entity && strcmp(entity, name) == 0)
            return entry;
    }
    return NULL;
}

static bool has_argument(const json_t *schema, const char *command, const char *name)
{
    const json_t *entity = find_entity(schema, command);
    const char *type = json_string_value(json_object_get(entity, "arg-type"));
    const json_t *members = type ? json_object_get(find_entity(schema, type), "members") : NULL;

    return find_entity(members, name) != NULL;
}

static void read_schema(const json_t *schema, struct qemu_caps *caps)
{
    caps->nbd_server_start = find_entity(schema, "nbd-server-start");
    caps->block_export_add = find_entity(schema, "block-export-add");
    caps->blockdev_mirror = find_entity(schema, "blockdev-mirror");
    caps->blockdev_reopen = find_entity(schema, "blockdev-reopen");
    caps->yank = find_entity(schema, "yank");
    caps->mirror_copy_mode = has_argument(schema, "blockdev-mirror", "copy-mode");
}

int qemu_caps_query(struct qmp *qmp, struct qemu_caps *ret, const struct qmp_wait *wait,
                    struct error *err)
{
    struct qemu_caps caps = {.major = 0};
    json_t *answer;
    int r;

    read_version(qmp, &caps);
    r = qmp_execute(qmp, "query-migrate-capabilities", json_object(), wait, &answer, err);
    if (r != 0)
        return r;
    read_capabilities(answer, &caps);
    json_decref(answer);
    r = qmp_execute(qmp, "query-qmp-schema", json_object(), wait, &answer, err);
    if (r != 0)
        return r;
    read_schema(answer, &caps);
    json_decref(answer);
    *ret = caps;
    return 0;
}

bool qemu_caps_nbd(const struct qemu_caps *caps)
{
    return caps->nbd_server_start && caps->block_export_add && caps->blockdev_mirror;
}

int qemu_caps_require(const struct qemu_caps *caps, bool return_path, bool nbd, struct error *err)
{
    const struct {
        bool there;
        const char *what;
    } needed[] = {
        {caps->events, "the migration capability events"},
        {caps->return_path || !return_path, "the migration capability return-path"},
        {caps->pause_before_switchover, "the migration capability pause-before-switchover"},
        {caps->late_block_activate, "the migration capability late-block-activate"},
        {caps->nbd_server_start || !nbd, "the command nbd-server-start"},
        {caps->block_export_add || !nbd, "the command block-export-add"},
        {caps->blockdev_mirror || !nbd, "the command blockdev-mirror"},
    };

    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (!needed[i].there)
            return error_set(err, ENOTSUP, "QEMU %u.%u.%u lacks %s; QEMU 7.2 or newer is needed",
                             caps->major, caps->minor, caps->micro, needed[i].what);
    }
    return 0;
}
