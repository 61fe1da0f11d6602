/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Memory that fails when asked to: see failmalloc.h.  The functions defined here are found first by
 * the dynamic linker; they find the C library's as the next ones.
 */
#include "config.h"

#include "tests/unit/failmalloc.h"
#include "tests/unit/unit.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

static _Thread_local bool armed, failed;
static _Thread_local size_t left, bytes;
static _Thread_local long live;

bool failmalloc_works(void)
{
    void *volatile block;

    failmalloc_arm(0);
    block = malloc(1);
    free(block);
    return failmalloc_disarm();
}

void failmalloc_arm(size_t n)
{
    left = n;
    failed = false;
    armed = true;
}

bool failmalloc_disarm(void)
{
    armed = false;
    return failed;
}

long failmalloc_live(void)
{
    return live;
}

size_t failmalloc_bytes(void)
{
    return bytes;
}

#if !UNDER_SANITIZER

static bool fails(size_t size)
{
    bytes += size;
    if (!armed || left-- > 0)
        return false;
    armed = false;
    failed = true;
    errno = ENOMEM;
    return true;
}

static void *count(void *block)
{
    if (block)
        live++;
    return block;
}

void *malloc(size_t size)
{
    static void *(*next)(size_t);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "malloc");
    return fails(size) ? NULL : count(next(size));
}

void *calloc(size_t number, size_t size)
{
    static void *(*next)(size_t, size_t);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "calloc");
    return fails(number * size) ? NULL : count(next(number, size));
}

void *realloc(void *block, size_t size)
{
    static void *(*next)(void *, size_t);
    void *moved;

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "realloc");
    if (fails(size))
        return NULL;
    moved = next(block, size);
    return block ? moved : count(moved);
}

void free(void *block)
{
    static void (*next)(void *);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "free");
    if (block)
        live--;
    next(block);
}

#endif
