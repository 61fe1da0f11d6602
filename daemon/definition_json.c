/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A definition's life after it was read: JSON again, for this host's files or for a peer, copies,
 * and the end.  What definition.c reads and what is written here must agree field for field.
 */
#include "config.h"

#include "daemon/definition.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* FILE as READER may see it: a peer learns no path of this host. */
static const char *file_for(const char *file, enum definition_party reader)
{
    const char *slash;

    if (!file || reader == DEFINITION_OPERATOR)
        return file;
    slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
}

/* Fields without a value ("s*" of NULL) are left out. */
static json_t *disk_to_json(const struct definition_disk *disk, enum definition_party reader)
{
    json_t *json;

    json = json_pack("{s:s, s:s*, s:b, s:s, s:s}", "target", disk->target, "file",
                     file_for(disk->file, reader), "readonly", disk->readonly, "discard",
                     disk->discard ? "unmap" : "ignore", "cache", disk->cache);
    if (!json || !disk->file)
        return json;
    if (json_object_set_new(json, "format", json_string(disk->format)) < 0 ||
        (disk->size &&
         json_object_set_new(json, "size", json_integer((json_int_t)disk->size)) < 0)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static json_t *disks_to_json(const struct definition *definition, enum definition_party reader)
{
    json_t *array = json_array();

    for (size_t i = 0; array && i < definition->disk_count; i++) {
        if (json_array_append_new(array, disk_to_json(&definition->disks[i], reader)) == 0)
            continue;
        json_decref(array);
        return NULL;
    }
    return array;
}

static json_t *nics_to_json(const struct definition *definition)
{
    json_t *array = json_array();

    for (size_t i = 0; array && i < definition->nic_count; i++) {
        const struct definition_nic *nic = &definition->nics[i];

        if (json_array_append_new(array, json_pack("{s:s, s:s, s:s*, s:s*}", "type", nic->type,
                                                   "model", nic->model, "mac", nic->mac, "ifname",
                                                   nic->ifname)) == 0)
            continue;
        json_decref(array);
        return NULL;
    }
    return array;
}

json_t *definition_to_json(const struct definition *definition, enum definition_party reader)
{
    char uuid[UUID_TEXT_SIZE];
    json_t *json;

    uuid_to_text(definition->uuid, uuid);
    json = json_pack("{s:s, s:s, s:s, s:s*, s:s*, s:i, s:I, s:s*, s:o, s:o, s:s}", "name",
                     definition->name, "uuid", uuid, "machine", definition->machine, "accel",
                     definition->accel, "cpu", definition->cpu, "vcpus", (int)definition->vcpus,
                     "memory", (json_int_t)definition->memory, "firmware",
                     file_for(definition->firmware, reader), "disks",
                     disks_to_json(definition, reader), "nics", nics_to_json(definition), "display",
                     definition->display);
    if (json && definition->serial_log &&
        json_object_set_new(json, "serial",
                            json_pack("{s:s}", "log", file_for(definition->serial_log, reader))) <
            0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

char *definition_to_text(const struct definition *definition, enum definition_party reader)
{
    json_t *json = definition_to_json(definition, reader);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);
    return text;
}

struct definition *definition_copy(const struct definition *definition)
{
    json_t *json = definition_to_json(definition, DEFINITION_OPERATOR);
    struct definition *copy;

    if (!json)
        return NULL;
    copy = definition_from_json(json, DEFINITION_OPERATOR, NULL);
    json_decref(json);
    if (copy)
        copy->uuid_made = definition->uuid_made;
    return copy;
}

void definition_free(struct definition *definition)
{
    if (!definition)
        return;
    for (size_t i = 0; i < definition->disk_count; i++) {
        free(definition->disks[i].target);
        free(definition->disks[i].file);
    }
    for (size_t i = 0; i < definition->nic_count; i++) {
        free(definition->nics[i].mac);
        free(definition->nics[i].ifname);
    }
    free(definition->disks);
    free(definition->nics);
    free(definition->name);
    free(definition->machine);
    free(definition->cpu);
    free(definition->firmware);
    free(definition->serial_log);
    free(definition);
}

int definition_rename(struct definition *definition, const char *name, struct error *err)
{
    char *copy;
    int r;

    r = definition_check_name(name, err);
    if (r < 0)
        return r;
    copy = strdup(name);
    if (!copy)
        return error_set(err, ENOMEM, "no memory for a guest's name");
    free(definition->name);
    definition->name = copy;
    return 0;
}

char *definition_disk_path(const struct definition_disk *disk, const char *pool_dir)
{
    char *path;

    if (!disk->file)
        return NULL;
    if (disk->file[0] == '/')
        return strdup(disk->file);
    return asprintf(&path, "%s/%s", pool_dir, disk->file) < 0 ? NULL : path;
}
