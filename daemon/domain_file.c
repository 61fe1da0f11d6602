/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * state_dir/domains/NAME.json: what a restarted daemon has to know of a domain.
 *
 *     {"uuid": "...", "qemu": true, "persistent": true, "moved_to": "host", "definition": {...}}
 *     {"uuid": "...", "qemu": true, "pid": 123, "attached": "/path/to/qmp", "incoming": true}
 *
 * The lock on files makes the order on disk that of
 * the states.  A guest that is coming in has no file (one that comes back, that of before): until
 * it has arrived it is not ours.
 */
#include "config.h"

#include "daemon/domain_private.h"
#include "daemon/statefile.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- writing --------------------------------------------------------------------------------- */

/* With the lock held. */
static json_t *to_json(const struct domain *domain)
{
    char uuid[UUID_TEXT_SIZE];
    bool qemu = domain->state == DOMAIN_STARTING || domain->state == DOMAIN_RUNNING ||
                domain->state == DOMAIN_PAUSED || domain->state == DOMAIN_INCOMING;
    json_t *definition = NULL;

    uuid_to_text(domain->uuid, uuid);
    if (domain->attached)
        return json_pack("{s:s, s:b, s:i, s:s, s:b, s:s*}", "uuid", uuid, "qemu", qemu, "pid",
                         (int)domain->pid, "attached", domain->qmp_socket, "incoming",
                         domain->incoming, "moved_to", domain->moved_to);
    definition = definition_to_json(domain->definition, DEFINITION_OPERATOR);
    if (!definition)
        return NULL;
    return json_pack("{s:s, s:b, s:b, s:s*, s:o}", "uuid", uuid, "qemu", qemu, "persistent",
                     !domain->transient, "moved_to", domain->moved_to, "definition", definition);
}

int domain_save(struct domain *domain, struct error *err)
{
    struct domains *domains = domain->domains;
    CLEANUP_FREE char *folder = NULL;
    json_t *json = NULL;
    bool gone, taken;
    int r = 0;

    if (asprintf(&folder, "%s/domains", domains->config->state_dir) < 0) {
        folder = NULL;
        return error_set(err, ENOMEM, "no memory to write the file of %s", domain->name);
    }
    pthread_mutex_lock(&domains->files);
    domains_lock(domains);
    gone = domain->state == DOMAIN_GONE;
    taken = gone && domains_lookup(domains, domain->name); /* by a new domain: its file then */
    if (!gone)
        json = to_json(domain);
    domains_unlock(domains);
    if (!gone)
        r = statefile_write(folder, domain->name, json, err);
    else if (!taken)
        r = statefile_remove(folder, domain->name, err);
    pthread_mutex_unlock(&domains->files);
    json_decref(json);
    return r;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int fill_in(struct domain *domain, const json_t *json, struct error *err)
{
    const char *moved_to = json_string_value(json_object_get(json, "moved_to"));

    domain->pid = (pid_t)json_integer_value(json_object_get(json, "pid"));
    domain->incoming = json_is_true(json_object_get(json, "incoming"));
    domain->transient = json_is_false(json_object_get(json, "persistent"));
    if (moved_to && !(domain->moved_to = strdup(moved_to)))
        return error_set(err, ENOMEM, "no memory for the domain %s", domain->name);
    if (json_is_true(json_object_get(json, "qemu")))
        domain->state = DOMAIN_STARTING; /* until it was looked for */
    else
        domain->state = moved_to ? DOMAIN_MOVED : DOMAIN_SHUT_OFF;
    if (domain->attached)
        return 0;
    domain->definition =
        definition_from_json(json_object_get(json, "definition"), DEFINITION_OPERATOR, err);
    if (!domain->definition)
        return -err->code;
    if (strcmp(domain->definition->name, domain->name) != 0 ||
        memcmp(domain->definition->uuid, domain->uuid, UUID_SIZE) != 0)
        return error_set(err, EINVAL, "its definition is another guest's");
    return 0;
}

/* Returns the domain NAME that its file in FOLDER describes, not yet in the registry, or NULL with ERR. */
static struct domain *read_file(struct domains *domains, const char *name, const char *folder,
                                struct error *err)
{
    json_t *json = statefile_read(folder, name, err);
    const char *uuid_text = json_string_value(json_object_get(json, "uuid"));
    struct domain *domain = NULL;
    uint8_t uuid[UUID_SIZE];

    if (!json)
        return NULL;
    if (!uuid_text || uuid_from_text(uuid_text, uuid) < 0)
        error_set(err, EINVAL, "it has no UUID");
    else
        domain = domain_new(domains, name, uuid,
                            json_string_value(json_object_get(json, "attached")), err);
    if (domain && fill_in(domain, json, err) < 0) {
        domain_free(domain);
        domain = NULL;
    }
    json_decref(json);
    return domain;
}

struct loading {
    struct domains *domains;
    const char *folder;
};

/* For statefile_list(). */
static void load_one(void *opaque, const char *name)
{
    const struct loading *loading = opaque;
    struct domains *domains = loading->domains;
    struct error err = ERROR_INIT;
    struct domain *domain = NULL;
    int r = -EINVAL;

    if (definition_check_name(name, &err) == 0)
        domain = read_file(domains, name, loading->folder, &err);
    if (domain) {
        domains_lock(domains);
        r = domains_insert(domains, domain, &err);
        domains_unlock(domains);
    }
    if (r < 0) {
        log_error("domain %s: its file in %s can't be used, it is left out: %s", name,
                  loading->folder, err.text);
        if (domain)
            domain_free(domain);
        return;
    }
    log_info("domain %s: known from before", name);
    if (domain->state != DOMAIN_STARTING)
        return;
    domain_ref(domain);
    vm_recover(domain);
    domain_unref(domain);
}

static int make_folders(const struct config *config, struct error *err)
{
    static const char *const names[] = {"", "/domains", "/log"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        CLEANUP_FREE char *path = NULL;

        if (asprintf(&path, "%s%s", config->state_dir, names[i]) < 0) {
            path = NULL;
            return error_set(err, ENOMEM, "no memory for the domains");
        }
        if (mkdir(path, 0750) < 0 && errno != EEXIST)
            return error_set_errno(err, errno, "can't make the folder %s", path);
    }
    return 0;
}

int domains_load(struct domains *domains, struct error *err)
{
    CLEANUP_FREE char *folder = NULL;
    struct loading loading = {.domains = domains};
    int r;

    r = make_folders(domains->config, err);
    if (r < 0)
        return r;
    if (asprintf(&folder, "%s/domains", domains->config->state_dir) < 0) {
        folder = NULL;
        return error_set(err, ENOMEM, "no memory for the domains");
    }
    loading.folder = folder;
    return statefile_list(folder, load_one, &loading, err);
}
