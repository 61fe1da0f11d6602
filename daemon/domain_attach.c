/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * QEMUs that somebody else started, taken in by their QMP sockets.
 *
 * There is no definition: what is known is what QEMU says (guest_query, its drives).  QEMU is the
 * process that listens on the socket; it is watched, and on destroy or a failed incoming migration
 * killed, by that pid.  When it ends the domain is gone, unless it moved: that stays to be seen.
 */
#include "config.h"

#include "daemon/domain_private.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <limits.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int attached_describe(struct domain *domain, struct qmp *qmp, const struct guest_info *info,
                      struct error *err)
{
    struct domain_disk *drives;
    size_t count;
    int r;

    r = drives_query(qmp, &drives, &count, err);
    if (r < 0)
        return r;
    domains_lock(domain->domains);
    domain_disks_free(domain->drives, domain->drive_count);
    domain->drives = drives;
    domain->drive_count = count;
    domain->memory = info->memory;
    snprintf(domain->machine, sizeof domain->machine, "%s", info->machine);
    domains_unlock(domain->domains);
    return 0;
}

/* A QEMU waits for its migration or it does not; the operator should know which. */
static int check_purpose(const char *socket, const struct guest_info *info, bool incoming,
                         struct error *err)
{
    bool waits = strcmp(info->run_state, "inmigrate") == 0;

    if (waits && !incoming)
        return error_set(err, EINVAL,
                         "the QEMU at %s waits for a migration; attach it with --incoming", socket);
    if (!waits && incoming)
        return error_set(err, EINVAL,
                         "the QEMU at %s does not wait for a migration, it is %s; start it with "
                         "-incoming defer",
                         socket, info->run_state);
    return 0;
}

/* QEMU talks to one client per socket: one that we talk to already would only keep us waiting. */
static int check_not_known(const struct domain *domain, struct error *err)
{
    CLEANUP_CLOSE int pidfd = -1;
    struct domain *other;
    pid_t pid;
    int r;

    r = qmp_peer(domain->qmp_socket, &pid, &pidfd, err);
    if (r < 0)
        return r;
    domains_lock(domain->domains);
    LIST_FOREACH(other, &domain->domains->list, link)
    if (other->pid == pid)
        r = error_set(err, EEXIST, "the QEMU at %s (pid %d) is the domain %s already",
                      domain->qmp_socket, (int)pid, other->name);
    domains_unlock(domain->domains);
    return r;
}

/* Whoever listens on the socket is taken for QEMU, watched, and killed when it comes to that; where
 * a manager (libvirt) made the socket for its QEMU, that would be the manager. */
static int check_is_qemu(const struct domain *domain, struct error *err)
{
    char link[64], program[PATH_MAX];
    pid_t pid = qmp_pid(domain->qmp);
    const char *name;
    ssize_t n;

    snprintf(link, sizeof link, "/proc/%d/exe", (int)pid);
    n = readlink(link, program, sizeof program - 1);
    if (n < 0)
        return error_set_errno(err, errno, "can't see which program listens on %s",
                               domain->qmp_socket);
    program[n] = '\0';
    name = strrchr(program, '/');
    name = name ? name + 1 : program;
    if (strncmp(name, "qemu", 4) == 0 || strncmp(name, "kvm", 3) == 0)
        return 0;
    return error_set(err, EINVAL,
                     "%s is not a socket of QEMU's own: %s (pid %d) listens there; give QEMU "
                     "another one with -qmp unix:PATH,server=on,wait=off",
                     domain->qmp_socket, name, (int)pid);
}

/* Puts the domain, whose QMP is connected, into the registry.  With the lock held. */
static int take_in(struct domain *domain, const struct guest_info *info, struct error *err)
{
    CLEANUP_CLOSE int pidfd = fcntl(qmp_pidfd(domain->qmp), F_DUPFD_CLOEXEC, 0);
    int r;

    if (pidfd < 0)
        return error_set_errno(err, errno, "can't watch the QEMU of %s", domain->name);
    domain->state = domain->incoming ? DOMAIN_INCOMING
                    : info->running  ? DOMAIN_RUNNING
                                     : DOMAIN_PAUSED;
    r = domains_insert(domain->domains, domain, err);
    if (r < 0)
        return r;
    domain->refs++; /* the caller's, beside the registry's */
    r = vm_adopt(domain, qmp_pid(domain->qmp), take_fd(&pidfd), err);
    if (r < 0)
        domain_set_state(domain, DOMAIN_GONE);
    return r;
}

static int attach(struct domain *domain, struct error *err)
{
    struct guest_info info;
    int r;

    r = check_not_known(domain, err);
    if (r < 0)
        return r;
    domain->qmp = vm_open(domain, &info, err);
    if (!domain->qmp)
        return -EHOSTUNREACH;
    r = check_is_qemu(domain, err);
    if (r < 0)
        return r;
    if (info.uuid[0] && uuid_from_text(info.uuid, domain->uuid) < 0)
        return error_set(err, EPROTO, "the QEMU at %s says \"%s\" for its UUID", domain->qmp_socket,
                         info.uuid);
    if ((r = check_purpose(domain->qmp_socket, &info, domain->incoming, err)) < 0 ||
        (r = attached_describe(domain, domain->qmp, &info, err)) < 0)
        return r;
    domains_lock(domain->domains);
    r = take_in(domain, &info, err);
    domains_unlock(domain->domains);
    return r;
}

int domain_attach(struct domains *domains, const char *name, const char *socket, bool incoming,
                  struct error *err)
{
    static const uint8_t not_known_yet[UUID_SIZE];
    struct domain *domain;
    int r;

    r = definition_check_name(name, err);
    if (r < 0)
        return r;
    if (socket[0] != '/')
        return error_set(err, EINVAL, "the QMP socket must be an absolute path, not %s", socket);
    domain = domain_new(domains, name, not_known_yet, socket, err);
    if (!domain)
        return -ENOMEM;
    domain->incoming = incoming;
    r = attach(domain, err);
    if (r == 0) {
        log_info("domain %s: attached to QEMU %d at %s%s", name, (int)domain->pid, socket,
                 incoming ? "; it is killed when its migration fails" : "");
        r = domain_save(domain, err);
    } else {
        error_prefix(err, "can't attach %s", name);
    }
    domain_unref(domain);
    return r;
}
