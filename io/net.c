/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Sockets: see net.h.
 *
 * Dialling tries the addresses of a host in the resolver's order and gives all of them together
 * one time-out, so that a host whose first address is silent doesn't eat the caller's patience
 * several times.  The last failure is the one that is told.
 *
 * A UNIX socket file outlives a daemon that was killed.  Such a file is told from a live one by
 * connecting to it, and only a file that is a socket and refuses connections is ever removed.
 */
#include "config.h"

#include "io/net.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "common/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* ---- texts ---------------------------------------------------------------------------------- */

static bool port_is_valid(const char *port)
{
    unsigned value = 0;

    if (!*port)
        return false;
    for (const char *p = port; *p; p++) {
        if (*p < '0' || *p > '9')
            return false;
        value = value * 10 + (unsigned)(*p - '0');
        if (value > 65535)
            return false;
    }
    return true;
}

static bool copy_part(char *to, size_t size, const char *from, size_t length)
{
    if (length == 0 || length >= size)
        return false;
    memcpy(to, from, length);
    to[length] = '\0';
    return true;
}

/* Host names, IPv4 and IPv6 addresses, the latter with a zone ("fe80::1%eth0"). */
static bool host_is_valid(const char *host)
{
    return host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             "0123456789.-_:%")] == '\0';
}

/* "host", "host:port", "[v6]", "[v6]:port"; a missing port is left empty. */
static bool split_host_port(const char *text, struct net_address *address)
{
    const char *host = text, *end, *rest;

    if (*text == '[') {
        host = text + 1;
        end = strchr(host, ']');
        if (!end)
            return false;
        rest = end + 1;
    } else {
        end = text + strcspn(text, ":");
        rest = end;
    }
    if (!copy_part(address->host, sizeof address->host, host, (size_t)(end - host)) ||
        !host_is_valid(address->host))
        return false;
    if (*rest == '\0') {
        address->port[0] = '\0';
        return true;
    }
    return *rest == ':' && port_is_valid(rest + 1) &&
           copy_part(address->port, sizeof address->port, rest + 1, strlen(rest + 1));
}

int net_parse_uri(const char *uri, struct net_address *ret, struct error *err)
{
    static const char scheme[] = "bistream://";
    struct net_address address;
    char text[sizeof address.host + sizeof address.port + 4];
    size_t length;

    if (strncmp(uri, scheme, sizeof scheme - 1) != 0)
        return error_set(err, EINVAL, "'%s' is no destination: write bistream://HOST[:PORT]", uri);
    uri += sizeof scheme - 1;
    length = strlen(uri);
    if (length > 0 && uri[length - 1] == '/')
        length--;
    if (!copy_part(text, sizeof text, uri, length) || !split_host_port(text, &address) ||
        strcmp(address.port, "0") == 0)
        return error_set(err, EINVAL,
                         "'bistream://%s' is no destination: write bistream://HOST[:PORT], an IPv6 "
                         "address in brackets",
                         uri);
    if (!address.port[0])
        memcpy(address.port, NET_DEFAULT_PORT, sizeof NET_DEFAULT_PORT);
    *ret = address;
    return 0;
}

int net_parse_listen(const char *text, struct net_address *ret, struct error *err)
{
    struct net_address address;

    if (!split_host_port(text, &address) || !address.port[0])
        return error_set(err, EINVAL,
                         "'%s' is no address to listen on: write ADDRESS:PORT, an IPv6 address in "
                         "brackets",
                         text);
    *ret = address;
    return 0;
}

/* ---- TCP ------------------------------------------------------------------------------------ */

static void cleanup_addresses(struct addrinfo **list)
{
    if (*list)
        freeaddrinfo(*list);
}

#define CLEANUP_ADDRESSES CLEANUP(cleanup_addresses)

int net_look_up(const struct net_address *address, int flags, struct addrinfo **ret,
                struct error *err)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = flags | AI_NUMERICSERV,
    };
    int r = getaddrinfo(address->host, address->port, &hints, ret);

    if (r == 0)
        return 0;
    if (r == EAI_SYSTEM)
        return error_set_errno(err, errno, "can't look up host %s", address->host);
    return error_set(err, EHOSTUNREACH, "can't look up host %s: %s", address->host,
                     gai_strerror(r));
}

int net_wait(int fd, short events, uint64_t deadline, int abort_fd)
{
    struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = abort_fd, .events = POLLIN}};

    for (;;) {
        uint64_t now = loop_clock();
        int ms = now >= deadline ? 0 : (int)min_u64((deadline - now) / LOOP_MS + 1, INT_MAX);
        int r = poll(fds, 2, ms); /* a negative descriptor is ignored */

        if (r > 0)
            return fds[1].revents ? -ECANCELED : 0;
        if (r == 0 && loop_clock() >= deadline)
            return -ETIMEDOUT;
        if (r < 0 && errno != EINTR)
            return -errno;
    }
}

static int connect_one(const struct addrinfo *to, uint64_t deadline, int abort_fd)
{
    CLEANUP_CLOSE int fd = -1;
    int failure = 0, r;
    socklen_t size = sizeof failure;

    fd = socket(to->ai_family, to->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, to->ai_protocol);
    if (fd < 0)
        return -errno;
    if (connect(fd, to->ai_addr, to->ai_addrlen) < 0) {
        if (errno != EINPROGRESS)
            return -errno;
        r = net_wait(fd, POLLOUT, deadline, abort_fd);
        if (r < 0)
            return r;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) < 0)
            return -errno;
        if (failure)
            return -failure;
    }
    return take_fd(&fd);
}

static const char *connect_hint(int code)
{
    switch (code) {
    case ECONNREFUSED:
        return "; is bistreamd running there?";
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return "; is the host up, and does its firewall admit that port?";
    default:
        return "";
    }
}

int net_dial(const struct net_address *address, int timeout_ms, int abort_fd, struct error *err)
{
    uint64_t deadline = loop_clock() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * LOOP_MS;
    CLEANUP_ADDRESSES struct addrinfo *list = NULL;
    int r = net_look_up(address, 0, &list, err);

    if (r < 0)
        return r;
    r = -EHOSTUNREACH;
    for (const struct addrinfo *to = list; to; to = to->ai_next) {
        r = connect_one(to, deadline, abort_fd);
        if (r >= 0)
            return r;
        if (r == -ECANCELED)
            break;
    }
    return error_set(err, -r, "can't connect to %s port %s: %s%s", address->host, address->port,
                     strerror(-r), connect_hint(-r));
}

static int listen_one(const struct addrinfo *on)
{
    CLEANUP_CLOSE int fd = -1;
    int yes = 1, no = 0;

    fd = socket(on->ai_family, on->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, on->ai_protocol);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0)
        return -errno;
    if (on->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no) < 0)
        return -errno;
    if (bind(fd, on->ai_addr, on->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0)
        return -errno;
    return take_fd(&fd);
}

int net_listen(const struct net_address *address, struct error *err)
{
    CLEANUP_ADDRESSES struct addrinfo *list = NULL;
    int r = net_look_up(address, AI_PASSIVE, &list, err);

    if (r < 0)
        return r;
    r = listen_one(list);
    if (r == -EAFNOSUPPORT && strcmp(address->host, "::") == 0) {
        /* A host without IPv6: every address of the other family is what was meant. */
        struct net_address any = *address;

        memcpy(any.host, "0.0.0.0", sizeof "0.0.0.0");
        return net_listen(&any, err);
    }
    if (r < 0)
        return error_set(err, -r, "can't listen on %s port %s: %s%s", address->host, address->port,
                         strerror(-r),
                         r == -EADDRINUSE ? "; another program has that port"
                         : r == -EACCES   ? "; ports below 1024 are root's"
                                          : "");
    return r;
}

int net_local_port(int fd)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof address;

    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        return -errno;
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return -EAFNOSUPPORT;
}

/* ---- UNIX sockets --------------------------------------------------------------------------- */

static int unix_address(const char *path, struct sockaddr_un *ret, struct error *err)
{
    size_t length = strlen(path);

    if (length == 0)
        return error_set(err, EINVAL, "the path of a UNIX socket is empty");
    if (length >= sizeof ret->sun_path)
        return error_set(err, ENAMETOOLONG,
                         "the path of UNIX socket %s is longer than the kernel's %zu bytes", path,
                         sizeof ret->sun_path - 1);
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret->sun_path, path, length);
    return 0;
}

/* Connects a new socket to ADDRESS.  Returns it, or a negative errno. */
static int unix_connect(const struct sockaddr_un *address)
{
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address) < 0)
        return -errno;
    return take_fd(&fd);
}

/* Removes a socket file that nobody serves any more. */
static int remove_stale(const struct sockaddr_un *address, struct error *err)
{
    const char *path = address->sun_path;
    struct stat status;
    int fd;

    if (lstat(path, &status) < 0)
        return errno == ENOENT ? 0 : error_set_errno(err, errno, "can't look at %s", path);
    if (!S_ISSOCK(status.st_mode))
        return error_set(err, EEXIST, "can't listen on %s: a file that is no socket is there",
                         path);
    fd = unix_connect(address);
    if (fd >= 0)
        close(fd);
    if (fd != -ECONNREFUSED)
        return error_set(err, EADDRINUSE, "can't listen on %s: another program serves that socket",
                         path);
    if (unlink(path) < 0 && errno != ENOENT)
        return error_set_errno(err, errno, "can't remove the stale socket %s", path);
    return 0;
}

int net_listen_unix(const char *path, mode_t mode, struct error *err)
{
    CLEANUP_CLOSE int fd = -1;
    struct sockaddr_un address;
    int r = unix_address(path, &address, err);

    if (r == 0)
        r = remove_stale(&address, err);
    if (r < 0)
        return r;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The file takes the socket's mode less the umask, so it is never open to more than MODE; bits
     * that the umask took are given back before anybody can be served. */
    if (fd < 0 || fchmod(fd, mode) < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return error_set_errno(err, errno, "can't make socket %s", path);
    if (chmod(path, mode) < 0 || listen(fd, SOMAXCONN) < 0) {
        r = error_set_errno(err, errno, "can't listen on socket %s", path);
        unlink(path);
        return r;
    }
    return take_fd(&fd);
}

int net_dial_unix(const char *path, struct error *err)
{
    struct sockaddr_un address;
    int r = unix_address(path, &address, err);

    if (r < 0)
        return r;
    r = unix_connect(&address);
    if (r >= 0)
        return r;
    return error_set(err, -r, "can't connect to socket %s: %s%s", path, strerror(-r),
                     r == -ECONNREFUSED || r == -ENOENT ? "; is its program running?"
                     : r == -EAGAIN                     ? "; its program doesn't accept connections"
                                                        : "");
}

int net_peer_credentials(int fd, struct net_credentials *ret)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return -errno;
    *ret = (struct net_credentials){.pid = peer.pid, .uid = peer.uid, .gid = peer.gid};
    return 0;
}

void net_local_address(int fd, char ret[INET6_ADDRSTRLEN])
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
    const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
    socklen_t length = sizeof address;

    ret[0] = '\0';
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return;
    if (address.ss_family == AF_INET)
        inet_ntop(AF_INET, &in->sin_addr, ret, INET6_ADDRSTRLEN);
    else if (address.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
        inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], ret, INET6_ADDRSTRLEN);
    else if (address.ss_family == AF_INET6)
        inet_ntop(AF_INET6, &in6->sin6_addr, ret, INET6_ADDRSTRLEN);
}
