/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream pki: reads the command line of its actions (pki_make.c, pki_check.c,
 * pki_peer.c).  None of them talks to this host's daemon.
 */
#include "config.h"

#include "client/pki.h"

#include "client/pki_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_DIR = COMMAND_OPTION_OWN,
    OPTION_OUT,
    OPTION_DAYS,
    OPTION_DNS,
    OPTION_IP,
    OPTION_FORCE,
};

static bool parse_days(const char *text, unsigned *ret)
{
    char *end;
    unsigned long days;

    errno = 0;
    days = strtoul(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || days < 1 || days > PKI_DAYS_MAX)
        return false;
    *ret = (unsigned)days;
    return true;
}

/* Returns false when client->exit_code says how to end. */
static bool parse(struct client *client, const struct command *command, int argc, char **argv,
                  struct pki_options *out)
{
    static const struct option options[] = {{"pki-dir", required_argument, NULL, OPTION_DIR},
                                            {"out", required_argument, NULL, OPTION_OUT},
                                            {"days", required_argument, NULL, OPTION_DAYS},
                                            {"dns", required_argument, NULL, OPTION_DNS},
                                            {"ip", required_argument, NULL, OPTION_IP},
                                            {"force", no_argument, NULL, OPTION_FORCE},
                                            COMMAND_COMMON_OPTIONS};
    struct error err = ERROR_INIT;

    for (;;) {
        switch (command_option(client, command, argc, argv, options)) {
        case OPTION_DIR:
            out->dir = optarg;
            break;
        case OPTION_OUT:
            out->out = optarg;
            break;
        case OPTION_DAYS:
            if (!parse_days(optarg, &out->days))
                error_set(&err, EINVAL, "--days wants 1 to %d, not '%s'", PKI_DAYS_MAX, optarg);
            break;
        case OPTION_DNS:
            pki_names_add(&out->extra, PKI_NAME_DNS, optarg, &err);
            break;
        case OPTION_IP:
            pki_names_add(&out->extra, PKI_NAME_ADDRESS, optarg, &err);
            break;
        case OPTION_FORCE:
            out->force = true;
            break;
        case COMMAND_OPTION_END:
            return true;
        default:
            return false;
        }
        if (err.code) {
            client->exit_code = command_usage(command, "%s", err.text);
            return false;
        }
    }
}

static enum command_exit check(const struct client *client, const struct command *command,
                               const struct pki_options *options, const char *destination)
{
    struct net_address address;
    struct error err = ERROR_INIT;

    if (!destination)
        return pki_check_files(client, options);
    if (net_parse_uri(destination, &address, &err) < 0)
        return command_usage(command, "%s", err.text);
    return pki_check_peer(client, options, &address);
}

static enum command_exit run(struct client *client, const struct command *command, int argc,
                             char **argv)
{
    struct pki_options options = {.dir = PKI_DEFAULT_DIR};
    const char *action;

    if (!parse(client, command, argc, argv, &options) ||
        !command_check_count(client, command, argc, argv, 1, 2))
        return client->exit_code;
    action = argv[optind];
    argv += optind + 1;
    argc -= optind + 1;
    if (strcmp(action, "ca") == 0) {
        if (argc > 0 || options.extra.count || options.out)
            return command_usage(command, "pki ca takes no name and makes its files in --pki-dir");
        return pki_make_ca(client, &options);
    }
    if (strcmp(action, "host") == 0) {
        if (argc == 0)
            return command_usage(command, "pki host wants the NAME that peers call this host by");
        return pki_make_host(client, &options, argv[0]);
    }
    if (strcmp(action, "direct") == 0) {
        if (argc == 0)
            return command_usage(command, "pki direct wants the NAME that peers call this host by");
        return pki_make_direct(client, &options, argv[0]);
    }
    if (strcmp(action, "check") == 0)
        return check(client, command, &options, argc ? argv[0] : NULL);
    return command_usage(command, "there is no 'pki %s'", action);
}

const struct command command_pki = {
    .name = "pki",
    .synopsis = "ca | host NAME | direct NAME | check [DEST]",
    .summary = "make a CA and certificates for hosts, check them",
    .help = "  ca      makes a CA: DIR/cacert.pem for every host, and DIR/cakey.pem, which stays\n"
            "          secret and on this machine\n"
            "  host    makes hostcert.pem and hostkey.pem for the host NAME (a DNS name or an IP\n"
            "          address, as peers write it in bistream://NAME), and puts cacert.pem beside\n"
            "          them: the folder is all that /etc/pki/bistream on that host needs\n"
            "  direct  makes what QEMU itself needs on that host for migrate --direct, with names\n"
            "          of QEMU's own: the folder is what direct_pki_dir names there\n"
            "  check   checks this host's files; with DEST (bistream://HOST[:PORT]), whether the\n"
            "          bistreamd there and this host accept each other's certificates\n"
            "\n"
            "      --pki-dir=DIR   where the files are (default: " PKI_DEFAULT_DIR ")\n"
            "      --days=N        how long the certificate is valid (default: 3650 for a CA, 730\n"
            "                      for a host)\n"
            "      --force         replace files that are there already\n"
            "      --out=DIR       host, direct: where to put the files (default: PKI-DIR/NAME,\n"
            "                      PKI-DIR/NAME/direct)\n"
            "      --dns=NAME      host, direct: one more name; may be repeated\n"
            "      --ip=ADDRESS    host, direct: one more address; may be repeated\n",
    .run = run,
};
