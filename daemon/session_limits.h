/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What the two ends of a session allow each other, so that the first windows of all channels that
 * may ever be open fit into each one's session_memory.
 */
#ifndef DAEMON_SESSION_LIMITS_H
#define DAEMON_SESSION_LIMITS_H

#include "common/error.h"
#include "mux/session.h"
#include "rpc/protocol.h"

#include <stdbool.h>
#include <stdint.h>

/* What this side says in BISTREAM_OPEN.  Nearly all channels are opened by the opener, so it is the
 * acceptor that allows many. */
struct mux_limits session_limits_local(uint64_t memory, bool opener);

/* Checks what the peer said and cuts it down to what this side will use of it.  Returns 0, or
 * -EINVAL with ERR when it is outside of protocol.x's constants. */
int session_limits_remote(const struct bs_limits *said, uint64_t memory, bool opener,
                          struct mux_limits *ret, struct error *err);

#endif
