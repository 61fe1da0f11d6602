/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* What the users of both ends of a pair do in random schedules, and the schedules' seeds. */
#ifndef TESTS_UNIT_MUX_USERS_H
#define TESTS_UNIT_MUX_USERS_H

#include "tests/unit/mux_pair.h"
#include "tests/unit/random.h"
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <time.h>

struct users {
    struct pair *pair;
    uint64_t most;       /* bytes per channel and direction */
    unsigned opens_left; /* both sides together */
    unsigned resets;     /* in a thousand steps */
};

/* For pair->take. */
static inline size_t users_take_some(struct pair_side *side, uint32_t channel, size_t length)
{
    (void)side;
    (void)channel;
    switch (below(4)) {
    case 0:
        return 0;
    case 1:
        return below(length + 1);
    default:
        return length;
    }
}

static inline void users_step(struct users *users, struct pair_side *side)
{
    uint32_t channel = (uint32_t)below(side->highest + 1);

    if (users->opens_left > 0 && below(20) == 0 && !side->closed) {
        uint32_t number = pair_open(side, below(users->most), below(users->most));

        users->opens_left -= number != 0;
        return;
    }
    if (users->resets > 0 && below(1000) < users->resets)
        pair_reset(side, channel);
    else if (below(2))
        pair_write(side, channel, any_size(users->most));
    else
        pair_read(side, channel, any_size(users->most));
}

/* ---- seeds ------------------------------------------------------------------------------------ */

static uint64_t running_seed;
static bool running;

/* Runs as many schedules as COUNT= says, else COUNT, from SEED= or from a new seed on, which is printed.
 * Returns how many. */
static inline uint64_t users_run(void (*run)(void), uint64_t count)
{
    uint64_t seed = from_environment("SEED", (uint64_t)time(NULL) * 1000003);

    count = from_environment("COUNT", count);
    print_message("SEED=%" PRIu64 " COUNT=%" PRIu64 "\n", seed, count);
    running = true;
    for (uint64_t i = 0; i < count; i++) {
        random_state = running_seed = seed + i;
        run();
    }
    running = false;
    return count;
}

/* The test's teardown: names the schedule that failed. */
static inline int users_name_seed(void **state)
{
    (void)state;
    if (running)
        print_message("replay it with SEED=%" PRIu64 " COUNT=1\n", running_seed);
    return 0;
}

#endif
