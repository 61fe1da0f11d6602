/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * QEMU's own part of a migration: RAM and device state through one connection, and who runs the
 * guest.  In the order in which they are used:
 *
 *     destination                              source
 *     migration_prepare()
 *     block_exports_start(), block_export_add()
 *     migration_incoming()
 *                                              migration_prepare()
 *                                              block_mirror_start() ..., block_mirrors_wait_ready()
 *                                              migration_start()
 *                                              migration_wait(MIGRATION_PRE_SWITCHOVER)
 *                                              block_mirrors_complete()
 *                                              migration_continue()
 *                                              migration_wait(MIGRATION_COMPLETED)
 *     migration_wait(MIGRATION_COMPLETED)
 *     block_exports_stop()
 *     migration_resume_here()
 *                                              (QEMU is ended)
 *
 * or, at the source after any failure: close(2) our ends of all channels, after
 * migration_continue() also migration_wait_end() for some seconds, then migration_cancel(),
 * block_mirrors_remove(), and migration_resume_source() if the guest ran before.  QEMU resumes the
 * guest by itself after "failed" and "cancelled"; only "completed" stays stopped.
 *
 * All functions block their caller until QEMU has answered; they return 0, or a negative errno with
 * ERR set, among them those of qmp_execute() and what WAIT's check said.
 */
#ifndef QEMU_MIGRATION_H
#define QEMU_MIGRATION_H

#include "qemu/address.h"
#include "qemu/qmp.h"

/* QEMU's MigrationStatus, as query-migrate says it. */
enum migration_state {
    MIGRATION_NONE,
    MIGRATION_SETUP,
    MIGRATION_ACTIVE,
    MIGRATION_PRE_SWITCHOVER, /* the guest stands still; everything waits for us */
    MIGRATION_DEVICE,         /* the rest goes out; QMP may stand still until it has been read */
    MIGRATION_COMPLETED,
    MIGRATION_FAILED,
    MIGRATION_CANCELLING,
    MIGRATION_CANCELLED,
    MIGRATION_OTHER, /* post-copy and what later QEMUs bring */
};

struct migration_info {
    enum migration_state state;
    char status[40];                                    /* QEMU's word for it */
    char error[256];                                    /* "" or QEMU's reason for "failed" */
    uint64_t ram_total, ram_transferred, ram_remaining; /* bytes */
    /* bytes; of all disks that go along in the stream together; 0: none do, or no longer */
    uint64_t disk_total, disk_transferred;
    uint64_t dirty_rate;            /* bytes per second */
    uint64_t total_ms, downtime_ms; /* as QEMU measured; 0: not known yet, see
                                                         * migration_wait_postmigrate() */
};

/* How a migration is to go. */
#define MIGRATION_DOWNTIME_MS 300 /* QEMU's default */

struct migration_setup {
    bool source;        /* it pauses before the switch-over, and the bandwidth has no limit; else
                           * the destination, which needs no more than TLS, block and zero_blocks */
    bool return_path;   /* source: `completed` says that the destination has loaded everything; the
                           * connection must go both ways */
    bool auto_converge; /* source: slows the guest down when it writes faster than is copied */
    unsigned downtime_ms; /* source: that the rest of RAM may take; 0: QEMU's default */
    /* Disks in the stream itself, where this QEMU has the capability `block`.  While parts of a disk
     * were never sent QEMU counts but those that the guest has written to meanwhile: if they can be
     * sent within the downtime it switches over, and the disk has zeroes for the rest (seen with
     * 7.2.22).  So the downtime is 0 then: QEMU switches over when nothing is left to be sent, which
     * is soon the case after migration_pause_guest(). */
    bool block;
    bool zero_blocks;       /* zeroes are named, not sent */
    bool block_incremental; /* source: without what is in backing files */
    /* QEMU's own TLS: ids of objects (qemu/tls.h); NULL: none. */
    const char *tls_creds;
    const char *tls_hostname; /* source: name that the certificate must have; NULL: as dialled */
    const char *tls_authz;    /* destination: whose certificate is let in */
};

/* Sets SETUP and what every migration of ours needs (events, late-block-activate), and nothing else:
 * whatever an earlier attempt has set is set back.  -ENOTSUP when this QEMU can't. */
int migration_prepare(struct qmp *qmp, const struct migration_setup *setup,
                      const struct qmp_wait *wait, struct error *err);
/* Bytes per second for RAM, and for disks that go along in the stream, 0: no limit; in flight too.
 * That is a high one for QEMU, to which a limit of 0 means to send no disk at all. */
#define MIGRATION_NO_LIMIT (UINT64_C(1) << 40)
int migration_set_bandwidth(struct qmp *qmp, uint64_t bandwidth, const struct qmp_wait *wait,
                            struct error *err);

/* Destination: listens at ADDRESS; a UNIX socket exists on return.  With TLS QEMU's main loop waits for
 * each caller to shake hands, for as long as that one says nothing (seen with 7.2.22 and 10.0.13). */
int migration_incoming(struct qmp *qmp, const struct qemu_address *address,
                       const struct qmp_wait *wait, struct error *err);
/* Destination: takes the connected socket FD, of which QEMU gets a duplicate, for the source's; there
 * is no second one.  FD stays the caller's and is made non-blocking: QEMU's main loop goes on while
 * hands are shaken. */
int migration_incoming_fd(struct qmp *qmp, int fd, const struct qmp_wait *wait, struct error *err);
/* Source: connects to ADDRESS and starts. */
int migration_start(struct qmp *qmp, const struct qemu_address *address,
                    const struct qmp_wait *wait, struct error *err);

/* Source: starts over the connected socket FD, which QEMU gets a duplicate of; with TLS, SETUP has to
 * name tls_hostname.  FD stays the caller's, and the means to end the connection whatever QEMU is
 * doing: shutdown(2) on it, which a QEMU that waits for the other end hears where it doesn't hear QMP.
 * FD is made non-blocking, so that QEMU's main loop goes on while hands are shaken. */
int migration_start_fd(struct qmp *qmp, int fd, const struct qmp_wait *wait, struct error *err);
/* Source: takes back what of that may be left in QEMU: FD's duplicate, if `migrate` never used it, and
 * what SETUP said about TLS. */
int migration_forget(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);

/* Source: has the guest stand still while its disks and its memory are copied, so that the copies can
 * catch up.  It then arrives paused; whether it runs there is the destination's to say.  Nothing is
 * sent once it stands, also when QEMU has stopped it by itself for the switch-over. */
int migration_pause_guest(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);

int migration_query(struct qmp *qmp, struct migration_info *ret, const struct qmp_wait *wait,
                    struct error *err);
/* Waits until STATE is reached.  -EIO with QEMU's reason when the migration failed, -ECANCELED when
 * it was cancelled.  -ENOTCONN at the destination: QEMU ends when incoming fails, and its reason is
 * in the log (launch_last_words()).  RET may be NULL; also set on an error. */
int migration_wait(struct qmp *qmp, enum migration_state state, struct migration_info *ret,
                   const struct qmp_wait *wait, struct error *err);

/* Source, after MIGRATION_COMPLETED: waits until QEMU has done with it; only then are RET's times
 * final.  Nothing to spend downtime on: call it when the guest runs again. */
int migration_wait_postmigrate(struct qmp *qmp, struct migration_info *ret,
                               const struct qmp_wait *wait, struct error *err);

/* From MIGRATION_PRE_SWITCHOVER on.  -ETIMEDOUT doesn't mean that QEMU hasn't begun: on a silent path
 * it may send the rest, and stand still over it, before it answers. */
int migration_continue(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);

/* Source, after migrate-continue was sent and our end of the migration's socket was closed: waits
 * until QEMU has noticed and ended the migration by itself.  migration_cancel() in that moment may
 * cost the guest: QEMU 7.2 lets it run with its disks inactive, and its next write is an assertion
 * (BDRV_O_INACTIVE) that ends QEMU.  Returns as migration_cancel(), or -ETIMEDOUT. */
int migration_wait_end(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);

/* Source: ends the migration whatever state it is in, and waits until it has ended.  Returns 0 when
 * none runs any more: it was cancelled, failed, or there was none; -EALREADY when it has completed;
 * -ENOTSUP in post-copy, which can't be cancelled (nothing is sent then). */
int migration_cancel(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);

/* Source: tears down the connections of the migration and of our mirrors, as they are, which frees
 * whatever waits for them.  Answered even while QMP stands still; for connections that are not ours
 * to close: -ENOSYS where QEMU can't. */
int migration_yank(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);

/* Destination: starts the guest here.  Refused, with nothing sent (-EPERM), unless incoming is
 * complete and no disk is exported: block_exports_stop() comes first. */
int migration_resume_here(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);
/* Source: lets the guest run on, once its migration has ended one way or the other; waits for
 * run state "postmigrate" after "completed".  Fine when it runs already.  -EPERM, nothing sent,
 * while a migration is in progress. */
int migration_resume_source(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);

#endif
