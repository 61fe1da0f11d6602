/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The end of a domain's QEMU: killed, heard out, told, and what it leaves released.
 */
#include "config.h"

#include "daemon/domain_private.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KILLED_BY_US "killed by bistreamd" /* struct domain.shutdown_cause, beside QEMU's */

/* Whether its operator or its guest has ended it, as far as is known. */
static bool ended_on_purpose(const struct domain *domain)
{
    static const char *const causes[] = {"guest-shutdown", "host-qmp-quit", KILLED_BY_US};

    for (size_t i = 0; i < sizeof causes / sizeof *causes; i++)
        if (strcmp(domain->shutdown_cause, causes[i]) == 0)
            return true;
    return false;
}

enum domain_state vm_state_after_end(const struct domain *domain)
{
    if (domain->moved_to)
        return DOMAIN_MOVED;
    if (domain->state == DOMAIN_INCOMING || domain->attached)
        return DOMAIN_GONE;
    if (domain->transient && ended_on_purpose(domain)) {
        log_info("domain %s: came by a migration without --persistent, so it goes with its guest; "
                 "its images stay",
                 domain->name);
        return DOMAIN_GONE;
    }
    return DOMAIN_SHUT_OFF;
}

void vm_remove_sockets(const struct domain *domain)
{
    if (domain->attached)
        return;
    unlink(domain->qmp_socket);
    unlink(domain->admin_socket);
    unlink(domain->pidfile);
    unlink(domain->vnc_socket);
}

static void log_end(const struct domain *domain)
{
    char words[256] = "";

    if (domain->shutdown_cause[0]) {
        log_info("domain %s: QEMU has ended (%s)", domain->name, domain->shutdown_cause);
        return;
    }
    if (domain->qemu_log)
        launch_last_words(domain->qemu_log, words, sizeof words);
    log_warning("domain %s: QEMU has ended without shutting down%s%s", domain->name,
                words[0] ? "; its last words: " : "", words);
}

/* A QEMU that ends says why, and its process may be seen to be gone before that has been read. */
static void hear_last_words(struct domain *domain)
{
    struct qmp_wait wait = qmp_wait_ms(VM_LAST_WORDS_MS);
    struct qmp *qmp = NULL;
    uint64_t seen;

    domains_lock(domain->domains);
    if (domain->qmp && domain->pidfd >= 0 && launch_ended(domain->pidfd)) {
        qmp = domain->qmp;
        domain->listeners++;
    }
    domains_unlock(domain->domains);
    if (!qmp)
        return;
    seen = qmp_bell(qmp);
    while (qmp_wait_bell(qmp, &seen, &wait, NULL) == 0)
        ;
    domains_lock(domain->domains);
    if (--domain->listeners == 0)
        pthread_cond_broadcast(&domain->domains->heard);
    while (domain->listeners > 0) /* QEMU is let go when all have heard; nobody goes on before */
        pthread_cond_wait(&domain->domains->heard, &domain->domains->lock);
    domains_unlock(domain->domains);
}

/* What a domain had of a QEMU that has ended, to be released without the lock. */
struct vm_remains {
    struct qmp *qmp;
    int pidfd;
    bool save; /* the state has changed */
};

/* If QEMU has ended, the state follows; with nobody in the way, what is left of QEMU is moved to RET
 * and its sockets are removed.  With the lock held. */
static void settle_locked(struct domain *domain, struct vm_remains *ret)
{
    bool alive = domain->pidfd >= 0 && !launch_ended(domain->pidfd);

    *ret = (struct vm_remains){.pidfd = -1};
    if (alive && domain->state != DOMAIN_GONE) {
        if (!domain->job && !domain->listeners && domain->qmp && qmp_closed(domain->qmp))
            ret->qmp = take_ptr(domain->qmp); /* domain_qmp() connects again */
        return;
    }
    if (domain->state == DOMAIN_RUNNING || domain->state == DOMAIN_PAUSED ||
        (domain->state == DOMAIN_INCOMING && !domain->job)) {
        if (domain->pidfd >= 0) {
            log_end(domain);
            domain->crashed = domain->shutdown_cause[0] == '\0';
        }
        if (domain->previous) { /* it was to come back, and did not */
            definition_free(domain->definition);
            domain->definition = take_ptr(domain->previous);
        }
        domain->incoming = false;
        ret->save = true;
        domain_set_state(domain, vm_state_after_end(domain));
    }
    if (domain->job || domain->listeners)
        return;
    if (domain->pidfd >= 0) {
        ret->save = true;
        if (!alive)
            vm_remove_sockets(domain);
    }
    ret->qmp = take_ptr(domain->qmp);
    ret->pidfd = take_fd(&domain->pidfd);
    domain->pid = 0;
}

void vm_settle(struct domain *domain)
{
    struct error err = ERROR_INIT;
    struct vm_remains remains;

    hear_last_words(domain);
    domains_lock(domain->domains);
    settle_locked(domain, &remains);
    domains_unlock(domain->domains);
    qmp_free(remains.qmp);
    if (remains.pidfd >= 0)
        close(remains.pidfd);
    if (remains.save && domain_save(domain, &err) < 0)
        log_error("domain %s: %s", domain->name, err.text);
}

int vm_kill(struct domain *domain, struct error *err)
{
    int r;

    if (domain->pidfd < 0)
        return 0;
    domains_lock(domain->domains);
    if (!domain->shutdown_cause[0] && !launch_ended(domain->pidfd))
        snprintf(domain->shutdown_cause, sizeof domain->shutdown_cause, KILLED_BY_US);
    domains_unlock(domain->domains);
    r = launch_kill(domain->pidfd, VM_KILL_MS, err);
    if (r < 0)
        error_prefix(err, "domain %s", domain->name);
    return r;
}
