/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream shutdown, destroy, undefine: each is one call with a domain's name.
 */
#include "config.h"

#include "client/command.h"
#include "client/connection.h"
#include "client/output.h"

#include <stdio.h>

/* Calls PROCEDURE for the domain named on the command line.  ACTION is the word for what
 * happened in JSON, HAPPENED in the text. */
static enum command_exit run_named(struct client *client, const struct command *command, int argc,
                                   char **argv, int procedure, const char *action,
                                   const char *happened)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_domain_name_args args;
    struct error err = ERROR_INIT;

    if (!command_arguments(client, command, argc, argv, 1))
        return client->exit_code;
    args.name = argv[optind];
    connection = connection_open(client->uri, &err);
    if (!connection || connection_call(connection, procedure, (xdrproc_t)xdr_bs_domain_name_args,
                                       &args, NULL, NULL, &err) < 0)
        return command_fail(&err);
    if (client->json)
        output_json(json_pack("{so ss}", "name", output_json_string(args.name), "action", action));
    else
        printf("Domain '%s' %s\n", args.name, happened);
    return COMMAND_DONE;
}

static enum command_exit run_shutdown(struct client *client, const struct command *command,
                                      int argc, char **argv)
{
    return run_named(client, command, argc, argv, BS_PROC_DOMAIN_SHUTDOWN, "shutting down",
                     "is being shut down");
}

static enum command_exit run_destroy(struct client *client, const struct command *command, int argc,
                                     char **argv)
{
    return run_named(client, command, argc, argv, BS_PROC_DOMAIN_DESTROY, "destroyed", "destroyed");
}

static enum command_exit run_undefine(struct client *client, const struct command *command,
                                      int argc, char **argv)
{
    return run_named(client, command, argc, argv, BS_PROC_DOMAIN_UNDEFINE, "undefined",
                     "has been undefined");
}

const struct command command_shutdown = {
    .name = "shutdown",
    .synopsis = "NAME",
    .summary = "ask a guest to shut down",
    .help =
        "Presses the power button of the domain NAME; whether and when it stops is the guest's\n"
        "business.\n",
    .run = run_shutdown,
};

const struct command command_destroy = {
    .name = "destroy",
    .synopsis = "NAME",
    .summary = "end a guest at once",
    .help =
        "Kills the QEMU of the domain NAME, as pulling the plug would.  Its definition and its\n"
        "images stay.\n",
    .run = run_destroy,
};

const struct command command_undefine = {
    .name = "undefine",
    .synopsis = "NAME",
    .summary = "forget a guest that is shut off",
    .help = "Forgets the domain NAME, which must be shut off; its images stay.  A domain that was\n"
            "attached is let go of, and its QEMU runs on.\n",
    .run = run_undefine,
};
