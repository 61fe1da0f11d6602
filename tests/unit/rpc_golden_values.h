/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* One value for every message of protocol.x, each field with a value that no other one has. */
#ifndef TESTS_UNIT_RPC_GOLDEN_VALUES_H
#define TESTS_UNIT_RPC_GOLDEN_VALUES_H

#include "rpc/message.h"

struct golden {
    const char *name; /* the procedure's name in enum bs_procedure, and which of its messages */
    struct bs_header header;
    xdrproc_t proc; /* NULL: no payload */
    size_t size;
    const void *value;
};
extern const struct golden golden_messages[];
extern const size_t golden_message_count;

struct golden_frame {
    const char *name;
    struct bs_frame frame;
    const char *data;
};
extern const struct golden_frame golden_frames[];
extern const size_t golden_frame_count;

#endif
