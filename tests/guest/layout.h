/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */

/* What the guest, its image builder and its checker agree on.
 *
 * Write number n (1, 2, 3, ...) is one block of 4 KiB.  It goes to disk n % disks, to slot
 * (n / disks) % slots of that disk's write window; its twin in RAM goes to page n % ram_pages.
 * So at any moment the last disks * slots writes are all on the disks, each in one known place.
 *
 * Every sector of a block describes itself (SECTOR_* below): whoever wrote it, when, and where it
 * should be.  The rest of it is a pattern derived from these, so that a sector torn in its middle
 * is seen as well.  All numbers are little-endian.
 *
 * This file is read by the assembler too: macros only, outside the #ifndef. */

#ifndef BISTREAM_TESTS_GUEST_LAYOUT_H
#define BISTREAM_TESTS_GUEST_LAYOUT_H

#define GUEST_SECTOR 512
#define GUEST_BLOCK_SECTORS 8
#define GUEST_BLOCK 4096

/* The program: the boot sector and what it loads from right behind it. */
#define GUEST_LOAD_ADDRESS 0x7c00
#define GUEST_PROGRAM_SECTORS 4
#define GUEST_PROGRAM_SIZE 2048

/* SeaBIOS knows sixteen hard disks, 0x80 to 0x8f. */
#define GUEST_DISKS_MAX 16

/* Parameters, patched into the boot sector by the image builder. */
#define PARAMS_OFFSET 16
#define PARAMS_MAGIC_LOW 0x50534942  /* "BISP" */
#define PARAMS_MAGIC_HIGH 0x4d415241 /* "ARAM" */
#define PARAMS_DISKS 8               /* u32: disks written to, from 0x80 on */
#define PARAMS_WINDOW 12             /* u32: first sector of the write window, on every disk */
#define PARAMS_SLOTS 16              /* u32: length of the write window in blocks */
#define PARAMS_RAM_PAGES 20          /* u32: pages of RAM written to */
#define PARAMS_PAUSE 24              /* u32: microseconds between two writes, 0: none */
#define PARAMS_SIZE 28

/* The status block in the guest's RAM, at a fixed physical address.  For write number n the order
 * is: STARTED = n; the block is written; WRITTEN = n; the page is filled; FILLED = n. */
#define STATUS_ADDRESS 0x7000
#define STATUS_MAGIC_LOW 0x53534942  /* "BISS" */
#define STATUS_MAGIC_HIGH 0x53544154 /* "TATS" */
#define STATUS_STARTED 8             /* u64 */
#define STATUS_WRITTEN 16            /* u64 */
#define STATUS_FILLED 24             /* u64 */
#define STATUS_ERRORS 32             /* u64: writes that failed (each was tried again) */
#define STATUS_LAST_ERROR 40         /* u32: disk << 8 | status of int 13h */
#define STATUS_PARAMS 48             /* a copy of the parameters */
#define STATUS_SIZE (STATUS_PARAMS + PARAMS_SIZE)

/* The pages that are written, far above what the BIOS and the program use. */
#define RAM_ADDRESS 0x200000

/* A sector.  A page of RAM is made of eight of them, with RAM_DISK for a disk and page * 8 + i as
 * sector number. */
#define SECTOR_MAGIC_LOW 0x42545342  /* "BSTB" */
#define SECTOR_MAGIC_HIGH 0x4b434f4c /* "LOCK" */
#define SECTOR_COUNTER 8             /* u64 */
#define SECTOR_DISK 16               /* u32 */
#define SECTOR_NUMBER 20             /* u32: position on the disk */
#define SECTOR_PATTERN 24
#define SECTOR_PATTERN_WORDS ((GUEST_SECTOR - SECTOR_PATTERN) / 4)
#define RAM_DISK 0xffff

/* The pattern: x = low(counter) * SPREAD ^ high(counter) ^ disk << 24 ^ number, and then one word
 * of x = x * STEP + ADD after the other.  Each step is a bijection: two patterns that start
 * differently have no word in common at the same place. */
#define PATTERN_SPREAD 0x9e3779b1
#define PATTERN_STEP 1664525
#define PATTERN_ADD 1013904223

#endif
