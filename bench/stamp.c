/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Word I of a stream is the stream's first word plus I times an odd number.  Blocks of a fixed number
 * of words are what compilers turn into vector instructions at -O2.
 */
#include "config.h"

#include "bench/stamp.h"

#include <string.h>

#define WORD sizeof(uint64_t)
#define BLOCK_WORDS 256
#define BLOCK (BLOCK_WORDS * WORD)

#define STEP UINT64_C(0x9e3779b97f4a7c15)        /* between words */
#define STREAM_STEP UINT64_C(0xc2b2ae3d27d4eb4f) /* between streams */

static uint64_t word_at(unsigned stream, uint64_t position)
{
    return (stream + UINT64_C(1)) * STREAM_STEP + position / WORD * STEP;
}

void stamp_fill(unsigned stream, uint64_t position, uint8_t *buffer, size_t length)
{
    uint64_t word = word_at(stream, position);

    for (; length >= BLOCK; length -= BLOCK, buffer += BLOCK, word += BLOCK_WORDS * STEP)
        for (size_t i = 0; i < BLOCK_WORDS; i++) {
            uint64_t value = word + i * STEP;

            memcpy(buffer + i * WORD, &value, WORD);
        }
    for (; length >= WORD; length -= WORD, buffer += WORD, word += STEP)
        memcpy(buffer, &word, WORD);
}

static int block_is_good(uint64_t word, const uint8_t *data)
{
    uint64_t differ = 0;

    for (size_t i = 0; i < BLOCK_WORDS; i++) {
        uint64_t value;

        memcpy(&value, data + i * WORD, WORD);
        differ |= value ^ (word + i * STEP);
    }
    return differ == 0;
}

/* How many bytes are good, one by one, up to LENGTH. */
static size_t check_bytes(unsigned stream, uint64_t position, const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint64_t word = word_at(stream, position + i);
        uint8_t bytes[WORD];

        memcpy(bytes, &word, WORD);
        if (data[i] != bytes[(position + i) % WORD])
            return i;
    }
    return length;
}

size_t stamp_check(unsigned stream, uint64_t position, const uint8_t *data, size_t length)
{
    size_t done = (size_t)(-position % WORD); /* up to the first whole word */

    if (done > length)
        done = length;
    if (check_bytes(stream, position, data, done) < done)
        return check_bytes(stream, position, data, done);
    while (length - done >= BLOCK && block_is_good(word_at(stream, position + done), data + done))
        done += BLOCK;
    return done + check_bytes(stream, position + done, data + done, length - done);
}
