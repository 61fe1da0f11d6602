/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream forward: UNIX sockets of this host lead to UNIX sockets of another, through one session
 * that the daemon keeps.  In the foreground the forward lives as long as the connection to the
 * daemon; with --detach it is the daemon's, and --list and --stop see to it.
 */
#include "config.h"

#include "client/command.h"
#include "client/connection.h"
#include "client/forward.h"
#include "client/output.h"
#include "client/uri.h"
#include "io/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_DETACH = COMMAND_OPTION_OWN,
    OPTION_LIST,
    OPTION_STOP,
    OPTION_USER,
    OPTION_MODE,
};

struct forward {
    struct client *client;
    bool list;
    const char *stop; /* the id's text */
    struct bs_forward_start_args args;
    struct bs_forward_pair pairs[BS_FORWARDS_MAX];
    char paths[BS_FORWARDS_MAX][2][URI_SOCKET_MAX];
};

/* ---- in the foreground ---------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* SIGINT and SIGTERM arrive only under *RET_MASK, while waiting. */
static void catch_signals(sigset_t *ret_mask)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigset_t blocked;

    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, ret_mask);
    sigdelset(ret_mask, SIGINT);
    sigdelset(ret_mask, SIGTERM);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* Returns 1 with the reason in ERR when EVENT says that forward ID has ended. */
static int handle_event(const struct rpc_message *event, unsigned id, struct error *err)
{
    struct bs_forward_ended ended = {0};
    int over = 0;

    if (event->header.procedure != BS_PROC_EVENT_FORWARD_ENDED)
        return 0;
    if (rpc_payload_decode(event->payload, event->length, (xdrproc_t)xdr_bs_forward_ended, &ended) <
        0)
        return error_set(err, EPROTO, "bistreamd sent an event that can't be decoded");
    if (ended.id == id) {
        error_set(err, ECONNRESET, "the forward has ended: %s", output_clean(ended.reason));
        over = 1;
    }
    xdr_free((xdrproc_t)xdr_bs_forward_ended, (char *)&ended);
    return over;
}

static int stop(struct connection *connection, unsigned id, struct error *err)
{
    struct bs_forward_stop_args args = {.id = id};

    return connection_call(connection, BS_PROC_FORWARD_STOP, (xdrproc_t)xdr_bs_forward_stop_args,
                           &args, NULL, NULL, err);
}

/* Until the operator, the daemon or the link ends it. */
static enum command_exit wait_for_end(struct connection *connection, unsigned id,
                                      const sigset_t *mask)
{
    struct error err = ERROR_INIT;

    for (;;) {
        struct rpc_message event;
        int result = connection_next_event(connection, mask, -1, &event, &err);

        if (interrupted) {
            if (result == 0)
                rpc_message_clear(&event);
            return stop(connection, id, &err) < 0 ? command_fail(&err) : COMMAND_DONE;
        }
        if (result == -EINTR)
            continue;
        if (result == 0) {
            result = handle_event(&event, id, &err);
            rpc_message_clear(&event);
        }
        if (result != 0)
            return command_fail(&err);
    }
}

static enum command_exit start(struct forward *forward)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_forward_start_ret ret = {0};
    struct error err = ERROR_INIT;
    sigset_t mask;

    connection = connection_open(forward->client->uri, &err);
    if (!connection ||
        connection_call(connection, BS_PROC_FORWARD_START, (xdrproc_t)xdr_bs_forward_start_args,
                        &forward->args, (xdrproc_t)xdr_bs_forward_start_ret, &ret, &err) < 0)
        return command_fail(&err);
    catch_signals(&mask);
    if (forward->client->json)
        output_json(json_pack("{ss sI}", "type", "ready", "id", (json_int_t)ret.id));
    else
        puts("ready");
    if (forward->args.detach && !forward->client->json)
        printf("Forward %u is the daemon's now; 'bistream forward --stop %u' ends it\n", ret.id,
               ret.id);
    fflush(stdout);
    return forward->args.detach ? COMMAND_DONE : wait_for_end(connection, ret.id, &mask);
}

static enum command_exit stop_by_id(const struct forward *forward)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct error err = ERROR_INIT;
    unsigned id = (unsigned)strtoul(forward->stop, NULL, 10);

    connection = connection_open(forward->client->uri, &err);
    if (!connection || stop(connection, id, &err) < 0)
        return command_fail(&err);
    if (forward->client->json)
        output_json(json_pack("{sI ss}", "id", (json_int_t)id, "action", "stopped"));
    else
        printf("Forward %u stopped\n", id);
    return COMMAND_DONE;
}

/* ---- the command line ----------------------------------------------------------------------- */

static bool is_number(const char *text, int base, unsigned long maximum, unsigned long *ret)
{
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *ret = strtoul(text, &end, base);
    return !errno && *end == '\0' && *ret <= maximum;
}

static enum command_exit parse_mode(struct forward *forward, const struct command *command)
{
    unsigned long mode;

    if (!is_number(optarg, 8, 0777, &mode) || mode == 0)
        return command_usage(command, "--socket-mode wants an octal mode such as 0660, not '%s'",
                             optarg);
    forward->args.socket_mode = (u_int)mode;
    return COMMAND_DONE;
}

static enum command_exit parse_stop(struct forward *forward, const struct command *command)
{
    unsigned long id;

    if (!is_number(optarg, 10, UINT32_MAX, &id))
        return command_usage(command, "--stop wants a forward's number, not '%s'", optarg);
    forward->stop = optarg;
    return COMMAND_DONE;
}

/* Returns false when client->exit_code says how to end. */
static bool parse_options(struct forward *forward, const struct command *command, int argc,
                          char **argv)
{
    static const struct option options[] = {{"detach", no_argument, NULL, OPTION_DETACH},
                                            {"list", no_argument, NULL, OPTION_LIST},
                                            {"stop", required_argument, NULL, OPTION_STOP},
                                            {"socket-user", required_argument, NULL, OPTION_USER},
                                            {"socket-mode", required_argument, NULL, OPTION_MODE},
                                            COMMAND_COMMON_OPTIONS};
    struct client *client = forward->client;

    for (;;) {
        client->exit_code = COMMAND_DONE;
        switch (command_option(client, command, argc, argv, options)) {
        case OPTION_DETACH:
            forward->args.detach = 1;
            break;
        case OPTION_LIST:
            forward->list = true;
            break;
        case OPTION_STOP:
            client->exit_code = parse_stop(forward, command);
            break;
        case OPTION_USER:
            forward->args.socket_user = optarg;
            break;
        case OPTION_MODE:
            client->exit_code = parse_mode(forward, command);
            break;
        case COMMAND_OPTION_END:
            return true;
        default:
            return false;
        }
        if (client->exit_code != COMMAND_DONE)
            return false;
    }
}

/* DEST LOCAL:REMOTE... */
static int parse_pairs(struct forward *forward, int count, char **arguments, struct error *err)
{
    struct net_address address;

    if (net_parse_uri(arguments[0], &address, err) < 0)
        return -err->code;
    forward->args.destination = arguments[0];
    for (int i = 0; i < count - 1; i++) {
        char(*paths)[URI_SOCKET_MAX] = forward->paths[i];

        if (uri_forward_pair(arguments[i + 1], paths[0], paths[1], err) < 0)
            return -err->code;
        for (int earlier = 0; earlier < i; earlier++) {
            if (strcmp(forward->paths[earlier][0], paths[0]) == 0)
                return error_set(err, EINVAL, "%s is given twice", paths[0]);
        }
        forward->pairs[i].local = paths[0];
        forward->pairs[i].remote = paths[1];
    }
    forward->args.pairs.pairs_len = (u_int)(count - 1);
    forward->args.pairs.pairs_val = forward->pairs;
    return 0;
}

static enum command_exit run_parsed(struct forward *forward, const struct command *command,
                                    int argc, char **argv)
{
    struct client *client = forward->client;
    struct error err = ERROR_INIT;

    if (forward->list || forward->stop) {
        if (forward->list && forward->stop)
            return command_usage(command, "--list and --stop can't be had together");
        if (!command_check_count(client, command, argc, argv, 0, 0))
            return client->exit_code;
        return forward->list ? forward_list(client) : stop_by_id(forward);
    }
    if (!command_check_count(client, command, argc, argv, 2, BS_FORWARDS_MAX + 1))
        return client->exit_code;
    if (parse_pairs(forward, argc - optind, argv + optind, &err) < 0)
        return command_usage(command, "%s", err.text);
    return start(forward);
}

static enum command_exit run(struct client *client, const struct command *command, int argc,
                             char **argv)
{
    static char nothing[] = "";
    struct forward *forward = calloc(1, sizeof *forward);
    enum command_exit exit_code;

    if (!forward) {
        fputs("bistream: no memory\n", stderr);
        return COMMAND_FAILED;
    }
    forward->client = client;
    forward->args.socket_user = nothing;
    exit_code = parse_options(forward, command, argc, argv)
                    ? run_parsed(forward, command, argc, argv)
                    : client->exit_code;
    free(forward);
    return exit_code;
}

const struct command command_forward = {
    .name = "forward",
    .synopsis = "DEST LOCAL:REMOTE... | --list | --stop ID",
    .summary = "carry UNIX sockets to another host",
    .help =
        "Listens on each UNIX socket LOCAL.  For each connection made there, the bistreamd at "
        "DEST\n"
        "(bistream://HOST[:PORT]) connects to REMOTE, an absolute path that its forward_allow "
        "must\n"
        "admit.  Prints 'ready' once every LOCAL accepts, and runs until it is interrupted.\n"
        "\n"
        "      --detach           leave the forward to the daemon and exit once it is ready\n"
        "      --list             list the daemon's forwards\n"
        "      --stop=ID          end one of them\n"
        "      --socket-user=USER owner of the LOCAL sockets\n"
        "      --socket-mode=MODE their mode, octal (default: 0600)\n"
        "\n"
        "With --json: {\"type\":\"ready\", \"id\"}; --list: an array of {\"id\", \"destination\",\n"
        "\"sockets\": [{\"local\", \"remote\"}], \"channels\", \"sent\", \"received\"} (bytes).\n",
    .run = run,
};
