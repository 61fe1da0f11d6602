/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The command line of bistream migrate: options one by one, then what they say together.  An option
 * that is only a flag of the call has the number of its bit for a value.
 */
#include "config.h"

#include "client/migrate_options.h"

#include "client/number.h"
#include "io/net.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    DOWNTIME_MAX_MS = 2000000, /* QEMU's own limit */
    TIMEOUT_MAX_S = 30 * 24 * 3600,
    STALL_TIMEOUT_MAX_S = 3600,
    ADDRESS_MAX = 255, /* a DNS name */
};

enum {
    OPTION_FLAG = COMMAND_OPTION_OWN, /* + the number of the flag's bit */
    OPTION_DISKS = OPTION_FLAG + 64,
    OPTION_DNAME,
    OPTION_BANDWIDTH,
    OPTION_DOWNTIME,
    OPTION_TIMEOUT,
    OPTION_TIMEOUT_SUSPEND,
    OPTION_STALL_TIMEOUT,
    OPTION_LISTEN_ADDRESS,
    OPTION_VERBOSE,
};

#define OPTION_OF(flag) (OPTION_FLAG + __builtin_ctz(flag))
#define FLAG(name, flag)                         \
    {                                            \
        name, no_argument, NULL, OPTION_OF(flag) \
    }

static const struct option options[] = {
    FLAG("live", BS_MIGRATE_LIVE),
    FLAG("copy-storage-all", BS_MIGRATE_COPY_STORAGE_ALL),
    FLAG("copy-storage-inc", BS_MIGRATE_COPY_STORAGE_INC),
    FLAG("copy-storage-synchronous-writes", BS_MIGRATE_SYNCHRONOUS_WRITES),
    FLAG("auto-converge", BS_MIGRATE_AUTO_CONVERGE),
    FLAG("timeout-abort", BS_MIGRATE_TIMEOUT_ABORT),
    FLAG("persistent", BS_MIGRATE_PERSISTENT),
    FLAG("undefinesource", BS_MIGRATE_UNDEFINE_SOURCE),
    FLAG("suspend", BS_MIGRATE_SUSPEND),
    FLAG("offline", BS_MIGRATE_OFFLINE),
    FLAG("direct", BS_MIGRATE_DIRECT),
    FLAG("no-tls", BS_MIGRATE_NO_TLS),
    FLAG("no-fallback", BS_MIGRATE_NO_FALLBACK),
    {"migrate-disks", required_argument, NULL, OPTION_DISKS},
    {"dname", required_argument, NULL, OPTION_DNAME},
    {"bandwidth", required_argument, NULL, OPTION_BANDWIDTH},
    {"downtime", required_argument, NULL, OPTION_DOWNTIME},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"timeout-suspend", no_argument, NULL, OPTION_TIMEOUT_SUSPEND},
    {"stall-timeout", required_argument, NULL, OPTION_STALL_TIMEOUT},
    {"listen-address", required_argument, NULL, OPTION_LISTEN_ADDRESS},
    {"verbose", no_argument, NULL, OPTION_VERBOSE},
    COMMAND_COMMON_OPTIONS,
};

const char migrate_help[] =
    "Moves the domain NAME to the host DEST, bistream://HOST[:PORT] (port 16520 where none is\n"
    "given), with its disks if asked to, through one TLS connection.\n"
    "\n"
    "      --live                 while the guest runs\n"
    "      --copy-storage-all     copy the disks: none of them is shared\n"
    "      --copy-storage-inc     copy only what each disk holds over its backing file, which\n"
    "                             the destination has\n"
    "      --migrate-disks=LIST   copy only these, e.g. vda,vdb; the others are shared\n"
    "      --copy-storage-synchronous-writes\n"
    "                             a write of the guest waits until it is at the destination\n"
    "                             too, so that copying a busy disk comes to an end\n"
    "      --dname=NAME           give the guest another name at the destination\n"
    "      --persistent           its domain stays there when the guest is shut down; without\n"
    "                             it the domain goes then, and its images stay\n"
    "      --undefinesource       its domain here goes once it runs there; its images stay\n"
    "      --suspend              it arrives paused\n"
    "      --offline              it is shut off, and stays so; implies --persistent\n"
    "      --bandwidth=RATE       of memory and disks together, at the most: 500K, 100M, 2G\n"
    "                             (bytes per second, powers of 1024); a bare number counts\n"
    "                             MiB/s as virsh's does; 0 is no cap\n"
    "      --downtime=MS          how long memory may take while the guest stands\n"
    "      --timeout=SECONDS      if it isn't done by then:\n"
    "      --timeout-suspend        pause the guest, so that it gets done (the default)\n"
    "      --timeout-abort          give it up\n"
    "      --auto-converge        slow the guest down if memory changes faster than it is\n"
    "                             copied\n"
    "      --stall-timeout=SECONDS\n"
    "                             how long a silent connection may hold the guest up, 10\n"
    "                             where nothing is said; then the migration is given up\n"
    "      --direct               from QEMU to QEMU through ports of DEST (see bistreamd.conf)\n"
    "      --no-tls               with --direct: not encrypted\n"
    "      --listen-address=ADDR  with --direct: where QEMU at DEST listens\n"
    "      --no-fallback          fail rather than go another way than asked for\n"
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
    "   completed)}, always the last\n";

/* Splits "vda,vdb", in place. */
static int parse_disks(struct migrate_options *ret, char *text, struct error *err)
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
            if (strcmp(ret->disks[i], target) == 0)
                return error_set(err, EINVAL, "--migrate-disks names %s twice", target);
        }
        ret->disks[count++] = target;
    }
    ret->args.disks.disks_len = count;
    ret->args.disks.disks_val = ret->disks;
    return 0;
}

static int parse_address(struct migrate_options *ret, char *text, struct error *err)
{
    if (!*text || strlen(text) > ADDRESS_MAX)
        return error_set(err, EINVAL,
                         "--listen-address wants an address of the host DEST, not '%s'", text);
    ret->args.listen_address = text;
    return 0;
}

/* Those that take a value.  Returns 0, or -EINVAL with ERR. */
static int parse_value(struct migrate_options *ret, int option, char *text, struct error *err)
{
    uint64_t number = 0;
    int r;

    switch (option) {
    case OPTION_DISKS:
        return parse_disks(ret, text, err);
    case OPTION_LISTEN_ADDRESS:
        return parse_address(ret, text, err);
    case OPTION_BANDWIDTH:
        r = number_parse_rate("--bandwidth", text, &number, err);
        ret->args.bandwidth = number;
        return r;
    case OPTION_DOWNTIME:
        r = number_parse("--downtime", text, "milliseconds", 1, DOWNTIME_MAX_MS, &number, err);
        ret->args.downtime_ms = (u_int)number;
        return r;
    case OPTION_TIMEOUT:
        r = number_parse("--timeout", text, "seconds", 1, TIMEOUT_MAX_S, &number, err);
        ret->args.timeout_s = (u_int)number;
        return r;
    case OPTION_STALL_TIMEOUT:
        r = number_parse("--stall-timeout", text, "seconds", 1, STALL_TIMEOUT_MAX_S, &number, err);
        ret->args.stall_timeout_ms = (u_int)number * 1000;
        return r;
    default: /* OPTION_DNAME */
        ret->args.dname = text;
        return 0;
    }
}

static bool parse_options(struct migrate_options *ret, struct client *client,
                          const struct command *command, int argc, char **argv, bool *ret_suspend)
{
    struct error err = ERROR_INIT;

    for (;;) {
        int option = command_option(client, command, argc, argv, options);

        if (option == COMMAND_OPTION_END)
            return true;
        if (option == COMMAND_OPTION_EXIT)
            return false;
        if (option < OPTION_DISKS)
            ret->args.flags |= UINT64_C(1) << (option - OPTION_FLAG);
        else if (option == OPTION_TIMEOUT_SUSPEND)
            *ret_suspend = true;
        else if (option == OPTION_VERBOSE)
            ret->verbose = true;
        else if (parse_value(ret, option, optarg, &err) < 0) {
            client->exit_code = command_usage(command, "%s", err.text);
            return false;
        }
    }
}

/* ---- what they say together ------------------------------------------------------------------ */

static const char *name_of(unsigned flag)
{
    const struct option *option = options;

    while (option->val != OPTION_OF(flag))
        option++;
    return option->name;
}

/* Flags that say the contrary of each other. */
static int check_contraries(u_quad_t given, struct error *err)
{
    static const struct {
        unsigned one, other;
        const char *why;
    } contraries[] = {
        {BS_MIGRATE_COPY_STORAGE_ALL, BS_MIGRATE_COPY_STORAGE_INC,
         "they are two ways to copy a disk"},
        {BS_MIGRATE_OFFLINE, BS_MIGRATE_LIVE, "a guest that is shut off does not run meanwhile"},
        {BS_MIGRATE_OFFLINE, BS_MIGRATE_SUSPEND, "a guest that is shut off arrives shut off"},
        {BS_MIGRATE_OFFLINE, BS_MIGRATE_SYNCHRONOUS_WRITES,
         "a guest that is shut off writes nothing"},
        {BS_MIGRATE_OFFLINE, BS_MIGRATE_AUTO_CONVERGE,
         "a guest that is shut off can't be slowed down"},
        {BS_MIGRATE_OFFLINE, BS_MIGRATE_DIRECT, "there is no QEMU to do it"},
    };

    for (size_t i = 0; i < sizeof contraries / sizeof *contraries; i++) {
        if ((given & contraries[i].one) && (given & contraries[i].other))
            return error_set(err, EINVAL, "--%s and --%s can't be had together: %s",
                             name_of(contraries[i].one), name_of(contraries[i].other),
                             contraries[i].why);
    }
    return 0;
}

/* What means nothing without something else. */
static int check_needs(const struct bs_migrate_args *args, bool suspend, struct error *err)
{
    const u_quad_t copy = BS_MIGRATE_COPY_STORAGE_ALL | BS_MIGRATE_COPY_STORAGE_INC;
    const bool timeout_abort = args->flags & BS_MIGRATE_TIMEOUT_ABORT;
    const struct {
        bool given, satisfied;
        const char *option, *need;
    } needs[] = {
        {args->disks.disks_len > 0, args->flags & (copy | BS_MIGRATE_OFFLINE), "migrate-disks",
         "--copy-storage-all or --copy-storage-inc"},
        {args->flags & BS_MIGRATE_SYNCHRONOUS_WRITES, args->flags & copy,
         "copy-storage-synchronous-writes", "--copy-storage-all or --copy-storage-inc"},
        {timeout_abort, args->timeout_s, "timeout-abort", "--timeout"},
        {suspend, args->timeout_s, "timeout-suspend", "--timeout"},
        {args->flags & BS_MIGRATE_NO_TLS, args->flags & BS_MIGRATE_DIRECT, "no-tls", "--direct"},
        {*args->listen_address, args->flags & BS_MIGRATE_DIRECT, "listen-address", "--direct"},
    };

    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        if (needs[i].given && !needs[i].satisfied)
            return error_set(err, EINVAL, "--%s wants %s", needs[i].option, needs[i].need);
    }
    if (timeout_abort && suspend)
        return error_set(err, EINVAL,
                         "--timeout-suspend and --timeout-abort can't be had together: a time-out "
                         "has one end");
    return 0;
}

/* Bounds of what only a guest that runs can do. */
static int check_offline(const struct bs_migrate_args *args, struct error *err)
{
    const char *option = args->downtime_ms        ? "downtime"
                         : args->timeout_s        ? "timeout"
                         : args->stall_timeout_ms ? "stall-timeout"
                                                  : NULL;

    if (!(args->flags & BS_MIGRATE_OFFLINE) || !option)
        return 0;
    return error_set(err, EINVAL,
                     "--offline and --%s can't be had together: a guest that is shut off waits for "
                     "nothing",
                     option);
}

static int check(const struct bs_migrate_args *args, bool suspend, struct error *err)
{
    struct net_address address;
    int r = check_contraries(args->flags, err);

    if (r == 0)
        r = check_needs(args, suspend, err);
    if (r == 0)
        r = check_offline(args, err);
    if (r == 0)
        r = net_parse_uri(args->destination, &address, err);
    return r;
}

bool migrate_options_parse(struct migrate_options *ret, struct client *client,
                           const struct command *command, int argc, char **argv)
{
    static char nothing[] = "";
    struct error err = ERROR_INIT;
    bool suspend = false;

    *ret = (struct migrate_options){.args = {.dname = nothing, .listen_address = nothing}};
    if (!parse_options(ret, client, command, argc, argv, &suspend) ||
        !command_check_count(client, command, argc, argv, 2, 2))
        return false;
    ret->args.name = argv[optind];
    ret->args.destination = argv[optind + 1];
    if (check(&ret->args, suspend, &err) < 0) {
        client->exit_code = command_usage(command, "%s", err.text);
        return false;
    }
    /* A domain that neither runs nor is persistent would be none. */
    if (ret->args.flags & BS_MIGRATE_OFFLINE)
        ret->args.flags |= BS_MIGRATE_PERSISTENT;
    return true;
}
