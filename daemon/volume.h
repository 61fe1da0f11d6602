/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Volumes: image files in the pool that a migration creates, and old ones that it sets aside.
 *
 * A volume is made under a name that holds the migration's id and then renamed without replacing
 * anything, so a file that was there before is never touched.  Device and inode are remembered:
 * only the very file that was made here is ever deleted.
 */
#ifndef DAEMON_VOLUME_H
#define DAEMON_VOLUME_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* One image of a migration at the destination.  Everything here goes into the journal. */
struct volume {
    char *path;    /* where the guest's disk shall stand */
    char *fresh;   /* where the new image is made */
    char *aside;   /* where the old image of a guest that comes back stands meanwhile; NULL: none */
    char *partial; /* where a copy that broke off is kept for the next attempt; NULL: it isn't */
    bool kept;     /* ... where the new image stands then, and nowhere else */
    bool created;  /* the new image is known by device and inode */
    dev_t device;
    ino_t inode;
};

struct volume_spec {
    const char *format;                   /* "raw", "qcow2" */
    uint64_t size;                        /* virtual, bytes */
    const char *backing, *backing_format; /* NULL: none */
};

/* In order, each step journalled by the caller before the next:
 *
 * volume_plan() names the files of the migration ID (hex) for a disk at PATH and changes nothing.
 * -EEXIST when a file stands at PATH, unless RETURNING: then it is the guest's own old image. */
int volume_plan(const char *path, const char *id, bool returning, struct volume *ret,
                struct error *err);
/* Makes the image, under its fresh name. */
int volume_make(struct volume *volume, const struct volume_spec *spec, struct error *err);
/* Gives it its own name, never replacing anything; an old image goes aside before. */
int volume_place(const struct volume *volume, struct error *err);

/* The attempt failed, in whatever step: deletes what was created (only that inode, or what stands
 * under the fresh name) and puts the old image back.  Harmless when repeated.  Returns 0, or a
 * negative errno with ERR naming what is left behind. */
int volume_undo(const struct volume *volume, struct error *err);

/* The same, but what was created is kept, as PARTIAL (NAME.partial-GUEST), which the caller has
 * journalled.  The caller journals KEPT afterwards: from then on a file at PATH is somebody else's, even
 * if it has come to have that inode.  Harmless when repeated. */
int volume_keep(struct volume *volume, struct error *err);
/* What KEPT, of an earlier attempt, holds of the disk becomes the new image of VOLUME, which is planned
 * and not made, if it is sound and such a one as SPEC asks for.  Returns false if not: nothing has
 * changed. */
bool volume_take_up(struct volume *volume, const struct volume_spec *spec,
                    const struct volume *kept);
/* What was written to it is on disk when this returns 0. */
int volume_sync(const struct volume *volume, struct error *err);

/* The migration is settled and the guest lives here: the old image that was set aside is deleted.
 */
int volume_settle(const struct volume *volume, struct error *err);

/* A disk that is written to and not copied has to be one file, seen by both hosts; another file of
 * that name would be an old copy.  The source lays a marker beside its image, whose name holds the
 * migration's id, and the destination looks for it beside its own.
 * volume_mark_shared(): *RET_MARKER (malloc'ed) is unlinked by the caller.  volume_check_shared():
 * -EXDEV with ERR when it isn't there. */
int volume_mark_shared(const char *path, const char *id, char **ret_marker, struct error *err);
int volume_check_shared(const char *path, const char *id, struct error *err);

void volume_clear(struct volume *volume);

#endif
