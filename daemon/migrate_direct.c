/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Mode `direct` at the source: RAM and disks go from QEMU to QEMU, through two ports of the
 * destination, under QEMU's own TLS unless the operator has spelled out that they shall not.  The
 * session carries the calls alone.
 *
 * The connection for RAM is made here and handed to QEMU, and until QEMU has sent everything a
 * descriptor of it stays here.  When a path has gone silent it is shut down by that, before QMP is asked
 * for anything: QEMU may be waiting for it in its main loop.  QEMU makes the NBD connections itself, in
 * a thread in which a descriptor can't be had from QMP; it is told to tear them down (yank), which it
 * obeys even when QMP stands still.
 */
#include "config.h"

#include "daemon/direct_pki.h"
#include "daemon/migrate_job.h"
#include "common/log.h"
#include "io/net.h"
#include "io/tcp_wait.h"
#include "qemu/tls.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { QMP_TIMEOUT_MS = 10000 };

struct migrate_direct {
    int ram;                /* the connection for RAM; -1: none, or no longer */
    struct tcp_track track; /* of it */
};

int migrate_direct_subject(struct migrate_job *job, char ret[DIRECT_PKI_SUBJECT_MAX],
                           struct error *err)
{
    *ret = '\0';
    return job->choice.tls ? direct_pki_check(job->daemon->config->direct_pki_dir, ret, err) : 0;
}

int migrate_direct_aim(struct migrate_job *job, struct error *err)
{
    struct net_address peer;
    const char *tls_creds = job->choice.tls ? QEMU_TLS_CREDS : NULL;
    int r = net_parse_uri(job->args.destination, &peer, err);

    if (r < 0)
        return r;
    job->direct_host = strdup(peer.host);
    if (!job->direct_host)
        return error_set(err, ENOMEM, "no memory for the destination's address");
    if (!job->migration_port || (job->choice.carrier == CARRIER_NBD && !job->nbd_port))
        return error_set(err, EPROTO, "the destination names no ports for QEMU to connect to");
    for (size_t i = 0; i < job->mirror_count; i++) {
        job->mirrors[i].address =
            (struct qemu_address){.host = job->direct_host, .port = job->nbd_port};
        job->mirrors[i].tls_creds = tls_creds;
    }
    job->direct = calloc(1, sizeof *job->direct);
    if (!job->direct)
        return error_set(err, ENOMEM, "no memory for QEMU's connections");
    job->direct->ram = -1;
    return 0;
}

int migrate_direct_set_up(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait = migrate_wait_ms(job, QMP_TIMEOUT_MS);

    if (!job->choice.tls)
        return 0;
    return qemu_tls_client(job->qmp, job->daemon->config->direct_pki_dir, &wait, err);
}

/* ---- the connection for RAM ------------------------------------------------------------------ */

/* Connects within the time for which the guest may be held up. */
static int dial_ram(struct migrate_job *job, struct error *err)
{
    struct net_address address;
    int fd;

    snprintf(address.host, sizeof address.host, "%s", job->direct_host);
    snprintf(address.port, sizeof address.port, "%u", job->migration_port);
    fd = net_dial(&address, (int)migrate_stall_ms(job), job->abort_fd, err);
    if (fd == -ECANCELED)
        migrate_check(job, err); /* which says why */
    else if (fd == -ECONNREFUSED)
        error_set(err, ECONNREFUSED,
                  "can't connect to %s port %s for memory: Connection refused; does QEMU still run "
                  "there, and does its firewall admit that port?",
                  address.host, address.port);
    else if (fd < 0)
        error_prefix(err, "memory");
    else
        job->direct->ram = fd;
    return fd < 0 ? fd : 0;
}

int migrate_direct_start(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait;
    int r = dial_ram(job, err);

    if (r < 0)
        return r;
    job->migrating = true;
    job->moved = loop_clock();
    wait = migrate_wait_ms(job, QMP_TIMEOUT_MS);
    return migration_start_fd(job->qmp, job->direct->ram, &wait, err);
}

void migrate_direct_sent(struct migrate_job *job)
{
    if (!job->direct || job->direct->ram < 0)
        return;
    close(job->direct->ram);
    job->direct->ram = -1;
}

void migrate_direct_free(struct migrate_direct *direct)
{
    if (!direct)
        return;
    if (direct->ram >= 0)
        close(direct->ram);
    free(direct);
}

/* ---- when it is given up ---------------------------------------------------------------------- */

void migrate_direct_break(struct migrate_job *job)
{
    struct qmp_wait wait = qmp_wait_ms(QMP_TIMEOUT_MS);
    struct error err = ERROR_INIT;

    if (job->direct && job->direct->ram >= 0)
        shutdown(job->direct->ram, SHUT_RDWR);
    if (job->choice.mode == MODE_DIRECT && job->qmp && !qmp_closed(job->qmp) &&
        migration_yank(job->qmp, &wait, &err) < 0)
        log_info("migration %s out: %s", job->hex, err.text);
}

void migrate_direct_clear(struct migrate_job *job)
{
    struct qmp_wait wait = qmp_wait_ms(QMP_TIMEOUT_MS);
    struct error err = ERROR_INIT;
    int r = 0;

    migrate_direct_sent(job);
    if (job->choice.mode == MODE_DIRECT)
        r = migration_forget(job->qmp, &wait, &err);
    if (r == 0 && job->choice.tls)
        r = qemu_tls_remove(job->qmp, &wait, &err);
    if (r < 0)
        log_warning("migration %s out: %s", job->hex, err.text);
}

/* ---- waiting ---------------------------------------------------------------------------------- */

uint64_t migrate_direct_shakes(struct migrate_job *job)
{
    struct migrate_direct *direct = job->direct;
    const enum migration_state state = job->memory.state;
    struct tcp_waiting waiting;

    if (!direct || direct->ram < 0 || (state != MIGRATION_NONE && state != MIGRATION_SETUP) ||
        tcp_wait_look_fd(direct->ram, &direct->track, &waiting) < 0)
        return 0;
    return waiting.waiting;
}

/* ---- bandwidth -------------------------------------------------------------------------------- */

int migrate_direct_throttle(struct migrate_job *job, uint64_t bandwidth, struct error *err)
{
    struct qmp_wait wait = migrate_ask(job);
    int r = migration_set_bandwidth(job->qmp, bandwidth, &wait, err);

    for (size_t i = 0; r == 0 && i < job->mirror_count; i++) {
        struct block_mirror *mirror = &job->mirrors[i];

        mirror->bandwidth = bandwidth / job->mirror_count; /* also of one that is still to start */
        if (mirror->state == BLOCK_MIRROR_RUNNING || mirror->state == BLOCK_MIRROR_READY)
            r = block_mirror_set_bandwidth(job->qmp, mirror, mirror->bandwidth, &wait, err);
    }
    return migrate_answered(job, r);
}
