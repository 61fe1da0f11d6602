/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Ended migrations in JSON: see job_record.h. */
#include "config.h"

#include "daemon/job_record.h"

#include "common/checked.h"
#include "common/cleanup.h"
#include "daemon/journal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS_MAX = 1 + BS_DISKS_MAX };

static const char *const outcomes[] = {
    [BS_OUTCOME_COMPLETED] = "completed",
    [BS_OUTCOME_FAILED] = "failed",
};
#define OUTCOMES (sizeof outcomes / sizeof *outcomes)

/* ---- writing --------------------------------------------------------------------------------- */

/* JSON's numbers end where a signed 64-bit number does. */
static json_int_t number(uint64_t value)
{
    return (json_int_t)min_u64(value, INT64_MAX);
}

/* What a peer or QEMU said may be anything: bytes that aren't UTF-8 become '?'. */
static json_t *text(const char *text)
{
    CLEANUP_FREE char *ascii = NULL;
    json_t *json = json_string(text);

    if (json || !(ascii = strdup(text)))
        return json;
    for (char *c = ascii; *c; c++) {
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    }
    return json_string(ascii);
}

static json_t *parts_to_json(const struct bs_job_info *info)
{
    json_t *array = json_array();

    for (u_int i = 0; i < info->parts.parts_len; i++) {
        const struct bs_progress *part = &info->parts.parts_val[i];

        json_array_append_new(
            array, json_pack("{s:o, s:I, s:I, s:I, s:I}", "target", text(part->target), "total",
                             number(part->total), "transferred", number(part->transferred),
                             "remaining", number(part->remaining), "rate", number(part->rate)));
    }
    return array;
}

json_t *job_record_to_json(const struct bs_job_info *info)
{
    char id[2 * BS_ID_SIZE + 1];

    assert(info->outcome < OUTCOMES && outcomes[info->outcome]);
    journal_id_to_text((const uint8_t *)info->id, id);
    return json_pack("{s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:I, s:I, s:I, s:o, s:I, s:I, "
                     "s:I, s:I, s:I}",
                     "version", JOB_RECORD_VERSION, "id", id, "name", text(info->name),
                     "destination", text(info->destination), "phase", text(info->phase), "mode",
                     text(info->mode), "fallback", text(info->fallback), "outcome",
                     outcomes[info->outcome], "error", text(info->error), "started",
                     number(info->started), "elapsed_ms", number(info->elapsed_ms), "downtime_ms",
                     number(info->downtime_ms), "parts", parts_to_json(info), "dirty_rate",
                     number(info->dirty_rate), "bandwidth", number(info->bandwidth),
                     "round_trip_us", number(info->round_trip_us), "link_losses",
                     number(info->link_losses), "stall_ms", number(info->stall_ms));
}

/* ---- reading --------------------------------------------------------------------------------- */

struct text_field {
    const char *key;
    size_t longest;
    char **ret;
};

struct number_field {
    const char *key;
    u_quad_t *ret;
};

static int read_texts(const json_t *json, const struct text_field *fields, size_t count,
                      struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_object_get(json, fields[i].key));

        if (!text || strlen(text) > fields[i].longest)
            return error_set(err, EINVAL, "\"%s\" is missing, no string, or too long",
                             fields[i].key);
        *fields[i].ret = strdup(text);
        if (!*fields[i].ret)
            return error_set(err, ENOMEM, "no memory for a job that has ended");
    }
    return 0;
}

static int read_numbers(const json_t *json, const struct number_field *fields, size_t count,
                        struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(json, fields[i].key);

        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return error_set(err, EINVAL, "\"%s\" is missing, or no number", fields[i].key);
        *fields[i].ret = (u_quad_t)json_integer_value(value);
    }
    return 0;
}

static int read_part(const json_t *json, struct bs_progress *ret, struct error *err)
{
    const struct text_field texts[] = {{"target", BS_TARGET_MAX, &ret->target}};
    const struct number_field numbers[] = {{"total", &ret->total},
                                           {"transferred", &ret->transferred},
                                           {"remaining", &ret->remaining},
                                           {"rate", &ret->rate}};
    int r = read_texts(json, texts, sizeof texts / sizeof *texts, err);

    return r < 0 ? r : read_numbers(json, numbers, sizeof numbers / sizeof *numbers, err);
}

static int read_parts(const json_t *array, struct bs_job_info *ret, struct error *err)
{
    size_t count = json_array_size(array);
    int r = 0;

    if (!json_is_array(array) || count > PARTS_MAX)
        return error_set(err, EINVAL, "\"parts\" is missing, no array, or too long");
    ret->parts.parts_val = calloc(count + 1, sizeof *ret->parts.parts_val);
    if (!ret->parts.parts_val)
        return error_set(err, ENOMEM, "no memory for a job that has ended");
    for (size_t i = 0; r == 0 && i < count; i++)
        r = read_part(json_array_get(array, i), &ret->parts.parts_val[ret->parts.parts_len++], err);
    return r;
}

static int read_outcome(const json_t *json, struct bs_job_info *ret, struct error *err)
{
    const char *text = json_string_value(json_object_get(json, "outcome"));

    for (unsigned i = 0; text && i < OUTCOMES; i++) {
        if (outcomes[i] && strcmp(outcomes[i], text) == 0) {
            ret->outcome = i;
            return 0;
        }
    }
    return error_set(err, EINVAL, "\"outcome\" is neither completed nor failed");
}

int job_record_from_json(const json_t *json, struct bs_job_info *ret, struct error *err)
{
    const char *id = json_string_value(json_object_get(json, "id"));
    u_quad_t link_losses = 0;
    const struct text_field texts[] = {
        {"name", BS_NAME_MAX, &ret->name},           {"destination", BS_URI_MAX, &ret->destination},
        {"phase", BS_NAME_MAX, &ret->phase},         {"mode", BS_NAME_MAX, &ret->mode},
        {"fallback", BS_REASON_MAX, &ret->fallback}, {"error", BS_REASON_MAX, &ret->error},
    };
    const struct number_field numbers[] = {
        {"started", &ret->started},         {"elapsed_ms", &ret->elapsed_ms},
        {"downtime_ms", &ret->downtime_ms}, {"dirty_rate", &ret->dirty_rate},
        {"bandwidth", &ret->bandwidth},     {"round_trip_us", &ret->round_trip_us},
        {"link_losses", &link_losses},      {"stall_ms", &ret->stall_ms},
    };
    int r;

    if (json_integer_value(json_object_get(json, "version")) != JOB_RECORD_VERSION)
        return error_set(err, EINVAL, "its version is not known to this bistreamd");
    if (!id || journal_id_from_text(id, (uint8_t *)ret->id) < 0)
        return error_set(err, EINVAL, "\"id\" is missing, or no id of a migration");
    r = read_texts(json, texts, sizeof texts / sizeof *texts, err);
    if (r == 0)
        r = read_numbers(json, numbers, sizeof numbers / sizeof *numbers, err);
    if (r == 0)
        r = read_outcome(json, ret, err);
    if (r == 0)
        r = read_parts(json_object_get(json, "parts"), ret, err);
    ret->link_losses = (u_int)min_u64(link_losses, UINT32_MAX);
    return r;
}
