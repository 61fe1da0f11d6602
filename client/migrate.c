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
#include "client/migrate_options.h"
#include "client/migrate_view.h"
#include "client/output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct migration {
    struct client *client;
    struct migrate_options options;

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
             err->text, migration->options.args.name);
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

    migrate_view_init(&migration->view, migration->client->json, migration->options.verbose,
                      migration->options.args.name, migration->options.args.destination);
    migration->connection = connection = connection_open(migration->client->uri, &err);
    if (!connection) {
        migrate_view_refused(&migration->view, &err);
        return COMMAND_FAILED;
    }
    catch_signals(migration);
    if (connection_call(connection, BS_PROC_MIGRATE, (xdrproc_t)xdr_bs_migrate_args,
                        &migration->options.args, (xdrproc_t)xdr_bs_migrate_ret, &ret, &err) < 0) {
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

static enum command_exit run(struct client *client, const struct command *command, int argc,
                             char **argv)
{
    struct migration migration = {.client = client};

    if (!migrate_options_parse(&migration.options, client, command, argc, argv))
        return client->exit_code;
    return migrate(&migration);
}

const struct command command_migrate = {
    .name = "migrate",
    .synopsis = "NAME DEST [OPTION...]",
    .summary = "move a guest to another host",
    .help = migrate_help,
    .run = run,
};
