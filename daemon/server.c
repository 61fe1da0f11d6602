/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The running daemon: see server.h.
 *
 * Start: folders, lock, certificates, then each part, and the two sockets last, so that whoever is
 * let in finds everything there.
 *
 * Stop: nobody is let in and no call begins any more; every waiting for a peer ends; then what runs
 * is brought to an end in the order in which one part uses another.  Clients stay connected until
 * the last of them has been told how its forward or migration ended.  Further signals change
 * nothing: they stay blocked, and each wait has its bound.
 */
#include "config.h"

#include "daemon/server.h"
#include "daemon/control.h"
#include "daemon/domain.h"
#include "daemon/forward.h"
#include "daemon/host.h"
#include "daemon/incoming.h"
#include "daemon/instance.h"
#include "daemon/job_history.h"
#include "daemon/journal.h"
#include "daemon/migrate.h"
#include "daemon/peer.h"
#include "daemon/ports.h"
#include "daemon/services.h"
#include "daemon/systemd.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "io/net.h"
#include "qemu/qmp.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

struct server {
    struct daemon daemon;
    const struct config *config;
    int lock, signals;
    int listen, control; /* until their parts take them over */
    bool own_control;    /* the control socket's file is ours to remove */
    struct loop_fd *signal_watch;
};

/* ---- signals -------------------------------------------------------------------------------- */

static void on_signal(void *opaque, uint32_t events)
{
    struct server *server = opaque;
    struct signalfd_siginfo info;

    (void)events;
    if (read(server->signals, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGHUP) {
        log_info("SIGHUP: nothing is read again; restart bistreamd for a new configuration, guests "
                 "run on meanwhile");
        return;
    }
    log_info("%s from pid %u: stopping", info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM",
             info.ssi_pid);
    systemd_stopping();
    loop_stop(server->daemon.loop);
}

static int watch_signals(struct server *server, struct error *err)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    server->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (server->signals >= 0)
        server->signal_watch =
            loop_fd_add(server->daemon.loop, server->signals, EPOLLIN, on_signal, server);
    return server->signal_watch ? 0 : error_set_errno(err, errno, "can't watch for signals");
}

/* ---- sockets -------------------------------------------------------------------------------- */

static int give_to_group(const char *path, const char *name, struct error *err)
{
    const struct group *group = getgrnam(name);

    if (!group)
        return error_set(err, ENOENT, "the control socket's group %s is gone", name);
    if (chown(path, (uid_t)-1, group->gr_gid) < 0)
        return error_set_errno(err, errno, "can't give the control socket %s to the group %s", path,
                               name);
    return 0;
}

/* Those of systemd, or sockets of our own. */
static int open_sockets(struct server *server, struct error *err)
{
    const struct config *config = server->config;
    struct net_address address;
    int r;

    r = systemd_take_sockets(&server->listen, &server->control, err);
    if (r < 0)
        return r;
    if (server->listen < 0) {
        r = net_parse_listen(config->listen, &address, err);
        if (r == 0)
            r = server->listen = net_listen(&address, err);
        if (r < 0)
            return r;
    }
    if (server->control >= 0)
        return 0;
    server->control = net_listen_unix(config->control_socket, 0660, err);
    if (server->control < 0)
        return server->control;
    server->own_control = true;
    return config->control_group ? give_to_group(config->control_socket, config->control_group, err)
                                 : 0;
}

/* ---- start ---------------------------------------------------------------------------------- */

static int prepare(struct server *server, struct error *err)
{
    struct daemon *daemon = &server->daemon;
    int r;

    r = instance_make_folders(server->config, err);
    if (r < 0)
        return r;
    server->lock = instance_lock(server->config, err);
    if (server->lock < 0)
        return server->lock;
    instance_remove_port(server->config);
    daemon->tls = tls_context_new(server->config->pki_dir, err);
    if (!daemon->tls)
        return -err->code;
    if (gethostname(daemon->hostname, sizeof daemon->hostname - 1) < 0)
        return error_set_errno(err, errno, "can't learn this host's name");
    daemon->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    daemon->loop = loop_new();
    if (daemon->stop_fd < 0 || !daemon->loop)
        return error_set_errno(err, errno ? errno : ENOMEM, "can't start");
    return watch_signals(server, err);
}

static int start_parts(struct server *server, struct error *err)
{
    const struct rpc_program *program = services_program(server->config);
    struct daemon *daemon = &server->daemon;
    int r;

    daemon->forwards = forwards_new(daemon);
    daemon->incoming = incoming_new();
    daemon->jobs = migrate_jobs_new(daemon);
    daemon->ports = ports_new(server->config->direct_first, server->config->direct_last);
    daemon->history = job_history_open(server->config->state_dir);
    if (!daemon->forwards || !daemon->incoming || !daemon->jobs || !daemon->ports ||
        !daemon->history)
        return error_set(err, ENOMEM, "can't start: memory is short");
    daemon->qmp = qmp_thread_new(err);
    if (!daemon->qmp)
        return -err->code;
    host_ask_qemu(daemon);
    daemon->domains = domains_new(server->config, daemon->loop, daemon->qmp, err);
    if (!daemon->domains)
        return -err->code;
    daemon->journal = journal_open(server->config->state_dir, err);
    if (!daemon->journal || incoming_recover(daemon, err) < 0 ||
        migrate_jobs_recover(daemon, err) < 0)
        return -err->code;
    r = open_sockets(server, err);
    if (r < 0)
        return r;
    r = net_local_port(server->listen);
    daemon->peers = peers_start(daemon, take_fd(&server->listen), program, err);
    if (!daemon->peers)
        return -err->code;
    daemon->control = control_start(daemon, take_fd(&server->control), program, err);
    if (!daemon->control)
        return -err->code;
    log_info("bistreamd %s: peers on port %d, clients on %s, QEMU %s", PACKAGE_VERSION, r,
             server->config->control_socket, daemon->qemu_version);
    return instance_write_port(server->config, r, err);
}

/* ---- stop ----------------------------------------------------------------------------------- */

static void stop_parts(struct daemon *daemon)
{
    eventfd_write(daemon->stop_fd, 1);
    if (daemon->domains)
        domains_stop(daemon->domains);
    if (daemon->control)
        control_quiesce(daemon->control);
    if (daemon->jobs)
        migrate_jobs_stop(daemon->jobs);
    if (daemon->forwards)
        forwards_stop(daemon->forwards);
    if (daemon->peers)
        peers_stop(daemon->peers);
    control_free(daemon->control);
    peers_free(daemon->peers);
    incoming_free(daemon->incoming);
    ports_free(daemon->ports);
    migrate_jobs_free(daemon->jobs);
    job_history_free(daemon->history);
    forwards_free(daemon->forwards);
    domains_free(daemon->domains);
    qmp_thread_free(daemon->qmp);
}

static void release(struct server *server)
{
    struct daemon *daemon = &server->daemon;

    if (server->own_control)
        unlink(server->config->control_socket);
    if (server->lock >= 0)
        instance_remove_port(server->config);
    loop_fd_remove(server->signal_watch);
    loop_free(daemon->loop);
    tls_context_free(daemon->tls);
    free(daemon->journal);
    cleanup_close(&daemon->stop_fd);
    cleanup_close(&server->listen);
    cleanup_close(&server->control);
    cleanup_close(&server->signals);
    cleanup_close(&server->lock);
}

int server_run(const struct config *config, struct error *err)
{
    struct server server = {
        .config = config, .lock = -1, .signals = -1, .listen = -1, .control = -1};
    int r;

    server.daemon.config = config;
    server.daemon.stop_fd = -1;
    r = prepare(&server, err);
    if (r == 0)
        r = start_parts(&server, err);
    if (r == 0) {
        systemd_ready();
        r = loop_run(server.daemon.loop);
        if (r < 0)
            error_set_errno(err, -r, "the main loop can't wait for events");
    }
    stop_parts(&server.daemon);
    if (r == 0)
        log_info("bistreamd: stopped");
    release(&server);
    return r;
}
