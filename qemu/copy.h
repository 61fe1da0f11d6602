/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Copying disks that nobody writes to, from one NBD server to another, and making sure that they are
 * alike.
 *
 * What the destination already has in a range is compared first and carried only if it differs, so a
 * copy that broke off goes on where it was.  What reads as zeroes at the source is not carried, and
 * takes no space at the destination.  After a range was copied it is read again on both sides and its
 * SHA-256 compared; ranges that neither side has anything in need no look.
 */
#ifndef QEMU_COPY_H
#define QEMU_COPY_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COPY_DIGEST_SIZE 32

/* Asked again and again by whatever waits: is there still a reason to?  Returns 0, or a negative errno
 * with ERR.  Any thread; may not block.  NULL: there always is. */
typedef int copy_check(void *opaque, struct error *err);

struct copy_disk {
    /* Set by the caller. */
    const char *target;        /* names the disk in sentences, and the export on both sides */
    const char *source_socket; /* UNIX sockets of NBD servers */
    const char *destination_socket;
    uint64_t size; /* that both exports must have */
    bool top; /* only what the image's top layer holds; the same backing file is at both sides */
    /* Written by copy_disks(), for its caller's thread. */
    uint64_t total;   /* bytes that the source holds */
    uint64_t done;    /* of these: are at the destination; never shrinks */
    uint64_t carried; /* bytes that were written there */
};

struct copy_handlers {
    copy_check *check;
    /* SHA-256 of what the destination has in a range of TARGET, as copy_digest() makes it.  Any
     * thread, several at a time. */
    int (*digest)(void *opaque, const char *target, uint64_t offset, uint64_t length,
                  uint8_t ret[COPY_DIGEST_SIZE], struct error *err);
    /* Called twice a second on the caller's thread, with the disks' figures brought up to date. */
    void (*progress)(void *opaque);
    void *opaque;
};

/* Copies all of DISKS, several at a time and over several connections each; what was written is on
 * disk (NBD flush) when it returns 0.  Else a negative errno with ERR, which names disk and side;
 * -EILSEQ when a copy is not like its original.  It ends within a fraction of a second after the
 * check says so, whatever the servers do.  Blocks. */
int copy_disks(struct copy_disk *disks, size_t count, const struct copy_handlers *handlers,
               struct error *err);

/* SHA-256 of what export TARGET at SOCKET_PATH has in a range; holes are not read.  Returns 0, or a
 * negative errno with ERR: -EINVAL when the range is empty or not within the disk.  Blocks. */
int copy_digest(const char *socket_path, const char *target, uint64_t offset, uint64_t length,
                copy_check *check, void *opaque, uint8_t ret[COPY_DIGEST_SIZE], struct error *err);

#endif
