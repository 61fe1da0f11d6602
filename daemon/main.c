/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistreamd: options, configuration, signals; server.c does the rest.
 */
#include "config.h"

#include "daemon/conf.h"
#include "daemon/server.h"
#include "common/log.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define DEFAULT_CONFIG SYSCONFDIR "/bistream/bistreamd.conf"

enum { EXIT_USAGE = 2 };

static const char usage[] =
    "bistreamd moves running QEMU guests with all their disks through one TLS connection.\n"
    "\n"
    "usage: bistreamd [--config FILE] [--check-config] [--verbose | --debug]\n"
    "\n"
    "  --config FILE    read FILE (default: " DEFAULT_CONFIG ")\n"
    "  --check-config   say whether the file is right, and end\n"
    "  --verbose        log what is going on (the default)\n"
    "  --debug          log more than that\n"
    "  --version        print the version\n"
    "  --help           print this\n"
    "\n"
    "It stays in the foreground and logs to standard error.  SIGTERM and SIGINT end it once\n"
    "nothing is half done; guests run on.\n";

struct options {
    const char *config;
    bool check_only;
};

/* Returns whether to go on; otherwise *RET_STATUS is what to exit with. */
static bool parse_options(int argc, char **argv, struct options *ret, int *ret_status)
{
    static const struct option longopts[] = {
        {"config", required_argument, NULL, 'c'},
        {"check-config", no_argument, NULL, 'C'},
        {"verbose", no_argument, NULL, 'v'},
        {"debug", no_argument, NULL, 'd'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    *ret = (struct options){.config = DEFAULT_CONFIG};
    *ret_status = EXIT_SUCCESS;
    while ((option = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
        switch (option) {
        case 'c':
            ret->config = optarg;
            break;
        case 'C':
            ret->check_only = true;
            break;
        case 'v':
            log_set_level(LOG_LEVEL_INFO);
            break;
        case 'd':
            log_set_level(LOG_LEVEL_DEBUG);
            break;
        case 'V':
            puts("bistreamd " PACKAGE_VERSION);
            return false;
        case 'h':
            fputs(usage, stdout);
            return false;
        default:
            fputs("bistreamd: --help shows the options\n", stderr);
            *ret_status = EXIT_USAGE;
            return false;
        }
    }
    if (optind == argc)
        return true;
    fprintf(stderr, "bistreamd: \"%s\" is no option; --help shows them\n", argv[optind]);
    *ret_status = EXIT_USAGE;
    return false;
}

/* For all threads: the main loop reads them from a descriptor. */
static void block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* A channel takes a descriptor, and a login shell's limit is 1024. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        log_warning("can't raise the limit of open files: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    struct options options;
    struct error err = ERROR_INIT;
    struct config *config;
    int status, r;

    if (!parse_options(argc, argv, &options, &status))
        return status;
    config = config_load(options.config, &err);
    if (!config || options.check_only) {
        if (config)
            printf("%s: ok\n", options.config);
        else
            fprintf(stderr, "bistreamd: %s\n", err.text);
        status = config ? EXIT_SUCCESS : EXIT_FAILURE;
        config_free(config);
        return status;
    }
    block_signals();
    raise_descriptor_limit();
    r = server_run(config, &err);
    if (r < 0)
        log_error("bistreamd: %s", err.text);
    config_free(config);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
