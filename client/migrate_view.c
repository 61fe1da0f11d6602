/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What the operator sees of a migration.  On a terminal the block of bars is drawn again in place:
 * up by as many lines as were drawn, each line cleared to its end, and what is below the block
 * cleared too (a ^C was echoed there).  Lines that stay are written above the block.
 */
#include "config.h"

#include "client/migrate_view.h"

#include "client/command.h"
#include "client/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { LINE_INTERVAL = 1000, DEFAULT_COLUMNS = 80, DEFAULT_ROWS = 24 };

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void migrate_view_init(struct migrate_view *view, bool json, bool verbose, const char *name,
                       const char *destination)
{
    const char *term = getenv("TERM");

    memset(view, 0, sizeof *view);
    view->verbose = verbose;
    view->name = name;
    view->destination = destination;
    if (json)
        view->kind = MIGRATE_VIEW_JSON;
    else if (isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0)
        view->kind = MIGRATE_VIEW_TERMINAL;
    else
        view->kind = MIGRATE_VIEW_PLAIN;
}

/* ---- the terminal --------------------------------------------------------------------------- */

static size_t number_from(const char *variable)
{
    const char *text = getenv(variable);
    unsigned long number = text ? strtoul(text, NULL, 10) : 0;

    return number < 10000 ? number : 0;
}

/* The environment overrules what the terminal says, as everywhere. */
static void terminal_size(size_t *ret_columns, size_t *ret_rows)
{
    struct winsize size = {0};

    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    *ret_columns = number_from("COLUMNS");
    *ret_rows = number_from("LINES");
    if (*ret_columns == 0)
        *ret_columns = size.ws_col ? size.ws_col : DEFAULT_COLUMNS;
    if (*ret_rows == 0)
        *ret_rows = size.ws_row ? size.ws_row : DEFAULT_ROWS;
}

static const char *phase_words(const char *phase)
{
    static const struct {
        const char *phase, *words;
    } table[] = {{"begin", "looking at its disks"},
                 {"prepare", "preparing the destination"},
                 {"mirror", "copying disks"},
                 {"memory", "copying memory"},
                 {"switch", "switching over"},
                 {"finish", "starting it at the destination"},
                 {"confirm", "cleaning up at the source"}};

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(table[i].phase, phase) == 0)
            return table[i].words;
    }
    return phase;
}

/* What it is doing; may be in OUT. */
static const char *state_words(const struct migrate_view *view, char out[PROGRESS_LINE_MAX])
{
    if (!view->away_ms)
        return phase_words(view->phase);
    snprintf(out, PROGRESS_LINE_MAX, "link lost, resuming (%u s)",
             (unsigned)(view->away_ms / 1000));
    return out;
}

static void draw_line(const char *text, size_t columns)
{
    printf("%.*s\033[K\n", (int)(columns - 1), text);
}

static void erase(struct migrate_view *view)
{
    if (view->drawn > 0)
        printf("\r\033[%zuA\033[J", view->drawn);
    view->drawn = 0;
}

/* The bars to be drawn: all, or memory and the sum of the disks when there are too many. */
static size_t choose_bars(struct migrate_view *view, size_t rows,
                          const struct progress_bar **ret_bars)
{
    const struct progress_bar *disks[MIGRATE_VIEW_BARS];
    size_t disk_count = 0, chosen = 0;

    for (size_t i = 0; i < view->count; i++)
        ret_bars[i] = &view->bars[i];
    if (view->count + 2 <= rows)
        return view->count;
    for (size_t i = 0; i < view->count; i++) {
        if (strcmp(view->bars[i].label, "memory") == 0)
            ret_bars[chosen++] = &view->bars[i];
        else
            disks[disk_count++] = &view->bars[i];
    }
    progress_sum(disks, disk_count, "disks", &view->disks);
    ret_bars[chosen++] = &view->disks;
    return chosen;
}

static void draw(struct migrate_view *view)
{
    const struct progress_bar *bars[MIGRATE_VIEW_BARS + 1];
    char line[PROGRESS_LINE_MAX], state[PROGRESS_LINE_MAX];
    size_t columns, rows, count, label_width = 0;

    terminal_size(&columns, &rows);
    count = choose_bars(view, rows, bars);
    if (view->drawn > 0)
        printf("\r\033[%zuA", view->drawn);
    snprintf(line, sizeof line, "Migrating '%s' to %s: %s", view->name, view->destination,
             state_words(view, state));
    draw_line(line, columns);
    for (size_t i = 0; i < count; i++) {
        if (strlen(bars[i]->label) > label_width)
            label_width = strlen(bars[i]->label);
    }
    for (size_t i = 0; i < count; i++)
        draw_line(progress_line(bars[i], label_width, columns, line), columns);
    fputs("\033[J", stdout);
    fflush(stdout);
    view->drawn = count + 1;
}

/* ---- plain lines ---------------------------------------------------------------------------- */

static void print_plain(struct migrate_view *view)
{
    char words[PROGRESS_LINE_MAX];

    fputs(state_words(view, words), stdout);
    for (size_t i = 0; i < view->count; i++)
        printf("%s%s", i ? "; " : ": ", progress_words(&view->bars[i], words));
    putchar('\n');
    fflush(stdout);
    view->pending = false;
    view->next_line = now_ms() + LINE_INTERVAL;
}

int migrate_view_timeout(const struct migrate_view *view)
{
    uint64_t now;

    if (view->kind != MIGRATE_VIEW_PLAIN || !view->pending)
        return -1;
    now = now_ms();
    return view->next_line > now ? (int)(view->next_line - now) : 0;
}

void migrate_view_tick(struct migrate_view *view)
{
    if (view->kind == MIGRATE_VIEW_PLAIN && view->pending && now_ms() >= view->next_line)
        print_plain(view);
}

void migrate_view_redraw(struct migrate_view *view)
{
    if (view->kind == MIGRATE_VIEW_TERMINAL && view->drawn > 0)
        draw(view);
}

/* ---- events --------------------------------------------------------------------------------- */

void migrate_view_started(struct migrate_view *view, const bs_id id)
{
    char text[OUTPUT_UUID_SIZE];

    if (view->kind == MIGRATE_VIEW_JSON)
        output_json(json_pack("{ss ss so so}", "type", "started", "id", output_uuid(id, text),
                              "name", output_json_string(view->name), "destination",
                              output_json_string(view->destination)));
    else if (view->verbose)
        printf("Migration %s of '%s' to %s has begun\n", output_uuid(id, text), view->name,
               view->destination);
    fflush(stdout);
}

void migrate_view_notice(struct migrate_view *view, const char *text)
{
    if (view->kind == MIGRATE_VIEW_JSON) {
        output_json(json_pack("{ss so}", "type", "notice", "text", output_json_string(text)));
        return;
    }
    if (view->drawn > 0) {
        erase(view);
        printf("%s\n", text);
        draw(view);
    } else {
        printf("%s\n", text);
        fflush(stdout);
    }
}

static json_t *part_json(const struct bs_progress *part)
{
    return json_pack("{sI sI sI sI}", "total", (json_int_t)part->total, "transferred",
                     (json_int_t)part->transferred, "remaining", (json_int_t)part->remaining,
                     "rate", (json_int_t)part->rate);
}

static void progress_json(const struct bs_migrate_progress *progress)
{
    json_t *memory = json_null(), *disks = json_array();

    for (u_int i = 0; i < progress->parts.parts_len; i++) {
        const struct bs_progress *part = &progress->parts.parts_val[i];
        json_t *json = part_json(part);

        if (part->target[0]) {
            json_object_set_new(json, "target", output_json_string(part->target));
            json_array_append_new(disks, json);
        } else {
            json_decref(memory);
            memory = json;
        }
    }
    output_json(json_pack("{ss so so so sI}", "type", "progress", "phase",
                          output_json_string(progress->phase), "memory", memory, "disks", disks,
                          "away_ms", (json_int_t)progress->away_ms));
}

/* The bar of that name, a new one if need be; NULL when there are too many. */
static struct progress_bar *find_bar(struct migrate_view *view, const char *label)
{
    for (size_t i = 0; i < view->count; i++) {
        if (strcmp(view->bars[i].label, label) == 0)
            return &view->bars[i];
    }
    if (view->count == MIGRATE_VIEW_BARS)
        return NULL;
    snprintf(view->bars[view->count].label, PROGRESS_LABEL_MAX, "%s", label);
    output_clean(view->bars[view->count].label);
    return &view->bars[view->count++];
}

static void enter_phase(struct migrate_view *view, const char *phase)
{
    char text[64];

    if (strcmp(view->phase, phase) == 0)
        return;
    snprintf(view->phase, sizeof view->phase, "%s", phase);
    output_clean(view->phase);
    if (!view->verbose)
        return;
    snprintf(text, sizeof text, "Now %s", phase_words(view->phase));
    migrate_view_notice(view, text);
}

void migrate_view_progress(struct migrate_view *view, const struct bs_migrate_progress *progress)
{
    if (view->kind == MIGRATE_VIEW_JSON) {
        progress_json(progress);
        return;
    }
    view->away_ms = progress->away_ms;
    enter_phase(view, progress->phase);
    for (u_int i = 0; i < progress->parts.parts_len; i++) {
        const struct bs_progress *part = &progress->parts.parts_val[i];
        struct progress_bar *bar = find_bar(view, part->target[0] ? part->target : "memory");

        if (bar)
            progress_update(bar, part->total, part->transferred, part->remaining, part->rate);
    }
    view->pending = true;
    if (view->kind == MIGRATE_VIEW_TERMINAL)
        draw(view);
    else
        migrate_view_tick(view);
}

/* ---- the end -------------------------------------------------------------------------------- */

static const char *status_word(unsigned outcome)
{
    switch (outcome) {
    case BS_OUTCOME_COMPLETED:
        return "completed";
    case BS_OUTCOME_FAILED:
        return "failed";
    default:
        return "unresolved";
    }
}

static json_t *text_or_null(const char *text)
{
    return *text ? output_json_string(text) : json_null();
}

static void result_json(const struct bs_migrate_result *result)
{
    json_t *disks = json_array();

    for (u_int i = 0; i < result->disks.disks_len; i++)
        json_array_append_new(disks,
                              json_pack("{so sI}", "target",
                                        output_json_string(result->disks.disks_val[i].target),
                                        "bytes", (json_int_t)result->disks.disks_val[i].bytes));
    output_json(json_pack(
        "{ss ss so sI sI sI so so}", "type", "result", "status", status_word(result->outcome),
        "mode", text_or_null(result->mode), "total_ms", (json_int_t)result->total_ms, "downtime_ms",
        (json_int_t)result->downtime_ms, "ram_bytes", (json_int_t)result->ram_bytes, "disks", disks,
        "error", text_or_null(result->error)));
}

static void print_completed(const struct migrate_view *view, const struct bs_migrate_result *result)
{
    char text[PROGRESS_TEXT_MAX];
    uint64_t bytes = result->ram_bytes;

    printf("Migration of '%s' to %s completed in %.1f s: memory %s", view->name, view->destination,
           (double)result->total_ms / 1000, progress_size(result->ram_bytes, text));
    for (u_int i = 0; i < result->disks.disks_len; i++) {
        const struct bs_disk_bytes *disk = &result->disks.disks_val[i];

        fputs(", ", stdout);
        output_text(disk->target);
        printf(" %s", progress_size(disk->bytes, text));
        bytes += disk->bytes;
    }
    if (result->total_ms > 0)
        printf(" (%s)",
               progress_rate((uint64_t)((double)bytes * 1000 / (double)result->total_ms), text));
    printf("; downtime %llu ms; mode ", (unsigned long long)result->downtime_ms);
    output_text(result->mode);
    putchar('\n');
}

/* All bars are full, and show the bytes that the result tells. */
static void fill_bars(struct migrate_view *view, const struct bs_migrate_result *result)
{
    for (size_t i = 0; i < view->count; i++)
        progress_finish(&view->bars[i],
                        strcmp(view->bars[i].label, "memory") == 0 ? result->ram_bytes : 0);
    for (u_int i = 0; i < result->disks.disks_len; i++) {
        struct progress_bar *bar = find_bar(view, result->disks.disks_val[i].target);

        if (bar)
            progress_finish(bar, result->disks.disks_val[i].bytes);
    }
}

void migrate_view_result(struct migrate_view *view, const struct bs_migrate_result *result)
{
    bool completed = result->outcome == BS_OUTCOME_COMPLETED;

    if (completed && view->count > 0)
        fill_bars(view, result);
    if (view->kind == MIGRATE_VIEW_JSON)
        result_json(result);
    else if (view->kind == MIGRATE_VIEW_PLAIN && (view->pending || completed) && view->count > 0)
        print_plain(view);
    else
        migrate_view_redraw(view);
    if (completed && view->kind != MIGRATE_VIEW_JSON)
        print_completed(view, result);
    fflush(stdout);
    if (completed)
        return;
    if (result->outcome == BS_OUTCOME_FAILED)
        fprintf(stderr, "bistream: the migration of '%s' failed, and the guest stays here: %s\n",
                view->name, result->error);
    else
        fprintf(stderr, "bistream: how the migration of '%s' ended is not known: %s\n", view->name,
                result->error);
}

void migrate_view_refused(struct migrate_view *view, struct error *err)
{
    char nothing[] = "";

    if (view->kind == MIGRATE_VIEW_JSON) {
        struct bs_migrate_result result = {
            .outcome = BS_OUTCOME_FAILED, .mode = nothing, .error = err->text};

        result_json(&result);
    }
    command_fail(err);
}
