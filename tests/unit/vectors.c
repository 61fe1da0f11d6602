/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Files of test vectors: see vectors.h.  make check says in srcdir where the sources are. */
#include "config.h"

#include "tests/unit/vectors.h"
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

FILE *vectors_open(const char *name)
{
    const char *folder = getenv("srcdir");
    char path[4096];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder ? folder : ".", name);
    file = fopen(path, "re");
    if (!file)
        fail_msg("%s can't be opened: set srcdir to the folder that holds it", path);
    return file;
}

char *vectors_line(FILE *file, char **line, size_t *size)
{
    if (getline(line, size, file) < 0)
        return NULL;
    (*line)[strcspn(*line, "\n")] = '\0';
    return *line;
}

size_t vectors_hex(const char *text, uint8_t *out, size_t size)
{
    size_t length = strlen(text) / 2;

    assert_int_equal(strspn(text, "0123456789abcdef"), 2 * length);
    assert_int_equal(text[2 * length], '\0');
    assert_in_range(length, 0, size);
    for (size_t i = 0; i < length; i++) {
        const char digits[] = {text[2 * i], text[2 * i + 1], '\0'};

        out[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return length;
}

void vectors_put_hex(FILE *file, const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length; i++)
        fprintf(file, "%02x", data[i]);
}
