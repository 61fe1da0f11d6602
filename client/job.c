/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream job: the migrations under way here, by the names of their guests; ending one, and
 * deciding one whose destination never said whether it has the guest.
 *
 * abort and resolve return once the daemon has taken them up.  What becomes of the guest comes
 * later: a resolved one's destination is asked once more, and what it says for certain decides.
 */
#include "config.h"

#include "client/command.h"
#include "client/connection.h"
#include "client/output.h"
#include "common/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_KEEP = COMMAND_OPTION_OWN, OPTION_GIVE_UP, COLUMNS = 3 };

/* ---- list ----------------------------------------------------------------------------------- */

static void print_json(const struct bs_job_list_ret *list)
{
    json_t *array = json_array();

    for (u_int i = 0; i < list->jobs.jobs_len; i++) {
        const struct bs_job *job = &list->jobs.jobs_val[i];
        char id[OUTPUT_UUID_SIZE];

        json_array_append_new(
            array,
            json_pack("{ss so so so so}", "id", output_uuid(job->id, id), "name",
                      output_json_string(job->name), "destination",
                      output_json_string(job->destination), "phase", output_json_string(job->phase),
                      "reason", *job->reason ? output_json_string(job->reason) : json_null()));
    }
    output_json(array);
}

/* Sentences are too long for a column.  Names and phases have been cleaned for the table. */
static void print_reasons(const struct bs_job_list_ret *list)
{
    bool unresolved = false, settling = false;

    for (u_int i = 0; i < list->jobs.jobs_len; i++) {
        const struct bs_job *job = &list->jobs.jobs_val[i];

        if (!*job->reason)
            continue;
        printf("\n%s is %s: %s\n", job->name, job->phase, output_clean(job->reason));
        if (strcmp(job->phase, "unresolved") == 0)
            unresolved = true;
        else
            settling = true;
    }
    if (unresolved)
        puts("\nbistreamd goes on asking the destination; 'bistream job resolve' decides without "
             "its answer.");
    if (settling)
        puts("\nbistreamd goes on telling the destination what was decided; if that is gone for "
             "good,\n'bistream job abort' ends it.");
}

static int print_table(const struct bs_job_list_ret *list, struct error *err)
{
    size_t rows = (size_t)list->jobs.jobs_len + 1;
    CLEANUP_FREE const char **cells = calloc(rows * COLUMNS, sizeof *cells);

    if (!cells)
        return error_set_errno(err, ENOMEM, "can't list the jobs");
    cells[0] = "Guest";
    cells[1] = "Destination";
    cells[2] = "Phase";
    for (size_t row = 1; row < rows; row++) {
        const struct bs_job *job = &list->jobs.jobs_val[row - 1];

        cells[row * COLUMNS] = output_clean(job->name);
        cells[row * COLUMNS + 1] = output_clean(job->destination);
        cells[row * COLUMNS + 2] = output_clean(job->phase);
    }
    output_table(cells, rows, COLUMNS);
    print_reasons(list);
    return 0;
}

static enum command_exit list_jobs(const struct client *client)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_job_list_ret ret = {0};
    struct error err = ERROR_INIT;

    connection = connection_open(client->uri, &err);
    if (connection && connection_call(connection, BS_PROC_JOB_LIST, NULL, NULL,
                                      (xdrproc_t)xdr_bs_job_list_ret, &ret, &err) == 0) {
        if (client->json)
            print_json(&ret);
        else
            print_table(&ret, &err);
        xdr_free((xdrproc_t)xdr_bs_job_list_ret, (char *)&ret);
    }
    return err.code ? command_fail(&err) : COMMAND_DONE;
}

/* ---- abort and resolve ---------------------------------------------------------------------- */

static void print_action(const char *name, const char *action)
{
    output_json(json_pack("{so ss}", "name", output_json_string(name), "action", action));
}

static enum command_exit abort_job(const struct client *client, char *name)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_job_name_args args = {.name = name};
    struct error err = ERROR_INIT;

    connection = connection_open(client->uri, &err);
    if (!connection ||
        connection_call(connection, BS_PROC_JOB_ABORT, (xdrproc_t)xdr_bs_job_name_args, &args, NULL,
                        NULL, &err) < 0)
        return command_fail(&err);
    if (client->json)
        print_action(name, "aborting");
    else
        printf("The migration of '%s' is being aborted; the guest stays where it is\n", name);
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

static enum command_exit resolve_job(const struct client *client, char *name,
                                     enum bs_resolve resolve)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_job_resolve_args args = {.name = name, .resolve = resolve};
    struct error err = ERROR_INIT;

    connection = connection_open(client->uri, &err);
    if (!connection ||
        connection_call(connection, BS_PROC_JOB_RESOLVE, (xdrproc_t)xdr_bs_job_resolve_args, &args,
                        NULL, NULL, &err) < 0)
        return command_fail(&err);
    if (client->json)
        print_action(name, resolve == BS_RESOLVE_KEEP ? "keeping" : "giving up");
    else
        print_resolve(name, resolve);
    return COMMAND_DONE;
}

/* ---- the command line ----------------------------------------------------------------------- */

static enum command_exit refuse_action(const struct command *command, const char *action)
{
    if (strcmp(action, "info") == 0 || strcmp(action, "set") == 0)
        return command_usage(command, "job %s is not supported by this version", action);
    return command_usage(command, "there is no 'job %s'", action);
}

/* NAME is NULL where none was given. */
static enum command_exit run_action(const struct client *client, const struct command *command,
                                    const char *action, char *name, bool keep, bool give_up)
{
    bool is_list = strcmp(action, "list") == 0;
    bool is_abort = strcmp(action, "abort") == 0;
    bool is_resolve = strcmp(action, "resolve") == 0;

    if (!is_list && !is_abort && !is_resolve)
        return refuse_action(command, action);
    if (is_list && name)
        return command_usage(command, "job list takes no name, and '%s' is one", name);
    if (!is_list && !name)
        return command_usage(command, "job %s wants the NAME of a guest", action);
    if (!is_resolve && (keep || give_up))
        return command_usage(command, "job %s takes neither --keep nor --give-up", action);
    if (is_list)
        return list_jobs(client);
    if (is_abort)
        return abort_job(client, name);
    if (keep == give_up)
        return command_usage(command, "job resolve wants one of --keep and --give-up");
    return resolve_job(client, name, keep ? BS_RESOLVE_KEEP : BS_RESOLVE_GIVE_UP);
}

static enum command_exit run(struct client *client, const struct command *command, int argc,
                             char **argv)
{
    static const struct option options[] = {{"keep", no_argument, NULL, OPTION_KEEP},
                                            {"give-up", no_argument, NULL, OPTION_GIVE_UP},
                                            COMMAND_COMMON_OPTIONS};
    bool keep = false, give_up = false;
    int option;

    while ((option = command_option(client, command, argc, argv, options)) >= COMMAND_OPTION_OWN) {
        if (option == OPTION_KEEP)
            keep = true;
        else
            give_up = true;
    }
    if (option != COMMAND_OPTION_END || !command_check_count(client, command, argc, argv, 1, 2))
        return client->exit_code;
    return run_action(client, command, argv[optind], argv[optind + 1], keep, give_up);
}

const struct command command_job = {
    .name = "job",
    .synopsis = "list | abort NAME | resolve NAME --keep|--give-up",
    .summary = "list, abort and resolve migrations under way",
    .help =
        "  list      lists the migrations away from this host, with their phase: as migrate tells\n"
        "            it; \"unresolved\", and why; or \"settling\": decided, and the destination "
        "has\n"
        "            still to hear it\n"
        "  abort     asks the daemon to abort the migration of the guest NAME, which stays here;\n"
        "            refused once the destination was asked to run it\n"
        "  resolve   decides about the guest NAME, whose destination was asked to run it and "
        "never\n"
        "            said whether it does; here it is paused meanwhile.  The destination is asked\n"
        "            once more: if it says that it has the guest, or that it never will, that\n"
        "            decides and not the option:\n"
        "\n"
        "      --keep      run the guest on here.  If it runs at the destination too, two guests\n"
        "                  write to their own copies of the disks and go apart: be certain that "
        "it\n"
        "                  doesn't.  Not done when the destination answers that it has the guest\n"
        "      --give-up   leave the guest to the destination, and end it here.  If it never ran\n"
        "                  there, it runs nowhere until it is started with 'start --force'.  Its\n"
        "                  images here stay\n"
        "\n"
        "abort and resolve don't wait for what becomes of the guest: see 'bistream info NAME'.\n"
        "With --json: list prints an array of {\"id\", \"name\", \"destination\", \"phase\",\n"
        "\"reason\" (null where nothing is unresolved)}; the others {\"name\", \"action\"}, where\n"
        "action is \"aborting\", \"keeping\" or \"giving up\".\n",
    .run = run,
};
