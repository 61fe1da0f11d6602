/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A domain's QEMU: launched, found again by a restarted daemon, and watched.
 *
 * Only its pidfd says whether QEMU lives.  The main loop watches that (struct vm_watch), and
 * whoever begins or ends a job looks as well (vm_settle); the first to see the end sets the
 * state.  Whether the guest's processors run comes from QMP's events and from query-status.
 *
 * The domain's file says that there is a QEMU before it is launched, so a daemon that dies in
 * between finds it all the same.
 */
#include "config.h"

#include "daemon/domain_private.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "qemu/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- watching -------------------------------------------------------------------------------- */

struct vm_watch {
    struct loop_work work;
    struct domain *domain; /* a reference */
    int pidfd;             /* its own */
    struct loop_fd *fd;    /* NULL until the main loop has run */
    LIST_ENTRY(vm_watch) link;
};

/* The list's lock is the caller's business. */
static void watch_free(struct vm_watch *watch)
{
    loop_fd_remove(watch->fd);
    close(watch->pidfd);
    free(watch);
}

static void watch_fired(void *opaque, uint32_t events)
{
    struct vm_watch *watch = opaque;
    struct domain *domain = watch->domain;

    (void)events; /* a pidfd knows only one: the process has ended */
    domains_lock(domain->domains);
    LIST_REMOVE(watch, link);
    domains_unlock(domain->domains);
    watch_free(watch);
    vm_settle(domain);
    domain_unref(domain);
}

static void watch_begin(struct loop_work *work)
{
    struct vm_watch *watch = (struct vm_watch *)work; /* its first member */

    watch->fd =
        loop_fd_add(watch->domain->domains->loop, watch->pidfd, EPOLLIN, watch_fired, watch);
    if (!watch->fd)
        log_error("domain %s: can't watch its QEMU: %s; its end will be noticed late",
                  watch->domain->name, strerror(errno));
}

static int watch_start(struct domain *domain, struct error *err)
{
    struct vm_watch *watch = calloc(1, sizeof *watch);

    if (!watch)
        return error_set(err, ENOMEM, "no memory to watch the QEMU of %s", domain->name);
    watch->pidfd = fcntl(domain->pidfd, F_DUPFD_CLOEXEC, 0);
    if (watch->pidfd < 0) {
        free(watch);
        return error_set_errno(err, errno, "can't watch the QEMU of %s", domain->name);
    }
    watch->work.run = watch_begin;
    watch->domain = domain;
    domain->refs++;
    LIST_INSERT_HEAD(&domain->domains->watches, watch, link);
    loop_post(domain->domains->loop, &watch->work);
    return 0;
}

void vm_watches_free(struct domains *domains)
{
    struct vm_watch *watch;

    while ((watch = LIST_FIRST(&domains->watches))) {
        struct domain *domain = watch->domain;

        LIST_REMOVE(watch, link);
        watch_free(watch);
        domain_unref(domain);
    }
}

int vm_adopt(struct domain *domain, pid_t pid, int pidfd, struct error *err)
{
    int r;

    domain->pid = pid;
    domain->pidfd = pidfd;
    domain->shutdown_cause[0] = '\0';
    domain->crashed = false;
    r = watch_start(domain, err);
    if (r < 0) {
        close(pidfd);
        domain->pidfd = -1;
        domain->pid = 0;
    }
    return r;
}

/* ---- QMP ------------------------------------------------------------------------------------- */

static int check_stopping(void *opaque, struct error *err)
{
    struct domains *domains = opaque;

    if (atomic_load(&domains->stopping))
        return error_set(err, ECANCELED, "bistreamd is being stopped");
    return 0;
}

struct qmp_wait vm_wait_ms(struct domains *domains, unsigned ms)
{
    return (struct qmp_wait){.deadline = loop_clock() + ms * LOOP_MS,
                             .check = check_stopping,
                             .opaque = domains,
                             .tick_ms = 100};
}

static void vm_event(void *opaque, const char *name, json_t *data, uint64_t timestamp_us)
{
    struct domain *domain = opaque;

    (void)timestamp_us;
    domains_lock(domain->domains);
    if (strcmp(name, "STOP") == 0 && domain->state == DOMAIN_RUNNING)
        domain_set_state(domain, DOMAIN_PAUSED);
    else if (strcmp(name, "RESUME") == 0 && domain->state == DOMAIN_PAUSED)
        domain_set_state(domain, DOMAIN_RUNNING);
    else if (strcmp(name, "SHUTDOWN") == 0) {
        const char *reason = json_string_value(json_object_get(data, "reason"));

        snprintf(domain->shutdown_cause, sizeof domain->shutdown_cause, "%s", reason ? reason : "");
    }
    domains_unlock(domain->domains);
}

static const struct qmp_handlers vm_handlers = {.event = vm_event};

static enum domain_state state_of(const struct guest_info *info)
{
    if (strcmp(info->run_state, "inmigrate") == 0)
        return DOMAIN_INCOMING;
    return info->running ? DOMAIN_RUNNING : DOMAIN_PAUSED;
}

/* Whether the QEMU behind QMP is DOMAIN's; an attached one may have no UUID. */
static int check_identity(const struct domain *domain, const struct guest_info *info,
                          struct error *err)
{
    char uuid[UUID_TEXT_SIZE];

    uuid_to_text(domain->uuid, uuid);
    if (strcasecmp(info->uuid, uuid) == 0 || (domain->attached && info->uuid[0] == '\0'))
        return 0;
    return error_set(err, EEXIST, "the QEMU at %s is another guest's (UUID %s)", domain->qmp_socket,
                     info->uuid[0] ? info->uuid : "none");
}

struct qmp *vm_open(struct domain *domain, struct guest_info *ret, struct error *err)
{
    struct qmp_wait connecting = vm_wait_ms(domain->domains, VM_CONNECT_MS);
    struct qmp_wait wait = qmp_wait_ms(VM_COMMAND_MS);
    struct qmp *qmp;

    qmp = qmp_connect(domain->domains->qmp, domain->qmp_socket, &connecting, &vm_handlers, domain,
                      err);
    if (qmp && guest_query(qmp, ret, &wait, err) < 0) {
        qmp_free(qmp);
        return NULL;
    }
    return qmp;
}

/* Connects QMP to the QEMU that is there; its state is known then. */
static int vm_connect(struct domain *domain, struct error *err)
{
    struct guest_info info;
    struct qmp *qmp = vm_open(domain, &info, err);
    int r = qmp ? check_identity(domain, &info, err) : -EHOSTUNREACH;

    if (r == 0 && domain->attached)
        r = attached_describe(domain, qmp, &info, err);
    if (r < 0) {
        error_prefix(err, "domain %s", domain->name);
        qmp_free(qmp);
        return r;
    }
    domains_lock(domain->domains);
    domain->qmp = qmp;
    if (domain->state == DOMAIN_STARTING || domain->state == DOMAIN_RUNNING ||
        domain->state == DOMAIN_PAUSED)
        domain_set_state(domain, state_of(&info));
    domains_unlock(domain->domains);
    return 0;
}

struct qmp *domain_qmp(struct domain *domain, struct error *err)
{
    if (domain->pidfd < 0 || launch_ended(domain->pidfd)) {
        error_set(err, ESRCH, "domain %s is not running", domain->name);
        return NULL;
    }
    if (!domain->qmp && vm_connect(domain, err) < 0)
        return NULL;
    return domain->qmp;
}

/* ---- launching ------------------------------------------------------------------------------- */

/* The strings that a struct launch borrows and the definition does not have. */
struct launch_texts {
    char uuid[UUID_TEXT_SIZE];
    char *paths[BS_DISKS_MAX];
    char *serial_log, *display;
    struct launch_disk disks[BS_DISKS_MAX];
    struct launch_nic nics[DEFINITION_NICS_MAX];
};

static void launch_texts_free(struct launch_texts **texts)
{
    if (!*texts)
        return;
    for (size_t i = 0; i < BS_DISKS_MAX; i++)
        free((*texts)->paths[i]);
    free((*texts)->serial_log);
    free((*texts)->display);
    free(*texts);
}

/* Whether the image has a backing file, which QEMU gets a node of its own for. */
static int has_backing(const char *path, const char *format, bool *ret, struct error *err)
{
    struct image_info info;
    int r;

    *ret = false;
    if (!path || strcmp(format, "qcow2") != 0)
        return 0;
    r = image_info_read(path, format, &info, err);
    if (r < 0)
        return r;
    *ret = info.backing != NULL;
    image_info_release(&info);
    return 0;
}

static int describe_disks(const struct domain *domain, struct launch_texts *texts,
                          struct error *err)
{
    const char *pool = domain->domains->config->pool_dir;

    for (size_t i = 0; i < domain->definition->disk_count; i++) {
        const struct definition_disk *disk = &domain->definition->disks[i];
        bool backing;
        int r;

        if (disk->file)
            texts->paths[i] = definition_disk_path(disk, pool);
        if (disk->file && !texts->paths[i])
            return error_set(err, ENOMEM, "no memory to start %s", domain->name);
        r = has_backing(texts->paths[i], disk->format, &backing, err);
        if (r < 0)
            return r;
        texts->disks[i] = (struct launch_disk){
            .target = disk->target,
            .path = texts->paths[i],
            .format = disk->format,
            .backing = backing,
            .readonly = disk->readonly,
            .discard = disk->discard,
            .cache = disk->cache,
        };
    }
    return 0;
}

static int describe(const struct domain *domain, struct launch_texts *texts, struct launch *launch,
                    struct error *err)
{
    const struct definition *definition = domain->definition;
    const struct config *config = domain->domains->config;

    uuid_to_text(domain->uuid, texts->uuid);
    for (size_t i = 0; i < definition->nic_count; i++)
        texts->nics[i] = (struct launch_nic){
            .type = definition->nics[i].type,
            .model = definition->nics[i].model,
            .mac = definition->nics[i].mac,
            .ifname = definition->nics[i].ifname,
        };
    texts->serial_log = vm_serial_log(domain);
    if ((definition->serial_log && !texts->serial_log) ||
        asprintf(&texts->display, strcmp(definition->display, "vnc") == 0 ? "vnc=unix:%s" : "none",
                 domain->vnc_socket) < 0)
        return error_set(err, ENOMEM, "no memory to start %s", domain->name);
    *launch = (struct launch){
        .binary = config->qemu_binary,
        .name = domain->name,
        .uuid = texts->uuid,
        .machine = definition->machine,
        .accel = definition->accel,
        .cpu = definition->cpu,
        .vcpus = definition->vcpus,
        .memory = definition->memory,
        .firmware = definition->firmware,
        .disks = texts->disks,
        .n_disks = definition->disk_count,
        .nics = texts->nics,
        .n_nics = definition->nic_count,
        .serial_log = texts->serial_log,
        .display = texts->display,
        .extra = (const char *const *)config->qemu_args,
        .incoming = domain->incoming,
        .paused = domain->incoming,
        .qmp_socket = domain->qmp_socket,
        .admin_socket = domain->admin_socket,
        .pidfile = domain->pidfile,
        .log = domain->qemu_log,
    };
    return describe_disks(domain, texts, err);
}

int vm_launch(struct domain *domain, const struct qmp_wait *wait, struct error *err)
{
    CLEANUP(launch_texts_free) struct launch_texts *texts = calloc(1, sizeof *texts);
    struct launch launch;
    struct qmp *qmp;
    int pidfd, r;

    if (!texts)
        return error_set(err, ENOMEM, "no memory to start %s", domain->name);
    r = describe(domain, texts, &launch, err);
    if (r < 0)
        return r;
    r = vm_make_log_folder(domain, err);
    if (r < 0)
        return r;
    qmp = launch_qemu(domain->domains->qmp, &launch, wait, &vm_handlers, domain, err);
    if (!qmp) {
        error_prefix(err, "can't start %s", domain->name);
        return err && err->code ? -err->code : -EIO;
    }
    pidfd = fcntl(qmp_pidfd(qmp), F_DUPFD_CLOEXEC, 0);
    if (pidfd < 0) {
        r = error_set_errno(err, errno, "can't watch the QEMU of %s", domain->name);
    } else {
        domains_lock(domain->domains);
        r = vm_adopt(domain, qmp_pid(qmp), pidfd, err);
        if (r == 0)
            domain->qmp = qmp;
        domains_unlock(domain->domains);
    }
    if (r < 0) {
        launch_kill(qmp_pidfd(qmp), VM_KILL_MS, NULL);
        qmp_free(qmp);
    }
    return r;
}

/* ---- finding again --------------------------------------------------------------------------- */

/* Returns 0 with a pidfd, or a negative errno with ERR: its QEMU has ended. */
static int find_process(const struct domain *domain, pid_t *ret_pid, int *ret_pidfd,
                        struct error *err)
{
    int r;

    if (!domain->attached)
        return launch_find(domain->qmp_socket, domain->pidfile, ret_pid, ret_pidfd, err);
    r = qmp_peer(domain->qmp_socket, ret_pid, ret_pidfd, err);
    if (r == 0 && *ret_pid != domain->pid) {
        close(*ret_pidfd);
        r = error_set(err, ESRCH, "another process (%d) listens on %s", (int)*ret_pid,
                      domain->qmp_socket);
    }
    return r;
}

static void lost(struct domain *domain, const struct error *why)
{
    struct error err = ERROR_INIT;

    log_warning("domain %s: its QEMU has ended meanwhile: %s", domain->name, why->text);
    if (why->code == ESRCH) /* else somebody listens there */
        vm_remove_sockets(domain);
    domains_lock(domain->domains);
    domain->pid = 0;
    domain->crashed = true; /* how it ended is not known, so nobody may count on an orderly end */
    domain_set_state(domain, vm_state_after_end(domain));
    domains_unlock(domain->domains);
    if (domain_save(domain, &err) < 0)
        log_error("domain %s: %s", domain->name, err.text);
}

void vm_recover(struct domain *domain)
{
    struct error err = ERROR_INIT;
    int pidfd, r;
    pid_t pid;

    r = find_process(domain, &pid, &pidfd, &err);
    if (r == 0) {
        domains_lock(domain->domains);
        r = vm_adopt(domain, pid, pidfd, &err);
        domains_unlock(domain->domains);
    }
    if (r < 0) {
        lost(domain, &err);
        return;
    }
    if (!domain->moved_to && vm_connect(domain, &err) == 0)
        return;
    /* All that is known is that there is a QEMU of this guest. */
    domains_lock(domain->domains);
    domain_set_state(domain, domain->incoming ? DOMAIN_INCOMING : DOMAIN_RUNNING);
    domains_unlock(domain->domains);
    if (!domain->moved_to) {
        log_warning("%s; tried again when something is to be done with it", err.text);
        return;
    }
    log_warning("domain %s: lives at %s, so its QEMU here is ended", domain->name,
                domain->moved_to);
    if (vm_kill(domain, &err) < 0)
        log_error("%s", err.text);
    vm_settle(domain);
}
