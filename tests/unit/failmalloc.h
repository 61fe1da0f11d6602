/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Memory that fails when asked to.  Linked into a test, failmalloc.c stands before the C library's
 * malloc(), calloc(), realloc() and free(), for the test and for every library that it uses.  What
 * is counted is counted per thread.
 *
 *     for (size_t n = 0;; n++) {
 *         failmalloc_arm(n);
 *         r = what_is_tested();
 *         if (!failmalloc_disarm())
 *             break;
 *         assert_int_equal(r, -ENOMEM);
 *     }
 */
#ifndef TESTS_UNIT_FAILMALLOC_H
#define TESTS_UNIT_FAILMALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* False under the sanitizers and valgrind, which have a malloc() of their own: skip() then. */
bool failmalloc_works(void);

/* Lets N allocations of this thread succeed, fails the next one, and lets all that follow succeed.
 */
void failmalloc_arm(size_t n);
/* Ends that.  Returns whether an allocation has failed. */
bool failmalloc_disarm(void);

/* Blocks that this thread has allocated and not freed: the same before and after means no leak. */
long failmalloc_live(void);
/* Bytes that this thread has asked for, ever. */
size_t failmalloc_bytes(void);

#endif
