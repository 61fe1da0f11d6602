/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Runs a fuzz target on the files that are named: what libFuzzer's own main() does with files, for
 * compilers without it, so that make check replays the corpus everywhere.
 */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>

static int replay(const char *path)
{
    static uint8_t buffer[2 * 1024 * 1024];
    FILE *file = fopen(path, "re");
    uint8_t *data;
    size_t length;

    if (!file) {
        perror(path);
        return -1;
    }
    length = fread(buffer, 1, sizeof buffer, file);
    fclose(file);
    data = malloc(length ? length : 1); /* of exactly this size, so that reading past it is seen */
    if (!data)
        return -1;
    for (size_t i = 0; i < length; i++)
        data[i] = buffer[i];
    LLVMFuzzerTestOneInput(data, length);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int failed = 0;

    for (int i = 1; i < argc; i++)
        failed |= replay(argv[i]) < 0;
    printf("%d inputs replayed\n", argc - 1);
    return failed || argc == 1;
}
