/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream job abort, set, resolve: what the operator says to a migration.
 *
 * abort and resolve return once the daemon has taken them up.  What becomes of the guest comes
 * later: a resolved one's destination is asked once more, and what it says for certain decides.
 */
#include "config.h"

#include "client/job.h"

#include "client/connection.h"
#include "client/output.h"
#include "client/progress.h"

#include <stdio.h>

static void print_action(const char *name, const char *action)
{
    output_json(json_pack("{so ss}", "name", output_json_string(name), "action", action));
}

enum command_exit job_abort(const struct client *client, const struct job_options *options)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_job_name_args args = {.name = options->name};
    struct error err = ERROR_INIT;

    connection = connection_open(client->uri, &err);
    if (!connection ||
        connection_call(connection, BS_PROC_JOB_ABORT, (xdrproc_t)xdr_bs_job_name_args, &args, NULL,
                        NULL, &err) < 0)
        return command_fail(&err);
    if (client->json)
        print_action(options->name, "aborting");
    else
        printf("The migration of '%s' is being aborted; the guest stays where it is\n",
               options->name);
    return COMMAND_DONE;
}

static void print_resolve(const char *name, enum bs_resolve resolve)
{
    printf("The destination is asked once more; if it says that it has '%s',\n"
           "or that it never will, that decides.  ",
           name);
    if (resolve == BS_RESOLVE_KEEP)
        puts("Else the guest runs on here.\n"
             "If it runs at the destination too, two guests write to their own copies\n"
             "of the disks and go apart: be certain that it doesn't.");
    else
        printf("Else the guest is left to the destination\n"
               "and ended here.  If it never ran there, it runs nowhere until\n"
               "'bistream start --force %s' here; its images here stay.\n",
               name);
    printf("'bistream info %s' shows what has become of it.\n", name);
}

enum command_exit job_resolve(const struct client *client, const struct job_options *options)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    enum bs_resolve resolve = options->keep ? BS_RESOLVE_KEEP : BS_RESOLVE_GIVE_UP;
    struct bs_job_resolve_args args = {.name = options->name, .resolve = resolve};
    struct error err = ERROR_INIT;

    connection = connection_open(client->uri, &err);
    if (!connection ||
        connection_call(connection, BS_PROC_JOB_RESOLVE, (xdrproc_t)xdr_bs_job_resolve_args, &args,
                        NULL, NULL, &err) < 0)
        return command_fail(&err);
    if (client->json)
        print_action(options->name, resolve == BS_RESOLVE_KEEP ? "keeping" : "giving up");
    else
        print_resolve(options->name, resolve);
    return COMMAND_DONE;
}

enum command_exit job_set(const struct client *client, const struct job_options *options)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_job_set_args args = {.name = options->name, .bandwidth = options->bandwidth};
    char rate[PROGRESS_TEXT_MAX];
    struct error err = ERROR_INIT;

    connection = connection_open(client->uri, &err);
    if (!connection || connection_call(connection, BS_PROC_JOB_SET, (xdrproc_t)xdr_bs_job_set_args,
                                       &args, NULL, NULL, &err) < 0)
        return command_fail(&err);
    if (client->json)
        output_json(json_pack("{so sI}", "name", output_json_string(args.name), "bandwidth",
                              (json_int_t)args.bandwidth));
    else if (args.bandwidth)
        printf("The migration of '%s' takes %s at the most\n", args.name,
               progress_rate(args.bandwidth, rate));
    else
        printf("The migration of '%s' takes what it gets\n", args.name);
    return COMMAND_DONE;
}
