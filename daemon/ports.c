/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Ports for mode direct: see ports.h.
 *
 * A list of our own keeps apart our own migrations, from the moment that a port is chosen, long
 * before QEMU listens on it, until its QEMU has ended.  Everybody else is asked by trying what QEMU
 * will do: bind(2) with SO_REUSEADDR, without which each migration would block its ports for a minute
 * (TIME_WAIT), and listen(2), since the first may succeed beside another listener.  A host's name may
 * stand for several addresses, and QEMU listens on all.
 *
 * The search goes on where the last one ended: a port that was given back rests for as long as
 * possible, and whoever still dials it meets nobody instead of another guest's QEMU.
 */
#include "config.h"

#include "daemon/ports.h"
#include "common/cleanup.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct ports {
    pthread_mutex_t lock; /* a leaf: nothing is called with it that takes another */
    unsigned first, count;
    unsigned next; /* where to look first */
    bool taken[];
};

struct ports *ports_new(unsigned first, unsigned last)
{
    unsigned count = first ? last - first + 1 : 0;
    struct ports *ports = calloc(1, sizeof *ports + count * sizeof ports->taken[0]);

    if (!ports)
        return NULL;
    pthread_mutex_init(&ports->lock, NULL);
    ports->first = first;
    ports->count = count;
    return ports;
}

void ports_free(struct ports *ports)
{
    if (!ports)
        return;
    pthread_mutex_destroy(&ports->lock);
    free(ports);
}

/* Returns 0 if PORT is free at ADDRESS, or a negative errno.  [::] takes in IPv4, as QEMU does. */
static int try_port(const struct addrinfo *address, unsigned port)
{
    struct sockaddr_storage name = {.ss_family = AF_UNSPEC};
    CLEANUP_CLOSE int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int both = 0, yes = 1;

    if (fd < 0)
        return -errno;
    memcpy(&name, address->ai_addr, address->ai_addrlen);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (address->ai_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &both, sizeof both);
        ((struct sockaddr_in6 *)&name)->sin6_port = htons((uint16_t)port);
    } else {
        ((struct sockaddr_in *)&name)->sin_port = htons((uint16_t)port);
    }
    if (bind(fd, (struct sockaddr *)&name, address->ai_addrlen) < 0 || listen(fd, 0) < 0)
        return -errno;
    return 0;
}

/* The same for all of ADDRESSES, of which QEMU uses those that there are: one is enough. */
static int try_addresses(const struct addrinfo *addresses, unsigned port)
{
    int result = -EADDRNOTAVAIL;

    for (const struct addrinfo *a = addresses; a; a = a->ai_next) {
        int r = try_port(a, port);

        if (r == 0)
            result = 0;
        else if (r != -EADDRNOTAVAIL && r != -EAFNOSUPPORT)
            return r;
    }
    return result;
}

/* Returns a port, or why the last one that was tried can't be had; LOCK is held. */
static int find_free(struct ports *ports, const struct addrinfo *addresses)
{
    int r = -EADDRINUSE;

    for (unsigned i = 0; i < ports->count; i++) {
        unsigned number = (ports->next + i) % ports->count;

        if (ports->taken[number])
            continue;
        r = try_addresses(addresses, ports->first + number);
        if (r == -EADDRNOTAVAIL)
            break; /* and so it is with every port */
        if (r < 0)
            continue;
        ports->taken[number] = true;
        ports->next = number + 1;
        return (int)(ports->first + number);
    }
    return r;
}

int ports_take(struct ports *ports, const char *host, struct error *err)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *addresses;
    int r;

    if (ports->count == 0)
        return error_set(
            err, EOPNOTSUPP,
            "no guest may come in directly: direct_ports is empty in the configuration");
    r = getaddrinfo(host, NULL, &hints, &addresses);
    if (r != 0)
        return error_set(err, EADDRNOTAVAIL, "can't listen at %s: %s", host, gai_strerror(r));
    pthread_mutex_lock(&ports->lock);
    r = find_free(ports, addresses);
    pthread_mutex_unlock(&ports->lock);
    freeaddrinfo(addresses);
    if (r == -EADDRINUSE)
        return error_set(err, EADDRINUSE,
                         "all of direct_ports (%u-%u) are in use at %s: wait until a migration has "
                         "ended, or configure more",
                         ports->first, ports->first + ports->count - 1, host);
    if (r == -EADDRNOTAVAIL)
        return error_set(err, EADDRNOTAVAIL, "can't listen at %s: this host has no such address",
                         host);
    if (r < 0)
        return error_set_errno(err, -r, "can't listen on direct_ports (%u-%u) at %s", ports->first,
                               ports->first + ports->count - 1, host);
    return r;
}

void ports_give_back(struct ports *ports, int port)
{
    pthread_mutex_lock(&ports->lock);
    ports->taken[(unsigned)port - ports->first] = false;
    pthread_mutex_unlock(&ports->lock);
}
