/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */

/* The checker's side of layout.h: which write belongs where, and whether a sector is whole. Written
 * from the layout and not from guest.S, so that a mistake of either shows. */

#include "config.h"

#include <inttypes.h>
#include <stdio.h>

#include "tests/guest/pattern.h"

uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t get_u64(const uint8_t *p)
{
    return (uint64_t)get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

void put_u32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(value >> (8 * i));
    }
}

bool params_decode(const uint8_t *p, struct guest_params *ret_params)
{
    if (get_u32(p) != PARAMS_MAGIC_LOW || get_u32(p + 4) != PARAMS_MAGIC_HIGH) {
        return false;
    }
    struct guest_params params = {
        .disks = get_u32(p + PARAMS_DISKS),
        .window = get_u32(p + PARAMS_WINDOW),
        .slots = get_u32(p + PARAMS_SLOTS),
        .ram_pages = get_u32(p + PARAMS_RAM_PAGES),
        .pause = get_u32(p + PARAMS_PAUSE),
    };
    if (params.disks == 0 || params.disks > GUEST_DISKS_MAX || params.slots == 0 ||
        params.ram_pages == 0) {
        return false;
    }
    *ret_params = params;
    return true;
}

void params_encode(const struct guest_params *params, uint8_t *p)
{
    put_u32(p, PARAMS_MAGIC_LOW);
    put_u32(p + 4, PARAMS_MAGIC_HIGH);
    put_u32(p + PARAMS_DISKS, params->disks);
    put_u32(p + PARAMS_WINDOW, params->window);
    put_u32(p + PARAMS_SLOTS, params->slots);
    put_u32(p + PARAMS_RAM_PAGES, params->ram_pages);
    put_u32(p + PARAMS_PAUSE, params->pause);
}

uint64_t last_write(const struct guest_params *params, uint64_t counter, uint32_t disk,
                    uint32_t slot)
{
    if (counter < disk) {
        return 0;
    }
    /* The disk's writes are round * disks + disk; those of the slot have round % slots == slot. */
    uint64_t last_round = (counter - disk) / params->disks;
    if (last_round < slot) {
        return 0;
    }
    uint64_t round = last_round - (last_round - slot) % params->slots;
    return round * params->disks + disk;
}

uint32_t write_disk(const struct guest_params *params, uint64_t counter)
{
    return (uint32_t)(counter % params->disks);
}

uint64_t write_sector(const struct guest_params *params, uint64_t counter)
{
    uint64_t slot = counter / params->disks % params->slots;
    return params->window + slot * GUEST_BLOCK_SECTORS;
}

static bool all_zero(const uint8_t *p)
{
    for (size_t i = 0; i < GUEST_SECTOR; i++) {
        if (p[i]) {
            return false;
        }
    }
    return true;
}

bool sector_decode(const uint8_t *p, struct place place, uint64_t *ret_counter, char *why,
                   size_t size)
{
    if (get_u32(p) != SECTOR_MAGIC_LOW || get_u32(p + 4) != SECTOR_MAGIC_HIGH) {
        snprintf(why, size, "%s", all_zero(p) ? "zeros" : "data that no guest wrote");
        return false;
    }
    uint64_t counter = get_u64(p + SECTOR_COUNTER);
    uint32_t disk = get_u32(p + SECTOR_DISK);
    uint32_t number = get_u32(p + SECTOR_NUMBER);
    if (disk != place.disk || number != place.sector) {
        snprintf(why, size, "write %" PRIu64 " that belongs to disk %" PRIu32 " sector %" PRIu32,
                 counter, disk, number);
        return false;
    }
    uint32_t x =
        (uint32_t)counter * PATTERN_SPREAD ^ (uint32_t)(counter >> 32) ^ disk << 24 ^ number;
    for (size_t i = SECTOR_PATTERN; i < GUEST_SECTOR; i += 4) {
        x = x * PATTERN_STEP + PATTERN_ADD;
        if (get_u32(p + i) != x) {
            snprintf(why, size, "write %" PRIu64 " torn at byte %zu of the sector", counter, i);
            return false;
        }
    }
    *ret_counter = counter;
    return true;
}
