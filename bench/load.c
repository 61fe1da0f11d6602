/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The load generator: both ends of a tunnel's UNIX sockets in one process, with one clock.  It listens
 * at FAR, where the tunnel dials, and connects to NEAR, where the tunnel listens; with the same path
 * for both there is no tunnel.  One run measures one thing and prints one JSON object.
 */
#include "config.h"

#include "bench/load.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    json_t *(*run)(struct load *load);
} modes[] = {
    {"bulk", run_bulk},       {"nbd", run_nbd},         {"ping", run_ping},
    {"stalled", run_stalled}, {"connect", run_connect}, {"hold", run_hold},
};

static const char usage[] =
    "usage: load MODE --near SOCKET --far SOCKET [OPTION...]\n"
    "  bulk         busy streams\n"
    "  nbd          streams of requests of 64 KiB, 16 in flight\n"
    "  ping         64 bytes there and back, beside --streams busy streams\n"
    "  stalled      a busy stream alone, and beside one that nobody reads\n"
    "  connect      connections one after the other\n"
    "  hold         opens streams, says \"ready\", and keeps them until standard input ends\n"
    "  --streams N  (default 1)\n"
    "  --seconds S  that a measurement takes (default 2)\n"
    "  --warm-up S  seconds before it begins (default 0)\n"
    "  --count N    connections (default 1000)\n"
    "  --fill       hold: streams that are full\n"
    "  --limit S    seconds after which a tunnel that hangs is given up (default 120)\n";

static void parse(struct load *load, int argc, char **argv)
{
    static const struct option options[] = {
        {"near", required_argument, NULL, 'n'},
        {"far", required_argument, NULL, 'f'},
        {"streams", required_argument, NULL, 's'},
        {"seconds", required_argument, NULL, 't'},
        {"warm-up", required_argument, NULL, 'w'},
        {"count", required_argument, NULL, 'c'},
        {"fill", no_argument, NULL, 'F'},
        {"limit", required_argument, NULL, 'l'},
        {NULL, 0, NULL, 0},
    };
    unsigned limit = 120;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0)
        switch (option) {
        case 'n':
            load->near = optarg;
            break;
        case 'f':
            load->far = optarg;
            break;
        case 's':
            load->streams = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 't':
            load->seconds = strtod(optarg, NULL);
            break;
        case 'w':
            load->warm_up = strtod(optarg, NULL);
            break;
        case 'c':
            load->count = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'F':
            load->fill = true;
            break;
        case 'l':
            limit = (unsigned)strtoul(optarg, NULL, 10);
            break;
        default:
            fputs(usage, stderr);
            exit(2);
        }
    alarm(limit);
}

int main(int argc, char **argv)
{
    struct load load = {.streams = 1, .count = 1000, .seconds = 2};

    parse(&load, argc, argv);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        json_t *result;

        if (optind + 1 != argc || strcmp(argv[optind], modes[i].name) != 0 || !load.near ||
            !load.far)
            continue;
        load.listener = flow_listen(load.far);
        result = modes[i].run(&load);
        json_dumpf(result, stdout, JSON_SORT_KEYS);
        putchar('\n');
        json_decref(result);
        unlink(load.far);
        return 0;
    }
    fputs(usage, stderr);
    return 2;
}
