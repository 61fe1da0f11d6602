/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* bistream forward --list: one row per pair of sockets, the forward's own cells in the first. */
#include "config.h"

#include "client/forward.h"

#include "client/connection.h"
#include "client/output.h"
#include "client/progress.h"
#include "common/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { COLUMNS = 7 };

/* The texts of one forward's numbers. */
struct numbers {
    char id[PROGRESS_TEXT_MAX], channels[PROGRESS_TEXT_MAX], sent[PROGRESS_TEXT_MAX],
        received[PROGRESS_TEXT_MAX];
};

static void print_json(const struct bs_forward_list_ret *list)
{
    json_t *array = json_array();

    for (u_int i = 0; i < list->forwards.forwards_len; i++) {
        const struct bs_forward *forward = &list->forwards.forwards_val[i];
        json_t *sockets = json_array();

        for (u_int j = 0; j < forward->pairs.pairs_len; j++)
            json_array_append_new(
                sockets,
                json_pack("{so so}", "local", output_json_string(forward->pairs.pairs_val[j].local),
                          "remote", output_json_string(forward->pairs.pairs_val[j].remote)));
        json_array_append_new(
            array, json_pack("{sI so so sI sI sI}", "id", (json_int_t)forward->id, "destination",
                             output_json_string(forward->destination), "sockets", sockets,
                             "channels", (json_int_t)forward->channels, "sent",
                             (json_int_t)forward->sent, "received", (json_int_t)forward->received));
    }
    output_json(array);
}

static void fill_row(const char **cells, const struct bs_forward *forward, u_int pair,
                     struct numbers *numbers)
{
    if (pair == 0) {
        snprintf(numbers->id, sizeof numbers->id, "%u", forward->id);
        snprintf(numbers->channels, sizeof numbers->channels, "%u", forward->channels);
        cells[0] = numbers->id;
        cells[1] = output_clean(forward->destination);
        cells[2] = numbers->channels;
        cells[3] = progress_size(forward->sent, numbers->sent);
        cells[4] = progress_size(forward->received, numbers->received);
    } else {
        for (int i = 0; i < 5; i++)
            cells[i] = "";
    }
    cells[5] = output_clean(forward->pairs.pairs_val[pair].local);
    cells[6] = output_clean(forward->pairs.pairs_val[pair].remote);
}

static int print_table(const struct bs_forward_list_ret *list, struct error *err)
{
    static const char *const heading[COLUMNS] = {"ID",       "Destination", "Channels", "Sent",
                                                 "Received", "Local",       "Remote"};
    CLEANUP_FREE struct numbers *numbers = NULL;
    CLEANUP_FREE const char **cells = NULL;
    size_t rows = 1;

    for (u_int i = 0; i < list->forwards.forwards_len; i++)
        rows += list->forwards.forwards_val[i].pairs.pairs_len;
    cells = calloc(rows * COLUMNS, sizeof *cells);
    numbers = calloc((size_t)list->forwards.forwards_len + 1, sizeof *numbers);
    if (!cells || !numbers)
        return error_set_errno(err, ENOMEM, "can't list the forwards");
    for (int i = 0; i < COLUMNS; i++)
        cells[i] = heading[i];
    rows = 1;
    for (u_int i = 0; i < list->forwards.forwards_len; i++) {
        const struct bs_forward *forward = &list->forwards.forwards_val[i];

        for (u_int pair = 0; pair < forward->pairs.pairs_len; pair++)
            fill_row(cells + rows++ * COLUMNS, forward, pair, &numbers[i]);
    }
    output_table(cells, rows, COLUMNS);
    return 0;
}

enum command_exit forward_list(const struct client *client)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_forward_list_ret ret = {0};
    struct error err = ERROR_INIT;

    connection = connection_open(client->uri, &err);
    if (connection && connection_call(connection, BS_PROC_FORWARD_LIST, NULL, NULL,
                                      (xdrproc_t)xdr_bs_forward_list_ret, &ret, &err) == 0) {
        if (client->json)
            print_json(&ret);
        else
            print_table(&ret, &err);
        xdr_free((xdrproc_t)xdr_bs_forward_list_ret, (char *)&ret);
    }
    return err.code ? command_fail(&err) : COMMAND_DONE;
}
