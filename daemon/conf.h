/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The daemon's configuration: one file, parsed by libconfuse.  Every path is settable.
 * (Not config.h: that name is the build's.)
 */
#ifndef DAEMON_CONF_H
#define DAEMON_CONF_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config {
    char *listen;         /* "[::]:16520" */
    char *control_socket; /* path */
    char *control_group;  /* group that may connect; NULL: nobody's but the owner's */
    char *pki_dir, *run_dir, *state_dir, *pool_dir; /* folders */
    char **allowed_peers;                           /* shell patterns of names, NULL-terminated */
    char **forward_allow; /* shell patterns of socket paths, NULL-terminated */
    char **tap_allow;     /* shell patterns of tap devices that peers' guests may use, likewise */
    bool offer_bistream;
    uint64_t session_memory; /* bytes, each way */
    unsigned ping_ms;        /* silence after which a PING goes out */
    unsigned grace_ms;       /* how long a session waits for another link; 0: it doesn't */
    unsigned stall_ms;       /* how long a silent path may hold up a guest */
    unsigned direct_first, direct_last; /* ports of mode direct; 0: none */
    char *direct_pki_dir;               /* folder of QEMU's own certificates; NULL: none */
    char *qemu_binary;
    char **qemu_args; /* extra arguments of this host's own, NULL-terminated */
};

/* Reads PATH over the defaults.  Returns NULL with ERR naming file and line. */
struct config *config_load(const char *path, struct error *err);
void config_free(struct config *config);

#endif
