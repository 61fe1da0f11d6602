/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Progress in words and bars.  Pure formatting: no terminal, no clock.
 */
#ifndef CLIENT_PROGRESS_H
#define CLIENT_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROGRESS_TEXT_MAX = 32,
    PROGRESS_LABEL_MAX = 33,
    PROGRESS_LINE_MAX = 512,
    PROGRESS_FULL = 1000, /* permille */
};

/* "512 B", "1.5 KiB", "20.0 GiB".  Returns OUT, as the next two. */
const char *progress_size(uint64_t bytes, char out[PROGRESS_TEXT_MAX]);
/* "112.3 MiB/s". */
const char *progress_rate(uint64_t bytes_per_second, char out[PROGRESS_TEXT_MAX]);
/* "0:07", "1:02:03"; days are hours. */
const char *progress_time(uint64_t seconds, char out[PROGRESS_TEXT_MAX]);

/* One thing that is copied.  Zero it and set the label. */
struct progress_bar {
    char label[PROGRESS_LABEL_MAX];
    uint64_t transferred, remaining, rate; /* bytes, bytes, bytes per second */
    unsigned permille;                     /* shown; only grows */
};

/* What is known now.  A running guest makes TOTAL and REMAINING grow again; the bar stands still
 * then, it never runs backwards.  It is full only when nothing remains. */
void progress_update(struct progress_bar *bar, uint64_t total, uint64_t transferred,
                     uint64_t remaining, uint64_t rate);
/* It is all copied, TRANSFERRED bytes in the end. */
void progress_finish(struct progress_bar *bar, uint64_t transferred);

/* The sum of COUNT bars as one, labelled LABEL; RET's own permille only grows. */
void progress_sum(const struct progress_bar *const *bars, size_t count, const char *label,
                  struct progress_bar *ret);

/* One line of less than COLUMNS characters, the label padded to LABEL_WIDTH: label, bar, percent,
 * bytes, rate, time left; where there is no room, the rate goes first. */
const char *progress_line(const struct progress_bar *bar, size_t label_width, size_t columns,
                          char out[PROGRESS_LINE_MAX]);

/* The same in words, for a log: "vda 45%, 1.2 GiB, 112.3 MiB/s, 1:23 left". */
const char *progress_words(const struct progress_bar *bar, char out[PROGRESS_LINE_MAX]);

#endif
