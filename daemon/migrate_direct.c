/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Mode `direct` at the source: RAM and disks go from QEMU to QEMU, through two ports of the
 * destination, under QEMU's own TLS unless the operator has spelled out that they shall not.  The
 * session carries the calls alone.
 *
 * The connections are QEMU's own, so they can't be closed from here when a path has gone silent;
 * QEMU is told to tear them down (yank), which it obeys even when QMP stands still.
 */
#include "config.h"

#include "daemon/direct_pki.h"
#include "daemon/migrate_job.h"
#include "common/log.h"
#include "io/net.h"
#include "qemu/tls.h"

#include <errno.h>
#include <string.h>

enum { QMP_TIMEOUT_MS = 10000 };

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
    job->ram_address = (struct qemu_address){.host = job->direct_host, .port = job->migration_port};
    for (size_t i = 0; i < job->mirror_count; i++) {
        job->mirrors[i].address =
            (struct qemu_address){.host = job->direct_host, .port = job->nbd_port};
        job->mirrors[i].tls_creds = tls_creds;
    }
    return 0;
}

int migrate_direct_set_up(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait = migrate_wait_ms(job, QMP_TIMEOUT_MS);

    if (!job->choice.tls)
        return 0;
    return qemu_tls_client(job->qmp, job->daemon->config->direct_pki_dir, &wait, err);
}

void migrate_direct_break(struct migrate_job *job)
{
    struct qmp_wait wait = qmp_wait_ms(QMP_TIMEOUT_MS);
    struct error err = ERROR_INIT;

    if (job->choice.mode == MODE_DIRECT && job->qmp && !qmp_closed(job->qmp) &&
        migration_yank(job->qmp, &wait, &err) < 0)
        log_info("migration %s out: %s", job->hex, err.text);
}

void migrate_direct_clear(struct migrate_job *job)
{
    struct qmp_wait wait = qmp_wait_ms(QMP_TIMEOUT_MS);
    struct error err = ERROR_INIT;

    if (job->choice.tls && qemu_tls_remove(job->qmp, &wait, &err) < 0)
        log_warning("migration %s out: %s", job->hex, err.text);
}

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
