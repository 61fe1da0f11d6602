/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * An error as a person reads it: what was being done, to what, and what can be done about it.
 * The code is a positive errno value; rpc/error.h maps it to and from the codes on the wire.
 */
#ifndef COMMON_ERROR_H
#define COMMON_ERROR_H

#define ERROR_TEXT_MAX 1024

struct error {
    int code;                  /* 0: no error */
    char text[ERROR_TEXT_MAX]; /* one sentence, no final newline */
};

#define ERROR_INIT \
    {              \
        .code = 0  \
    }

/* Sets CODE (a positive errno) and the sentence; over-long text is cut.  ERR may be NULL, and its
 * old sentence may be part of the new one.  Returns -CODE, so that a function can end with
 * "return error_set(...)". */
int error_set(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As error_set(), with ": " and strerror(CODE) behind the sentence. */
int error_set_errno(struct error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "PREFIX: " before the sentence that ERR already holds.  Returns -err->code, or -EIO when
 * ERR is NULL: never 0 for a failure. */
int error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

void error_clear(struct error *err);

#endif
