/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* What the two ends of a session allow each other: see session_limits.h. */
#include "config.h"

#include "daemon/session_limits.h"
#include "common/checked.h"

#include <errno.h>

enum {
    FIRST_WINDOW = 16384, /* small for idle channels' sake; it grows where there is traffic */
    ACCEPTOR_SHARE = 32,  /* one channel of so many may be opened by the acceptor */
};

/* Channels for which half the memory can be set aside; channel 0 is one more. */
static uint32_t channels_for(uint64_t memory, uint32_t first_window)
{
    uint64_t channels = memory / 2 / first_window;

    return (uint32_t)min_u64(channels > 0 ? channels - 1 : 0, BS_CHANNELS_MAX);
}

struct mux_limits session_limits_local(uint64_t memory, bool opener)
{
    uint32_t all = channels_for(memory, FIRST_WINDOW);
    uint32_t few = all / ACCEPTOR_SHARE;

    return (struct mux_limits){.first_window = FIRST_WINDOW, .channels = opener ? few : all - few};
}

int session_limits_remote(const struct bs_limits *said, uint64_t memory, bool opener,
                          struct mux_limits *ret, struct error *err)
{
    uint32_t fit;

    if (said->first_window == 0 || said->first_window > BS_WINDOW_FIRST_MAX)
        return error_set(err, EINVAL, "a first window of %u bytes is not between 1 and %d",
                         said->first_window, BS_WINDOW_FIRST_MAX);
    if (said->channels > BS_CHANNELS_MAX)
        return error_set(err, EINVAL, "%u channels are more than the %d that a session may have",
                         said->channels, BS_CHANNELS_MAX);
    fit = session_limits_local(memory, !opener).channels;
    ret->first_window = said->first_window;
    ret->channels = said->channels < fit ? said->channels : fit;
    return 0;
}
