/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What all programs of the bench need.  They end at the first thing that goes wrong, with a sentence on
 * standard error and status 1: a run with an error in it has no result.
 */
#ifndef BENCH_DIE_H
#define BENCH_DIE_H

/* Says what went wrong, and with ERROR (an errno) not 0 why, and ends the program. */
void die(int error, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

/* CLOCK_MONOTONIC in seconds. */
double clock_now(void);

#endif
