/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Copying one range: see copy_link.h.
 *
 * The source's map says what becomes of each block; like blocks beside each other make a piece, and a
 * piece goes through one of a few slots:
 *
 *     FREE -> READING -> READ -> WRITING -> WRITTEN -> FREE       data
 *     FREE ->                    WRITING -> WRITTEN -> FREE       zeroes that have to be there
 *
 * libnbd's callbacks only note that a step is over; the next one is taken outside of them.
 */
#include "config.h"

#include "qemu/copy_link.h"
#include "common/cleanup.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

/* What becomes of a block; takes the place of its COPY_* bits in the map. */
enum action { SKIP, ZERO, CARRY };

enum slot_state { FREE, READING, READ, WRITING, WRITTEN };

struct slot {
    enum slot_state state;
    int code; /* why the step failed */
    struct copy_piece piece;
    uint8_t *buffer;
};

struct copier {
    const struct copy_range *range;
    struct copy_map map;
    uint64_t pos;
    struct slot slots[COPY_IN_FLIGHT];
    size_t busy; /* slots that are not FREE */
    uint8_t *buffers;
};

static void close_copier(struct copier *copier)
{
    free(copier->map.bits);
    free(copier->buffers);
}

static enum action choose(const struct copy_range *range, uint8_t bits)
{
    if (range->fresh && range->top && !(bits & COPY_TOP))
        return SKIP; /* the backing file shows through on both sides */
    if (bits & COPY_DATA)
        return CARRY;
    return range->fresh && !range->top ? SKIP : ZERO;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static int on_read(void *opaque, int *code)
{
    struct slot *slot = opaque;

    slot->state = READ;
    slot->code = *code;
    return 1;
}

static int on_written(void *opaque, int *code)
{
    struct slot *slot = opaque;

    slot->state = WRITTEN;
    slot->code = *code;
    return 1;
}

static int start_zero(struct copier *copier, struct slot *slot, struct error *err)
{
    struct copy_link *to = copier->range->destination;

    slot->state = WRITING;
    if (nbd_aio_zero(to->nbd, slot->piece.length, slot->piece.offset,
                     (nbd_completion_callback){.callback = on_written, .user_data = slot}, 0) < 0)
        return copy_link_error(to, "be written to", err);
    return 0;
}

static int start_write(struct copier *copier, struct slot *slot, struct error *err)
{
    struct copy_link *to = copier->range->destination;

    slot->state = WRITING;
    if (nbd_aio_pwrite(to->nbd, slot->buffer, slot->piece.length, slot->piece.offset,
                       (nbd_completion_callback){.callback = on_written, .user_data = slot}, 0) < 0)
        return copy_link_error(to, "be written to", err);
    atomic_fetch_add(copier->range->carried, slot->piece.length);
    return 0;
}

static int start_read(struct copier *copier, struct slot *slot, struct error *err)
{
    struct copy_link *from = copier->range->source;

    slot->state = READING;
    if (nbd_aio_pread(from->nbd, slot->buffer, slot->piece.length, slot->piece.offset,
                      (nbd_completion_callback){.callback = on_read, .user_data = slot}, 0) < 0)
        return copy_link_error(from, "be read", err);
    return 0;
}

static bool is_zero(const uint8_t *buffer, uint64_t length)
{
    return buffer[0] == 0 && memcmp(buffer, buffer + 1, length - 1) == 0;
}

/* Zeroes that were once written are no more worth than holes. */
static int after_read(struct copier *copier, struct slot *slot, struct error *err)
{
    if (slot->code)
        return copy_link_failed(copier->range->source, "be read", slot->code, err);
    if (!is_zero(slot->buffer, slot->piece.length))
        return start_write(copier, slot, err);
    if (!copier->range->fresh || copier->range->top)
        return start_zero(copier, slot, err);
    slot->state = WRITTEN;
    return 0;
}

static int after_write(struct copier *copier, struct slot *slot, struct error *err)
{
    if (slot->code)
        return copy_link_failed(copier->range->destination, "be written to", slot->code, err);
    if (slot->piece.bits == CARRY || copier->range->top)
        atomic_fetch_add(copier->range->done, slot->piece.length);
    slot->state = FREE;
    copier->busy--;
    return 0;
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* The next piece that anything is to be done about. */
static int start_next(struct copier *copier, struct slot *slot, struct error *err)
{
    do {
        if (!copy_map_next(&copier->map, &copier->pos, CARRY, &slot->piece))
            return 0;
    } while (slot->piece.bits == SKIP);
    copier->busy++;
    return slot->piece.bits == CARRY ? start_read(copier, slot, err)
                                     : start_zero(copier, slot, err);
}

static int step(struct copier *copier, struct error *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < COPY_IN_FLIGHT; i++) {
        struct slot *slot = &copier->slots[i];

        if (slot->state == READ)
            r = after_read(copier, slot, err);
        if (r == 0 && slot->state == WRITTEN)
            r = after_write(copier, slot, err);
        if (r == 0 && slot->state == FREE)
            r = start_next(copier, slot, err);
    }
    return r;
}

static int copy_all(struct copier *copier, struct error *err)
{
    struct copy_link *const links[] = {copier->range->source, copier->range->destination};
    int r = step(copier, err);

    while (r == 0 && copier->busy) {
        r = copy_links_wait(links, 2, err);
        if (r == 0)
            r = step(copier, err);
    }
    return r;
}

int copy_range_run(const struct copy_range *range, struct error *err)
{
    uint64_t blocks = (range->length + COPY_BLOCK - 1) / COPY_BLOCK;
    CLEANUP(close_copier)
    struct copier copier = {.range = range,
                            .map = {.offset = range->offset,
                                    .length = range->length,
                                    .block = COPY_BLOCK,
                                    .bits = calloc(blocks, 1)},
                            .pos = range->offset,
                            .buffers = malloc(COPY_IN_FLIGHT * COPY_PIECE)};
    int r;

    if (!copier.map.bits || !copier.buffers)
        return error_set(err, ENOMEM, "no memory to copy disk %s", range->source->target);
    for (size_t i = 0; i < COPY_IN_FLIGHT; i++)
        copier.slots[i].buffer = copier.buffers + i * COPY_PIECE;
    r = copy_link_map(range->source, &copier.map, err);
    for (uint64_t i = 0; i < blocks; i++)
        copier.map.bits[i] = (uint8_t)choose(range, copier.map.bits[i]);
    if (r == 0)
        r = copy_all(&copier, err);
    if (r < 0) { /* requests that are under way would use buffers that are going */
        copy_link_close(range->source);
        copy_link_close(range->destination);
    }
    return r;
}
