/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* bistream attach: hands the daemon a QEMU that someone else started. */
#include "config.h"

#include "client/command.h"
#include "client/connection.h"
#include "client/output.h"
#include "client/uri.h"

#include <stdio.h>

enum { OPTION_QMP = COMMAND_OPTION_OWN, OPTION_INCOMING };

static enum command_exit attach(const struct client *client, char *name, const char *socket,
                                bool incoming)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct error err = ERROR_INIT;
    char path[URI_SOCKET_MAX];
    struct bs_domain_attach_args args = {.name = name, .qmp = path, .incoming = incoming};

    if (uri_absolute_socket(socket, path, &err) < 0)
        return command_fail(&err);
    connection = connection_open(client->uri, &err);
    if (!connection ||
        connection_call(connection, BS_PROC_DOMAIN_ATTACH, (xdrproc_t)xdr_bs_domain_attach_args,
                        &args, NULL, NULL, &err) < 0)
        return command_fail(&err);
    if (client->json)
        output_json(json_pack("{so ss}", "name", output_json_string(name), "action", "attached"));
    else if (incoming)
        printf("Domain '%s' attached; it waits for its migration, and is killed if that fails\n",
               name);
    else
        printf("Domain '%s' attached\n", name);
    return COMMAND_DONE;
}

static enum command_exit run(struct client *client, const struct command *command, int argc,
                             char **argv)
{
    static const struct option options[] = {{"qmp", required_argument, NULL, OPTION_QMP},
                                            {"incoming", no_argument, NULL, OPTION_INCOMING},
                                            COMMAND_COMMON_OPTIONS};
    const char *socket = NULL;
    bool incoming = false;
    int option;

    while ((option = command_option(client, command, argc, argv, options)) >= 0) {
        if (option == OPTION_QMP)
            socket = optarg;
        else
            incoming = true;
    }
    if (option == COMMAND_OPTION_EXIT || !command_check_count(client, command, argc, argv, 1, 1))
        return client->exit_code;
    if (!socket)
        return command_usage(command, "attach wants --qmp SOCKET");
    return attach(client, argv[optind], socket, incoming);
}

const struct command command_attach = {
    .name = "attach",
    .synopsis = "--qmp SOCKET [--incoming] NAME",
    .summary = "take in a QEMU that someone else started",
    .help = "Makes the QEMU whose QMP listens on the UNIX socket SOCKET the domain NAME.  It must\n"
            "serve us alone on that socket (-qmp unix:SOCKET,server=on,wait=off).\n"
            "\n"
            "      --qmp=SOCKET    the socket's path\n"
            "      --incoming      it was started with -incoming defer -S and waits for a guest;\n"
            "                      when that migration fails, it is killed\n",
    .run = run,
};
