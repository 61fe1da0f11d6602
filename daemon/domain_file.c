/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * state_dir/domains/NAME.json: what a restarted daemon has to know of a domain.
 *
 *     {"uuid": "...", "qemu": true, "moved_to": "host", "definition": {...}}
 *     {"uuid": "...", "qemu": true, "pid": 123, "attached": "/path/to/qmp", "incoming": true}
 *
 * A file is written under another name, fsynced and renamed, and its folder is fsynced: at any
 * moment there is the old one or the new one.  The lock on files makes the order on disk that of
 * the states.  A guest that is coming in has no file (one that comes back, that of before): until
 * it has arrived it is not ours.
 */
#include "config.h"

#include "daemon/domain_private.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SUFFIX ".json"

/* ---- writing --------------------------------------------------------------------------------- */

static int write_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, data, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

static int sync_folder(const char *path, struct error *err)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return error_set_errno(err, errno, "can't make sure that %s is on disk", path);
    return 0;
}

/* Replaces PATH in FOLDER. */
static int write_file(const char *folder, const char *path, const char *text, struct error *err)
{
    CLEANUP_FREE char *new_path = NULL;
    CLEANUP_CLOSE int fd = -1;
    int r;

    if (asprintf(&new_path, "%s.new", path) < 0) {
        new_path = NULL;
        return error_set(err, ENOMEM, "no memory to write %s", path);
    }
    fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set_errno(err, errno, "can't write %s", new_path);
    r = write_all(fd, text, strlen(text));
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    if (r < 0) {
        error_set_errno(err, -r, "can't write %s", new_path);
        unlink(new_path);
        return r;
    }
    if (rename(new_path, path) < 0)
        return error_set_errno(err, errno, "can't rename %s to %s", new_path, path);
    return sync_folder(folder, err);
}

static int remove_file(const char *folder, const char *path, struct error *err)
{
    if (unlink(path) == 0)
        return sync_folder(folder, err);
    return errno == ENOENT ? 0 : error_set_errno(err, errno, "can't remove %s", path);
}

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
    return json_pack("{s:s, s:b, s:s*, s:o}", "uuid", uuid, "qemu", qemu, "moved_to",
                     domain->moved_to, "definition", definition);
}

static int write_json(const char *folder, const char *path, const json_t *json, struct error *err)
{
    CLEANUP_FREE char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;

    return text ? write_file(folder, path, text, err)
                : error_set(err, ENOMEM, "no memory to write %s", path);
}

int domain_save(struct domain *domain, struct error *err)
{
    struct domains *domains = domain->domains;
    CLEANUP_FREE char *folder = NULL, *path = NULL;
    json_t *json = NULL;
    bool gone, taken;
    int r = 0;

    if (asprintf(&folder, "%s/domains", domains->config->state_dir) < 0 ||
        asprintf(&path, "%s/%s" SUFFIX, folder, domain->name) < 0)
        return error_set(err, ENOMEM, "no memory to write the file of %s", domain->name);
    pthread_mutex_lock(&domains->files);
    domains_lock(domains);
    gone = domain->state == DOMAIN_GONE;
    taken = gone && domains_lookup(domains, domain->name); /* by a new domain: its file then */
    if (!gone)
        json = to_json(domain);
    domains_unlock(domains);
    if (!gone)
        r = write_json(folder, path, json, err);
    else if (!taken)
        r = remove_file(folder, path, err);
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

/* Returns the domain that the file PATH describes, not yet in the registry, or NULL with ERR. */
static struct domain *read_file(struct domains *domains, const char *name, const char *path,
                                struct error *err)
{
    json_error_t where;
    json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    const char *uuid_text = json_string_value(json_object_get(json, "uuid"));
    struct domain *domain = NULL;
    uint8_t uuid[UUID_SIZE];

    if (!json)
        error_set(err, EINVAL, "line %d: %s", where.line, where.text);
    else if (!uuid_text || uuid_from_text(uuid_text, uuid) < 0)
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

static void load_one(struct domains *domains, const char *folder, const char *name)
{
    CLEANUP_FREE char *path = NULL;
    struct error err = ERROR_INIT;
    struct domain *domain = NULL;
    int r = -EINVAL;

    if (asprintf(&path, "%s/%s" SUFFIX, folder, name) < 0) {
        path = NULL;
        log_error("domain %s: no memory to read its file; it is left out", name);
        return;
    }
    if (definition_check_name(name, &err) == 0)
        domain = read_file(domains, name, path, &err);
    if (domain) {
        domains_lock(domains);
        r = domains_insert(domains, domain, &err);
        domains_unlock(domains);
    }
    if (r < 0) {
        log_error("domain %s: %s can't be used, it is left out: %s", name, path, err.text);
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
    const struct dirent *entry;
    DIR *dir;
    int r;

    r = make_folders(domains->config, err);
    if (r < 0)
        return r;
    if (asprintf(&folder, "%s/domains", domains->config->state_dir) < 0) {
        folder = NULL;
        return error_set(err, ENOMEM, "no memory for the domains");
    }
    dir = opendir(folder);
    if (!dir)
        return error_set_errno(err, errno, "can't read the folder %s", folder);
    while ((entry = readdir(dir))) {
        size_t length = strlen(entry->d_name);
        CLEANUP_FREE char *name = NULL;

        if (length <= strlen(SUFFIX) ||
            strcmp(entry->d_name + length - strlen(SUFFIX), SUFFIX) != 0)
            continue;
        name = strndup(entry->d_name, length - strlen(SUFFIX));
        if (name)
            load_one(domains, folder, name);
    }
    closedir(dir);
    return 0;
}
