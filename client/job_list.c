/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* bistream job list: the migrations under way, and why one is unresolved. */
#include "config.h"

#include "client/job.h"

#include "client/connection.h"
#include "client/output.h"
#include "common/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 3 };

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

enum command_exit job_list(const struct client *client, const struct job_options *options)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_job_list_ret ret = {0};
    struct error err = ERROR_INIT;

    (void)options;
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
