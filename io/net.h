/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Sockets: TCP with bounded waiting, UNIX sockets with owners and modes, URIs.
 * All descriptors are close-on-exec and non-blocking.
 */
#ifndef IO_NET_H
#define IO_NET_H

#include "common/error.h"

#include <netinet/in.h>
#include <stdint.h>
#include <sys/types.h>

#define NET_DEFAULT_PORT "16520"

struct addrinfo;

struct net_address {
    char host[256]; /* without brackets */
    char port[16];
};

/* "bistream://host[:port]"; IPv6 in brackets.  Returns 0 or -EINVAL with ERR. */
int net_parse_uri(const char *uri, struct net_address *ret, struct error *err);
/* "[::]:16520", "127.0.0.1:0", "host:port". */
int net_parse_listen(const char *text, struct net_address *ret, struct error *err);

/* All addresses of a host, FLAGS as getaddrinfo(3) takes them, for freeaddrinfo(); blocks.  Returns 0,
 * or a negative errno with ERR. */
int net_look_up(const struct net_address *address, int flags, struct addrinfo **ret,
                struct error *err);
/* Returns a connected socket, trying every address of the host, or a negative errno with ERR
 * ("can't connect to HOST port PORT: Connection refused; is bistreamd running there?").  -ECANCELED
 * as soon as ABORT_FD (-1: none) becomes readable. */
int net_dial(const struct net_address *address, int timeout_ms, int abort_fd, struct error *err);
/* Returns a listening socket (SO_REUSEADDR, dual stack for [::]), or a negative errno with ERR. */
int net_listen(const struct net_address *address, struct error *err);
/* The port a listening TCP socket has; negative errno. */
int net_local_port(int fd);

/* Listens on PATH with MODE; a stale socket file (nobody answers there) is replaced, a live one and
 * any other file refused. */
int net_listen_unix(const char *path, mode_t mode, struct error *err);
/* Connects to PATH (never blocks: UNIX sockets connect at once or say -EAGAIN). */
int net_dial_unix(const char *path, struct error *err);

/* Waits for EVENTS (POLLIN, POLLOUT) on FD until DEADLINE on loop_clock()'s scale.  Returns 0,
 * -ETIMEDOUT, -ECANCELED once ABORT_FD (-1: none) is readable, or another negative errno. */
int net_wait(int fd, short events, uint64_t deadline, int abort_fd);

struct net_credentials {
    pid_t pid;
    uid_t uid;
    gid_t gid;
};
int net_peer_credentials(int fd, struct net_credentials *ret);

/* The address of this end of the TCP connection FD, as a number without port; IPv4 also where it came
 * to an IPv6 socket.  Empty when it isn't known. */
void net_local_address(int fd, char ret[INET6_ADDRSTRLEN]);

#endif
