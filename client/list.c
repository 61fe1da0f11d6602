/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* bistream list: the domains that the daemon knows. */
#include "config.h"

#include "client/command.h"
#include "client/connection.h"
#include "client/output.h"
#include "common/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { OPTION_ALL = COMMAND_OPTION_OWN, COLUMNS = 4, PID_SIZE = 12 };

static json_t *domain_json(const struct bs_domain *domain)
{
    char uuid[OUTPUT_UUID_SIZE];

    return json_pack("{so ss so so sb sb}", "name", output_json_string(domain->name), "uuid",
                     output_uuid(domain->uuid, uuid), "state", output_json_string(domain->state),
                     "pid", domain->pid ? json_integer(domain->pid) : json_null(), "attached",
                     domain->attached, "persistent", domain->persistent);
}

static void print_json(const struct bs_domain_list_ret *list)
{
    json_t *array = json_array();

    for (u_int i = 0; i < list->domains.domains_len; i++)
        json_array_append_new(array, domain_json(&list->domains.domains_val[i]));
    output_json(array);
}

static int print_table(const struct bs_domain_list_ret *list, struct error *err)
{
    size_t rows = (size_t)list->domains.domains_len + 1;
    CLEANUP_FREE const char **cells = calloc(rows * COLUMNS, sizeof *cells);
    CLEANUP_FREE char *pids = calloc(rows, PID_SIZE);

    if (!cells || !pids)
        return error_set_errno(err, ENOMEM, "can't list the domains");
    cells[0] = "PID";
    cells[1] = "Name";
    cells[2] = "Persistent";
    cells[3] = "State";
    for (size_t row = 1; row < rows; row++) {
        const struct bs_domain *domain = &list->domains.domains_val[row - 1];
        char *pid = pids + row * PID_SIZE;

        snprintf(pid, PID_SIZE, domain->pid ? "%d" : "-", domain->pid);
        cells[row * COLUMNS] = pid;
        cells[row * COLUMNS + 1] = output_clean(domain->name);
        cells[row * COLUMNS + 2] = domain->persistent ? "yes" : "no";
        cells[row * COLUMNS + 3] = output_clean(domain->state);
    }
    output_table(cells, rows, COLUMNS);
    return 0;
}

static enum command_exit list(const struct client *client, bool all)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_domain_list_args args = {.all = all};
    struct bs_domain_list_ret ret = {0};
    struct error err = ERROR_INIT;

    connection = connection_open(client->uri, &err);
    if (connection &&
        connection_call(connection, BS_PROC_DOMAIN_LIST, (xdrproc_t)xdr_bs_domain_list_args, &args,
                        (xdrproc_t)xdr_bs_domain_list_ret, &ret, &err) == 0) {
        if (client->json)
            print_json(&ret);
        else
            print_table(&ret, &err);
        xdr_free((xdrproc_t)xdr_bs_domain_list_ret, (char *)&ret);
    }
    return err.code ? command_fail(&err) : COMMAND_DONE;
}

static enum command_exit run(struct client *client, const struct command *command, int argc,
                             char **argv)
{
    static const struct option options[] = {{"all", no_argument, NULL, OPTION_ALL},
                                            COMMAND_COMMON_OPTIONS};
    bool all = false;
    int option;

    while ((option = command_option(client, command, argc, argv, options)) == OPTION_ALL)
        all = true;
    if (option != COMMAND_OPTION_END || !command_check_count(client, command, argc, argv, 0, 0))
        return client->exit_code;
    return list(client, all);
}

const struct command command_list = {
    .name = "list",
    .synopsis = "[--all]",
    .summary = "list the guests of this host",
    .help =
        "Lists the domains that have a QEMU.\n"
        "\n"
        "      --all           also those that are shut off or were moved away\n"
        "\n"
        "With --json: an array of {\"name\", \"uuid\", \"state\", \"pid\" (or null),\n"
        "\"attached\" (true: its QEMU was started by someone else), \"persistent\" (false: goes\n"
        "when its guest is shut down)}.\n",
    .run = run,
};
