/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* What goes to standard output: see output.h. */
#include "config.h"

#include "client/output.h"

#include "common/cleanup.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

void output_json(json_t *value)
{
    json_dumpf(value, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(value);
}

json_t *output_json_string(const char *text)
{
    json_t *string = json_string(text);
    CLEANUP_FREE char *ascii = NULL;

    if (string)
        return string;
    ascii = strdup(text);
    if (!ascii)
        return json_null();
    for (char *c = ascii; *c; c++) {
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    }
    return json_string(ascii);
}

/* C0, DEL, and C1 (U+0080 to U+009F, as UTF-8). */
static bool is_control(const char *c)
{
    const unsigned char *byte = (const unsigned char *)c;

    return byte[0] < 0x20 || byte[0] == 0x7f ||
           (byte[0] == 0xc2 && byte[1] >= 0x80 && byte[1] <= 0x9f);
}

char *output_clean(char *text)
{
    for (char *c = text; *c; c++) {
        if (is_control(c))
            *c = '?';
    }
    return text;
}

void output_text(const char *text)
{
    for (const char *c = text; *c; c++)
        putchar(is_control(c) ? '?' : *c);
}

const char *output_uuid(const char id[16], char out[OUTPUT_UUID_SIZE])
{
    char *end = out;

    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *end++ = '-';
        end += sprintf(end, "%02x", (unsigned char)id[i]);
    }
    return out;
}

void output_table(const char *const *cells, size_t rows, size_t columns)
{
    size_t widths[8] = {0};
    size_t total = 0;

    for (size_t i = 0; i < rows * columns; i++) {
        size_t width = strlen(cells[i]);

        if (width > widths[i % columns])
            widths[i % columns] = width;
    }
    for (size_t column = 0; column < columns; column++)
        total += widths[column] + 3;
    for (size_t row = 0; row < rows; row++) {
        for (size_t column = 0; column < columns; column++) {
            const char *cell = cells[row * columns + column];

            /* Nothing behind the last column: lines don't end with blanks. */
            if (column + 1 < columns)
                printf(" %-*s  ", (int)widths[column], cell);
            else
                printf(" %s\n", cell);
        }
        if (row == 0) {
            for (size_t i = 0; i < total; i++)
                putchar('-');
            putchar('\n');
        }
    }
}
