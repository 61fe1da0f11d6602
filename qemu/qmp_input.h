/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What a QMP server sends: one JSON object per line, in pieces of any size.  No I/O here.
 */
#ifndef QEMU_QMP_INPUT_H
#define QEMU_QMP_INPUT_H

#include <jansson.h>
#include <stddef.h>

struct qmp_input {
    char *data;
    size_t capacity;
    size_t start;   /* the first byte that belongs to no returned message */
    size_t used;    /* where the bytes end */
    size_t scanned; /* no newline stands between start and here */
};

/* A zeroed struct qmp_input is empty. */
void qmp_input_release(struct qmp_input *input);

/* Room for some more bytes, *RET_SIZE > 0 of them.  Returns NULL when there is no memory, or when a
 * message would be longer than QMP_MESSAGE_MAX; errno says which (ENOMEM, EMSGSIZE). */
char *qmp_input_reserve(struct qmp_input *input, size_t *ret_size);
void qmp_input_commit(struct qmp_input *input, size_t size);

/* Takes the next whole message.  Returns 1 with a new reference in RET, 0 when more bytes are
 * needed, or -EPROTO when a line is no JSON object. */
int qmp_input_next(struct qmp_input *input, json_t **ret);

#endif
