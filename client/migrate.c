/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream migrate: asks the daemon to move a guest, and follows the job to its end.
 *
 * The exit code says where the guest is, so this never ends before it knows: SIGINT and SIGTERM
 * ask the daemon to abort and waiting goes on, until the daemon's result tells that the guest is
 * safe.  Only when the daemon itself is lost in mid-migration nothing more can be learned here; the
 * outcome is unresolved then, never guessed.
 *
 * Signals are blocked but while waiting for events (ppoll), so none is missed and none cuts a call.
 */
#include "config.h"

#include "client/command.h"
#include "client/connection.h"
#include "client/migrate_view.h"
#include "client/output.h"
#include "io/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_LIVE = COMMAND_OPTION_OWN,
    OPTION_COPY_ALL,
    OPTION_COPY_INC,
    OPTION_DISKS,
    OPTION_DNAME,
    OPTION_VERBOSE,
    OPTION_UNSUPPORTED, /* and all above */
};

struct migration {
    struct client *client;
    struct bs_migrate_args args;
    bs_target disks[BS_DISKS_MAX];
    bool verbose;

    struct connection *connection;
    bs_id id;
    struct migrate_view view;
    sigset_t wait_mask; /* while waiting for events */
    int interrupts;     /* that were seen to */
};

/* ---- signals -------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupts;

static void on_interrupt(int number)
{
    (void)number;
    interrupts = interrupts + 1;
}

static void on_resize(int number)
{
    (void)number; /* it ends the waiting, that is all */
}

static void catch_signals(struct migration *migration)
{
    struct sigaction interrupt = {.sa_handler = on_interrupt};
    struct sigaction resize = {.sa_handler = on_resize};
    sigset_t blocked;

    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGWINCH);
    sigprocmask(SIG_BLOCK, &blocked, &migration->wait_mask);
    sigdelset(&migration->wait_mask, SIGINT);
    sigdelset(&migration->wait_mask, SIGTERM);
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGTERM, &interrupt, NULL);
    sigaction(SIGWINCH, &resize, NULL);
    /* A reader of our output that goes away is no reason to lose sight of the guest. */
    signal(SIGPIPE, SIG_IGN);
    migration->client->output_may_fail = true;
}

/* The first time asks the daemon to abort, afterwards says why this goes on. */
static void handle_interrupt(struct migration *migration)
{
    struct bs_migrate_abort_args args;
    struct error err = ERROR_INIT;

    if (migration->interrupts > 0) {
        migrate_view_notice(&migration->view,
                            "Still waiting until the guest is safe on one side; the abort was "
                            "asked for.  The job is the daemon's and goes on without this command "
                            "(kill -KILL would end only that).");
    } else {
        migrate_view_notice(&migration->view,
                            "Aborting the migration; waiting until the guest is safe ...");
        memcpy(args.id, migration->id, sizeof args.id);
        if (connection_call(migration->connection, BS_PROC_MIGRATE_ABORT,
                            (xdrproc_t)xdr_bs_migrate_abort_args, &args, NULL, NULL, &err) < 0)
            migrate_view_notice(&migration->view, err.text);
    }
    migration->interrupts = interrupts;
}

/* ---- events --------------------------------------------------------------------------------- */

static enum command_exit exit_code_of(unsigned outcome)
{
    switch (outcome) {
    case BS_OUTCOME_COMPLETED:
        return COMMAND_DONE;
    case BS_OUTCOME_FAILED:
        return COMMAND_FAILED;
    default:
        return COMMAND_UNRESOLVED;
    }
}

/* What can be said when the daemon is gone. */
static enum command_exit lost(struct migration *migration, const struct error *err)
{
    char nothing[] = "", text[ERROR_TEXT_MAX + 256];
    struct bs_migrate_result result = {
        .outcome = BS_OUTCOME_UNRESOLVED, .mode = nothing, .error = text};

    snprintf(text, sizeof text,
             "%s. See 'bistream info %s' here and at the destination; don't start the guest before "
             "you know that it runs nowhere",
             err->text, migration->args.name);
    migrate_view_result(&migration->view, &result);
    return COMMAND_UNRESOLVED;
}

static int bad_event(struct error *err)
{
    return error_set(err, EPROTO, "bistreamd sent an event that can't be decoded");
}

static bool is_ours(const struct migration *migration, const bs_id id)
{
    return memcmp(migration->id, id, sizeof migration->id) == 0;
}

static int handle_progress(struct migration *migration, const struct rpc_message *event,
                           struct error *err)
{
    struct bs_migrate_progress progress = {0};

    if (rpc_payload_decode(event->payload, event->length, (xdrproc_t)xdr_bs_migrate_progress,
                           &progress) < 0)
        return bad_event(err);
    if (is_ours(migration, progress.id))
        migrate_view_progress(&migration->view, &progress);
    xdr_free((xdrproc_t)xdr_bs_migrate_progress, (char *)&progress);
    return 0;
}

static int handle_notice(struct migration *migration, const struct rpc_message *event,
                         struct error *err)
{
    struct bs_migrate_notice notice = {0};

    if (rpc_payload_decode(event->payload, event->length, (xdrproc_t)xdr_bs_migrate_notice,
                           &notice) < 0)
        return bad_event(err);
    if (is_ours(migration, notice.id))
        migrate_view_notice(&migration->view, output_clean(notice.text));
    xdr_free((xdrproc_t)xdr_bs_migrate_notice, (char *)&notice);
    return 0;
}

/* Returns 1 with *RET_EXIT_CODE when the job has ended. */
static int handle_result(struct migration *migration, const struct rpc_message *event,
                         enum command_exit *ret_exit_code, struct error *err)
{
    struct bs_migrate_result result = {0};
    int ended = 0;

    if (rpc_payload_decode(event->payload, event->length, (xdrproc_t)xdr_bs_migrate_result,
                           &result) < 0)
        return bad_event(err);
    if (is_ours(migration, result.id)) {
        output_clean(result.error);
        migrate_view_result(&migration->view, &result);
        *ret_exit_code = exit_code_of(result.outcome);
        ended = 1;
    }
    xdr_free((xdrproc_t)xdr_bs_migrate_result, (char *)&result);
    return ended;
}

/* Returns 1 when the job has ended, 0 to go on, or a negative errno with ERR. */
static int handle_event(struct migration *migration, const struct rpc_message *event,
                        enum command_exit *ret_exit_code, struct error *err)
{
    switch (event->header.procedure) {
    case BS_PROC_EVENT_MIGRATE_PROGRESS:
        return handle_progress(migration, event, err);
    case BS_PROC_EVENT_MIGRATE_NOTICE:
        return handle_notice(migration, event, err);
    case BS_PROC_EVENT_MIGRATE_RESULT:
        return handle_result(migration, event, ret_exit_code, err);
    default:
        return 0;
    }
}

static enum command_exit follow(struct migration *migration)
{
    enum command_exit exit_code = COMMAND_UNRESOLVED;
    struct error err = ERROR_INIT;

    for (;;) {
        struct rpc_message event;
        int result;

        if (interrupts > migration->interrupts)
            handle_interrupt(migration);
        result = connection_next_event(migration->connection, &migration->wait_mask,
                                       migrate_view_timeout(&migration->view), &event, &err);
        if (result == -EINTR || result == -ETIMEDOUT) {
            migrate_view_redraw(&migration->view);
            migrate_view_tick(&migration->view);
            continue;
        }
        if (result == 0) {
            result = handle_event(migration, &event, &exit_code, &err);
            rpc_message_clear(&event);
        }
        if (result < 0)
            return lost(migration, &err);
        if (result > 0)
            return exit_code;
    }
}

static enum command_exit migrate(struct migration *migration)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_migrate_ret ret = {{0}};
    struct error err = ERROR_INIT;

    migrate_view_init(&migration->view, migration->client->json, migration->verbose,
                      migration->args.name, migration->args.destination);
    migration->connection = connection = connection_open(migration->client->uri, &err);
    if (!connection) {
        migrate_view_refused(&migration->view, &err);
        return COMMAND_FAILED;
    }
    catch_signals(migration);
    if (connection_call(connection, BS_PROC_MIGRATE, (xdrproc_t)xdr_bs_migrate_args,
                        &migration->args, (xdrproc_t)xdr_bs_migrate_ret, &ret, &err) < 0) {
        if (connection_is_broken(connection))
            return lost(migration, &err);
        migrate_view_refused(&migration->view, &err);
        return COMMAND_FAILED;
    }
    memcpy(migration->id, ret.id, sizeof migration->id);
    migrate_view_started(&migration->view, migration->id);
    return follow(migration);
}

/* ---- the command line ----------------------------------------------------------------------- */

static const struct option options[] = {
    {"live", no_argument, NULL, OPTION_LIVE},
    {"copy-storage-all", no_argument, NULL, OPTION_COPY_ALL},
    {"copy-storage-inc", no_argument, NULL, OPTION_COPY_INC},
    {"migrate-disks", required_argument, NULL, OPTION_DISKS},
    {"dname", required_argument, NULL, OPTION_DNAME},
    {"verbose", no_argument, NULL, OPTION_VERBOSE},
    /* Known by name, so that the answer is not "unrecognized". */
    {"bandwidth", required_argument, NULL, OPTION_UNSUPPORTED},
    {"downtime", required_argument, NULL, OPTION_UNSUPPORTED + 1},
    {"timeout", required_argument, NULL, OPTION_UNSUPPORTED + 2},
    {"auto-converge", no_argument, NULL, OPTION_UNSUPPORTED + 3},
    {"copy-storage-synchronous-writes", no_argument, NULL, OPTION_UNSUPPORTED + 4},
    {"persistent", no_argument, NULL, OPTION_UNSUPPORTED + 5},
    {"undefinesource", no_argument, NULL, OPTION_UNSUPPORTED + 6},
    {"direct", no_argument, NULL, OPTION_UNSUPPORTED + 7},
    {"no-fallback", no_argument, NULL, OPTION_UNSUPPORTED + 8},
    COMMAND_COMMON_OPTIONS,
};

static enum command_exit refuse_option(const struct command *command, int option)
{
    const struct option *found = options;

    while (found->val != option)
        found++;
    return command_usage(command, "--%s is not supported by this version", found->name);
}

/* Splits "vda,vdb", in place. */
static int parse_disks(struct migration *migration, char *text, struct error *err)
{
    u_int count = 0;
    char *target;

    while ((target = strsep(&text, ","))) {
        if (!*target || strlen(target) > BS_TARGET_MAX)
            return error_set(err, EINVAL, "--migrate-disks wants targets such as vda,vdb, not '%s'",
                             target);
        if (count == BS_DISKS_MAX)
            return error_set(err, EINVAL, "--migrate-disks takes %d disks at the most",
                             BS_DISKS_MAX);
        for (u_int i = 0; i < count; i++) {
            if (strcmp(migration->disks[i], target) == 0)
                return error_set(err, EINVAL, "--migrate-disks names %s twice", target);
        }
        migration->disks[count++] = target;
    }
    migration->args.disks.disks_len = count;
    migration->args.disks.disks_val = migration->disks;
    return 0;
}

/* Returns false when client->exit_code says how to end. */
static bool parse_options(struct migration *migration, const struct command *command, int argc,
                          char **argv)
{
    struct client *client = migration->client;
    struct error err = ERROR_INIT;

    for (;;) {
        int option = command_option(client, command, argc, argv, options);

        switch (option) {
        case OPTION_LIVE:
            migration->args.flags |= BS_MIGRATE_LIVE;
            break;
        case OPTION_COPY_ALL:
            migration->args.flags |= BS_MIGRATE_COPY_STORAGE_ALL;
            break;
        case OPTION_COPY_INC:
            migration->args.flags |= BS_MIGRATE_COPY_STORAGE_INC;
            break;
        case OPTION_DISKS:
            if (parse_disks(migration, optarg, &err) < 0) {
                client->exit_code = command_usage(command, "%s", err.text);
                return false;
            }
            break;
        case OPTION_DNAME:
            migration->args.dname = optarg;
            break;
        case OPTION_VERBOSE:
            migration->verbose = true;
            break;
        case COMMAND_OPTION_END:
            return true;
        case COMMAND_OPTION_EXIT:
            return false;
        default:
            client->exit_code = refuse_option(command, option);
            return false;
        }
    }
}

/* What options say together.  Returns 0, or -EINVAL with ERR. */
static int check_options(const struct migration *migration, struct error *err)
{
    const u_quad_t both = BS_MIGRATE_COPY_STORAGE_ALL | BS_MIGRATE_COPY_STORAGE_INC;
    struct net_address address;

    if ((migration->args.flags & both) == both)
        return error_set(err, EINVAL,
                         "--copy-storage-all and --copy-storage-inc can't be had together");
    if (migration->args.disks.disks_len > 0 && !(migration->args.flags & both))
        return error_set(err, EINVAL,
                         "--migrate-disks wants --copy-storage-all or --copy-storage-inc");
    return net_parse_uri(migration->args.destination, &address, err);
}

static enum command_exit run(struct client *client, const struct command *command, int argc,
                             char **argv)
{
    char nothing[] = "";
    struct migration migration = {.client = client,
                                  .args = {.dname = nothing, .listen_address = nothing}};
    struct error err = ERROR_INIT;

    if (!parse_options(&migration, command, argc, argv) ||
        !command_check_count(client, command, argc, argv, 2, 2))
        return client->exit_code;
    migration.args.name = argv[optind];
    migration.args.destination = argv[optind + 1];
    if (check_options(&migration, &err) < 0)
        return command_usage(command, "%s", err.text);
    return migrate(&migration);
}

const struct command command_migrate = {
    .name = "migrate",
    .synopsis = "NAME DEST [OPTION...]",
    .summary = "move a guest to another host",
    .help =
        "Moves the domain NAME to the host DEST, bistream://HOST[:PORT] (port 16520 where none is\n"
        "given), with its disks if asked to, through one TLS connection.\n"
        "\n"
        "      --live                 while the guest runs\n"
        "      --copy-storage-all     copy the disks: none of them is shared\n"
        "      --copy-storage-inc     copy only what each disk holds over its backing file, which\n"
        "                             the destination has\n"
        "      --migrate-disks=LIST   copy only these, e.g. vda,vdb; the others are shared\n"
        "      --dname=NAME           give the guest another name at the destination\n"
        "      --verbose              tell of each phase as well\n"
        "\n"
        "Ctrl-C asks the daemon to abort, and waits until the guest is safe.\n"
        "Exit codes: 0 the guest runs at DEST; 1 failed, and the guest stays here; 2 wrong\n"
        "usage; 3 unresolved: it has to be found out where the guest is.\n"
        "\n"
        "With --json, an object a line:\n"
        "  {\"type\":\"started\", \"id\", \"name\", \"destination\"}\n"
        "  {\"type\":\"progress\", \"phase\", \"memory\":{\"total\", \"transferred\", "
        "\"remaining\",\n"
        "   \"rate\"} or null, \"disks\":[{\"target\", \"total\", ...}]}, in bytes and bytes per "
        "second\n"
        "  {\"type\":\"notice\", \"text\"}\n"
        "  {\"type\":\"result\", \"status\":\"completed\"|\"failed\"|\"unresolved\", \"mode\", "
        "\"total_ms\",\n"
        "   \"downtime_ms\", \"ram_bytes\", \"disks\":[{\"target\", \"bytes\"}], \"error\" (null "
        "when\n"
        "   completed)}, always the last\n",
    .run = run,
};
