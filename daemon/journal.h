/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The journal of migrations: a file per migration and side in state_dir/migrations, written before
 * each step (statefile.h).  incoming_journal.c and migrate_journal.c say what stands in them.
 */
#ifndef DAEMON_JOURNAL_H
#define DAEMON_JOURNAL_H

#include "common/error.h"
#include "rpc/protocol.h"

#include <jansson.h>
#include <stdint.h>

#define JOURNAL_VERSION 1
#define JOURNAL_SOURCE "source"
#define JOURNAL_DESTINATION "destination"

/* Makes the folder.  Returns its path, malloc'ed, or NULL with ERR. */
char *journal_open(const char *state_dir, struct error *err);

/* Calls EACH with the id (hex) of every entry of SIDE.  What can't be read, or has a version that is
 * not known, is named in the log and left alone. */
int journal_each(const char *journal, const char *side, void (*each)(void *opaque, const char *hex),
                 void *opaque, struct error *err);

void journal_id_to_text(const uint8_t id[BS_ID_SIZE], char ret[2 * BS_ID_SIZE + 1]);
/* Returns 0 or -EINVAL. */
int journal_id_from_text(const char *text, uint8_t ret[BS_ID_SIZE]);

#endif
