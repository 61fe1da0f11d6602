/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A byte queue in one block of memory, grown on demand: sockets read into it and write out of it
 * through two-part vectors, without a copy in between.  Nothing is allocated until the first byte
 * comes, and everything is given back by ring_release() once it is empty.
 */
#ifndef COMMON_RING_H
#define COMMON_RING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct ring {
    uint8_t *data;
    size_t capacity; /* 0, or a power of two */
    size_t start;    /* where the oldest byte stands; < capacity */
    size_t size;     /* bytes held */
};

/* A zeroed struct ring is an empty ring. */

/* Gives back all memory; the ring is empty afterwards. */
void ring_release(struct ring *ring);

/* Makes room for LENGTH more bytes and describes it in IOV (one or two parts, exactly LENGTH bytes
 * together), good until the ring is changed.  Returns the number of parts, or -ENOMEM (the ring is
 * unchanged). */
int ring_reserve(struct ring *ring, size_t length, struct iovec iov[2]);

/* LENGTH bytes of what ring_reserve() described have been filled. */
void ring_commit(struct ring *ring, size_t length);

/* Appends a copy of DATA.  Returns 0 or -ENOMEM (the ring is unchanged). */
int ring_append(struct ring *ring, const void *data, size_t length);

/* Describes up to LENGTH bytes from OFFSET (counted from the oldest byte) on.  Returns the number
 * of parts, 0 when there is nothing. */
int ring_peek(const struct ring *ring, size_t offset, size_t length, struct iovec iov[2]);

/* Copies LENGTH bytes from OFFSET on; both must lie within what the ring holds. */
void ring_copy(const struct ring *ring, size_t offset, void *to, size_t length);

/* Forgets the LENGTH oldest bytes. */
void ring_drop(struct ring *ring, size_t length);

#endif
