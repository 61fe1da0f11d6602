/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Errors for people: see error.h. */
#include "config.h"

#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Puts the sentence together aside first: what it is made of may be ERR's old one. */
static void set_text(struct error *err, int code, const char *format, va_list args)
{
    char text[ERROR_TEXT_MAX];

    vsnprintf(text, sizeof text, format, args);
    memcpy(err->text, text, strlen(text) + 1);
    err->code = code;
}

static void append_errno(struct error *err, int code)
{
    char buffer[128];
    size_t used = strlen(err->text);

    /* The GNU strerror_r may return a constant string instead of filling the buffer. */
    snprintf(err->text + used, sizeof err->text - used, ": %s",
             strerror_r(code, buffer, sizeof buffer));
}

int error_set(struct error *err, int code, const char *format, ...)
{
    va_list args;

    if (!err)
        return -code;
    va_start(args, format);
    set_text(err, code, format, args);
    va_end(args);
    return -code;
}

int error_set_errno(struct error *err, int code, const char *format, ...)
{
    va_list args;

    if (!err)
        return -code;
    va_start(args, format);
    set_text(err, code, format, args);
    va_end(args);
    append_errno(err, code);
    return -code;
}

int error_prefix(struct error *err, const char *format, ...)
{
    char prefixed[ERROR_TEXT_MAX];
    va_list args;
    size_t used;

    if (!err)
        return -EIO;
    va_start(args, format);
    vsnprintf(prefixed, sizeof prefixed, format, args);
    va_end(args);
    used = strlen(prefixed);
    snprintf(prefixed + used, sizeof prefixed - used, ": %s", err->text);
    memcpy(err->text, prefixed, strlen(prefixed) + 1);
    return -err->code;
}

void error_clear(struct error *err)
{
    err->code = 0;
    err->text[0] = '\0';
}
