/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */

#ifndef BISTREAM_TESTS_GUEST_PATTERN_H
#define BISTREAM_TESTS_GUEST_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/guest/layout.h"

/* The parameters of a guest, as its boot sector and its status block have them. */
struct guest_params {
    uint32_t disks;
    uint32_t window; /* sectors */
    uint32_t slots;
    uint32_t ram_pages;
    uint32_t pause;
};

/* Little-endian numbers at P, which need not be aligned. */
uint32_t get_u32(const uint8_t *p);
uint64_t get_u64(const uint8_t *p);
void put_u32(uint8_t *p, uint32_t value);

/* Reads PARAMS_SIZE bytes at P.  False if there are no parameters, or impossible ones. */
bool params_decode(const uint8_t *p, struct guest_params *ret_params);
void params_encode(const struct guest_params *params, uint8_t *p);

/* The last write up to COUNTER that went to slot SLOT of disk DISK; 0 if there was none. */
uint64_t last_write(const struct guest_params *params, uint64_t counter, uint32_t disk,
                    uint32_t slot);

/* The disk, and the first sector on it, that write COUNTER goes to. */
uint32_t write_disk(const struct guest_params *params, uint64_t counter);
uint64_t write_sector(const struct guest_params *params, uint64_t counter);

/* Where a sector was found, or should be.  A page of RAM has RAM_DISK for a disk. */
struct place {
    uint32_t disk;
    uint64_t sector;
};

/* Looks at the GUEST_SECTOR bytes at P, found at PLACE.  True if they are one whole sector that the
 * guest wrote for that place; *RET_COUNTER is then the number of the write.  Otherwise WHY (of size
 * SIZE) says what they are, as the object of "found". */
bool sector_decode(const uint8_t *p, struct place place, uint64_t *ret_counter, char *why,
                   size_t size);

#endif
