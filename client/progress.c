/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Progress in words and bars: see progress.h. */
#include "config.h"

#include "client/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BAR_MIN = 10, BAR_MAX = 60 };

/* ---- numbers -------------------------------------------------------------------------------- */

static const char *format_size(uint64_t bytes, const char *suffix, char out[PROGRESS_TEXT_MAX])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;

    /* 1023.95 would be printed as 1024.0. */
    while (value >= 1023.95 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(out, PROGRESS_TEXT_MAX, "%" PRIu64 " B%s", bytes, suffix);
    else
        snprintf(out, PROGRESS_TEXT_MAX, "%.1f %s%s", value, units[unit], suffix);
    return out;
}

const char *progress_size(uint64_t bytes, char out[PROGRESS_TEXT_MAX])
{
    return format_size(bytes, "", out);
}

const char *progress_rate(uint64_t bytes_per_second, char out[PROGRESS_TEXT_MAX])
{
    return format_size(bytes_per_second, "/s", out);
}

const char *progress_time(uint64_t seconds, char out[PROGRESS_TEXT_MAX])
{
    uint64_t minutes = seconds / 60, hours = minutes / 60;

    if (hours > 0)
        snprintf(out, PROGRESS_TEXT_MAX, "%" PRIu64 ":%02u:%02u", hours, (unsigned)(minutes % 60),
                 (unsigned)(seconds % 60));
    else
        snprintf(out, PROGRESS_TEXT_MAX, "%" PRIu64 ":%02u", minutes, (unsigned)(seconds % 60));
    return out;
}

/* ---- bars ----------------------------------------------------------------------------------- */

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static unsigned permille_of(uint64_t total, uint64_t remaining)
{
    unsigned permille;

    if (total == 0 || remaining >= total)
        return 0;
    if (remaining == 0)
        return PROGRESS_FULL;
    permille = (unsigned)((double)(total - remaining) / (double)total * PROGRESS_FULL);
    return permille < PROGRESS_FULL ? permille : PROGRESS_FULL - 1;
}

void progress_update(struct progress_bar *bar, uint64_t total, uint64_t transferred,
                     uint64_t remaining, uint64_t rate)
{
    bar->transferred = larger(bar->transferred, transferred);
    bar->remaining = remaining;
    bar->rate = rate;
    bar->permille = (unsigned)larger(bar->permille, permille_of(total, remaining));
}

void progress_finish(struct progress_bar *bar, uint64_t transferred)
{
    bar->transferred = larger(bar->transferred, transferred);
    bar->remaining = 0;
    bar->permille = PROGRESS_FULL;
}

void progress_sum(const struct progress_bar *const *bars, size_t count, const char *label,
                  struct progress_bar *ret)
{
    uint64_t permille = 0;

    snprintf(ret->label, sizeof ret->label, "%s", label);
    ret->transferred = ret->remaining = ret->rate = 0;
    for (size_t i = 0; i < count; i++) {
        ret->transferred += bars[i]->transferred;
        ret->remaining += bars[i]->remaining;
        ret->rate += bars[i]->rate;
        permille += bars[i]->permille;
    }
    if (count > 0)
        ret->permille = (unsigned)larger(ret->permille, permille / count);
}

/* "1:23 left", "done", or nothing while nobody can tell. */
static const char *time_left(const struct progress_bar *bar, char out[PROGRESS_TEXT_MAX])
{
    char time[PROGRESS_TEXT_MAX];

    if (bar->remaining == 0)
        return bar->permille == PROGRESS_FULL ? "done" : "";
    if (bar->rate == 0)
        return "";
    /* Rounded up: "0:00 left" would be a lie. */
    progress_time((bar->remaining - 1) / bar->rate + 1, time);
    snprintf(out, PROGRESS_TEXT_MAX, "%.25s left", time);
    return out;
}

/* "[=====>    ] " with WIDTH characters between the brackets. */
static void draw_bar(char *out, size_t width, unsigned permille)
{
    size_t filled = width * permille / PROGRESS_FULL;

    *out++ = '[';
    memset(out, ' ', width);
    memset(out, '=', filled);
    if (filled < width)
        out[filled] = '>';
    memcpy(out + width, "] ", sizeof "] ");
}

/* What stands behind the bar.  DROP parts are left out, the least needed first. */
static void format_details(const struct progress_bar *bar, unsigned drop,
                           char out[PROGRESS_LINE_MAX])
{
    char size[PROGRESS_TEXT_MAX], rate[PROGRESS_TEXT_MAX], time[PROGRESS_TEXT_MAX];
    size_t used = (size_t)snprintf(out, PROGRESS_LINE_MAX, "%3u%%", bar->permille / 10);

    if (drop < 3)
        used += (size_t)snprintf(out + used, PROGRESS_LINE_MAX - used, "  %10s",
                                 progress_size(bar->transferred, size));
    if (drop < 1)
        used += (size_t)snprintf(out + used, PROGRESS_LINE_MAX - used, "  %12s",
                                 bar->remaining ? progress_rate(bar->rate, rate) : "");
    if (drop < 2)
        snprintf(out + used, PROGRESS_LINE_MAX - used, "  %12s", time_left(bar, time));
}

const char *progress_line(const struct progress_bar *bar, size_t label_width, size_t columns,
                          char out[PROGRESS_LINE_MAX])
{
    char details[PROGRESS_LINE_MAX], drawn[BAR_MAX + sizeof "[] "] = "";

    if (columns < 2 || columns > PROGRESS_LINE_MAX)
        columns = columns < 2 ? 2 : PROGRESS_LINE_MAX;
    for (unsigned drop = 0; drop <= 3; drop++) {
        size_t taken;

        format_details(bar, drop, details);
        /* Label, a blank, the bar's brackets and blank, the details, and a column to spare: a
         * line that fills the last column wraps on some terminals. */
        taken = label_width + 1 + strlen("[] ") + strlen(details) + 1;
        if (taken + BAR_MIN <= columns) {
            size_t width = columns - taken;

            draw_bar(drawn, width < BAR_MAX ? width : BAR_MAX, bar->permille);
            break;
        }
    }
    snprintf(out, columns, "%-*s %s%s", (int)label_width, bar->label, drawn, details);
    return out;
}

const char *progress_words(const struct progress_bar *bar, char out[PROGRESS_LINE_MAX])
{
    char size[PROGRESS_TEXT_MAX], rate[PROGRESS_TEXT_MAX], time[PROGRESS_TEXT_MAX];
    const char *left = time_left(bar, time);

    snprintf(out, PROGRESS_LINE_MAX, "%s %u%%, %s%s%s%s%s", bar->label, bar->permille / 10,
             progress_size(bar->transferred, size), bar->remaining ? ", " : "",
             bar->remaining ? progress_rate(bar->rate, rate) : "", *left ? ", " : "", left);
    return out;
}
