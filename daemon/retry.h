/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Trying something again until it works: briskly at first, while somebody may be looking on, then
 * rarely, and without filling the log.  Times are loop_clock()'s, given by the caller.
 */
#ifndef DAEMON_RETRY_H
#define DAEMON_RETRY_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

struct retry {
    uint64_t begun, delay;       /* nanoseconds */
    uint64_t said, silence;      /* when the log last had a line, and for how long it has none */
    char reason[ERROR_TEXT_MAX]; /* what it said */
};

void retry_begin(struct retry *retry, uint64_t now);
/* How long to wait now, in milliseconds: 0.5 s, doubling, up to 5 s in the first five minutes and up
 * to LONGEST_MS later. */
unsigned retry_next(struct retry *retry, uint64_t now, unsigned longest_ms);
/* Whether another failure because of REASON deserves a line: a new reason does, the same one after a
 * minute, then two, and so on up to an hour. */
bool retry_is_news(struct retry *retry, const char *reason, uint64_t now);

#endif
