/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A guest's disks as QEMU sees them: the list of drives, NBD exports at the destination, mirrors
 * at the source.
 *
 * All functions block their caller until QEMU has answered; they return 0, or a negative errno with
 * ERR set, among them those of qmp_execute() and what WAIT's check said.
 */
#ifndef QEMU_BLOCK_H
#define QEMU_BLOCK_H

#include "qemu/address.h"
#include "qemu/qmp.h"

#include <stddef.h>

/* --- drives --- */

struct block_drive {
    char *name;     /* node name if the operator gave one, else the drive's alias, else the node's
                     * generated name ("#block123"): never empty but for an empty, nameless drive */
    char *device;   /* the drive's alias ("virtio0", "drive-vda"); "" when started by -blockdev */
    char *node;     /* node-name; "" when empty */
    char *qdev;     /* path of the guest's device; "" when none */
    char *format;   /* "qcow2", "raw"; "" when empty */
    char *filename; /* of the image, below all filters; "" when empty */
    bool inserted;  /* false: an empty drive */
    bool readonly;
    uint64_t size; /* what the guest sees, bytes */
};

/* Lists the drives that a guest's device uses (query-block), in QEMU's order.  RET is an array for
 * block_drives_free(). */
int block_drives_query(struct qmp *qmp, struct block_drive **ret, size_t *ret_count,
                       const struct qmp_wait *wait, struct error *err);
void block_drives_free(struct block_drive *drives, size_t count);

/* -EBUSY, naming the job, while a block job of somebody's runs.  QEMU doesn't tell which drive it
 * works on, so any will do. */
int block_check_no_jobs(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);

/* Has the guest's discards of a disk that launch.h started obeyed (or ignored) from now on.  Not
 * while NODE is exported. */
int block_set_discard(struct qmp *qmp, const char *target, bool discard,
                      const struct qmp_wait *wait, struct error *err);

/* --- exports (destination) --- */

/* nbd-server-start; a UNIX socket must not exist yet.  TLS_CREDS and TLS_AUTHZ are ids of objects
 * (qemu/tls.h), or NULL: without TLS, and whoever has a certificate of the CA. */
int block_exports_start(struct qmp *qmp, const struct qemu_address *address, const char *tls_creds,
                        const char *tls_authz, const struct qmp_wait *wait, struct error *err);
/* A writable export of NODE, called NAME. */
int block_export_add(struct qmp *qmp, const char *node, const char *name,
                     const struct qmp_wait *wait, struct error *err);
/* nbd-server-stop, and waits until the last export has gone.  Fine when there is no server. */
int block_exports_stop(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);

/* Asks the NBD server itself (libnbd), which must be one at a UNIX socket: -EINVAL, naming both
 * sizes, when export NAME doesn't have exactly SIZE bytes or can't be written to. */
int block_export_check(const char *socket_path, const char *name, uint64_t size,
                       unsigned timeout_ms, struct error *err);

/* --- mirrors (source) --- */

#define BLOCK_MIRROR_NODE "bistream-nbd-" /* begins the name of each mirror's NBD node */

enum block_mirror_state {
    BLOCK_MIRROR_NONE,    /* no such job: not started, or dismissed */
    BLOCK_MIRROR_RUNNING, /* copies */
    BLOCK_MIRROR_READY,   /* both sides are alike but for what the guest has just written */
    BLOCK_MIRROR_DONE,    /* concluded without error: the copy is complete */
    BLOCK_MIRROR_FAILED,  /* concluded with an error, or cancelled */
};

struct block_mirror {
    /* Set by the caller. */
    unsigned number;    /* among the mirrors of this guest: names the job and the NBD node */
    const char *target; /* for sentences */
    const char *device; /* alias or node name, as block_drive.name */
    struct qemu_address address; /* of the NBD server */
    const char *tls_creds;       /* id of an object (qemu/tls.h); NULL: no TLS */
    const char *tls_hostname;    /* name that its certificate must have; NULL: as dialled */
    const char *export_name;
    bool top;            /* only the top layer (sync=top); else everything */
    bool write_blocking; /* the guest's writes wait for the copy (copy-mode=write-blocking) */
    uint64_t bandwidth;  /* bytes per second; 0: no limit */
    /* Written by block_mirrors_query() and the functions that wait. */
    enum block_mirror_state state;
    uint64_t done, total; /* bytes */
    char error[256];      /* why it failed, QEMU's words; else "" */
};

/* Connects to the export (blockdev-add) and starts the mirror. */
int block_mirror_start(struct qmp *qmp, const struct block_mirror *mirror,
                       const struct qmp_wait *wait, struct error *err);
/* Updates state, progress and error of all. */
int block_mirrors_query(struct qmp *qmp, struct block_mirror *mirrors, size_t count,
                        const struct qmp_wait *wait, struct error *err);
/* Waits until every mirror is ready.  -EIO, naming target and reason, when one fails. */
int block_mirrors_wait_ready(struct qmp *qmp, struct block_mirror *mirrors, size_t count,
                             const struct qmp_wait *wait, struct error *err);
/* -EIO when a mirror has failed, as MIRRORS were last seen. */
int block_mirrors_check(const struct block_mirror *mirrors, size_t count, struct error *err);
/* Only while the guest stands still (pre-switchover): completes all of them, waits until each has
 * concluded without error, and removes jobs and NBD nodes.  On an error nothing is removed. */
int block_mirrors_complete(struct qmp *qmp, struct block_mirror *mirrors, size_t count,
                           const struct qmp_wait *wait, struct error *err);
/* Removes every mirror job and NBD node of ours from this QEMU, whatever state it is in; the copies
 * are worth nothing afterwards.  Fine when there are none.  If the peer may be silent, our ends of
 * the NBD sockets must have been closed before, and while a migration runs migration_cancel() comes
 * first.  With write_blocking the guest must stand still, or QEMU may crash. */
int block_mirrors_remove(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);
int block_mirror_set_bandwidth(struct qmp *qmp, const struct block_mirror *mirror,
                               uint64_t bandwidth, const struct qmp_wait *wait, struct error *err);

#endif
