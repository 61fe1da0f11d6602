/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What an operator does with a domain: start, shutdown, destroy, undefine.
 *
 * A start claims the name under the lock, as a new domain or one that is shut off, with the job
 * begun and the state "starting"; everything slow comes afterwards.  When it fails, the domain is
 * what it was before: with its earlier definition, or gone.
 */
#include "config.h"

#include "daemon/domain_private.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- start ----------------------------------------------------------------------------------- */

/* Whether the domain, which exists, may be started now.  With the lock held. */
static int check_startable(struct domain *domain, const struct definition *definition, bool force,
                           struct error *err)
{
    char uuid[UUID_TEXT_SIZE];
    char state[128];

    domain_state_text_locked(domain, state, sizeof state);
    if (domain->attached)
        return error_set(err, EINVAL, "%s was attached, so how to start it is not known here",
                         domain->name);
    if (domain->state != DOMAIN_SHUT_OFF && domain->state != DOMAIN_MOVED)
        return error_set(err, EEXIST, "domain %s is %s already", domain->name, state);
    if (definition && !definition->uuid_made &&
        memcmp(definition->uuid, domain->uuid, UUID_SIZE) != 0) {
        uuid_to_text(domain->uuid, uuid);
        return error_set(err, EEXIST,
                         "a domain named %s exists already, with the UUID %s; undefine that first",
                         domain->name, uuid);
    }
    if (domain->state == DOMAIN_MOVED && !force)
        return error_set(err, EPERM,
                         "domain %s was moved to %s and lives there; started here as well, both "
                         "would go on by themselves.  If it is lost there, use --force",
                         domain->name, domain->moved_to);
    return 0;
}

/* What is put back when a start fails. */
struct before_start {
    enum domain_state state;       /* DOMAIN_GONE: there was none of that name */
    struct definition *definition; /* NULL: as above */
    char *moved_to;
    bool transient;
};

/* A new domain, with the registry's reference only; NULL with ERR.  With the lock held. */
static struct domain *insert_new(struct domains *domains, const char *name,
                                 const uint8_t uuid[UUID_SIZE], struct error *err)
{
    struct domain *domain = domain_new(domains, name, uuid, NULL, err);

    if (domain && domains_insert(domains, domain, err) < 0) {
        domain_free(domain);
        return NULL;
    }
    return domain;
}

/* Takes the name for a start with DEFINITION, which it takes over unless it fails.  Returns the
 * domain with a reference, or NULL with ERR.  With the lock held. */
static struct domain *claim(struct domains *domains, struct definition *definition, bool force,
                            struct before_start *before, struct error *err)
{
    struct domain *domain = domains_lookup(domains, definition->name);

    before->state = domain ? domain->state : DOMAIN_GONE;
    if (!domain)
        domain = insert_new(domains, definition->name, definition->uuid, err);
    else if (check_startable(domain, definition, force, err) < 0)
        return NULL;
    if (!domain || domain_begin_job_locked(domain, "starting", err) < 0)
        return NULL;
    domain->refs++;
    before->definition = take_ptr(domain->definition);
    before->moved_to = take_ptr(domain->moved_to);
    before->transient = domain->transient;
    memcpy(definition->uuid, domain->uuid, UUID_SIZE);
    domain->definition = definition;
    domain->incoming = false;
    domain->transient = false; /* who starts it here wants it here */
    domain_set_state(domain, DOMAIN_STARTING);
    return domain;
}

static void give_back(struct domain *domain, struct before_start *before)
{
    struct error err = ERROR_INIT;

    domains_lock(domain->domains);
    if (before->definition) {
        definition_free(domain->definition);
        domain->definition = take_ptr(before->definition);
        domain->moved_to = take_ptr(before->moved_to);
        domain->transient = before->transient;
    }
    domain_set_state(domain, before->state);
    domains_unlock(domain->domains);
    if (domain_save(domain, &err) < 0)
        log_error("domain %s: %s", domain->name, err.text);
}

/* QEMU says which machine an alias such as "q35" means there; the guest keeps that one, here and
 * on other hosts. */
static void started(struct domain *domain, const struct guest_info *info)
{
    static const char suffix[] = "-machine";
    size_t length = strlen(info->machine);
    char *machine = NULL;

    if (length > strlen(suffix) && strcmp(info->machine + length - strlen(suffix), suffix) == 0)
        machine = strndup(info->machine, length - strlen(suffix));
    domains_lock(domain->domains);
    if (machine) {
        free(domain->definition->machine);
        domain->definition->machine = machine;
    }
    domain_set_state(domain, info->running ? DOMAIN_RUNNING : DOMAIN_PAUSED);
    domains_unlock(domain->domains);
}

static int start_claimed(struct domain *domain, struct error *err)
{
    struct qmp_wait wait;
    struct definition *definition = domain->definition;
    uint64_t sizes[BS_DISKS_MAX];
    struct guest_info info;
    int r;

    r = images_prepare(domain->domains->config, definition, sizes, err);
    if (r < 0)
        return r;
    domains_lock(domain->domains);
    for (size_t i = 0; i < definition->disk_count; i++)
        definition->disks[i].size = sizes[i];
    domains_unlock(domain->domains);
    wait = vm_wait_ms(domain->domains, VM_LAUNCH_MS);
    if ((r = domain_save(domain, err)) < 0 || (r = vm_launch(domain, &wait, err)) < 0)
        return r;
    wait = qmp_wait_ms(VM_COMMAND_MS);
    r = guest_query(domain->qmp, &info, &wait, err);
    if (r < 0) {
        vm_kill(domain, NULL);
        return r;
    }
    started(domain, &info);
    return domain_save(domain, err);
}

/* A copy of the definition that the domain NAME was last started with. */
static struct definition *last_definition(struct domains *domains, const char *name,
                                          struct error *err)
{
    struct definition *definition = NULL;
    struct domain *domain = domains_find(domains, name, err);

    if (!domain)
        return NULL;
    domains_lock(domains);
    if (domain->definition)
        definition = definition_copy(domain->definition);
    domains_unlock(domains);
    if (domain->attached)
        error_set(err, EINVAL, "%s was attached, so how to start it is not known here", name);
    else if (!definition)
        error_set(err, ENOMEM, "no memory to start %s", name);
    domain_unref(domain);
    return definition;
}

/* Whether it runs shall be known, not what the main loop has noticed so far. */
static void settle(struct domains *domains, const char *name)
{
    struct domain *domain = domains_find(domains, name, NULL);

    if (domain)
        vm_settle(domain);
    domain_unref(domain);
}

int domain_start(struct domains *domains, const char *name, const struct definition *definition,
                 bool force, struct error *err)
{
    struct before_start before = {.state = DOMAIN_GONE};
    struct definition *copy;
    struct domain *domain;
    int r;

    copy = definition ? definition_copy(definition) : last_definition(domains, name, err);
    if (!copy)
        return definition ? error_set(err, ENOMEM, "no memory to start %s", definition->name)
                          : -err->code;
    settle(domains, copy->name);
    domains_lock(domains);
    domain = claim(domains, copy, force, &before, err);
    domains_unlock(domains);
    if (!domain) {
        definition_free(copy);
        return -err->code;
    }
    r = start_claimed(domain, err);
    if (r < 0)
        give_back(domain, &before);
    domain_end_job(domain);
    domain_unref(domain);
    definition_free(before.definition);
    free(before.moved_to);
    return r;
}

/* ---- the others ------------------------------------------------------------------------------ */

/* Whether there is a guest that can be asked to shut down.  For the job's holder. */
static int check_running(struct domain *domain, struct error *err)
{
    char state[128];

    domain_state_text(domain, state, sizeof state);
    if (domain_state(domain) == DOMAIN_RUNNING)
        return 0;
    return error_set(err, EINVAL, "domain %s is %s, so its guest can't be asked to shut down%s",
                     domain->name, state, domain->pidfd >= 0 ? "; destroy ends it" : "");
}

int domain_shutdown(struct domain *domain, struct error *err)
{
    struct qmp_wait wait = qmp_wait_ms(VM_COMMAND_MS);
    struct qmp *qmp;
    int r;

    r = domain_begin_job(domain, "being shut down", err);
    if (r < 0)
        return r;
    r = check_running(domain, err);
    if (r == 0) {
        qmp = domain_qmp(domain, err);
        r = qmp ? guest_powerdown(qmp, &wait, err) : -EHOSTUNREACH;
    }
    domain_end_job(domain);
    return r;
}

int domain_destroy(struct domain *domain, struct error *err)
{
    int r;

    r = domain_begin_job(domain, "being destroyed", err);
    if (r < 0)
        return r;
    if (domain->pidfd < 0)
        r = error_set(err, EINVAL, "domain %s is not running", domain->name);
    else
        r = vm_kill(domain, err);
    domain_end_job(domain);
    return r;
}

int domain_undefine(struct domain *domain, struct error *err)
{
    char state[128];
    int r;

    r = domain_begin_job(domain, "being undefined", err);
    if (r < 0)
        return r;
    domain_state_text(domain, state, sizeof state);
    if (domain->pidfd >= 0 && !domain->attached) {
        r = error_set(err, EINVAL, "domain %s is %s; shut it down or destroy it first",
                      domain->name, state);
    } else {
        domains_lock(domain->domains);
        domain_set_state(domain, DOMAIN_GONE);
        domains_unlock(domain->domains);
        r = domain_save(domain, err);
    }
    domain_end_job(domain);
    return r;
}
