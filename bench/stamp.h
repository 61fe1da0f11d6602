/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The pattern that all bytes of the bench carry: each 64-bit word tells its stream and its position
 * in it, so that a byte that is lost, doubled, changed, moved or of another stream is found.  Filling
 * and checking run at memory speed, or they would be what is measured.
 */
#ifndef BENCH_STAMP_H
#define BENCH_STAMP_H

#include <stddef.h>
#include <stdint.h>

/* Fills BUFFER with the bytes of STREAM from POSITION on; POSITION and LENGTH are multiples of 8. */
void stamp_fill(unsigned stream, uint64_t position, uint8_t *buffer, size_t length);

/* Returns how many bytes of DATA, from its start on, are those of STREAM from POSITION on. */
size_t stamp_check(unsigned stream, uint64_t position, const uint8_t *data, size_t length);

#endif
