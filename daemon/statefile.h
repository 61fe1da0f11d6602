/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Small JSON files that must survive a crash: written under another name, fsynced, renamed, and
 * their folder fsynced, so that at any moment there is the old one or the new one.
 */
#ifndef DAEMON_STATEFILE_H
#define DAEMON_STATEFILE_H

#include "common/error.h"

#include <jansson.h>

/* Puts JSON (borrowed; NULL is reported as out of memory) at FOLDER/NAME.json, whatever stood there.
 * Returns 0, or a negative errno with ERR; the old file is there then. */
int statefile_write(const char *folder, const char *name, const json_t *json, struct error *err);

/* The same in two steps: only the second, a rename, changes FOLDER/NAME.json, and needs no space on the
 * disk.  What was prepared and not committed is forgotten by statefile_forget(). */
int statefile_prepare(const char *folder, const char *name, const json_t *json, struct error *err);
int statefile_commit(const char *folder, const char *name, struct error *err);
void statefile_forget(const char *folder, const char *name);

/* Removes it, and what was prepared for it; fine when it isn't there. */
int statefile_remove(const char *folder, const char *name, struct error *err);

/* Reads it.  Returns NULL with ERR (ENOENT: there is none). */
json_t *statefile_read(const char *folder, const char *name, struct error *err);

/* Calls EACH with the name of every state file in FOLDER; half-written ones are deleted. */
int statefile_list(const char *folder, void (*each)(void *opaque, const char *name), void *opaque,
                   struct error *err);

#endif
