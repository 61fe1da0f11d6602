/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Files of test vectors: text, with bytes in hex, beside the tests in the source tree. */
#ifndef TESTS_UNIT_VECTORS_H
#define TESTS_UNIT_VECTORS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Opens NAME in the folder of the unit tests; fails the test when it isn't there. */
FILE *vectors_open(const char *name);

/* Reads a line without its end into *LINE, as getline(3) does.  Returns NULL at the end. */
char *vectors_line(FILE *file, char **line, size_t *size);

/* Reads hex digits up to the end of TEXT into OUT; fails the test when they are none, or too many.
 * Returns the number of bytes. */
size_t vectors_hex(const char *text, uint8_t *out, size_t size);

/* Writes LENGTH bytes as hex digits. */
void vectors_put_hex(FILE *file, const uint8_t *data, size_t length);

#endif
