/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The list of drives, running block jobs, and the handling of discards: see block.h.
 */
#include "config.h"

#include "qemu/block.h"
#include "common/cleanup.h"

#include <errno.h>
#include <string.h>

/* --- drives --- */

static char *string_at(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));

    return strdup(value ? value : "");
}

/* What the drive is called towards the operator, who may have named the node ("vda") or only the
 * drive ("virtio0"); a name with '#' is one that QEMU made up. */
static char *choose_name(const char *device, const char *node)
{
    return strdup((node[0] && node[0] != '#') || !device[0] ? node : device);
}

/* The name of the file itself.  QEMU prints "json:{...}" where a file's name alone would not open
 * the same: a backing file with a node name of its own, a filter in between. */
static char *read_filename(const json_t *inserted)
{
    static const char prefix[] = "json:";
    const char *text = json_string_value(json_object_get(inserted, "file"));
    const char *name = text;
    json_t *options, *file;
    char *copy;

    if (!text || strncmp(text, prefix, strlen(prefix)) != 0)
        return strdup(text ? text : "");
    options = json_loads(text + strlen(prefix), 0, NULL);
    for (file = options; json_is_object(file); file = json_object_get(file, "file"))
        if (json_object_get(file, "filename"))
            name = json_string_value(json_object_get(file, "filename"));
    copy = strdup(name ? name : text);
    json_decref(options);
    return copy;
}

/* False: no memory. */
static bool read_drive(const json_t *entry, struct block_drive *drive)
{
    const json_t *inserted = json_object_get(entry, "inserted");
    const json_t *image = json_object_get(inserted, "image");
    json_int_t size = json_integer_value(json_object_get(image, "virtual-size"));

    drive->device = string_at(entry, "device");
    drive->qdev = string_at(entry, "qdev");
    drive->node = string_at(inserted, "node-name");
    drive->format = string_at(inserted, "drv");
    drive->filename = read_filename(inserted);
    drive->inserted = inserted;
    drive->readonly = json_is_true(json_object_get(inserted, "ro"));
    drive->size = size > 0 ? (uint64_t)size : 0;
    if (!drive->device || !drive->node)
        return false;
    drive->name = choose_name(drive->device, drive->node);
    return drive->name && drive->qdev && drive->format && drive->filename;
}

int block_drives_query(struct qmp *qmp, struct block_drive **ret, size_t *ret_count,
                       const struct qmp_wait *wait, struct error *err)
{
    struct block_drive *drives;
    json_t *answer, *entry;
    size_t i, count;
    int r = qmp_execute(qmp, "query-block", json_object(), wait, &answer, err);

    if (r != 0)
        return r;
    count = json_array_size(answer);
    drives = calloc(count + 1, sizeof *drives); /* never of size 0 */
    json_array_foreach (answer, i, entry) {
        if (!drives || !read_drive(entry, &drives[i])) {
            block_drives_free(drives, drives ? count : 0);
            drives = NULL;
            break;
        }
    }
    json_decref(answer);
    if (!drives)
        return error_set(err, ENOMEM, "can't list the guest's disks: out of memory");
    *ret = drives;
    *ret_count = count;
    return 0;
}

void block_drives_free(struct block_drive *drives, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(drives[i].name);
        free(drives[i].device);
        free(drives[i].node);
        free(drives[i].qdev);
        free(drives[i].format);
        free(drives[i].filename);
    }
    free(drives);
}

/* --- jobs --- */

int block_check_no_jobs(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    json_t *answer, *job;
    size_t i;
    int r = qmp_execute(qmp, "query-block-jobs", json_object(), wait, &answer, err);

    if (r != 0)
        return r;
    json_array_foreach (answer, i, job) {
        const char *status = json_string_value(json_object_get(job, "status"));
        const char *type = json_string_value(json_object_get(job, "type"));
        const char *name = json_string_value(json_object_get(job, "device"));

        if (status && strcmp(status, "concluded") == 0)
            continue; /* has let go of its disks, waits to be dismissed */
        r = error_set(err, EBUSY,
                      "a block job is running in this guest (%s \"%s\"): wait for its end, or "
                      "cancel it",
                      type ? type : "?", name ? name : "?");
        break;
    }
    json_decref(answer);
    return r;
}

/* --- discard --- */

static json_t *find_node(const json_t *nodes, const char *name)
{
    json_t *node;
    size_t i;

    json_array_foreach (nodes, i, node) {
        const char *node_name = json_string_value(json_object_get(node, "node-name"));

        if (node_name && strcmp(node_name, name) == 0)
            return node;
    }
    return NULL;
}

/* The options of NODE as they are, but for discard; blockdev-reopen sets what isn't named back to
 * its default. */
static json_t *node_options(const json_t *node, bool discard)
{
    const json_t *cache = json_object_get(node, "cache");

    return json_pack(
        "{s:O,s:O,s:O,s:O,s:s,s:{s:O,s:O}}", "driver", json_object_get(node, "drv"), "node-name",
        json_object_get(node, "node-name"), "read-only", json_object_get(node, "ro"),
        "detect-zeroes", json_object_get(node, "detect_zeroes"), "discard",
        discard ? "unmap" : "ignore", "cache", "direct", json_object_get(cache, "direct"),
        "no-flush", json_object_get(cache, "no-flush"));
}

/* Format node and file node are reopened in one command: all or nothing. */
static json_t *reopen_options(const json_t *nodes, const char *target, bool discard)
{
    CLEANUP_FREE char *file_name = NULL, *backing_name = NULL;
    const json_t *node, *file;
    json_t *node_json, *file_json;

    if (asprintf(&file_name, "%s-file", target) < 0 ||
        asprintf(&backing_name, "%s-backing", target) < 0)
        return NULL;
    node = find_node(nodes, target);
    file = find_node(nodes, file_name);
    node_json = node_options(node, discard);
    file_json = node_options(file, discard);
    json_object_set_new(node_json, "file", json_string(file_name));
    if (find_node(nodes, backing_name))
        json_object_set_new(node_json, "backing", json_string(backing_name));
    json_object_set(file_json, "filename", json_object_get(file, "file"));
    return json_pack("{s:[o,o]}", "options", node_json, file_json);
}

int block_set_discard(struct qmp *qmp, const char *target, bool discard,
                      const struct qmp_wait *wait, struct error *err)
{
    json_t *nodes, *options;
    int r = qmp_execute(qmp, "query-named-block-nodes", json_pack("{s:b}", "flat", true), wait,
                        &nodes, err);

    if (r != 0)
        return r;
    options = reopen_options(nodes, target, discard);
    json_decref(nodes);
    if (!options)
        return error_set(err, ENODEV, "can't set discard of %s: it wasn't started by bistream",
                         target);
    return qmp_execute(qmp, "blockdev-reopen", options, wait, NULL, err);
}
