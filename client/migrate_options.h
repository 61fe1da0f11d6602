/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The command line of bistream migrate.
 */
#ifndef CLIENT_MIGRATE_OPTIONS_H
#define CLIENT_MIGRATE_OPTIONS_H

#include "client/command.h"
#include "rpc/protocol.h"

#include <stdbool.h>

struct migrate_options {
    struct bs_migrate_args args; /* points into the command line and to what follows */
    bs_target disks[BS_DISKS_MAX];
    bool verbose;
};

/* Reads the whole command line, and whether what it says goes together.  Returns false when
 * client->exit_code says how to end. */
bool migrate_options_parse(struct migrate_options *ret, struct client *client,
                           const struct command *command, int argc, char **argv);

extern const char migrate_help[]; /* for --help */

#endif
