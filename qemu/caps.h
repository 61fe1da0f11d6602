/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What a QEMU can do: asked (query-qmp-schema, query-migrate-capabilities), never derived from
 * its version.
 */
#ifndef QEMU_CAPS_H
#define QEMU_CAPS_H

#include "qemu/qmp.h"

struct qemu_caps {
    unsigned major, minor, micro; /* for people only */
    /* Migration capabilities. */
    bool events, return_path, pause_before_switchover, late_block_activate;
    bool block, zero_blocks; /* QEMU's own disk migration, gone since 9.1 */
    bool validate_uuid, auto_converge, postcopy_ram, multifd, dirty_bitmaps;
    /* Commands and arguments. */
    bool nbd_server_start, block_export_add, blockdev_mirror, blockdev_reopen, yank;
    bool mirror_copy_mode; /* blockdev-mirror copy-mode: synchronous writes */
};

/* Asks.  Returns 0, or a negative errno with ERR set. */
int qemu_caps_query(struct qmp *qmp, struct qemu_caps *ret, const struct qmp_wait *wait,
                    struct error *err);

/* The same of the QEMU that BINARY starts (a path, or looked for in PATH); its sockets and files are
 * in FOLDER for a moment, which must exist. */
int qemu_caps_of_binary(struct qmp_thread *thread, const char *binary, const char *folder,
                        struct qemu_caps *ret, const struct qmp_wait *wait, struct error *err);

/* Can it mirror disks, and export them for a mirror? */
bool qemu_caps_nbd(const struct qemu_caps *caps);
/* Can it be the source or the destination of a migration?  RETURN_PATH: of one whose stream goes
 * both ways; NBD: whose disks are mirrored.  Returns 0, or -ENOTSUP with ERR naming the first thing
 * that it lacks. */
int qemu_caps_require(const struct qemu_caps *caps, bool return_path, bool nbd, struct error *err);

#endif
