/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* UUIDs: 16 bytes, written "6d1c2f0e-...", as on the wire and in QEMU. */
#ifndef DAEMON_UUID_H
#define DAEMON_UUID_H

#include "rpc/protocol.h"

#include <stdint.h>

enum { UUID_SIZE = BS_ID_SIZE, UUID_TEXT_SIZE = 37 };

void uuid_to_text(const uint8_t uuid[UUID_SIZE], char ret[UUID_TEXT_SIZE]);
/* Returns 0, or -EINVAL and leaves RET alone. */
int uuid_from_text(const char *text, uint8_t ret[UUID_SIZE]);
/* A random one.  Returns 0 or a negative errno. */
int uuid_make(uint8_t ret[UUID_SIZE]);

#endif
