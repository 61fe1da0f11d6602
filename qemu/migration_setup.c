/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Capabilities and parameters of a migration: see migration_prepare() in migration.h.
 *
 * Everything that some mode of ours ever sets is set each time, to what is wanted now or back to
 * QEMU's default: a guest whose migration failed is migrated again, perhaps in another mode.  What
 * this QEMU doesn't know can't be left over and is not mentioned to it; if it is wanted, that is an
 * error.
 */
#include "config.h"

#include "qemu/migration.h"

#include <errno.h>
#include <string.h>

static const json_t *find_capability(const json_t *there, const char *name)
{
    const json_t *entry;
    size_t i;

    json_array_foreach (there, i, entry) {
        const char *capability = json_string_value(json_object_get(entry, "capability"));

        if (capability && strcmp(capability, name) == 0)
            return entry;
    }
    return NULL;
}

/* The argument of migrate-set-capabilities; NULL with ERR. */
static json_t *list_capabilities(const struct migration_setup *setup, const json_t *there,
                                 struct error *err)
{
    const struct {
        const char *name;
        bool on;
    } wanted[] = {
        {"events", true},
        {"late-block-activate", true},
        {"pause-before-switchover", setup->source},
        {"return-path", setup->return_path},
        {"auto-converge", setup->auto_converge},
        {"block", setup->block},
        {"zero-blocks", setup->zero_blocks},
    };
    json_t *list = json_array();

    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (find_capability(there, wanted[i].name)) {
            json_array_append_new(
                list, json_pack("{s:s,s:b}", "capability", wanted[i].name, "state", wanted[i].on));
        } else if (wanted[i].on) {
            json_decref(list);
            error_set(err, ENOTSUP, "this guest's QEMU lacks the migration capability %s",
                      wanted[i].name);
            return NULL;
        }
    }
    return list;
}

static int set_capabilities(struct qmp *qmp, const struct migration_setup *setup,
                            const json_t *there, const struct qmp_wait *wait, struct error *err)
{
    json_t *list = list_capabilities(setup, there, err);

    if (!list)
        return -ENOTSUP;
    return qmp_execute(qmp, "migrate-set-capabilities", json_pack("{s:o}", "capabilities", list),
                       wait, NULL, err);
}

/* TLS is off when no credentials are named. */
static int set_parameters(struct qmp *qmp, const struct migration_setup *setup, const json_t *there,
                          const struct qmp_wait *wait, struct error *err)
{
    unsigned downtime = setup->downtime_ms ? setup->downtime_ms : MIGRATION_DOWNTIME_MS;
    json_t *args = json_pack("{s:s,s:s,s:s}", "tls-creds", setup->tls_creds ? setup->tls_creds : "",
                             "tls-hostname", setup->tls_hostname ? setup->tls_hostname : "",
                             "tls-authz", setup->tls_authz ? setup->tls_authz : "");

    if (args && setup->source) {
        json_object_set_new(args, "downtime-limit", json_integer(setup->block ? 0 : downtime));
        /* QEMU's default is 128 MiB/s. */
        json_object_set_new(args, "max-bandwidth", json_integer((json_int_t)MIGRATION_NO_LIMIT));
    }
    if (args && find_capability(there, "block"))
        json_object_set_new(args, "block-incremental", json_boolean(setup->block_incremental));
    return qmp_execute(qmp, "migrate-set-parameters", args, wait, NULL, err);
}

int migration_prepare(struct qmp *qmp, const struct migration_setup *setup,
                      const struct qmp_wait *wait, struct error *err)
{
    json_t *there;
    int r = qmp_execute(qmp, "query-migrate-capabilities", json_object(), wait, &there, err);

    if (r != 0)
        return r;
    r = set_capabilities(qmp, setup, there, wait, err);
    if (r == 0)
        r = set_parameters(qmp, setup, there, wait, err);
    json_decref(there);
    return r;
}
