/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Connections through the tunnel.  They are made one at a time: connect, say a stream's number, accept
 * what the tunnel has dialled, hear the number.  So both ends of a stream are known to belong together
 * before anything is measured, whatever the tunnel does in between.
 */
#include "config.h"

#include "bench/die.h"
#include "bench/load.h"
#include "bench/stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof address.sun_path)
        die(0, "the path of a socket is too long: %s", path);
    strcpy(address.sun_path, path);
    return address;
}

int flow_listen(const char *path)
{
    const struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (unlink(path) < 0 && errno != ENOENT)
        die(errno, "can't remove %s", path);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
        listen(fd, 1024) < 0)
        die(errno, "can't listen at %s", path);
    return fd;
}

int flow_dial(const char *path)
{
    const struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        die(errno, "can't connect to %s", path);
    return fd;
}

int flow_accept(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        die(errno, "can't accept a connection from the tunnel");
    return fd;
}

void flow_set_blocking(int fd, bool blocking)
{
    int flags = fcntl(fd, F_GETFL);

    flags = blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK;
    if (fcntl(fd, F_SETFL, flags) < 0)
        die(errno, "can't set a socket's mode");
}

void flow_send(int fd, const void *data, size_t length)
{
    for (const uint8_t *at = data; length > 0;) {
        ssize_t n = send(fd, at, length, MSG_NOSIGNAL);

        if (n < 0)
            die(errno, "can't send into the tunnel");
        at += n;
        length -= (size_t)n;
    }
}

void flow_receive(int fd, void *data, size_t length)
{
    ssize_t n = recv(fd, data, length, MSG_WAITALL);

    if (n < 0)
        die(errno, "can't receive from the tunnel");
    if ((size_t)n < length)
        die(0, "the tunnel ended a stream too early");
}

void flow_check(const struct flow *flow, uint64_t position, const uint8_t *data, size_t length)
{
    size_t good = stamp_check(flow->number, position, data, length);

    if (good < length)
        die(0, "stream %u: the byte at %llu is wrong", flow->number,
            (unsigned long long)(position + good));
}

void flow_open(struct load *load, struct flow *flow)
{
    unsigned heard;

    *flow = (struct flow){.number = load->connected++};
    flow->near = flow_dial(load->near);
    flow_send(flow->near, &flow->number, sizeof flow->number);
    flow->far = flow_accept(load->listener);
    flow_receive(flow->far, &heard, sizeof heard);
    if (heard != flow->number)
        die(0, "stream %u arrived as %u", flow->number, heard);
}

void flow_close(struct flow *flow)
{
    close(flow->near);
    close(flow->far);
}

uint8_t *flow_buffer(void)
{
    uint8_t *buffer = malloc(CHUNK_SIZE);

    if (!buffer)
        die(ENOMEM, "can't move bytes");
    return buffer;
}

void flow_push(struct flow *flow, uint8_t *buffer, size_t length)
{
    size_t skip = flow->sent % sizeof(uint64_t); /* of the word that was sent in part */
    size_t room = (CHUNK_SIZE < skip + length ? CHUNK_SIZE : skip + length) - skip;
    ssize_t n;

    stamp_fill(flow->number, flow->sent - skip, buffer, (skip + room + 7) / 8 * 8);
    n = send(flow->near, buffer + skip, room, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN)
        die(errno, "stream %u: can't send into the tunnel", flow->number);
    flow->sent += n > 0 ? (size_t)n : 0;
}

bool flow_pull(struct flow *flow, uint8_t *buffer)
{
    ssize_t n = recv(flow->far, buffer, CHUNK_SIZE, 0);

    if (n < 0 && errno == EAGAIN)
        return true;
    if (n < 0)
        die(errno, "stream %u: can't receive from the tunnel", flow->number);
    flow_check(flow, flow->received, buffer, (size_t)n);
    flow->received += (size_t)n;
    return n > 0;
}

uint64_t flow_total(const struct flow *flow)
{
    if (flow->received != flow->sent)
        die(0, "stream %u: %llu bytes were sent, and %llu arrived", flow->number,
            (unsigned long long)flow->sent, (unsigned long long)flow->received);
    return flow->received;
}
