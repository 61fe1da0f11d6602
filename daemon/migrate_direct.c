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
 *
 * What waits in these connections nobody tells.  So the kernel is asked when something last came, and
 * QEMU which of its copies don't come on (see struct migrate_direct).
 */
#include "config.h"

#include "daemon/direct_pki.h"
#include "daemon/migrate_job.h"
#include "common/checked.h"
#include "common/log.h"
#include "io/net.h"
#include "io/tcp_wait.h"
#include "qemu/tls.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
    QMP_TIMEOUT_MS = 10000,
    LOOK_MS = 250, /* between two looks at the connections */
};

/* A copy, when it last came on. */
struct stage {
    uint64_t done, total; /* bytes */
    uint64_t since;       /* loop_clock(); 0: it has nothing to do */
};

/*
 * A write that goes unanswered shows in its connection, where the last data was sent and not received;
 * but not if it was sent within the jiffy of the answer before it.  Then the copy shows it, which has
 * something left and doesn't come on, while nothing moves in its connection; or QEMU does, which leaves
 * a question open.
 */
struct migrate_direct {
    int ram;                 /* the connection for RAM; -1: none, or no longer */
    struct tcp_track track;  /* of it */
    struct tcp_wait *nbd;    /* the connections for disks; NULL: none, or they can't be seen */
    struct tcp_waiting seen; /* of them, at the last look */
    uint64_t next_look;      /* loop_clock() */
    struct stage stages[];   /* one per mirror */
};

int migrate_direct_subject(struct migrate_job *job, char ret[DIRECT_PKI_SUBJECT_MAX],
                           struct error *err)
{
    *ret = '\0';
    return job->choice.tls ? direct_pki_check(job->daemon->config->direct_pki_dir, ret, err) : 0;
}

/* That connections can't be seen is no reason to fail: the session's silence is what is left then. */
static int prepare_watch(struct migrate_job *job, struct error *err)
{
    struct migrate_direct *direct =
        calloc(1, sizeof *direct + job->mirror_count * sizeof direct->stages[0]);
    struct error unseen = ERROR_INIT;

    job->direct = direct;
    if (!direct)
        return error_set(err, ENOMEM, "no memory for QEMU's connections");
    direct->ram = -1;
    if (!job->mirror_count)
        return 0;
    direct->nbd = tcp_wait_new(job->direct_host, job->nbd_port, job->mirror_count, &unseen);
    if (!direct->nbd)
        log_warning("migration %s out: %s", job->hex, unseen.text);
    return 0;
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
    return prepare_watch(job, err);
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

/* The daemon there tells us by it from anybody else who calls.  It is the first that is sent, so there
 * is room for it. */
static int show_id(struct migrate_job *job, struct error *err)
{
    ssize_t n;

    if (!job->direct_id)
        return 0;
    n = send(job->direct->ram, job->id, sizeof job->id, MSG_NOSIGNAL);
    if (n == (ssize_t)sizeof job->id)
        return 0;
    return error_set_errno(err, n < 0 ? errno : EIO, "can't send anything to %s port %u for memory",
                           job->direct_host, job->migration_port);
}

int migrate_direct_start(struct migrate_job *job, struct error *err)
{
    struct qmp_wait wait;
    int r = dial_ram(job, err);

    if (r == 0)
        r = show_id(job, err);
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
    tcp_wait_free(direct->nbd);
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

/* ns for which a copy that could come on, and isn't slowed down, didn't; the longest. */
static uint64_t copies_stand(struct migrate_job *job)
{
    const uint64_t now = loop_clock();
    uint64_t longest = 0;

    for (size_t i = 0; i < job->mirror_count; i++) {
        const struct block_mirror *mirror = &job->mirrors[i];
        struct stage *stage = &job->direct->stages[i];
        const bool busy = mirror->done < mirror->total &&
                          (mirror->state == BLOCK_MIRROR_READY ||
                           (mirror->state == BLOCK_MIRROR_RUNNING && !mirror->bandwidth));

        if (!busy)
            stage->since = 0;
        else if (!stage->since || mirror->done != stage->done || mirror->total != stage->total)
            *stage = (struct stage){.done = mirror->done, .total = mirror->total, .since = now};
        else
            longest = max_u64(longest, now - stage->since);
    }
    return longest;
}

static uint64_t session_is_silent(struct migrate_job *job)
{
    struct pump_stats stats;

    pump_get_stats(job->pump, NULL, &stats);
    return stats.silent;
}

uint64_t migrate_direct_waits(struct migrate_job *job)
{
    struct migrate_direct *direct = job->direct;
    const uint64_t asked = job->asked ? loop_clock() - job->asked : 0;
    const uint64_t stand = copies_stand(job);
    const struct tcp_waiting *seen = &direct->seen;

    if (direct->nbd && loop_clock() >= direct->next_look) {
        direct->next_look = loop_clock() + LOOK_MS * LOOP_MS;
        if (tcp_wait_look(direct->nbd, &direct->seen) < 0)
            direct->seen.connections = 0;
    }
    if (!seen->connections) /* QEMU's may be those of another network namespace */
        return max_u64(session_is_silent(job), asked);
    return max_u64(max_u64(seen->waiting, min_u64(seen->still, stand)),
                   min_u64(seen->quiet, asked));
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
