/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */

/* Disk images, read through NBD.
 *
 * A file is served by a qemu-nbd of our own, started by libnbd and gone when the image is closed;
 * a URI is connected to.  So qcow2, raw and the exports of a running QEMU all look the same, and
 * holes are known from NBD's block status.  Files are opened with force-share, as a paused guest's
 * QEMU still has them locked (it has flushed them when it stopped the guest).  The format is told
 * from the file's magic, as these are images that mkguest made. */

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libnbd.h>

#include "tests/guest/guestcheck.h"

static const char *file_format(const char *path)
{
    char magic[4] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        unchecked("cannot open image %s: %s", path, strerror(errno));
    }
    if (read(fd, magic, sizeof magic) < 0) {
        unchecked("cannot read image %s: %s", path, strerror(errno));
    }
    close(fd);
    return memcmp(magic, "QFI\xfb", sizeof magic) == 0 ? "qcow2" : "raw";
}

static int connect_file(struct nbd_handle *nbd, const char *path)
{
    char *filename = NULL;
    json_t *options =
        json_pack("{s:s, s:b, s:b, s:{s:s, s:s}}", "driver", file_format(path), "read-only", 1,
                  "force-share", 1, "file", "driver", "file", "filename", path);
    char *text = options ? json_dumps(options, JSON_COMPACT) : NULL;
    if (!text || asprintf(&filename, "json:%s", text) < 0) {
        unchecked("cannot open image %s: out of memory", path);
    }
    char program[] = "qemu-nbd", read_only[] = "--read-only";
    int r =
        nbd_connect_systemd_socket_activation(nbd, (char *[]){program, read_only, filename, NULL});
    free(filename);
    free(text);
    json_decref(options);
    return r;
}

static LIST_HEAD(, image) open_images;

/* libnbd has a folder for each file that it has opened, and who finds something wrong exits where it is. */
static void close_images(void)
{
    while (!LIST_EMPTY(&open_images)) {
        image_close(LIST_FIRST(&open_images));
    }
}

void image_open(struct image *image, const char *name)
{
    static bool registered;
    struct nbd_handle *nbd = nbd_create();
    if (!registered) {
        registered = atexit(close_images) == 0;
    }
    *image = (struct image){.nbd = nbd, .name = name};
    LIST_INSERT_HEAD(&open_images, image, link);
    if (!nbd || nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0) {
        unchecked("cannot open image %s: %s", name, nbd_get_error());
    }
    bool is_uri = strncmp(name, "nbd", 3) == 0 && strstr(name, "://");
    if ((is_uri ? nbd_connect_uri(nbd, name) : connect_file(nbd, name)) < 0) {
        unchecked("cannot open image %s through NBD: %s", name, nbd_get_error());
    }
    int64_t size = nbd_get_size(nbd);
    if (size < 0) {
        unchecked("cannot tell the size of image %s: %s", name, nbd_get_error());
    }
    image->size = (uint64_t)size;
}

void image_close(struct image *image)
{
    LIST_REMOVE(image, link);
    nbd_close(image->nbd);
    *image = (struct image){0};
}

void image_read(struct image *image, void *buffer, size_t count, uint64_t offset)
{
    if (nbd_pread(image->nbd, buffer, count, offset, 0) < 0) {
        unchecked("cannot read image %s at %llu: %s", image->name, (unsigned long long)offset,
                  nbd_get_error());
    }
}

/* Joins neighbouring entries of one kind, as QEMU may report a range in pieces. */
static int take_extents(void *opaque, const char *context, uint64_t offset, uint32_t *entries,
                        size_t count, int *error)
{
    struct extent *extent = opaque;
    (void)error;
    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0) {
        return 0;
    }
    extent->zero = count >= 2 && entries[1] & LIBNBD_STATE_ZERO;
    extent->end = offset;
    for (size_t i = 0; i + 1 < count; i += 2) {
        if (extent->zero != !!(entries[i + 1] & LIBNBD_STATE_ZERO)) {
            break;
        }
        extent->end += entries[i];
    }
    return 0;
}

struct extent image_extent(struct image *image, uint64_t offset)
{
    const uint64_t step = 1 << 30; /* NBD lengths are 32 bits */
    uint64_t rest = image->size - offset;
    struct extent extent = {.end = image->size, .zero = false};
    if (nbd_can_meta_context(image->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) != 1) {
        return extent;
    }
    if (nbd_block_status(image->nbd, rest < step ? rest : step, offset,
                         (nbd_extent_callback){.callback = take_extents, .user_data = &extent},
                         0) < 0 ||
        extent.end <= offset) {
        unchecked("cannot tell the holes of image %s: %s", image->name, nbd_get_error());
    }
    return extent;
}
