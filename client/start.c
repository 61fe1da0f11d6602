/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream start: a guest from its definition, or one that the daemon knows and that is shut off.
 * The definition goes to the daemon as it stands; here it is only read far enough to name the line
 * of a mistake in its JSON, and the guest.
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

enum { OPTION_FORCE = COMMAND_OPTION_OWN };

/* A definition's file, and not a guest's name, which has no slash. */
static bool is_file(const char *text)
{
    size_t length = strlen(text);

    return strchr(text, '/') || strcmp(text, "-") == 0 ||
           (length > 5 && strcmp(text + length - 5, ".json") == 0);
}

/* Reads all of PATH ("-": standard input), which may be as long as a definition. */
static int read_text(const char *path, char **ret, struct error *err)
{
    CLEANUP_FCLOSE FILE *opened = NULL;
    FILE *file = stdin;
    CLEANUP_FREE char *text = malloc(BS_DEFINITION_MAX + 2);
    size_t length;

    if (strcmp(path, "-") != 0)
        file = opened = fopen(path, "re");
    if (!file)
        return error_set_errno(err, errno, "can't read the definition %s", path);
    if (!text)
        return error_set_errno(err, ENOMEM, "can't read the definition %s", path);
    length = fread(text, 1, BS_DEFINITION_MAX + 1, file);
    if (ferror(file))
        return error_set_errno(err, errno, "can't read the definition %s", path);
    if (length > BS_DEFINITION_MAX)
        return error_set(err, EFBIG, "the definition %s is longer than %d bytes", path,
                         BS_DEFINITION_MAX);
    text[length] = '\0';
    if (strlen(text) != length)
        return error_set(err, EINVAL, "%s is no JSON text", path);
    *ret = take_ptr(text);
    return 0;
}

/* Fills ARGS (malloc'ed) from the file PATH, and the guest's name for what is said afterwards. */
static int read_definition(const char *path, struct bs_domain_start_args *args, char **ret_name,
                           struct error *err)
{
    json_error_t mistake;
    json_t *json;
    const char *name;

    if (read_text(path, &args->definition, err) < 0)
        return -err->code;
    json = json_loads(args->definition, JSON_REJECT_DUPLICATES, &mistake);
    if (!json)
        return error_set(err, EINVAL, "%s:%d:%d: %s", path, mistake.line, mistake.column,
                         mistake.text);
    name = json_string_value(json_object_get(json, "name"));
    *ret_name = strdup(name ? name : path);
    json_decref(json);
    if (!*ret_name)
        return error_set_errno(err, ENOMEM, "can't read the definition %s", path);
    output_clean(*ret_name);
    return 0;
}

static enum command_exit start(const struct client *client, const char *what, bool force)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_domain_start_args args = {.force = force};
    CLEANUP_FREE char *definition = NULL;
    CLEANUP_FREE char *name = NULL;
    struct error err = ERROR_INIT;
    char empty[] = "";

    args.definition = args.name = empty;
    if (!is_file(what)) {
        args.name = name = strdup(what);
    } else {
        read_definition(what, &args, &name, &err);
        if (args.definition != empty)
            definition = args.definition;
    }
    if (!err.code && !name)
        error_set_errno(&err, ENOMEM, "can't start %s", what);
    if (!err.code)
        connection = connection_open(client->uri, &err);
    if (!connection ||
        connection_call(connection, BS_PROC_DOMAIN_START, (xdrproc_t)xdr_bs_domain_start_args,
                        &args, NULL, NULL, &err) < 0)
        return command_fail(&err);
    if (client->json)
        output_json(json_pack("{so ss}", "name", output_json_string(name), "action", "started"));
    else
        printf("Domain '%s' started\n", name);
    return COMMAND_DONE;
}

static enum command_exit run(struct client *client, const struct command *command, int argc,
                             char **argv)
{
    static const struct option options[] = {{"force", no_argument, NULL, OPTION_FORCE},
                                            COMMAND_COMMON_OPTIONS};
    bool force = false;
    int option;

    while ((option = command_option(client, command, argc, argv, options)) == OPTION_FORCE)
        force = true;
    if (option != COMMAND_OPTION_END || !command_check_count(client, command, argc, argv, 1, 1))
        return client->exit_code;
    return start(client, argv[optind], force);
}

const struct command command_start = {
    .name = "start",
    .synopsis = "[--force] FILE.json | NAME",
    .summary = "start a guest",
    .help = "Starts the guest that FILE.json ('-': standard input) defines, or the domain NAME,\n"
            "which was defined before and is shut off.  An argument with a slash, or that ends\n"
            "with .json, is a file.\n"
            "\n"
            "      --force         also a guest that was migrated away: be sure that it doesn't\n"
            "                      run there\n",
    .run = run,
};
