/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Disk images in files: made and looked at with qemu-img.  Paths are absolute, so that qemu-img
 * never takes them for one of its protocols.
 */
#ifndef QEMU_IMAGE_H
#define QEMU_IMAGE_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

struct image_info {
    char format[32];
    uint64_t virtual_size; /* bytes */
    uint64_t actual_size;  /* bytes allocated on this host */
    char *backing;         /* as the image names it; NULL: none */
    char *backing_path;    /* absolute; NULL: none */
    char *backing_format;  /* NULL: not said */
};

/* Looks into the image at PATH, which may be in use (qemu-img info -U).  FORMAT NULL: qemu-img
 * guesses, which only an image of this host's own may be trusted with.
 * Returns 0, or a negative errno with ERR set; image_info_release() in the first case. */
int image_info_read(const char *path, const char *format, struct image_info *ret,
                    struct error *err);
void image_info_release(struct image_info *info);

/* Makes an empty, sparse image of SIZE bytes, FORMAT "qcow2" or "raw", mode 0600.  BACKING (qcow2
 * only, NULL: none) with its BACKING_FORMAT is what shows through it.  An existing file is never
 * touched (-EEXIST); after a failure no file is left.  Returns 0, or a negative errno with ERR
 * set. */
int image_create(const char *path, const char *format, uint64_t size, const char *backing,
                 const char *backing_format, struct error *err);

/* Is the image's own structure sound (qemu-img check)?  A raw image has none.  Nobody may have it open.
 * Returns 0, or a negative errno with ERR set. */
int image_check(const char *path, const char *format, struct error *err);

/* Is there room for NEEDED bytes in FOLDER?  Returns 0, or -ENOSPC, or another negative errno, with
 * ERR set. */
int image_check_space(const char *folder, uint64_t needed, struct error *err);

#endif
