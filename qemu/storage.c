/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* qemu-storage-daemon: see storage.h. */
#include "config.h"

#include "qemu/storage.h"
#include "common/cleanup.h"
#include "qemu/child.h"
#include "qemu/launch.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

enum {
    START_MS = 30000,
    STOP_MS = 10000, /* to write what its caches hold */
    KILL_MS = 30000,
    FIXED_ARGS = 8, /* all but two pairs per disk */
};

/* The value of --blockdev.  Zeroes take no space in either node. */
static char *describe_disk(const struct storage *storage, const struct storage_disk *disk)
{
    const char *discard = storage->writable ? "unmap" : "ignore";
    json_t *json =
        json_pack("{s:s, s:s, s:b, s:s, s:s, s:{s:s, s:s, s:b, s:s}}", "driver", disk->format,
                  "node-name", disk->target, "read-only", !storage->writable, "discard", discard,
                  "detect-zeroes", storage->writable ? "unmap" : "off", "file", "driver", "file",
                  "filename", disk->path, "read-only", !storage->writable, "discard", discard);
    char *text = json_dumps(json, JSON_COMPACT);

    json_decref(json);
    return text;
}

/* Commas are doubled, as in all of QEMU's options. */
static char *describe_server(const struct storage *storage)
{
    static const char before[] = "addr.type=unix,addr.path=";
    char *text = malloc(sizeof before + 2 * strlen(storage->socket_path)), *to;

    if (!text)
        return NULL;
    to = stpcpy(text, before);
    for (const char *c = storage->socket_path; *c; c++) {
        if (*c == ',')
            *to++ = ',';
        *to++ = *c;
    }
    *to = '\0';
    return text;
}

static char *describe_export(const struct storage *storage, const struct storage_disk *disk)
{
    char *text;

    return asprintf(&text,
                    "type=nbd,id=export-%s,node-name=%s,name=%s,writable=%s,"
                    "allocation-depth=on",
                    disk->target, disk->target, disk->target, storage->writable ? "on" : "off") < 0
               ? NULL
               : text;
}

static void free_argv(char ***argv)
{
    for (char **each = *argv; each && *each; each++)
        free(*each);
    free(*argv);
}

/* Appends OPTION and VALUE, which is taken over.  Returns false without memory. */
static bool append(char **argv, size_t *count, const char *option, char *value)
{
    char *copy = strdup(option);

    if (!copy || !value) {
        free(copy);
        free(value);
        return false;
    }
    argv[(*count)++] = copy;
    argv[(*count)++] = value;
    return true;
}

/* NULL without memory. */
static char **make_argv(const struct storage *storage)
{
    char **argv = calloc(FIXED_ARGS + 4 * storage->n_disks, sizeof *argv);
    size_t count = 0;
    bool ok;

    if (!argv)
        return NULL;
    argv[count++] = strdup("qemu-storage-daemon");
    ok = argv[0] != NULL;
    for (size_t i = 0; ok && i < storage->n_disks; i++)
        ok = append(argv, &count, "--blockdev", describe_disk(storage, &storage->disks[i]));
    ok = ok && append(argv, &count, "--nbd-server", describe_server(storage));
    for (size_t i = 0; ok && i < storage->n_disks; i++)
        ok = append(argv, &count, "--export", describe_export(storage, &storage->disks[i]));
    ok = ok && append(argv, &count, "--pidfile", strdup(storage->pidfile));
    if (ok)
        argv[count++] = strdup("--daemonize");
    if (ok && argv[count - 1])
        return argv;
    free_argv(&argv);
    return NULL;
}

int storage_start(const struct storage *storage, struct error *err)
{
    CLEANUP(free_argv) char **argv = make_argv(storage);
    struct error stopping = ERROR_INIT;
    int r;

    if (!argv)
        return error_set(err, ENOMEM, "can't serve the disks: out of memory");
    r = child_run(argv, START_MS, NULL, err);
    if (r < 0)
        storage_stop(storage->pidfile, &stopping); /* it may have been too slow only */
    return r;
}

int storage_stop(const char *pidfile, struct error *err)
{
    CLEANUP_CLOSE int pidfd = -1;
    int r = launch_find_holder(pidfile, &pidfd);

    if (r == -ESRCH)
        return 0;
    if (r < 0)
        return error_set_errno(err, -r, "can't find the qemu-storage-daemon of %s", pidfile);
    if (launch_terminate(pidfd, STOP_MS) == 0)
        return 0;
    r = launch_kill(pidfd, KILL_MS, err);
    return r < 0 ? error_prefix(err, "the qemu-storage-daemon of %s", pidfile) : 0;
}
