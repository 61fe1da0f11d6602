/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* What the subcommands share: see command.h. */
#include "config.h"

#include "client/command.h"

#include <stdarg.h>
#include <stdio.h>

static void print_hint(const struct command *command)
{
    fprintf(stderr, "Try 'bistream %s --help'.\n", command->name);
}

void command_print_help(const struct command *command)
{
    printf("Usage: bistream [-c URI] [--json] %s %s\n\n%s", command->name, command->synopsis,
           command->help);
    printf("\nOptions of every command:\n"
           "  -c, --connect=URI   the daemon's control socket: /PATH or unix:///PATH\n"
           "      --json          print JSON instead of text\n"
           "  -h, --help          print this and exit\n");
}

int command_option(struct client *client, const struct command *command, int argc, char **argv,
                   const struct option *options)
{
    for (;;) {
        int option = getopt_long(argc, argv, "c:h", options, NULL);

        switch (option) {
        case 'c':
            client->uri = optarg;
            break;
        case COMMAND_OPTION_JSON:
            client->json = true;
            break;
        case 'h':
            command_print_help(command);
            client->exit_code = COMMAND_DONE;
            return COMMAND_OPTION_EXIT;
        case '?':
            print_hint(command);
            client->exit_code = COMMAND_USAGE;
            return COMMAND_OPTION_EXIT;
        default:
            return option;
        }
    }
}

bool command_check_count(struct client *client, const struct command *command, int argc,
                         char **argv, int minimum, int maximum)
{
    int count = argc - optind;

    if (count >= minimum && count <= maximum)
        return true;
    if (count < minimum)
        client->exit_code = command_usage(command, "%s wants %s", command->name, command->synopsis);
    else
        client->exit_code =
            command_usage(command, "%s: '%s' is too much", command->name, argv[optind + maximum]);
    return false;
}

bool command_arguments(struct client *client, const struct command *command, int argc, char **argv,
                       int count)
{
    static const struct option options[] = {COMMAND_COMMON_OPTIONS};

    if (command_option(client, command, argc, argv, options) == COMMAND_OPTION_EXIT)
        return false;
    return command_check_count(client, command, argc, argv, count, count);
}

enum command_exit command_fail(const struct error *err)
{
    fprintf(stderr, "bistream: %s\n", err->text);
    return COMMAND_FAILED;
}

enum command_exit command_usage(const struct command *command, const char *format, ...)
{
    va_list args;

    fputs("bistream: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    print_hint(command);
    return COMMAND_USAGE;
}
