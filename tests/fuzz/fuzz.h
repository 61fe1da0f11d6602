/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Fuzz targets: each is a program fuzz_NAME with its corpus in corpus/NAME.  They run in one
 * process, without any I/O of their own, and abort() when something that must hold doesn't.
 *
 * make check replays the corpus.  To fuzz:
 *
 *     CC=clang ./configure --enable-sanitizers=fuzzer-no-link,address,undefined && make check
 *     tests/fuzz/fuzz_message new/ SOURCES/tests/fuzz/corpus/message
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* libFuzzer's entry: runs the target on one input.  Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

#define MUST(condition)                                                     \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                        \
        }                                                                   \
    } while (0)

#endif
