/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream: the operator's command.  Options before the command's name are read here, the rest is
 * the command's; what every command knows (-c, --json, --help) may stand in either place.
 */
#include "config.h"

#include "client/command.h"

#include <stdio.h>
#include <string.h>

static const struct command *const commands[] = {
    &command_start,
    &command_attach,
    &command_list,
    &command_info,
    &command_shutdown,
    &command_destroy,
    &command_undefine,
    &command_migrate,
    &command_job,
    &command_forward,
    &command_probe,
    &command_pki,
    NULL,
};

static void print_help(void)
{
    printf("Usage: bistream [-c URI] [--json] COMMAND [OPTION...] [ARGUMENT...]\n\n"
           "Moves running guests, disks and all, through one TLS connection.\n\n"
           "Commands:\n");
    for (size_t i = 0; commands[i]; i++)
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    printf("\n'bistream COMMAND --help' tells of a command's options.\n\n"
           "Options:\n"
           "  -c, --connect=URI   the daemon's control socket: /PATH or unix:///PATH (default:\n"
           "                      $BISTREAM_URI, else /run/bistream/bistreamd.sock)\n"
           "      --json          print JSON instead of text\n"
           "  -h, --help          print this and exit\n"
           "  -V, --version       print the version and exit\n");
}

static enum command_exit usage_hint(void)
{
    fputs("Try 'bistream --help'.\n", stderr);
    return COMMAND_USAGE;
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; commands[i]; i++) {
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    }
    return NULL;
}

/* Returns true when the command's name stands at optind; else exit_code says how to end. */
static bool parse_options(struct client *client, int argc, char **argv)
{
    static const struct option options[] = {{"version", no_argument, NULL, 'V'},
                                            COMMAND_COMMON_OPTIONS};

    for (;;) {
        /* '+': stop at the command, whose options are its own. */
        switch (getopt_long(argc, argv, "+c:hV", options, NULL)) {
        case 'c':
            client->uri = optarg;
            break;
        case COMMAND_OPTION_JSON:
            client->json = true;
            break;
        case 'h':
            print_help();
            client->exit_code = COMMAND_DONE;
            return false;
        case 'V':
            printf("bistream %s\n", PACKAGE_VERSION);
            client->exit_code = COMMAND_DONE;
            return false;
        case -1:
            if (optind < argc)
                return true;
            fputs("bistream: no command was given\n", stderr);
            client->exit_code = usage_hint();
            return false;
        default:
            client->exit_code = usage_hint();
            return false;
        }
    }
}

static enum command_exit run_command(struct client *client, int argc, char **argv)
{
    const struct command *command = find_command(argv[0]);
    char name[64];

    if (!command) {
        fprintf(stderr, "bistream: there is no command '%s'\n", argv[0]);
        return usage_hint();
    }
    /* getopt begins its sentences with this. */
    snprintf(name, sizeof name, "bistream %s", command->name);
    argv[0] = name;
    optind = 0;
    return command->run(client, command, argc, argv);
}

int main(int argc, char **argv)
{
    struct client client = {.uri = NULL};
    static char name[] = "bistream";
    enum command_exit exit_code;

    if (argc > 0)
        argv[0] = name;
    if (parse_options(&client, argc, argv))
        exit_code = run_command(&client, argc - optind, argv + optind);
    else
        exit_code = client.exit_code;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("bistream: can't write to standard output\n", stderr);
        if (exit_code == COMMAND_DONE && !client.output_may_fail)
            exit_code = COMMAND_FAILED;
    }
    return (int)exit_code;
}
