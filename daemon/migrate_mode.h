/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Which mode a migration gets, from what was asked for and what both sides can do.  Pure: nothing is
 * asked or touched here, so a refusal leaves everything as it was.  docs/modes.md has the table.
 */
#ifndef DAEMON_MIGRATE_MODE_H
#define DAEMON_MIGRATE_MODE_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

enum migrate_mode {
    MODE_BISTREAM, /* RAM and disks through channels of a session */
    MODE_TUNNEL,   /* RAM through the one-way stream of an older call */
    MODE_DIRECT,   /* RAM and disks from QEMU to QEMU, through TCP ports */
    MODE_OFFLINE,  /* the images of a guest that is shut off, through channels of a session */
};
#define MODES (MODE_OFFLINE + 1)

/* How the disks that are copied go along. */
enum migrate_carrier {
    CARRIER_NONE,  /* none is copied */
    CARRIER_NBD,   /* mirrors (or, offline, our own copy) into NBD exports */
    CARRIER_BLOCK, /* in the migration stream, by QEMU's own `block` migration */
};

struct migrate_question {
    uint64_t flags;       /* BS_MIGRATE_* */
    uint64_t here, there; /* BS_FEATURE_* of this host and of the peer */
    bool copies;          /* some disk is to be copied */
    bool some_stay;       /* ... and another, which the guest writes to, is not */
    bool some_tops;       /* of some disk only the top layer ... */
    bool some_wholes;     /* ... and of some all is copied */
};

struct migrate_choice {
    enum migrate_mode mode;
    enum migrate_carrier carrier;
    bool tls;             /* MODE_DIRECT: QEMU's own */
    const char *fallback; /* why it isn't what was asked for, a constant clause; NULL: it is */
};

/* Returns 0, or -ENOTSUP with ERR, which says what stands in the way and what would work. */
int migrate_choose(const struct migrate_question *question, struct migrate_choice *ret,
                   struct error *err);

const char *migrate_mode_name(enum migrate_mode mode);
/* Returns MODES for what is none. */
enum migrate_mode migrate_mode_by_name(const char *name);

#endif
