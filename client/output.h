/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What goes to standard output: JSON, tables, and text that came from elsewhere.
 */
#ifndef CLIENT_OUTPUT_H
#define CLIENT_OUTPUT_H

#include <jansson.h>
#include <stddef.h>

/* Prints VALUE on a line of its own, flushes, and drops the reference. */
void output_json(json_t *value);

/* A JSON string of TEXT, which may be anything: bytes that aren't UTF-8 become '?'. */
json_t *output_json_string(const char *text);

/* Replaces control characters in TEXT, which came from elsewhere, so that it can't move the
 * operator's cursor.  Returns TEXT. */
char *output_clean(char *text);
/* Prints TEXT like that. */
void output_text(const char *text);

enum { OUTPUT_UUID_SIZE = 37 };

/* 16 bytes as "6c6f...-....-....". */
const char *output_uuid(const char id[16], char out[OUTPUT_UUID_SIZE]);

/* Prints rows of COLUMNS cells as virsh does: the first is the heading, a rule under it, columns
 * as wide as their widest cell.  CELLS has ROWS * COLUMNS strings. */
void output_table(const char *const *cells, size_t rows, size_t columns);

#endif
