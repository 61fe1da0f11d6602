/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream job: the migrations away from this host, by the names of their guests.  Here is its command
 * line; each action says which options it takes.
 */
#include "config.h"

#include "client/job.h"

#include "client/number.h"

#include <errno.h>
#include <string.h>

enum {
    OPTION_KEEP = COMMAND_OPTION_OWN,
    OPTION_GIVE_UP,
    OPTION_COMPLETED,
    OPTION_BANDWIDTH,
};

static const struct option options[] = {{"keep", no_argument, NULL, OPTION_KEEP},
                                        {"give-up", no_argument, NULL, OPTION_GIVE_UP},
                                        {"completed", no_argument, NULL, OPTION_COMPLETED},
                                        {"bandwidth", required_argument, NULL, OPTION_BANDWIDTH},
                                        COMMAND_COMMON_OPTIONS};

#define BIT(option) (1u << ((option)-COMMAND_OPTION_OWN))

static const struct action {
    const char *word;
    bool takes_name;
    unsigned options; /* BIT(OPTION_*) that it takes */
    enum command_exit (*run)(const struct client *client, const struct job_options *options);
} actions[] = {
    {"list", false, 0, job_list},
    {"info", true, BIT(OPTION_COMPLETED), job_info},
    {"abort", true, 0, job_abort},
    {"set", true, BIT(OPTION_BANDWIDTH), job_set},
    {"resolve", true, BIT(OPTION_KEEP) | BIT(OPTION_GIVE_UP), job_resolve},
};

static const struct action *find_action(const char *word)
{
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        if (strcmp(actions[i].word, word) == 0)
            return &actions[i];
    }
    return NULL;
}

/* GIVEN are the BIT(OPTION_*) that were seen.  Returns 0, or -EINVAL with ERR. */
static int check(const struct action *action, const struct job_options *job, unsigned given,
                 struct error *err)
{
    for (const struct option *option = options; option->val >= COMMAND_OPTION_OWN; option++) {
        if (given & BIT(option->val) & ~action->options)
            return error_set(err, EINVAL, "job %s doesn't take --%s", action->word, option->name);
    }
    if (!action->takes_name && *job->name)
        return error_set(err, EINVAL, "job %s takes no name, and '%s' is one", action->word,
                         job->name);
    if (action->takes_name && !*job->name && !job->completed)
        return error_set(err, EINVAL, "job %s wants the NAME of a guest", action->word);
    if (action->run == job_resolve && job->keep == job->give_up)
        return error_set(err, EINVAL, "job resolve wants one of --keep and --give-up");
    if (action->run == job_set && !given)
        return error_set(err, EINVAL, "job set wants --bandwidth");
    return 0;
}

/* Returns false, when client->exit_code says how to end. */
static bool parse_options(struct client *client, const struct command *command, int argc,
                          char **argv, struct job_options *ret, unsigned *ret_given)
{
    struct error err = ERROR_INIT;
    int option;

    while ((option = command_option(client, command, argc, argv, options)) >= COMMAND_OPTION_OWN) {
        *ret_given |= BIT(option);
        if (option == OPTION_BANDWIDTH &&
            number_parse_rate("--bandwidth", optarg, &ret->bandwidth, &err) < 0) {
            client->exit_code = command_usage(command, "%s", err.text);
            return false;
        }
    }
    ret->keep = *ret_given & BIT(OPTION_KEEP);
    ret->give_up = *ret_given & BIT(OPTION_GIVE_UP);
    ret->completed = *ret_given & BIT(OPTION_COMPLETED);
    return option == COMMAND_OPTION_END;
}

static enum command_exit run(struct client *client, const struct command *command, int argc,
                             char **argv)
{
    static char nothing[] = "";
    struct job_options job = {.name = nothing};
    const struct action *action;
    struct error err = ERROR_INIT;
    unsigned given = 0;

    if (!parse_options(client, command, argc, argv, &job, &given) ||
        !command_check_count(client, command, argc, argv, 1, 2))
        return client->exit_code;
    action = find_action(argv[optind]);
    if (!action)
        return command_usage(command, "there is no 'job %s'", argv[optind]);
    if (argv[optind + 1])
        job.name = argv[optind + 1];
    if (check(action, &job, given, &err) < 0)
        return command_usage(command, "%s", err.text);
    return action->run(client, &job);
}

const struct command command_job = {
    .name = "job",
    .synopsis = "list|info|abort|set|resolve [NAME] [OPTION...]",
    .summary = "show, abort, slow down and resolve migrations",
    .help =
        "  list      lists the migrations away from this host, with their phase: as migrate tells\n"
        "            it; \"unresolved\", and why; or \"settling\": decided, and the destination "
        "has\n"
        "            still to hear it\n"
        "  info      shows how far the migration of the guest NAME is\n"
        "\n"
        "      --completed   those that have ended instead, the last first: of NAME, or of any\n"
        "                    guest where none is given.  The last 64 are remembered\n"
        "\n"
        "  abort     asks the daemon to abort the migration of the guest NAME, which stays here;\n"
        "            refused once the destination was asked to run it\n"
        "  set       changes the migration of the guest NAME while it runs\n"
        "\n"
        "      --bandwidth=RATE   the cap over memory and disks together, as migrate takes it\n"
        "\n"
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
        "\"reason\" (null where there is none)}; info an object, with --completed an array of\n"
        "objects {\"id\", \"name\", \"destination\", \"status\", \"phase\", \"mode\", "
        "\"fallback\", \"error\",\n"
        "\"started\" (seconds since 1970), \"elapsed_ms\", \"downtime_ms\", \"memory\", "
        "\"disks\" (both as\n"
        "migrate tells them), \"dirty_rate\", \"bandwidth\", \"round_trip_us\", "
        "\"link_losses\",\n"
        "\"stall_ms\"}; set {\"name\", \"bandwidth\"}; the others {\"name\", \"action\"}, where "
        "action is\n"
        "\"aborting\", \"keeping\" or \"giving up\".\n",
    .run = run,
};
