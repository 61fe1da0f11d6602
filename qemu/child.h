/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Running a helper program to its end.
 */
#ifndef QEMU_CHILD_H
#define QEMU_CHILD_H

#include "common/error.h"

/* Runs ARGV (looked for in PATH) without input, and waits; after TIMEOUT_MS it is killed.
 * RET_OUTPUT, which may be NULL, gets what it wrote to stdout, NUL-terminated, for free().
 * Returns 0 when it ended with status 0, or a negative errno with ERR set: ENOENT when it can't be
 * found, ETIMEDOUT, or EIO with what it wrote to stderr. */
int child_run(char *const argv[], unsigned timeout_ms, char **ret_output, struct error *err);

#endif
