/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What a subcommand is, and the manner they share: options, exit codes, how failures are said.
 * One file per subcommand; main.c has the table.
 */
#ifndef CLIENT_COMMAND_H
#define CLIENT_COMMAND_H

#include "common/error.h"

#include <getopt.h>
#include <stdbool.h>

enum command_exit {
    COMMAND_DONE = 0,
    COMMAND_FAILED = 1, /* for migrate: and the guest is safe at the source */
    COMMAND_USAGE = 2,
    COMMAND_UNRESOLVED = 3, /* migrate only: where the guest is has to be found out */
};

/* What the options that every command knows have said. */
struct client {
    const char *uri; /* -c; NULL: the environment's or the default socket */
    bool json;
    bool output_may_fail;        /* the exit code tells of more than what could be printed */
    enum command_exit exit_code; /* when command_option() returns COMMAND_OPTION_EXIT */
};

struct command {
    const char *name;
    const char *synopsis; /* what follows the name in the usage line */
    const char *summary;  /* for the list in "bistream --help" */
    const char *help;     /* the rest of "bistream NAME --help"; lines end with '\n' */
    /* ARGV[0] is "bistream NAME".  Returns an exit code. */
    enum command_exit (*run)(struct client *client, const struct command *command, int argc,
                             char **argv);
};

extern const struct command command_start;
extern const struct command command_attach;
extern const struct command command_list;
extern const struct command command_info;
extern const struct command command_shutdown;
extern const struct command command_destroy;
extern const struct command command_undefine;
extern const struct command command_migrate;
extern const struct command command_job;
extern const struct command command_forward;
extern const struct command command_probe;
extern const struct command command_pki;

/* ---- options -------------------------------------------------------------------------------- */

enum {
    COMMAND_OPTION_END = -1,   /* no more options: optind is the first argument */
    COMMAND_OPTION_EXIT = -2,  /* --help was served, or a mistake was said: use exit_code */
    COMMAND_OPTION_JSON = 256, /* common options' own values */
    COMMAND_OPTION_OWN = 512,  /* a command's long options count from here */
};

/* The end of each command's option table: what all of them know. */
#define COMMAND_COMMON_OPTIONS                                                                   \
    {"connect", required_argument, NULL, 'c'}, {"json", no_argument, NULL, COMMAND_OPTION_JSON}, \
        {"help", no_argument, NULL, 'h'},                                                        \
    {                                                                                            \
        NULL, 0, NULL, 0                                                                         \
    }

/* The next of the command's own options, or COMMAND_OPTION_END or COMMAND_OPTION_EXIT. */
int command_option(struct client *client, const struct command *command, int argc, char **argv,
                   const struct option *options);

/* For commands without options of their own: parses the common ones and takes exactly COUNT
 * arguments, which begin at ARGV[optind].  Returns false when exit_code is to be used. */
bool command_arguments(struct client *client, const struct command *command, int argc, char **argv,
                       int count);

/* Checks that MINIMUM to MAXIMUM arguments are left at optind.  Returns false, having said what is
 * missing or too much, when exit_code is to be used. */
bool command_check_count(struct client *client, const struct command *command, int argc,
                         char **argv, int minimum, int maximum);

void command_print_help(const struct command *command);

/* ---- saying what went wrong ----------------------------------------------------------------- */

/* "bistream: SENTENCE" on standard error.  Returns COMMAND_FAILED. */
enum command_exit command_fail(const struct error *err);
/* The same for wrong usage, with the hint where help is.  Returns COMMAND_USAGE. */
enum command_exit command_usage(const struct command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
