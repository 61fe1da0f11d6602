/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Numbers on the command line.
 */
#ifndef CLIENT_NUMBER_H
#define CLIENT_NUMBER_H

#include "common/error.h"

#include <stdint.h>

/* Reads TEXT, the value of OPTION ("--timeout"), a decimal number from MINIMUM to MAXIMUM.  UNIT is
 * what it counts ("seconds").  Returns 0, or -EINVAL with ERR. */
int number_parse(const char *option, const char *text, const char *unit, uint64_t minimum,
                 uint64_t maximum, uint64_t *ret, struct error *err);

/* Reads TEXT, a rate with one of K, M, G or T behind it (KiB/s, MiB/s, ...), into bytes per second.
 * A number without one counts MiB/s, as virsh has it.  0 is no cap.  Returns 0, or -EINVAL with ERR. */
int number_parse_rate(const char *option, const char *text, uint64_t *ret, struct error *err);

#endif
