/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The guest as a whole: see guest.h. */
#include "config.h"

#include "qemu/guest.h"

#include <errno.h>
#include <string.h>

/* What query-uuid says when QEMU was given none. */
#define NO_UUID "00000000-0000-0000-0000-000000000000"

static int command(struct qmp *qmp, const char *name, const struct qmp_wait *wait,
                   struct error *err)
{
    return qmp_execute(qmp, name, json_object(), wait, NULL, err);
}

/* Asks COMMAND for the string KEY; "" where QEMU has none. */
static int ask_string(struct qmp *qmp, const char *name, json_t *args, const char *key, char *ret,
                      size_t size, const struct qmp_wait *wait, struct error *err)
{
    json_t *answer;
    const char *value;
    int r = qmp_execute(qmp, name, args, wait, &answer, err);

    if (r != 0)
        return r;
    value = json_string_value(key ? json_object_get(answer, key) : answer);
    snprintf(ret, size, "%s", value ? value : "");
    json_decref(answer);
    return 0;
}

int guest_run_state(struct qmp *qmp, char ret[32], bool *ret_running, const struct qmp_wait *wait,
                    struct error *err)
{
    json_t *answer;
    const char *status;
    int r = qmp_execute(qmp, "query-status", json_object(), wait, &answer, err);

    if (r != 0)
        return r;
    status = json_string_value(json_object_get(answer, "status"));
    snprintf(ret, 32, "%s", status ? status : "");
    *ret_running = json_is_true(json_object_get(answer, "running"));
    json_decref(answer);
    return 0;
}

static int query_memory(struct qmp *qmp, uint64_t *ret, const struct qmp_wait *wait,
                        struct error *err)
{
    json_t *answer;
    json_int_t memory;
    int r = qmp_execute(qmp, "query-memory-size-summary", json_object(), wait, &answer, err);

    if (r != 0)
        return r;
    memory = json_integer_value(json_object_get(answer, "base-memory"));
    *ret = memory > 0 ? (uint64_t)memory : 0;
    json_decref(answer);
    return 0;
}

int guest_query(struct qmp *qmp, struct guest_info *ret, const struct qmp_wait *wait,
                struct error *err)
{
    int r;

    memset(ret, 0, sizeof *ret);
    r = ask_string(qmp, "query-name", json_object(), "name", ret->name, sizeof ret->name, wait,
                   err);
    if (r == 0)
        r = ask_string(qmp, "query-uuid", json_object(), "UUID", ret->uuid, sizeof ret->uuid, wait,
                       err);
    if (r == 0)
        r = ask_string(qmp, "qom-get",
                       json_pack("{s:s,s:s}", "path", "/machine", "property", "type"), NULL,
                       ret->machine, sizeof ret->machine, wait, err);
    if (r == 0)
        r = query_memory(qmp, &ret->memory, wait, err);
    if (r == 0)
        r = guest_run_state(qmp, ret->run_state, &ret->running, wait, err);
    if (strcmp(ret->uuid, NO_UUID) == 0)
        ret->uuid[0] = '\0';
    return r;
}

int guest_powerdown(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    return command(qmp, "system_powerdown", wait, err);
}

int guest_quit(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    int r = command(qmp, "quit", wait, err);

    return r == -ENOTCONN ? 0 : r; /* it was quicker than its reply */
}

int guest_stop(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    return command(qmp, "stop", wait, err);
}

int guest_cont(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    return command(qmp, "cont", wait, err);
}
