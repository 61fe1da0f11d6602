/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Domains in a migration: coming in at the destination, moved at the source.
 *
 * While a guest comes in, its domain holds name and UUID with the job "coming in", and no file says
 * so: a daemon that dies meanwhile has never had it.  A guest that comes back takes its own moved
 * domain over; the definition of before is kept until it has arrived (domain.previous), and a
 * failure puts it back (vm_settle).
 *
 * At the source the file says "moved to PEER" before QEMU is ended, so a daemon that dies in
 * between ends it when it comes back (vm_recover).
 */
#include "config.h"

#include "daemon/domain_private.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define COMING_IN "coming in"

/* ---- the destination ------------------------------------------------------------------------- */

/* The domain that DEFINITION's guest has left behind here when it moved away, or NULL. */
static struct domain *lookup_returning(struct domains *domains, const struct definition *definition)
{
    struct domain *domain = domains_lookup(domains, definition->name);

    if (domain && domain->state == DOMAIN_MOVED && !domain->attached &&
        memcmp(domain->uuid, definition->uuid, UUID_SIZE) == 0)
        return domain;
    return NULL;
}

/* The same guest, shut off here: it ended after it had arrived once, or was started here on its own.
 * Whether its disks are needed, only the operator knows. */
static int check_not_left_here(struct domains *domains, const struct definition *definition,
                               struct error *err)
{
    const struct domain *domain = domains_lookup(domains, definition->name);

    if (!domain || domain->state != DOMAIN_SHUT_OFF ||
        memcmp(domain->uuid, definition->uuid, UUID_SIZE) != 0)
        return 0;
    return error_set(
        err, EEXIST,
        "the domain %s exists here as well, shut off, with disks of its own (bistream info "
        "%s); if they aren't needed, undefine it here and delete them",
        domain->name, domain->name);
}

/* Takes over COPY unless it fails.  With the lock held. */
static struct domain *new_incoming(struct domains *domains, struct definition *copy,
                                   struct error *err)
{
    struct domain *domain = lookup_returning(domains, copy);

    if (domain) {
        if (domain_begin_job_locked(domain, COMING_IN, err) < 0)
            return NULL;
        domain->previous = take_ptr(domain->definition);
        domain_set_state(domain, DOMAIN_INCOMING);
    } else {
        if (check_not_left_here(domains, copy, err) < 0)
            return NULL;
        domain = domain_new(domains, copy->name, copy->uuid, NULL, err);
        if (!domain)
            return NULL;
        if (domains_insert(domains, domain, err) < 0) {
            domain_free(domain);
            return NULL;
        }
        domain->state = DOMAIN_INCOMING;
        domain->job = COMING_IN;
    }
    domain->definition = copy;
    domain->incoming = true;
    domain->refs++;
    return domain;
}

struct domain *domain_new_incoming(struct domains *domains, const struct definition *definition,
                                   struct error *err)
{
    struct definition *copy = definition_copy(definition);
    struct domain *domain;

    if (!copy) {
        error_set(err, ENOMEM, "no memory for the domain %s", definition->name);
        return NULL;
    }
    domains_lock(domains);
    domain = new_incoming(domains, copy, err);
    domains_unlock(domains);
    if (!domain)
        definition_free(copy);
    return domain;
}

struct domain *domain_find_incoming(struct domains *domains, const struct definition *definition,
                                    struct error *err)
{
    struct domain *domain = domain_new_incoming(domains, definition, err);
    struct error ignored = ERROR_INIT;
    int pidfd = -1, r;
    pid_t pid;

    if (!domain)
        return NULL;
    r = launch_find(domain->qmp_socket, domain->pidfile, &pid, &pidfd, err);
    if (r == 0) {
        domains_lock(domains);
        r = vm_adopt(domain, pid, pidfd, err);
        domains_unlock(domains);
    }
    if (r == 0)
        return domain;
    if (r == -ESRCH) {
        vm_remove_sockets(domain);
        err->code = ENOENT;
    }
    domain_discard_incoming(domain, &ignored); /* it has no QEMU: this can't fail */
    domain_unref(domain);
    return NULL;
}

struct domain *domain_take_incoming(struct domains *domains, const char *name,
                                    const uint8_t uuid[UUID_SIZE], struct error *err)
{
    struct domain *domain;

    domains_lock(domains);
    domain = domains_lookup(domains, name);
    if (!domain || !domain->attached || !domain->incoming || domain->pidfd < 0 ||
        memcmp(domain->uuid, uuid, UUID_SIZE) != 0) {
        error_set(err, ENOENT, "no attached QEMU waits for the guest %s here", name);
        domain = NULL;
    } else if (domain_begin_job_locked(domain, COMING_IN, err) < 0) {
        domain = NULL;
    } else {
        domain->refs++;
    }
    domains_unlock(domains);
    return domain;
}

bool domain_left_image(const struct domain *domain, const char *path)
{
    const struct definition *previous = domain->previous;

    for (size_t i = 0; previous && i < previous->disk_count; i++) {
        CLEANUP_FREE char *left =
            definition_disk_path(&previous->disks[i], domain->domains->config->pool_dir);

        if (left && strcmp(left, path) == 0)
            return !previous->disks[i].readonly;
    }
    return false;
}

int domain_start_incoming(struct domain *domain, const struct qmp_wait *wait, struct error *err)
{
    return vm_launch(domain, wait, err);
}

static int finish(struct domain *domain, enum domain_state state, bool persistent,
                  struct error *err)
{
    int r;

    domains_lock(domain->domains);
    definition_free(take_ptr(domain->previous));
    free(take_ptr(domain->moved_to));
    domain->incoming = false;
    domain->transient = !persistent;
    domain_set_state(domain, state);
    domains_unlock(domain->domains);
    vm_keep_logs(domain);
    r = domain_save(domain, err);
    domain_end_job(domain);
    return r;
}

int domain_finish_incoming(struct domain *domain, bool running, bool persistent, struct error *err)
{
    return finish(domain, running ? DOMAIN_RUNNING : DOMAIN_PAUSED, persistent, err);
}

int domain_finish_offline(struct domain *domain, struct error *err)
{
    return finish(domain, DOMAIN_SHUT_OFF, true, err);
}

int domain_discard_incoming(struct domain *domain, struct error *err)
{
    int r = vm_kill(domain, err);

    if (r < 0)
        return r;
    vm_remove_logs(domain);
    domain_end_job(domain); /* which finds QEMU ended, and puts everything back */
    return 0;
}

/* ---- the source ------------------------------------------------------------------------------ */

/* Lets QEMU close its images and end; whatever comes of that, it has ended when this returns 0. */
static int end_vm(struct domain *domain, struct error *err)
{
    struct qmp_wait wait = qmp_wait_ms(VM_COMMAND_MS);
    struct error quitting = ERROR_INIT;
    struct pollfd pidfd = {.fd = domain->pidfd, .events = POLLIN};

    if (domain->pidfd < 0)
        return 0;
    if (domain->qmp && guest_quit(domain->qmp, &wait, &quitting) < 0)
        log_warning("domain %s: it is killed, since %s", domain->name, quitting.text);
    else if (domain->qmp)
        poll(&pidfd, 1, VM_COMMAND_MS);
    return vm_kill(domain, err);
}

int domain_mark_moved(struct domain *domain, const char *peer, struct error *err)
{
    char *copy = strdup(peer);
    int saved, ended;

    if (!copy)
        return error_set(err, ENOMEM, "no memory to note that %s has moved to %s", domain->name,
                         peer);
    domains_lock(domain->domains);
    free(domain->moved_to);
    domain->moved_to = copy;
    if (domain->state == DOMAIN_SHUT_OFF) /* its QEMU has died before this was known */
        domain_set_state(domain, DOMAIN_MOVED);
    domains_unlock(domain->domains);
    saved = domain_save(domain, err);
    ended = end_vm(domain, err);
    vm_settle(domain);
    return ended < 0 ? ended : saved;
}

int domain_forget_moved(struct domain *domain, struct error *err)
{
    domains_lock(domain->domains);
    domain_set_state(domain, DOMAIN_GONE);
    domains_unlock(domain->domains);
    return domain_save(domain, err);
}

int domain_store(struct domain *domain, struct error *err)
{
    return domain_save(domain, err);
}
