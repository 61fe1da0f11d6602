/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The log: one line per event on standard error, the object and its state first
 * ("session 3f2a channel 5 (nbd/vda): reset by peer: ...").  Lines carry syslog's <N> prefix when
 * systemd's journal reads them, and a time stamp otherwise.  Never called per frame.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

enum log_level {
    LOG_LEVEL_ERROR = 3, /* syslog's numbers */
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7,
};

/* Lines above LEVEL are dropped (default: LOG_LEVEL_INFO).  Call before threads start. */
void log_set_level(enum log_level level);

/* Leaves errno alone.  Control characters become blanks. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
