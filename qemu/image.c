/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Disk images in files: see image.h.
 *
 * An image is made in a file that we have created ourselves, exclusively: qemu-img would write over
 * one that exists.
 */
#include "config.h"

#include "qemu/image.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "qemu/child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

enum { QEMU_IMG_MS = 60000 }; /* reads and writes some kB; more than that means a stuck disk */

static int check_absolute(const char *path, struct error *err)
{
    if (path[0] != '/')
        return error_set(err, EINVAL, "the path of an image must be absolute, not \"%s\"", path);
    return 0;
}

/* --- looking --- */

static int copy_string(const json_t *object, const char *key, char **ret)
{
    const char *value = json_string_value(json_object_get(object, key));

    *ret = value ? strdup(value) : NULL;
    return value && !*ret ? -ENOMEM : 0;
}

static int parse_info(const char *text, struct image_info *ret)
{
    json_t *info = json_loads(text, 0, NULL);
    json_int_t virtual_size, actual_size = 0;
    const char *format;
    int r = -EPROTO;

    memset(ret, 0, sizeof *ret);
    if (json_unpack(info, "{s:s,s:I,s?I}", "format", &format, "virtual-size", &virtual_size,
                    "actual-size", &actual_size) == 0 &&
        virtual_size >= 0 && actual_size >= 0) {
        snprintf(ret->format, sizeof ret->format, "%s", format);
        ret->virtual_size = (uint64_t)virtual_size;
        ret->actual_size = (uint64_t)actual_size;
        r = copy_string(info, "backing-filename", &ret->backing);
        if (r == 0)
            r = copy_string(info, "full-backing-filename", &ret->backing_path);
        if (r == 0)
            r = copy_string(info, "backing-filename-format", &ret->backing_format);
    }
    json_decref(info);
    return r;
}

int image_info_read(const char *path, const char *format, struct image_info *ret, struct error *err)
{
    char *guess[] = {(char *)"qemu-img",      (char *)"info", (char *)"-U",
                     (char *)"--output=json", (char *)path,   NULL};
    char *given[] = {(char *)"qemu-img", (char *)"info", (char *)"-U", (char *)"--output=json",
                     (char *)"-f",       (char *)format, (char *)path, NULL};
    CLEANUP_FREE char *text = NULL;
    int r = check_absolute(path, err);

    if (r == 0)
        r = child_run(format ? given : guess, QEMU_IMG_MS, &text, err);
    if (r < 0)
        return r;
    r = parse_info(text, ret);
    if (r < 0) {
        image_info_release(ret);
        return error_set_errno(err, -r, "can't make sense of what qemu-img says about %s", path);
    }
    return 0;
}

void image_info_release(struct image_info *info)
{
    free(info->backing);
    free(info->backing_path);
    free(info->backing_format);
    memset(info, 0, sizeof *info);
}

/* --- making --- */

static int fill_raw(const char *path, int fd, uint64_t size, struct error *err)
{
    if (size > INT64_MAX || ftruncate(fd, (off_t)size) < 0)
        return error_set_errno(err, size > INT64_MAX ? EFBIG : errno,
                               "can't make image %s of %" PRIu64 " bytes", path, size);
    return 0;
}

static int fill_qcow2(const char *path, uint64_t size, const char *backing,
                      const char *backing_format, struct error *err)
{
    char size_text[32];
    char *plain[] = {(char *)"qemu-img", (char *)"create", (char *)"-q", (char *)"-f",
                     (char *)"qcow2",    (char *)path,     size_text,    NULL};
    char *overlay[] = {(char *)"qemu-img",     (char *)"create", (char *)"-q",    (char *)"-f",
                       (char *)"qcow2",        (char *)"-b",     (char *)backing, (char *)"-F",
                       (char *)backing_format, (char *)path,     size_text,       NULL};

    snprintf(size_text, sizeof size_text, "%" PRIu64, size);
    return child_run(backing ? overlay : plain, QEMU_IMG_MS, NULL, err);
}

int image_create(const char *path, const char *format, uint64_t size, const char *backing,
                 const char *backing_format, struct error *err)
{
    CLEANUP_CLOSE int fd = -1;
    bool raw = strcmp(format, "raw") == 0;
    int r = check_absolute(path, err);

    if (r < 0)
        return r;
    if (!raw && strcmp(format, "qcow2") != 0)
        return error_set(err, EINVAL, "can't make image %s: format %s is neither qcow2 nor raw",
                         path, format);
    if (backing && (raw || !backing_format))
        return error_set(err, EINVAL,
                         "can't make image %s: only qcow2 has a backing file, and its format must "
                         "be given",
                         path);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(err, errno, "can't make image %s", path);
    r = raw ? fill_raw(path, fd, size, err) : fill_qcow2(path, size, backing, backing_format, err);
    if (r < 0)
        unlink(path);
    return r;
}

int image_check(const char *path, const char *format, struct error *err)
{
    char *argv[] = {(char *)"qemu-img", (char *)"check", (char *)"-q", (char *)"-f",
                    (char *)format,     (char *)path,    NULL};
    int r = check_absolute(path, err);

    return r < 0 || strcmp(format, "raw") == 0 ? r : child_run(argv, QEMU_IMG_MS, NULL, err);
}

int image_check_space(const char *folder, uint64_t needed, struct error *err)
{
    struct statvfs status;
    uint64_t room;

    if (statvfs(folder, &status) < 0)
        return error_set_errno(err, errno, "can't ask for the free space of %s", folder);
    if (!checked_mul_u64(status.f_bavail, status.f_frsize, &room))
        room = UINT64_MAX;
    if (needed > room)
        return error_set(err, ENOSPC,
                         "%" PRIu64 " MiB are needed in %s, but only %" PRIu64 " MiB are free",
                         (needed + (1 << 20) - 1) >> 20, folder, room >> 20);
    return 0;
}
