/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * One connection to an NBD export, shared by
 *
 *     copy.c         the ranges of all disks, and the threads that take them
 *     copy_range.c   one range: read, write, zero
 *     copy_digest.c  the SHA-256 of one range
 *     copy_link.c    the connection: nothing in libnbd that blocks is used, so that all waits are here
 *
 * and what an export says of its disk, block by block.
 */
#ifndef QEMU_COPY_LINK_H
#define QEMU_COPY_LINK_H

#include "qemu/copy.h"

#include <libnbd.h>

enum {
    COPY_BLOCK = 4096,      /* what a disk is divided into when it is looked at closely */
    COPY_PIECE = 128 << 10, /* bytes of one request */
    COPY_IN_FLIGHT = 16,    /* requests, per connection */
    COPY_RANGE = 16 << 20,  /* what is compared, copied and verified in one go */
};

struct copy_link {
    struct nbd_handle *nbd; /* NULL: not open */
    const char *target;
    const char *side; /* "at the source", for sentences; "" */
    copy_check *check;
    void *opaque;
};

/* Connects LINK, whose other fields are set.  Returns 0, or a negative errno with ERR. */
int copy_link_open(struct copy_link *link, const char *socket_path, struct error *err);
void copy_link_close(struct copy_link *link); /* harmless when it isn't open */
/* -EINVAL with ERR when the disk doesn't have exactly SIZE bytes. */
int copy_link_check_size(const struct copy_link *link, uint64_t size, struct error *err);

/* Moves the requests of LINKS on, as far as they go within a tick; their callbacks are called from
 * here.  Returns 0, or a negative errno with ERR: of the check, or because a server has hung up. */
int copy_links_wait(struct copy_link *const links[], size_t count, struct error *err);
/* What a request that was to WHAT ("be read") has failed with. */
int copy_link_failed(const struct copy_link *link, const char *what, int code, struct error *err);
/* A call of libnbd has failed. */
int copy_link_error(const struct copy_link *link, const char *what, struct error *err);
/* Has what was written put on disk, and waits for that. */
int copy_link_flush(struct copy_link *link, struct error *err);

/* What there is in a block: at least one byte of it. */
enum { COPY_DATA = 1 /* doesn't read as zero */, COPY_TOP = 2 /* stands in the top layer */ };

struct copy_map {
    uint64_t offset, length;
    uint64_t block;     /* bytes */
    uint8_t *bits;      /* one per block, zeroed by the caller; COPY_* */
    uint64_t data, top; /* bytes of each in all, zeroed by the caller */
};
/* Asks for the range of MAP. */
int copy_link_map(struct copy_link *link, struct copy_map *map, struct error *err);

/* The next piece of a map whose blocks are all alike, and of COPY_PIECE bytes at the most if their bits
 * are among LIMITED.  *POS starts at the map's offset; false at its end. */
struct copy_piece {
    uint64_t offset, length;
    uint8_t bits;
};
bool copy_map_next(const struct copy_map *map, uint64_t *pos, uint8_t limited,
                   struct copy_piece *ret);

/* copy_digest() over a link that is open. */
int copy_link_digest(struct copy_link *link, uint64_t offset, uint64_t length,
                     uint8_t ret[COPY_DIGEST_SIZE], struct error *err);

/* Copies a range of COPY_RANGE bytes at the most.  FRESH: the destination has nothing there, so that
 * holes are left alone; else it has as much as the source has afterwards.  TOP, for a fresh one: only
 * what stands in the source's top layer is carried.  DONE and CARRIED are added to as it goes. */
struct copy_range {
    struct copy_link *source, *destination;
    uint64_t offset, length;
    bool fresh, top;
    _Atomic uint64_t *done, *carried;
};
int copy_range_run(const struct copy_range *range, struct error *err);

#endif
