/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The steps of a migration that tests have in common; each expects to succeed.
 */
#ifndef TESTS_QEMU_MIGRATING_H
#define TESTS_QEMU_MIGRATING_H

#include "tests/qemu/vm.h"

/* Capabilities, and mirrors at BANDWIDTH bytes per second (0: no limit) towards DESTINATION. */
void migrating_start(struct vm *source, const struct vm *destination,
                     struct block_mirror mirrors[VM_DISKS], uint64_t bandwidth);
/* The same, and waits until they are ready. */
void migrating_until_ready(struct vm *source, const struct vm *destination,
                           struct block_mirror mirrors[VM_DISKS]);
/* From ready mirrors to pre-switchover. */
void migrating_until_pre_switchover(struct vm *source, const struct vm *destination);
/* From there until both sides say that it is completed. */
void migrating_until_completed(struct vm *source, struct vm *destination,
                               struct block_mirror mirrors[VM_DISKS]);
/* The destination runs the guest, and the source ends. */
void migrating_finish(struct vm *source, struct vm *destination);

/* Two QEMUs and what is going on between them. */
struct migrating {
    struct bench *bench;
    struct vm *source, *destination; /* the guest writes; exports and incoming are there */
    struct block_mirror mirrors[VM_DISKS];
};

struct migrating migrating_pair(struct bench *bench);

/* What the daemon does at the source after any failure.  Afterwards the guest must run there and
 * write to its disks, nothing of ours may be left in its QEMU, and a migration to a fresh
 * destination must lose no write. */
void migrating_roll_back(struct migrating *pair);

#endif
