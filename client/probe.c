/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* bistream probe: asks the daemon to look at what is at the other end; nothing changes there. */
#include "config.h"

#include "client/command.h"
#include "client/connection.h"
#include "client/output.h"
#include "io/net.h"

#include <errno.h>
#include <stdio.h>

static const struct {
    unsigned kind;
    const char *word, *sentence;
} kinds[] = {
    {BS_PEER_BISTREAM, "bistream", "bistreamd"},
    {BS_PEER_OLD, "old", "bistreamd from before BiStream: it can't take a guest with its disks"},
    {BS_PEER_LIBVIRT, "libvirt", "libvirt RPC server, no bistreamd"},
};

static const struct {
    u_quad_t bit;
    const char *word;
} features[] = {
    {BS_FEATURE_BISTREAM, "bistream"},     {BS_FEATURE_TUNNEL, "tunnel"},
    {BS_FEATURE_DIRECT, "direct"},         {BS_FEATURE_DIRECT_TLS, "direct-tls"},
    {BS_FEATURE_DIRECT_ID, "direct-id"},   {BS_FEATURE_QEMU_NBD, "qemu-nbd"},
    {BS_FEATURE_QEMU_BLOCK, "qemu-block"},
};

static size_t find_kind(unsigned kind)
{
    size_t i = 0;

    while (i < sizeof kinds / sizeof *kinds && kinds[i].kind != kind)
        i++;
    return i;
}

static bool can_migrate(const struct bs_probe_ret *peer)
{
    return peer->kind == BS_PEER_BISTREAM && peer->vers != 0;
}

static json_t *text_or_null(const char *text)
{
    return *text ? output_json_string(text) : json_null();
}

static void print_json(const struct bs_probe_ret *peer, size_t kind)
{
    json_t *words = json_array();

    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        if (peer->info.features & features[i].bit)
            json_array_append_new(words, json_string(features[i].word));
    }
    output_json(json_pack("{ss ss so so so so so so sI}", "kind", kinds[kind].word, "description",
                          kinds[kind].sentence, "version", text_or_null(peer->info.vers),
                          "hostname", text_or_null(peer->info.hostname), "qemu",
                          text_or_null(peer->info.qemu_version), "features", words,
                          "bistream_version", peer->vers ? json_integer(peer->vers) : json_null(),
                          "certificate", output_json_string(peer->certificate), "round_trip_us",
                          (json_int_t)peer->round_trip_us));
}

static void print_line(const char *label, const char *text)
{
    printf("%-15s ", label);
    output_text(text);
    putchar('\n');
}

static void print_text(const char *destination, const struct bs_probe_ret *peer, size_t kind)
{
    printf("%s: %s\n", destination, kinds[kind].sentence);
    if (peer->kind != BS_PEER_LIBVIRT) {
        print_line("Version:", peer->info.vers);
        print_line("Host name:", peer->info.hostname);
        print_line("QEMU:", *peer->info.qemu_version ? peer->info.qemu_version
                                                     : "none: guests can't run there");
        printf("%-15s", "Features:");
        for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
            if (peer->info.features & features[i].bit)
                printf(" %s", features[i].word);
        }
        putchar('\n');
    }
    if (peer->vers)
        printf("%-15s version %u\n", "BiStream:", peer->vers);
    print_line("Certificate:", peer->certificate);
    printf("%-15s %.1f ms\n", "Round trip:", (double)peer->round_trip_us / 1000);
}

static enum command_exit report(const struct client *client, const char *destination,
                                const struct bs_probe_ret *peer)
{
    struct error err = ERROR_INIT;
    size_t kind = find_kind(peer->kind);

    if (kind == sizeof kinds / sizeof *kinds) {
        error_set(&err, EPROTO, "bistreamd found a kind of peer that this program doesn't know: %u",
                  peer->kind);
        return command_fail(&err);
    }
    if (client->json)
        print_json(peer, kind);
    else
        print_text(destination, peer, kind);
    return can_migrate(peer) ? COMMAND_DONE : COMMAND_FAILED;
}

static enum command_exit run(struct client *client, const struct command *command, int argc,
                             char **argv)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_probe_args args;
    struct bs_probe_ret ret = {0};
    struct net_address address;
    struct error err = ERROR_INIT;
    enum command_exit exit_code;

    if (!command_arguments(client, command, argc, argv, 1))
        return client->exit_code;
    args.destination = argv[optind];
    if (net_parse_uri(args.destination, &address, &err) < 0)
        return command_usage(command, "%s", err.text);
    connection = connection_open(client->uri, &err);
    if (!connection || connection_call(connection, BS_PROC_PROBE, (xdrproc_t)xdr_bs_probe_args,
                                       &args, (xdrproc_t)xdr_bs_probe_ret, &ret, &err) < 0)
        return command_fail(&err);
    exit_code = report(client, args.destination, &ret);
    xdr_free((xdrproc_t)xdr_bs_probe_ret, (char *)&ret);
    return exit_code;
}

const struct command command_probe = {
    .name = "probe",
    .synopsis = "DEST",
    .summary = "show what is at the other end, and what it can do",
    .help =
        "Has the daemon connect to DEST, bistream://HOST[:PORT], and shows what answers.  The\n"
        "exit code is 0 for a bistreamd that guests can be migrated to, else 1.\n"
        "\n"
        "With --json: an object {\"kind\": \"bistream\" | \"old\" | \"libvirt\", \"description\",\n"
        "\"version\", \"hostname\", \"qemu\", \"features\", \"bistream_version\", \"certificate\" "
        "(its\n"
        "subject), \"round_trip_us\"}; what there is none of is null.\n",
    .run = run,
};
