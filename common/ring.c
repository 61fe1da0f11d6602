/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* A growing byte queue: see ring.h.  The capacity is a power of two, so positions wrap by a mask.
 */
#include "config.h"

#include "common/ring.h"
#include "common/checked.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RING_FIRST_CAPACITY = 4096 };

void ring_release(struct ring *ring)
{
    free(ring->data);
    memset(ring, 0, sizeof *ring);
}

static int ring_grow(struct ring *ring, size_t needed)
{
    size_t capacity = ring->capacity ? ring->capacity : RING_FIRST_CAPACITY;
    uint8_t *data;

    while (capacity < needed) {
        if (capacity > SIZE_MAX / 2)
            return -ENOMEM;
        capacity *= 2;
    }
    data = malloc(capacity);
    if (!data)
        return -ENOMEM;
    if (ring->size)
        ring_copy(ring, 0, data, ring->size);
    free(ring->data);
    ring->data = data;
    ring->capacity = capacity;
    ring->start = 0;
    return 0;
}

/* Describes LENGTH bytes from the absolute place PLACE on, wrapping once. */
static int ring_describe(const struct ring *ring, size_t place, size_t length, struct iovec iov[2])
{
    size_t first;

    if (length == 0)
        return 0;
    place &= ring->capacity - 1;
    first = min_size(length, ring->capacity - place);
    iov[0] = (struct iovec){.iov_base = ring->data + place, .iov_len = first};
    if (first == length)
        return 1;
    iov[1] = (struct iovec){.iov_base = ring->data, .iov_len = length - first};
    return 2;
}

int ring_reserve(struct ring *ring, size_t length, struct iovec iov[2])
{
    if (length > SIZE_MAX - ring->size)
        return -ENOMEM;
    if (ring->size + length > ring->capacity) {
        int r = ring_grow(ring, ring->size + length);

        if (r < 0)
            return r;
    }
    return ring_describe(ring, ring->start + ring->size, length, iov);
}

void ring_commit(struct ring *ring, size_t length)
{
    assert(length <= ring->capacity - ring->size);
    ring->size += length;
}

int ring_append(struct ring *ring, const void *data, size_t length)
{
    struct iovec iov[2];
    const uint8_t *from = data;
    int parts = ring_reserve(ring, length, iov);

    if (parts < 0)
        return parts;
    for (int i = 0; i < parts; i++) {
        memcpy(iov[i].iov_base, from, iov[i].iov_len);
        from += iov[i].iov_len;
    }
    ring_commit(ring, length);
    return 0;
}

int ring_peek(const struct ring *ring, size_t offset, size_t length, struct iovec iov[2])
{
    if (offset >= ring->size)
        return 0;
    return ring_describe(ring, ring->start + offset, min_size(length, ring->size - offset), iov);
}

void ring_copy(const struct ring *ring, size_t offset, void *to, size_t length)
{
    struct iovec iov[2];
    uint8_t *out = to;
    int parts;

    assert(offset <= ring->size && length <= ring->size - offset);
    parts = ring_peek(ring, offset, length, iov);
    for (int i = 0; i < parts; i++) {
        memcpy(out, iov[i].iov_base, iov[i].iov_len);
        out += iov[i].iov_len;
    }
}

void ring_drop(struct ring *ring, size_t length)
{
    assert(length <= ring->size);
    ring->size -= length;
    ring->start = ring->size ? (ring->start + length) & (ring->capacity - 1) : 0;
}
