/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The log: see log.h.  A line is put together in one buffer and leaves in one write(2), so that
 * lines of several threads never mix.
 */
#include "config.h"

#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static enum log_level log_max = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    log_max = level;
}

/* systemd names the stream that its journal reads.  The variable is inherited by all that is started
 * from a service, a desktop's terminal among them, so it has to be our standard error that it names. */
static bool journal_reads(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

static size_t put_prefix(char *line, size_t size, enum log_level level)
{
    struct timespec now;
    struct tm tm;
    size_t used;

    if (journal_reads())
        return (size_t)snprintf(line, size, "<%d>", (int)level);
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    used = strftime(line, size, "%Y-%m-%d %H:%M:%S", &tm);
    return used + (size_t)snprintf(line + used, size - used, ".%03ld %s", now.tv_nsec / 1000000,
                                   level == LOG_LEVEL_ERROR     ? "error: "
                                   : level == LOG_LEVEL_WARNING ? "warning: "
                                                                : "");
}

void log_line(enum log_level level, const char *format, ...)
{
    char line[2048];
    int saved = errno, n;
    va_list args;
    size_t used;

    if (level > log_max)
        return;
    used = put_prefix(line, sizeof line, level);
    va_start(args, format);
    n = vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    if (n < 0)
        return;
    used = strlen(line);
    for (size_t i = 0; i < used; i++) /* a peer's text must not forge lines */
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = ' ';
    line[used++] = '\n';
    (void)!write(STDERR_FILENO, line, used); /* a failure has nowhere left to be said */
    errno = saved;
}
