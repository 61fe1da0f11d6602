/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Splitting what a QMP server sends: see qmp_input.h.
 *
 * The bytes lie in one flat block, because a message is parsed in one piece.  The block starts
 * small, doubles up to the longest message, and moves down to its start when there is no more room
 * behind; every byte is looked at once for a newline.
 */
#include "config.h"

#include "qemu/qmp_input.h"
#include "qemu/qmp.h"

#include <errno.h>
#include <string.h>

enum { FIRST_CAPACITY = 4096 };

void qmp_input_release(struct qmp_input *input)
{
    free(input->data);
    memset(input, 0, sizeof *input);
}

static void move_down(struct qmp_input *input)
{
    memmove(input->data, input->data + input->start, input->used - input->start);
    input->used -= input->start;
    input->scanned -= input->start;
    input->start = 0;
}

char *qmp_input_reserve(struct qmp_input *input, size_t *ret_size)
{
    if (input->start)
        move_down(input);
    if (input->used == input->capacity) {
        size_t capacity = input->capacity ? 2 * input->capacity : FIRST_CAPACITY;
        char *data;

        if (capacity > QMP_MESSAGE_MAX) {
            errno = EMSGSIZE;
            return NULL;
        }
        data = realloc(input->data, capacity);
        if (!data)
            return NULL;
        input->data = data;
        input->capacity = capacity;
    }
    *ret_size = input->capacity - input->used;
    return input->data + input->used;
}

void qmp_input_commit(struct qmp_input *input, size_t size)
{
    input->used += size;
}

int qmp_input_next(struct qmp_input *input, json_t **ret)
{
    const char *line = input->data + input->start;
    const char *newline;
    json_t *message;

    if (input->scanned == input->used)
        return 0;
    newline = memchr(input->data + input->scanned, '\n', input->used - input->scanned);
    if (!newline) {
        input->scanned = input->used;
        return 0;
    }
    message = json_loadb(line, (size_t)(newline - line), 0, NULL);
    input->start = input->scanned = (size_t)(newline - input->data) + 1;
    if (!json_is_object(message)) {
        json_decref(message);
        return -EPROTO;
    }
    *ret = message;
    return 1;
}
