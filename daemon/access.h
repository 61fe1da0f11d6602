/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Who may come in, and what a peer may reach here: sockets by a forward, tap devices by its guests.
 */
#ifndef DAEMON_ACCESS_H
#define DAEMON_ACCESS_H

#include <stdbool.h>

/* The first of NAMES (tls_peer_names(): subject CN, then SAN) that matches a pattern of
 * allowed_peers; it is "the peer" in calls and logs from then on.  Shell patterns, letter case
 * ignored; '*' matches dots too.  NULL: nobody, which is also what an empty list says.  Both lists
 * end with NULL. */
const char *access_peer(char *const *patterns, const char *const *names);

/* True when PATH is plain (from the root, no "." or ".." or empty component, short enough for a
 * socket's address) and matches a pattern of forward_allow.  '*' does not match '/'. */
bool access_forward(char *const *patterns, const char *path);

/* True when the tap device IFNAME matches a pattern of tap_allow. */
bool access_tap(char *const *patterns, const char *ifname);

#endif
