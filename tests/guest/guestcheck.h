/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */

/* What the parts of guestcheck share. */

#ifndef BISTREAM_TESTS_GUEST_GUESTCHECK_H
#define BISTREAM_TESTS_GUEST_GUESTCHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>
#include <sys/queue.h>

#include "tests/guest/pattern.h"

/* Exit codes: the check was made and all is well, the check was made and something is lost, or the
 * check could not be made. */
enum { EXIT_GOOD = 0, EXIT_LOST = 1, EXIT_UNCHECKED = 2 };

/* Prints "guestcheck: SENTENCE" on stderr and exits. */
void lost(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void unchecked(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* --- image.c: a disk image, read through NBD */

struct image {
    struct nbd_handle *nbd;
    const char *name; /* as given on the command line */
    uint64_t size;
    LIST_ENTRY(image) link; /* among those that are open */
};

/* A range that either reads as zeros or may hold data. */
struct extent {
    uint64_t end;
    bool zero;
};

/* Opens an image file (qcow2 or raw, even of a paused guest), or an nbd+unix:// URI.  NAME must
 * outlive the image, and IMAGE stay where it is until it is closed or exit() is called. */
void image_open(struct image *image, const char *name);
void image_close(struct image *image);
void image_read(struct image *image, void *buffer, size_t count, uint64_t offset);
/* The extent that begins at OFFSET, which must be inside of the image. */
struct extent image_extent(struct image *image, uint64_t offset);

/* --- qmp.c: just enough QMP */

struct qmp;

/* Connects to QEMU's QMP socket at PATH. */
struct qmp *qmp_open(const char *path);
void qmp_close(struct qmp *qmp);
/* Executes COMMAND ({"execute": ...}, ownership passes) and returns the whole reply, an object with
 * "return" or "error", which the caller owns.  Events are dropped. */
json_t *qmp_call(struct qmp *qmp, json_t *command);

/* --- the subcommands: ARGV[0] is the subcommand's name; the result is the exit code */

int check_ram(int argc, char **argv);
int check_images(int argc, char **argv);
int check_diff(int argc, char **argv);
int check_sparse(int argc, char **argv);
int run_qmp(int argc, char **argv);

/* Parses an unsigned decimal number given as option NAME. */
uint64_t parse_number(const char *name, const char *text);

#endif
