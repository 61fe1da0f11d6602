/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Images that no QEMU has open, served over NBD by a qemu-storage-daemon.
 *
 * It is nobody's child and outlives this daemon.  Like a QEMU it holds a lock on its pid file as long
 * as it lives, which is how it is found again: all that needs to be remembered of it is that name.
 */
#ifndef QEMU_STORAGE_H
#define QEMU_STORAGE_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>

struct storage_disk {
    const char *target; /* "vda": what its export is called */
    const char *path;   /* absolute */
    const char *format; /* "qcow2", "raw" */
};

struct storage {
    const char *socket_path; /* must not exist yet */
    const char *pidfile;
    bool writable; /* and what is written as zeroes takes no space; else nothing is ever changed */
    const struct storage_disk *disks;
    size_t n_disks;
};

/* Starts it and returns once it serves an export per disk, with the metadata contexts base:allocation
 * and qemu:allocation-depth.  Returns 0, or a negative errno with ERR, with
 * what the program itself said in it; no process is left then. */
int storage_start(const struct storage *storage, struct error *err);

/* Ends the one that holds PIDFILE, in good order if it can, and waits until it has gone.  One that is
 * only just being started fails, provided that the folder of its pid file is removed next.  Fine when
 * there is none.  Returns 0, or a negative errno with ERR: it is still there. */
int storage_stop(const char *pidfile, struct error *err);

#endif
