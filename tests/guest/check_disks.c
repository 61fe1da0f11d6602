/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */

/* guestcheck images, diff and sparse: what is on the guest's disks.
 *
 * The images of a guest are given in the order of its disks; the first one's boot sector has the
 * parameters that say where each write must be. */

#include "config.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/guest/guestcheck.h"

#define PIECE (4 << 20) /* bytes read at once */
#define SLOTS_AT_ONCE (PIECE / GUEST_BLOCK)

struct disks {
    struct image image[GUEST_DISKS_MAX];
    struct guest_params params;
};

static void *allocate(size_t size)
{
    void *p = malloc(size);
    if (!p) {
        unchecked("out of memory");
    }
    return p;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void disks_open(struct disks *disks, int count, char **names)
{
    uint8_t boot[GUEST_SECTOR];
    if (count < 1 || count > GUEST_DISKS_MAX) {
        unchecked("1 to %d images are needed, %d were given", GUEST_DISKS_MAX, count);
    }
    for (int i = 0; i < count; i++) {
        image_open(&disks->image[i], names[i]);
    }
    image_read(&disks->image[0], boot, sizeof boot, 0);
    if (!params_decode(boot + PARAMS_OFFSET, &disks->params)) {
        lost("%s, sector 0: the guest's boot sector expected, found none", names[0]);
    }
    if (disks->params.disks != (uint32_t)count) {
        unchecked("%s boots a guest of %" PRIu32 " disks, %d images were given", names[0],
                  disks->params.disks, count);
    }
}

static void disks_close(struct disks *disks)
{
    for (uint32_t i = 0; i < disks->params.disks; i++) {
        image_close(&disks->image[i]);
    }
}

/* --- images */

static _Noreturn void lost_write(const char *name, uint64_t sector, uint64_t expected,
                                 const char *found)
{
    if (expected == 0) {
        lost("%s, sector %" PRIu64 ": zeros expected as nothing was written there yet, found %s",
             name, sector, found);
    }
    lost("%s, sector %" PRIu64 ": write %" PRIu64 " expected, found %s", name, sector, expected,
         found);
}

/* The block at P is that of SLOT on disk PLACE.disk, and PLACE.sector its first sector.  The write
 * after LAST may have been made without being recorded, but then wholly. */
static void check_block(const struct disks *disks, const uint8_t *p, struct place place,
                        uint32_t slot, uint64_t last)
{
    const char *name = disks->image[place.disk].name;
    const uint64_t in_flight = last_write(&disks->params, last + 1, place.disk, slot);
    uint64_t expected = last_write(&disks->params, last, place.disk, slot), counter;
    char found[80];
    for (int i = 0; i < GUEST_BLOCK_SECTORS; i++, place.sector++, p += GUEST_SECTOR) {
        if (!sector_decode(p, place, &counter, found, sizeof found)) {
            if (expected == 0 && strcmp(found, "zeros") == 0) {
                continue;
            }
            lost_write(name, place.sector, expected, found);
        }
        if (i == 0 && counter == in_flight) {
            expected = in_flight;
        }
        if (counter != expected) {
            snprintf(found, sizeof found, "write %" PRIu64, counter);
            lost_write(name, place.sector, expected, found);
        }
    }
}

/* Reads the COUNT blocks from slot FIRST on. */
static void read_slots(struct disks *disks, uint32_t disk, uint32_t first, uint32_t count,
                       uint8_t *buffer)
{
    uint64_t sector = disks->params.window + (uint64_t)first * GUEST_BLOCK_SECTORS;
    image_read(&disks->image[disk], buffer, (size_t)count * GUEST_BLOCK, sector * GUEST_SECTOR);
}

/* Checks one disk's window; returns the number of writes seen. */
static uint64_t check_window(struct disks *disks, uint32_t disk, uint64_t last)
{
    const struct guest_params *params = &disks->params;
    uint8_t *buffer = allocate(PIECE);
    uint64_t checked = 0;
    for (uint32_t first = 0, count; first < params->slots; first += count) {
        struct place place = {.disk = disk,
                              .sector = params->window + (uint64_t)first * GUEST_BLOCK_SECTORS};
        count = (uint32_t)smaller(SLOTS_AT_ONCE, params->slots - first);
        read_slots(disks, disk, first, count, buffer);
        for (uint32_t i = 0; i < count; i++, place.sector += GUEST_BLOCK_SECTORS) {
            check_block(disks, buffer + (size_t)i * GUEST_BLOCK, place, first + i, last);
            checked += last_write(params, last, disk, first + i) > 0;
        }
    }
    free(buffer);
    return checked;
}

/* The highest number of a write that any block of one disk's window begins with. */
static uint64_t highest_write(struct disks *disks, uint32_t disk)
{
    const struct guest_params *params = &disks->params;
    uint8_t *buffer = allocate(PIECE);
    uint64_t highest = 0, counter;
    char found[80];
    for (uint32_t first = 0, count; first < params->slots; first += count) {
        struct place place = {.disk = disk,
                              .sector = params->window + (uint64_t)first * GUEST_BLOCK_SECTORS};
        count = (uint32_t)smaller(SLOTS_AT_ONCE, params->slots - first);
        read_slots(disks, disk, first, count, buffer);
        for (uint32_t i = 0; i < count; i++, place.sector += GUEST_BLOCK_SECTORS) {
            const uint8_t *p = buffer + (size_t)i * GUEST_BLOCK;
            if (sector_decode(p, place, &counter, found, sizeof found) && counter > highest) {
                highest = counter;
            }
        }
    }
    free(buffer);
    return highest;
}

int check_images(int argc, char **argv)
{
    static const struct option options[] = {{"counter", required_argument, NULL, 'c'}, {0}};
    uint64_t last = 0, checked = 0;
    bool given = false;
    struct disks disks;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c != 'c') {
            return EXIT_UNCHECKED;
        }
        last = parse_number("--counter", optarg);
        given = true;
    }
    disks_open(&disks, argc - optind, argv + optind);
    for (uint32_t disk = 0; !given && disk < disks.params.disks; disk++) {
        uint64_t highest = highest_write(&disks, disk);
        last = highest > last ? highest : last;
    }
    for (uint32_t disk = 0; disk < disks.params.disks; disk++) {
        checked += check_window(&disks, disk, last);
    }
    printf("disks=%" PRIu32 " last=%" PRIu64 " writes checked=%" PRIu64 ": none lost\n",
           disks.params.disks, last, checked);
    disks_close(&disks);
    return EXIT_GOOD;
}

/* --- diff */

/* A sector that differs must carry a write that belongs there, made after write AFTER. */
static void check_newer(const struct disks *to, const uint8_t *p, struct place place,
                        uint64_t after)
{
    const char *name = to->image[place.disk].name;
    uint64_t counter;
    char why[80];
    if (!sector_decode(p, place, &counter, why, sizeof why)) {
        lost("%s, sector %" PRIu64 ": differs from the source: a write after %" PRIu64
             " expected, found %s",
             name, place.sector, after, why);
    }
    if (counter <= after) {
        lost("%s, sector %" PRIu64 ": differs from the source: a write after %" PRIu64
             " expected, found write %" PRIu64,
             name, place.sector, after, counter);
    }
    if (write_disk(&to->params, counter) != place.disk ||
        write_sector(&to->params, counter) != place.sector - place.sector % GUEST_BLOCK_SECTORS) {
        lost("%s, sector %" PRIu64 ": found write %" PRIu64 ", which belongs elsewhere", name,
             place.sector, counter);
    }
}

/* Compares one piece of SIZE bytes; returns the number of sectors that differ. */
static uint64_t compare_piece(struct disks *from, struct disks *to, uint32_t disk, uint64_t offset,
                              size_t size, uint8_t *a, uint8_t *b, uint64_t after)
{
    uint64_t differing = 0;
    image_read(&from->image[disk], a, size, offset);
    image_read(&to->image[disk], b, size, offset);
    if (memcmp(a, b, size) == 0) {
        return 0;
    }
    for (size_t i = 0; i < size; i += GUEST_SECTOR) {
        if (memcmp(a + i, b + i, smaller(GUEST_SECTOR, size - i)) != 0) {
            struct place place = {.disk = disk, .sector = (offset + i) / GUEST_SECTOR};
            check_newer(to, b + i, place, after);
            differing++;
        }
    }
    return differing;
}

/* Ranges that read as zeros on both sides are not read. */
static void compare_disk(struct disks *from, struct disks *to, uint32_t disk, uint64_t after)
{
    struct image *source = &from->image[disk], *destination = &to->image[disk];
    uint64_t differing = 0, compared = 0;
    uint8_t *a = allocate(PIECE), *b = allocate(PIECE);
    if (source->size != destination->size) {
        lost("%s has %" PRIu64 " bytes, %s has %" PRIu64, source->name, source->size,
             destination->name, destination->size);
    }
    for (uint64_t offset = 0, end; offset < source->size; offset = end) {
        struct extent x = image_extent(source, offset), y = image_extent(destination, offset);
        end = smaller(x.end, y.end);
        if (x.zero && y.zero) {
            continue;
        }
        end = smaller(end, offset + PIECE);
        differing += compare_piece(from, to, disk, offset, (size_t)(end - offset), a, b, after);
        compared += end - offset;
    }
    printf("disk=%" PRIu32 " size=%" PRIu64 " compared=%" PRIu64 " differing sectors=%" PRIu64
           "%s\n",
           disk, source->size, compared, differing,
           differing ? ": all written after the source's last" : "");
    free(a);
    free(b);
}

int check_diff(int argc, char **argv)
{
    static const struct option options[] = {{"after", required_argument, NULL, 'a'}, {0}};
    const char *after = NULL;
    struct disks from, to;
    while (getopt_long(argc, argv, "+", options, NULL) != -1) {
        after = optarg;
    }
    int count = 0;
    while (optind + count < argc && strcmp(argv[optind + count], "--") != 0) {
        count++;
    }
    if (!after || optind + 2 * count + 1 != argc) {
        unchecked("diff needs --after, and as many images before as after --, see --help");
    }
    const uint64_t last = parse_number("--after", after);
    disks_open(&from, count, argv + optind);
    disks_open(&to, count, argv + optind + count + 1);
    for (uint32_t disk = 0; disk < from.params.disks; disk++) {
        compare_disk(&from, &to, disk, last);
    }
    disks_close(&from);
    disks_close(&to);
    return EXIT_GOOD;
}

/* --- sparse */

int check_sparse(int argc, char **argv)
{
    if (argc < 2) {
        unchecked("sparse needs at least one image, see --help");
    }
    for (int i = 1; i < argc; i++) {
        struct image image;
        struct stat st;
        uint64_t data = 0;
        image_open(&image, argv[i]);
        for (uint64_t offset = 0; offset < image.size;) {
            struct extent extent = image_extent(&image, offset);
            data += extent.zero ? 0 : extent.end - offset;
            offset = extent.end;
        }
        printf("image=%s size=%" PRIu64 " data=%" PRIu64, image.name, image.size, data);
        if (stat(argv[i], &st) == 0) {
            printf(" allocated=%" PRIu64, (uint64_t)st.st_blocks * 512);
        }
        putchar('\n');
        image_close(&image);
    }
    return EXIT_GOOD;
}
