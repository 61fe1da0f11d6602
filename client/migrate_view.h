/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What the operator sees of a migration, in one of three manners: bars on a terminal, one plain
 * line a second elsewhere, or JSON, an object a line.
 */
#ifndef CLIENT_MIGRATE_VIEW_H
#define CLIENT_MIGRATE_VIEW_H

#include "client/progress.h"
#include "common/error.h"
#include "rpc/protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum migrate_view_kind { MIGRATE_VIEW_TERMINAL, MIGRATE_VIEW_PLAIN, MIGRATE_VIEW_JSON };

enum { MIGRATE_VIEW_BARS = BS_DISKS_MAX + 1 }; /* memory and disks */

struct migrate_view {
    enum migrate_view_kind kind;
    bool verbose; /* tell of each phase */
    const char *name, *destination;
    char phase[32];
    uint64_t away_ms; /* without a link; 0: there is one */
    struct progress_bar bars[MIGRATE_VIEW_BARS];
    size_t count;
    struct progress_bar disks; /* all disks as one bar, for a terminal with few lines */
    size_t drawn;              /* lines on the terminal */
    bool pending;              /* there is news that a plain line hasn't told yet */
    uint64_t next_line;        /* when it may; milliseconds */
};

/* NAME and DESTINATION must live as long as VIEW. */
void migrate_view_init(struct migrate_view *view, bool json, bool verbose, const char *name,
                       const char *destination);

/* The job has begun. */
void migrate_view_started(struct migrate_view *view, const bs_id id);
void migrate_view_progress(struct migrate_view *view, const struct bs_migrate_progress *progress);
/* A line that stays. */
void migrate_view_notice(struct migrate_view *view, const char *text);
/* The end; what went wrong goes to standard error, also with --json. */
void migrate_view_result(struct migrate_view *view, const struct bs_migrate_result *result);
/* The daemon refused to begin. */
void migrate_view_refused(struct migrate_view *view, struct error *err);

/* How long until migrate_view_tick() is due, in milliseconds; -1: not at all. */
int migrate_view_timeout(const struct migrate_view *view);
void migrate_view_tick(struct migrate_view *view);
/* The terminal has another size, or others wrote on it. */
void migrate_view_redraw(struct migrate_view *view);

#endif
