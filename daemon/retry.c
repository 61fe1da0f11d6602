/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Trying again: see retry.h. */
#include "config.h"

#include "daemon/retry.h"
#include "common/checked.h"
#include "common/loop.h"

#include <stdio.h>
#include <string.h>

#define FIRST_DELAY (500 * LOOP_MS)
#define BRISK_DELAY (5 * LOOP_SECOND)
#define BRISK_TIME (300 * LOOP_SECOND)
#define FIRST_SILENCE (60 * LOOP_SECOND)
#define LAST_SILENCE (3600 * LOOP_SECOND)

void retry_begin(struct retry *retry, uint64_t now)
{
    *retry = (struct retry){.begun = now};
}

unsigned retry_next(struct retry *retry, uint64_t now, unsigned longest_ms)
{
    uint64_t longest = now - retry->begun < BRISK_TIME ? BRISK_DELAY : longest_ms * LOOP_MS;

    retry->delay = retry->delay ? min_u64(2 * retry->delay, longest) : FIRST_DELAY;
    return (unsigned)(retry->delay / LOOP_MS);
}

bool retry_is_news(struct retry *retry, const char *reason, uint64_t now)
{
    if (strcmp(retry->reason, reason) != 0)
        retry->silence = FIRST_SILENCE;
    else if (now - retry->said < retry->silence)
        return false;
    else
        retry->silence = min_u64(2 * retry->silence, LAST_SILENCE);
    retry->said = now;
    snprintf(retry->reason, sizeof retry->reason, "%s", reason);
    return true;
}
