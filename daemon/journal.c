/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The journal's folder: see journal.h. */
#include "config.h"

#include "daemon/journal.h"
#include "daemon/statefile.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

char *journal_open(const char *state_dir, struct error *err)
{
    char *path;

    if (asprintf(&path, "%s/migrations", state_dir) < 0) {
        error_set(err, ENOMEM, "no memory for the journal's path");
        return NULL;
    }
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return path;
    error_set_errno(err, errno, "can't make the folder %s", path);
    free(path);
    return NULL;
}

struct walk {
    const char *journal, *side;
    void (*each)(void *opaque, const char *hex);
    void *opaque;
};

static void look_at(void *opaque, const char *name)
{
    const struct walk *walk = opaque;
    struct error err = ERROR_INIT;
    uint8_t id[BS_ID_SIZE];
    json_t *json = statefile_read(walk->journal, name, &err);
    const char *side = json_string_value(json_object_get(json, "side"));

    if (json && json_integer_value(json_object_get(json, "version")) != JOURNAL_VERSION)
        error_set(&err, EINVAL, "its version is not known to this bistreamd");
    else if (json && (!side || journal_id_from_text(name, id) < 0))
        error_set(&err, EINVAL, "it is no entry of a migration");
    if (err.code)
        log_error("journal %s/%s: left alone: %s", walk->journal, name, err.text);
    else if (strcmp(side, walk->side) == 0)
        walk->each(walk->opaque, name);
    json_decref(json);
}

int journal_each(const char *journal, const char *side, void (*each)(void *opaque, const char *hex),
                 void *opaque, struct error *err)
{
    struct walk walk = {journal, side, each, opaque};

    return statefile_list(journal, look_at, &walk, err);
}

void journal_id_to_text(const uint8_t id[BS_ID_SIZE], char ret[2 * BS_ID_SIZE + 1])
{
    for (size_t i = 0; i < BS_ID_SIZE; i++)
        snprintf(ret + 2 * i, 3, "%02x", id[i]);
}

int journal_id_from_text(const char *text, uint8_t ret[BS_ID_SIZE])
{
    if (strlen(text) != 2 * BS_ID_SIZE || strspn(text, "0123456789abcdef") != 2 * BS_ID_SIZE)
        return -EINVAL;
    for (size_t i = 0; i < BS_ID_SIZE; i++) {
        unsigned byte;

        if (sscanf(text + 2 * i, "%2x", &byte) != 1)
            return -EINVAL;
        ret[i] = (uint8_t)byte;
    }
    return 0;
}
