/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Waiting TCP connections: see tcp_wait.h.
 *
 * The kernel lists the connections of a family and a remote port (sock_diag(7)), each with its struct
 * tcp_info; those to other addresses are left out here.  They are told apart by the kernel's cookie.
 * One that isn't listed any more has ended, and its place is taken by the next new one.
 */
#include "config.h"

#include "io/net.h"
#include "io/tcp_wait.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "common/loop.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    ANSWER_MAX = 32768,    /* what the kernel puts into one message at the most */
    TCP_STATE_LISTEN = 10, /* as all states, from the kernel's net/tcp_states.h */
    TCP_STATE_TIME_WAIT = 6,
};

struct tcp_wait {
    struct addrinfo *addresses;
    unsigned port;
    size_t most;
    struct {
        struct tcp_track track;
        bool seen; /* by this look */
    } tracks[];
};

/* ---- one connection -------------------------------------------------------------------------- */

static void look(struct tcp_track *track, const struct tcp_info *info, struct tcp_waiting *ret)
{
    const uint64_t now = loop_clock();
    const uint64_t bytes = info->tcpi_bytes_received + info->tcpi_bytes_acked;
    const bool waits = info->tcpi_unacked || info->tcpi_notsent_bytes ||
                       info->tcpi_last_data_sent < info->tcpi_last_data_recv;
    const bool moves = !track->moved || bytes != track->bytes;

    if (moves) {
        track->bytes = bytes;
        track->moved = now;
    }
    if (!waits)
        track->asked = 0;
    else if (moves || !track->asked)
        track->asked = now;
    ret->still = max_u64(ret->still, now - track->moved);
    ret->quiet = ret->connections ? min_u64(ret->quiet, now - track->moved) : ret->still;
    ret->connections++;
    if (track->asked)
        ret->waiting = max_u64(ret->waiting, now - track->asked);
}

int tcp_wait_look_fd(int fd, struct tcp_track *track, struct tcp_waiting *ret)
{
    struct tcp_info info = {.tcpi_state = 0}; /* an older kernel fills less of it */
    socklen_t size = sizeof info;

    *ret = (struct tcp_waiting){.connections = 0};
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return -errno;
    look(track, &info, ret);
    return 0;
}

/* ---- all to one port ------------------------------------------------------------------------- */

struct tcp_wait *tcp_wait_new(const char *host, unsigned port, size_t most, struct error *err)
{
    struct tcp_wait *wait = calloc(1, sizeof *wait + most * sizeof wait->tracks[0]);
    struct net_address address;

    if (!wait) {
        error_set(err, ENOMEM, "no memory to watch connections");
        return NULL;
    }
    snprintf(address.host, sizeof address.host, "%s", host);
    snprintf(address.port, sizeof address.port, "%u", port);
    if (net_look_up(&address, 0, &wait->addresses, err) < 0) {
        free(wait);
        return NULL;
    }
    wait->port = port;
    wait->most = most;
    return wait;
}

void tcp_wait_free(struct tcp_wait *wait)
{
    if (!wait)
        return;
    freeaddrinfo(wait->addresses);
    free(wait);
}

static int ask(const struct tcp_wait *wait, int fd, int family)
{
    const struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } message = {
        .header = {.nlmsg_len = sizeof message,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.sdiag_family = (uint8_t)family,
                    .sdiag_protocol = IPPROTO_TCP,
                    .idiag_ext = 1 << (INET_DIAG_INFO - 1),
                    .idiag_states = ~(1u << TCP_STATE_LISTEN | 1u << TCP_STATE_TIME_WAIT),
                    .id.idiag_dport = htons((uint16_t)wait->port)},
    };

    return send(fd, &message, sizeof message, 0) < 0 ? -errno : 0;
}

static bool is_ours(const struct tcp_wait *wait, const struct inet_diag_msg *entry)
{
    for (const struct addrinfo *a = wait->addresses; a; a = a->ai_next) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a->ai_addr;
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)a->ai_addr;

        if (a->ai_family != entry->idiag_family)
            continue;
        if (a->ai_family == AF_INET
                ? memcmp(entry->id.idiag_dst, &in->sin_addr, sizeof in->sin_addr) == 0
                : memcmp(entry->id.idiag_dst, &in6->sin6_addr, sizeof in6->sin6_addr) == 0)
            return entry->id.idiag_dport == htons((uint16_t)wait->port);
    }
    return false;
}

/* Its track, or a free one; NULL: there is no room. */
static struct tcp_track *find_track(struct tcp_wait *wait, uint64_t cookie)
{
    size_t i = 0;

    while (i < wait->most && wait->tracks[i].track.cookie != cookie)
        i++;
    for (size_t j = 0; i == wait->most && j < wait->most; j++)
        if (!wait->tracks[j].track.cookie)
            i = j;
    if (i == wait->most)
        return NULL;
    wait->tracks[i].track.cookie = cookie;
    wait->tracks[i].seen = true;
    return &wait->tracks[i].track;
}

static void read_entry(struct tcp_wait *wait, const struct nlmsghdr *header,
                       struct tcp_waiting *ret)
{
    const struct inet_diag_msg *entry = NLMSG_DATA(header);
    struct tcp_info info = {.tcpi_state = 0};
    struct rtattr *attribute = (struct rtattr *)(uintptr_t)(entry + 1);
    unsigned left = header->nlmsg_len - (unsigned)NLMSG_LENGTH(sizeof *entry);
    struct tcp_track *track;

    if (header->nlmsg_len < NLMSG_LENGTH(sizeof *entry) || !is_ours(wait, entry))
        return;
    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
        if (attribute->rta_type != INET_DIAG_INFO)
            continue;
        memcpy(&info, RTA_DATA(attribute), min_u64(RTA_PAYLOAD(attribute), sizeof info));
        track =
            find_track(wait, (uint64_t)entry->id.idiag_cookie[1] << 32 | entry->id.idiag_cookie[0]);
        if (track)
            look(track, &info, ret);
    }
}

/* Returns 1 at the end of the list, 0 if more follows, or a negative errno. */
static int read_answer(struct tcp_wait *wait, int fd, struct tcp_waiting *ret)
{
    union {
        struct nlmsghdr header;
        char space[ANSWER_MAX];
    } answer;
    ssize_t n = recv(fd, &answer, sizeof answer, 0);
    size_t at = 0;

    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    while (at + sizeof answer.header <= (size_t)n) {
        const struct nlmsghdr *header = (const void *)(answer.space + at);

        if (header->nlmsg_len < sizeof *header || header->nlmsg_len > (size_t)n - at)
            return -EPROTO;
        if (header->nlmsg_type == NLMSG_DONE)
            return 1;
        if (header->nlmsg_type == NLMSG_ERROR)
            return ((const struct nlmsgerr *)NLMSG_DATA(header))->error;
        if (header->nlmsg_type == SOCK_DIAG_BY_FAMILY)
            read_entry(wait, header, ret);
        at += (header->nlmsg_len + NLMSG_ALIGNTO - 1) & ~(NLMSG_ALIGNTO - 1);
    }
    return 0;
}

static int look_at_family(struct tcp_wait *wait, int fd, int family, struct tcp_waiting *ret)
{
    int r = ask(wait, fd, family);

    while (r == 0)
        r = read_answer(wait, fd, ret);
    return r < 0 ? r : 0;
}

static bool has_family(const struct tcp_wait *wait, int family)
{
    const struct addrinfo *a = wait->addresses;

    while (a && a->ai_family != family)
        a = a->ai_next;
    return a;
}

int tcp_wait_look(struct tcp_wait *wait, struct tcp_waiting *ret)
{
    CLEANUP_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    int r = fd < 0 ? -errno : 0;

    *ret = (struct tcp_waiting){.connections = 0};
    for (size_t i = 0; i < wait->most; i++)
        wait->tracks[i].seen = false;
    if (r == 0 && has_family(wait, AF_INET))
        r = look_at_family(wait, fd, AF_INET, ret);
    if (r == 0 && has_family(wait, AF_INET6))
        r = look_at_family(wait, fd, AF_INET6, ret);
    for (size_t i = 0; r == 0 && i < wait->most; i++)
        if (!wait->tracks[i].seen)
            wait->tracks[i].track = (struct tcp_track){.cookie = 0};
    return r;
}
