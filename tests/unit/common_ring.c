/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The ring buffer: growing while it wraps, its two-part vectors, and a long random use of it beside
 * a flat array that must hold the same bytes.
 */
#include "config.h"

#include "common/ring.h"
#include "tests/unit/failmalloc.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void fill(uint8_t *out, size_t length, uint8_t first)
{
    for (size_t i = 0; i < length; i++)
        out[i] = (uint8_t)(first + i);
}

static void test_empty(void **state)
{
    struct ring ring = {0};
    struct iovec iov[2];
    uint8_t byte;

    (void)state;
    assert_int_equal(ring_peek(&ring, 0, 10, iov), 0);
    assert_int_equal(ring_reserve(&ring, 0, iov), 0);
    assert_int_equal(ring_append(&ring, "", 0), 0);
    ring_copy(&ring, 0, &byte, 0);
    ring_drop(&ring, 0);
    ring_commit(&ring, 0);
    assert_null(ring.data); /* nothing is allocated for nothing */
    ring_release(&ring);
}

static void test_append_and_drop(void **state)
{
    struct ring ring = {0};
    char out[16] = {0};

    (void)state;
    assert_int_equal(ring_append(&ring, "hello, ", 7), 0);
    assert_int_equal(ring_append(&ring, "world", 5), 0);
    assert_int_equal(ring.size, 12);
    ring_copy(&ring, 0, out, 12);
    assert_string_equal(out, "hello, world");
    ring_drop(&ring, 7);
    assert_int_equal(ring.size, 5);
    ring_copy(&ring, 1, out, 4);
    assert_memory_equal(out, "orld", 4);
    ring_release(&ring);
    assert_int_equal(ring.size, 0);
    assert_null(ring.data);
}

/* Room that wraps comes in two parts, and so do the bytes. */
static void test_wrap(void **state)
{
    struct ring ring = {0};
    struct iovec iov[2];
    uint8_t bytes[4096];

    (void)state;
    fill(bytes, sizeof bytes, 0);
    assert_int_equal(ring_append(&ring, bytes, 4000), 0);
    assert_int_equal(ring.capacity, 4096);
    ring_drop(&ring, 3900);
    assert_int_equal(ring_reserve(&ring, 200, iov), 2);
    assert_int_equal(iov[0].iov_len, 96);
    assert_int_equal(iov[1].iov_len, 104);
    assert_ptr_equal(iov[1].iov_base, ring.data);
    memset(iov[0].iov_base, 'a', 96);
    memset(iov[1].iov_base, 'b', 104);
    ring_commit(&ring, 150); /* less than was asked for */
    assert_int_equal(ring.size, 250);
    assert_int_equal(ring.capacity, 4096);
    assert_int_equal(ring_peek(&ring, 100, 1000, iov), 2);
    assert_int_equal(iov[0].iov_len, 96);
    assert_int_equal(iov[1].iov_len, 54);
    assert_int_equal(((uint8_t *)iov[1].iov_base)[53], 'b');
    assert_int_equal(ring_peek(&ring, 250, 1, iov), 0);
    assert_int_equal(ring_peek(&ring, 249, 0, iov), 0);

    /* growing puts them in order */
    assert_int_equal(ring_reserve(&ring, 4096, iov), 1);
    assert_int_equal(ring.capacity, 8192);
    assert_int_equal(ring_peek(&ring, 0, 250, iov), 1);
    assert_memory_equal(iov[0].iov_base, bytes + 3900, 100);
    assert_int_equal(((uint8_t *)iov[0].iov_base)[195], 'a');
    assert_int_equal(((uint8_t *)iov[0].iov_base)[196], 'b');
    ring_release(&ring);
}

/* Exactly full: the end meets the beginning. */
static void test_full(void **state)
{
    struct ring ring = {0};
    uint8_t bytes[4096], out[4096];

    (void)state;
    fill(bytes, sizeof bytes, 7);
    assert_int_equal(ring_append(&ring, bytes, 4096), 0);
    ring_drop(&ring, 1000);
    assert_int_equal(ring_append(&ring, bytes, 1000), 0);
    assert_int_equal(ring.capacity, 4096);
    assert_int_equal(ring.size, 4096);
    ring_copy(&ring, 0, out, 4096);
    assert_memory_equal(out, bytes + 1000, 3096);
    assert_memory_equal(out + 3096, bytes, 1000);
    assert_int_equal(ring_append(&ring, "x", 1), 0);
    assert_int_equal(ring.capacity, 8192);
    ring_copy(&ring, 4096, out, 1);
    assert_int_equal(out[0], 'x');
    ring_drop(&ring, 4097);
    assert_int_equal(ring.size, 0);
    ring_release(&ring);
}

static void test_random_use(void **state)
{
    enum { MOST = 70000 };
    struct ring ring = {0};
    uint8_t *flat = malloc(MOST), *out = malloc(MOST);
    size_t held = 0;
    unsigned seed = 4711;

    (void)state;
    for (int step = 0; step < 20000; step++) {
        size_t most = rand_r(&seed) % 8 ? 300 : 20000, n = (unsigned)rand_r(&seed) % most;

        if (rand_r(&seed) % 2) {
            n = n < MOST - held ? n : MOST - held;
            fill(flat + held, n, (uint8_t)rand_r(&seed));
            assert_int_equal(ring_append(&ring, flat + held, n), 0);
            held += n;
        } else {
            n = n < held ? n : held;
            ring_drop(&ring, n);
            memmove(flat, flat + n, held - n);
            held -= n;
        }
        assert_int_equal(ring.size, held);
        n = held ? (unsigned)rand_r(&seed) % held : 0;
        ring_copy(&ring, n, out, held - n);
        assert_memory_equal(out, flat + n, held - n);
    }
    ring_release(&ring);
    free(flat);
    free(out);
}

static void test_no_memory(void **state)
{
    struct ring ring = {0};
    struct iovec iov[2];
    char out[5];

    (void)state;
    assert_int_equal(ring_append(&ring, "hello", 5), 0);
    assert_int_equal(ring_reserve(&ring, SIZE_MAX, iov), -ENOMEM);
    assert_int_equal(ring_reserve(&ring, SIZE_MAX - 5, iov), -ENOMEM);
    assert_int_equal(ring_reserve(&ring, SIZE_MAX / 2 + 10, iov), -ENOMEM);
    if (failmalloc_works()) {
        failmalloc_arm(0);
        assert_int_equal(ring_reserve(&ring, 10000, iov), -ENOMEM);
        assert_true(failmalloc_disarm());
    }
    assert_int_equal(ring.size, 5);
    ring_copy(&ring, 0, out, 5);
    assert_memory_equal(out, "hello", 5);
    ring_release(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),      cmocka_unit_test(test_append_and_drop),
        cmocka_unit_test(test_wrap),       cmocka_unit_test(test_full),
        cmocka_unit_test(test_random_use), cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
