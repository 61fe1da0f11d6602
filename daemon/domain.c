/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The registry of domains: see domain.h.
 *
 * A domain is referenced by the registry until it is gone, by whoever looked it up, and by the
 * watch of its QEMU.  Its state only ever changes in domain_set_state(), by the table there.  The
 * end of a job and the beginning of the next look at QEMU first, so that nobody has to wait until
 * the main loop has noticed that it ended.
 */
#include "config.h"

#include "daemon/domain_private.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- states ---------------------------------------------------------------------------------- */

#define TO(state) (1u << (state))

static const struct {
    const char *text;
    unsigned next; /* the states that may follow */
} states[] = {
    [DOMAIN_SHUT_OFF] = {"shut off", TO(DOMAIN_STARTING) | TO(DOMAIN_MOVED) | TO(DOMAIN_GONE)},
    /* a start that fails leads back to where it came from (GONE: nowhere); INCOMING: attached */
    [DOMAIN_STARTING] = {"starting", TO(DOMAIN_RUNNING) | TO(DOMAIN_PAUSED) | TO(DOMAIN_INCOMING) |
                                         TO(DOMAIN_SHUT_OFF) | TO(DOMAIN_MOVED) | TO(DOMAIN_GONE)},
    [DOMAIN_RUNNING] = {"running", TO(DOMAIN_PAUSED) | TO(DOMAIN_SHUT_OFF) | TO(DOMAIN_MOVED) |
                                       TO(DOMAIN_GONE)},
    [DOMAIN_PAUSED] = {"paused", TO(DOMAIN_RUNNING) | TO(DOMAIN_SHUT_OFF) | TO(DOMAIN_MOVED) |
                                     TO(DOMAIN_GONE)},
    /* SHUT_OFF: it came so; MOVED: it was to come back and did not */
    [DOMAIN_INCOMING] = {"incoming", TO(DOMAIN_RUNNING) | TO(DOMAIN_PAUSED) | TO(DOMAIN_SHUT_OFF) |
                                         TO(DOMAIN_MOVED) | TO(DOMAIN_GONE)},
    [DOMAIN_MOVED] = {"moved", TO(DOMAIN_STARTING) | TO(DOMAIN_INCOMING) | TO(DOMAIN_GONE)},
    [DOMAIN_GONE] = {"gone", 0},
};
static_assert(sizeof states / sizeof states[0] == DOMAIN_STATES, "each state has its row");

void domain_set_state(struct domain *domain, enum domain_state state)
{
    if (domain->state == state)
        return;
    if (!(states[domain->state].next & TO(state))) {
        log_error("domain %s (%s): can't become %s; left as it is", domain->name,
                  states[domain->state].text, states[state].text);
        return;
    }
    log_info("domain %s (%s): %s", domain->name, states[domain->state].text, states[state].text);
    domain->state = state;
    if (state == DOMAIN_GONE) {
        LIST_REMOVE(domain, link);
        domain->refs--; /* the registry's; the caller has another one */
    }
}

void domain_state_text_locked(const struct domain *domain, char *ret, size_t size)
{
    if (domain->state == DOMAIN_MOVED)
        snprintf(ret, size, "moved to %s", domain->moved_to ? domain->moved_to : "another host");
    else
        snprintf(ret, size, "%s", states[domain->state].text);
}

/* ---- one domain ------------------------------------------------------------------------------ */

/* Sockets are named by UUID: a guest's name may be longer than a socket's path. */
static bool name_files(struct domain *domain, const struct config *config)
{
    char uuid[UUID_TEXT_SIZE];

    uuid_to_text(domain->uuid, uuid);
    return asprintf(&domain->qmp_socket, "%s/%s.qmp", config->run_dir, uuid) >= 0 &&
           asprintf(&domain->admin_socket, "%s/%s.admin.qmp", config->run_dir, uuid) >= 0 &&
           asprintf(&domain->pidfile, "%s/%s.pid", config->run_dir, uuid) >= 0 &&
           asprintf(&domain->vnc_socket, "%s/%s.vnc", config->run_dir, uuid) >= 0 &&
           asprintf(&domain->log_dir, "%s/log/%s", config->state_dir, domain->name) >= 0 &&
           asprintf(&domain->qemu_log, "%s/" DEFINITION_QEMU_LOG, domain->log_dir) >= 0;
}

void domain_free(struct domain *domain)
{
    qmp_free(domain->qmp);
    if (domain->pidfd >= 0)
        close(domain->pidfd);
    definition_free(domain->definition);
    definition_free(domain->previous);
    domain_disks_free(domain->drives, domain->drive_count);
    free(domain->name);
    free(domain->moved_to);
    free(domain->qmp_socket);
    free(domain->admin_socket);
    free(domain->pidfile);
    free(domain->vnc_socket);
    free(domain->log_dir);
    free(domain->qemu_log);
    free(domain);
}

struct domain *domain_new(struct domains *domains, const char *name, const uint8_t uuid[UUID_SIZE],
                          const char *attached_socket, struct error *err)
{
    struct domain *domain = calloc(1, sizeof *domain);
    bool named;

    if (!domain) {
        error_set(err, ENOMEM, "no memory for the domain %s", name);
        return NULL;
    }
    domain->domains = domains;
    domain->refs = 1;
    domain->pidfd = -1;
    memcpy(domain->uuid, uuid, UUID_SIZE);
    domain->name = strdup(name);
    domain->attached = attached_socket != NULL;
    if (attached_socket)
        named = (domain->qmp_socket = strdup(attached_socket)) != NULL;
    else
        named = name_files(domain, domains->config);
    if (!domain->name || !named) {
        domain_free(domain);
        error_set(err, ENOMEM, "no memory for the domain %s", name);
        return NULL;
    }
    return domain;
}

struct domain *domain_ref(struct domain *domain)
{
    domains_lock(domain->domains);
    domain->refs++;
    domains_unlock(domain->domains);
    return domain;
}

void domain_unref(struct domain *domain)
{
    struct domains *domains;
    bool last;

    if (!domain)
        return;
    domains = domain->domains;
    domains_lock(domains);
    last = --domain->refs == 0;
    domains_unlock(domains);
    if (last)
        domain_free(domain);
}

const char *domain_name(const struct domain *domain)
{
    return domain->name;
}

void domain_uuid(const struct domain *domain, uint8_t ret[UUID_SIZE])
{
    memcpy(ret, domain->uuid, UUID_SIZE);
}

bool domain_attached(const struct domain *domain)
{
    return domain->attached;
}

enum domain_state domain_state(struct domain *domain)
{
    enum domain_state state;

    domains_lock(domain->domains);
    state = domain->state;
    domains_unlock(domain->domains);
    return state;
}

void domain_state_text(struct domain *domain, char *ret, size_t size)
{
    domains_lock(domain->domains);
    domain_state_text_locked(domain, ret, size);
    domains_unlock(domain->domains);
}

pid_t domain_pid(struct domain *domain)
{
    pid_t pid;

    domains_lock(domain->domains);
    pid = domain->pid;
    domains_unlock(domain->domains);
    return pid;
}

bool domain_crashed(struct domain *domain)
{
    bool crashed;

    domains_lock(domain->domains);
    crashed = domain->crashed;
    domains_unlock(domain->domains);
    return crashed;
}

bool domain_persistent(struct domain *domain)
{
    bool persistent;

    domains_lock(domain->domains);
    persistent = !domain->attached && !domain->transient;
    domains_unlock(domain->domains);
    return persistent;
}

const struct definition *domain_definition(const struct domain *domain)
{
    return domain->definition;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

int domain_begin_job_locked(struct domain *domain, const char *what, struct error *err)
{
    if (domain->state == DOMAIN_GONE)
        return error_set(err, ENOENT, "the domain %s is gone", domain->name);
    if (domain->job)
        return error_set(err, EBUSY, "domain %s is %s; try again when that has ended", domain->name,
                         domain->job);
    domain->job = what;
    return 0;
}

int domain_begin_job(struct domain *domain, const char *what, struct error *err)
{
    int r;

    vm_settle(domain);
    domains_lock(domain->domains);
    r = domain_begin_job_locked(domain, what, err);
    domains_unlock(domain->domains);
    return r;
}

void domain_end_job(struct domain *domain)
{
    domains_lock(domain->domains);
    domain->job = NULL;
    domains_unlock(domain->domains);
    vm_settle(domain);
}

/* ---- the registry ---------------------------------------------------------------------------- */

void domains_lock(struct domains *domains)
{
    pthread_mutex_lock(&domains->lock);
}

void domains_unlock(struct domains *domains)
{
    pthread_mutex_unlock(&domains->lock);
}

struct domains *domains_new(const struct config *config, struct loop *loop, struct qmp_thread *qmp,
                            struct error *err)
{
    struct domains *domains = calloc(1, sizeof *domains);

    if (!domains) {
        error_set(err, ENOMEM, "no memory for the domains");
        return NULL;
    }
    domains->config = config;
    domains->loop = loop;
    domains->qmp = qmp;
    pthread_mutex_init(&domains->lock, NULL);
    pthread_mutex_init(&domains->files, NULL);
    pthread_cond_init(&domains->heard, NULL);
    if (domains_load(domains, err) < 0) {
        domains_free(domains);
        return NULL;
    }
    return domains;
}

void domains_stop(struct domains *domains)
{
    atomic_store(&domains->stopping, true);
}

void domains_free(struct domains *domains)
{
    struct domain *domain;

    if (!domains)
        return;
    vm_watches_free(domains);
    while ((domain = LIST_FIRST(&domains->list))) {
        LIST_REMOVE(domain, link);
        domain_free(domain);
    }
    pthread_cond_destroy(&domains->heard);
    pthread_mutex_destroy(&domains->files);
    pthread_mutex_destroy(&domains->lock);
    free(domains);
}

struct domain *domains_lookup(struct domains *domains, const char *name)
{
    struct domain *domain;

    LIST_FOREACH(domain, &domains->list, link)
    if (strcmp(domain->name, name) == 0)
        return domain;
    return NULL;
}

/* Guests that were attached without a UUID have all zeros: no identity that could clash. */
static struct domain *lookup_uuid(struct domains *domains, const uint8_t uuid[UUID_SIZE])
{
    static const uint8_t none[UUID_SIZE];
    struct domain *domain;

    if (memcmp(uuid, none, UUID_SIZE) == 0)
        return NULL;
    LIST_FOREACH(domain, &domains->list, link)
    if (memcmp(domain->uuid, uuid, UUID_SIZE) == 0)
        return domain;
    return NULL;
}

int domains_insert(struct domains *domains, struct domain *domain, struct error *err)
{
    struct domain *other, *last = NULL;
    char uuid[UUID_TEXT_SIZE];

    if (domains_lookup(domains, domain->name))
        return error_set(err, EEXIST, "a domain named %s exists already", domain->name);
    other = lookup_uuid(domains, domain->uuid);
    if (other) {
        uuid_to_text(domain->uuid, uuid);
        return error_set(err, EEXIST, "a domain with the UUID %s exists already, named %s", uuid,
                         other->name);
    }
    LIST_FOREACH(other, &domains->list, link)
    { /* in order of names */
        if (strcmp(other->name, domain->name) > 0)
            break;
        last = other;
    }
    if (last)
        LIST_INSERT_AFTER(last, domain, link);
    else
        LIST_INSERT_HEAD(&domains->list, domain, link);
    return 0;
}

struct domain *domains_find(struct domains *domains, const char *name, struct error *err)
{
    struct domain *domain;

    domains_lock(domains);
    domain = domains_lookup(domains, name);
    if (domain)
        domain->refs++;
    else
        error_set(err, ENOENT, "no domain named %s here; \"bistream list --all\" shows what is",
                  name);
    domains_unlock(domains);
    return domain;
}

int domains_list(struct domains *domains, struct domain ***ret, size_t *ret_count)
{
    struct domain *domain, **list;
    size_t count = 0;

    domains_lock(domains);
    LIST_FOREACH(domain, &domains->list, link)
    count++;
    list = calloc(count + 1, sizeof(struct domain *));
    if (!list) {
        domains_unlock(domains);
        return -ENOMEM;
    }
    count = 0;
    LIST_FOREACH(domain, &domains->list, link)
    {
        domain->refs++;
        list[count++] = domain;
    }
    domains_unlock(domains);
    *ret = list;
    *ret_count = count;
    return 0;
}
