/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The connection to the daemon.  The socket is blocking; waiting is done in ppoll(2), where a
 * signal can end it without a race.  Messages are taken out of the input one at a time: a reply
 * ends the call that waits for it, an event is queued, libvirt's keepalive is answered, and
 * anything else means that no bistreamd is there.
 */
#include "config.h"

#include "client/connection.h"

#include "client/uri.h"
#include "common/cleanup.h"
#include "rpc/error.h"
#include "rpc/inbox.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>

enum { INPUT_SIZE = 65536 };

struct event {
    struct rpc_message message;
    STAILQ_ENTRY(event) link;
};

struct connection {
    int fd;
    char path[URI_SOCKET_MAX];
    bool broken;
    uint32_t serial; /* of the last call */
    STAILQ_HEAD(, event) events;

    struct rpc_inbox inbox;
    uint8_t input[INPUT_SIZE];
    size_t start, end; /* what of it is not decoded yet */
};

/* ---- opening -------------------------------------------------------------------------------- */

static const char *advice(int code)
{
    switch (code) {
    case ENOENT:
    case ECONNREFUSED:
        return "; is it running?";
    case EACCES:
        return "; may you use its socket?";
    default:
        return "";
    }
}

static int dial(struct connection *connection, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, connection->path, sizeof address.sun_path);
    connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        return error_set_errno(err, errno, "can't make a socket");
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) < 0)
        return error_set(err, errno, "can't reach bistreamd at %s: %s%s", connection->path,
                         strerror(errno), advice(errno));
    return 0;
}

struct connection *connection_open(const char *uri, struct error *err)
{
    struct connection *connection = calloc(1, sizeof *connection);

    if (!connection) {
        error_set_errno(err, ENOMEM, "can't connect to bistreamd");
        return NULL;
    }
    connection->fd = -1;
    STAILQ_INIT(&connection->events);
    if (uri_control_socket(uri, connection->path, err) < 0 || dial(connection, err) < 0) {
        connection_free(connection);
        return NULL;
    }
    return connection;
}

void connection_free(struct connection *connection)
{
    struct event *event;

    if (!connection)
        return;
    while ((event = STAILQ_FIRST(&connection->events))) {
        STAILQ_REMOVE_HEAD(&connection->events, link);
        rpc_message_clear(&event->message);
        free(event);
    }
    rpc_inbox_clear(&connection->inbox);
    if (connection->fd >= 0)
        close(connection->fd);
    free(connection);
}

bool connection_is_broken(const struct connection *connection)
{
    return connection->broken;
}

const char *connection_path(const struct connection *connection)
{
    return connection->path;
}

/* ---- messages ------------------------------------------------------------------------------- */

static int broken(struct connection *connection, int code, struct error *err)
{
    connection->broken = true;
    switch (code) {
    case 0:
    case ECONNRESET:
    case EPIPE:
        return error_set(err, ECONNRESET, "bistreamd at %s ended the connection; its log says why",
                         connection->path);
    case EPROTO:
        return error_set(err, EPROTO, "what answers at %s doesn't speak bistream's protocol",
                         connection->path);
    default:
        return error_set_errno(err, code, "the connection to bistreamd at %s broke",
                               connection->path);
    }
}

static int send_bytes(struct connection *connection, const uint8_t *data, size_t length,
                      struct error *err)
{
    while (length > 0) {
        ssize_t n = send(connection->fd, data, length, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            return broken(connection, errno, err);
        if (n > 0) {
            data += n;
            length -= (size_t)n;
        }
    }
    return 0;
}

/* Waits until there is input.  Returns 0, -EINTR or -ETIMEDOUT. */
static int wait_readable(struct connection *connection, const sigset_t *mask, int timeout_ms,
                         struct error *err)
{
    struct pollfd pollfd = {.fd = connection->fd, .events = POLLIN};
    struct timespec timeout = {timeout_ms / 1000, (timeout_ms % 1000) * 1000000L};
    int ready = ppoll(&pollfd, 1, timeout_ms < 0 ? NULL : &timeout, mask);

    if (ready < 0)
        return errno == EINTR ? -EINTR : broken(connection, errno, err);
    return ready == 0 ? -ETIMEDOUT : 0;
}

/* Receives one message into the inbox.  Returns as connection_next_event(). */
static int receive(struct connection *connection, const sigset_t *mask, int timeout_ms,
                   struct error *err)
{
    for (;;) {
        size_t used;
        ssize_t n;
        int result = rpc_inbox_feed(&connection->inbox, connection->input + connection->start,
                                    connection->end - connection->start, &used);

        if (result < 0)
            return broken(connection, -result, err);
        connection->start += used;
        if (result > 0)
            return 0;
        result = wait_readable(connection, mask, timeout_ms, err);
        if (result < 0)
            return result;
        n = recv(connection->fd, connection->input, INPUT_SIZE, 0);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return broken(connection, n < 0 ? errno : 0, err);
        connection->start = 0;
        connection->end = n < 0 ? 0 : (size_t)n;
    }
}

/* Receives until there is a reply or an event of our program, in the inbox until the next one. */
static int receive_ours(struct connection *connection, const sigset_t *mask, int timeout_ms,
                        struct error *err)
{
    const struct rpc_message *message = &connection->inbox.message;

    for (;;) {
        CLEANUP_FREE uint8_t *pong = NULL;
        size_t length;
        int result = receive(connection, mask, timeout_ms, err);

        if (result < 0)
            return result;
        if (rpc_inbox_is_keepalive(message, &pong, &length)) {
            result = pong ? send_bytes(connection, pong, length, err) : 0;
            if (result < 0)
                return result;
        } else if (message->header.prog == BS_PROGRAM &&
                   (message->header.type == BS_REPLY || message->header.type == BS_EVENT)) {
            return 0;
        } else {
            return broken(connection, EPROTO, err);
        }
    }
}

/* ---- calls and events ----------------------------------------------------------------------- */

/* Takes the message out of the inbox. */
static struct rpc_message take_message(struct connection *connection)
{
    struct rpc_message message = connection->inbox.message;

    memset(&connection->inbox.message, 0, sizeof connection->inbox.message);
    return message;
}

/* Keeps the event in the inbox for connection_next_event(). */
static int queue_event(struct connection *connection, struct error *err)
{
    struct event *event = malloc(sizeof *event);

    if (!event)
        return broken(connection, ENOMEM, err);
    event->message = take_message(connection);
    STAILQ_INSERT_TAIL(&connection->events, event, link);
    return 0;
}

/* Decodes the reply to a call into *RET. */
static int take_reply(struct connection *connection, const struct rpc_message *reply,
                      xdrproc_t ret_proc, void *ret, struct error *err)
{
    int result;

    if (reply->header.status == BS_OK) {
        result = ret_proc ? rpc_payload_decode(reply->payload, reply->length, ret_proc, ret) : 0;
        return result < 0 ? broken(connection, EPROTO, err) : 0;
    }
    result = rpc_error_decode(reply->payload, reply->length, err);
    if (result == -ENOSYS)
        return error_set(err, ENOSYS,
                         "the server at %s doesn't know this command; is it a bistreamd, and as "
                         "new as this program?",
                         connection->path);
    return result;
}

static int send_call(struct connection *connection, int procedure, xdrproc_t proc, const void *args,
                     struct error *err)
{
    struct bs_header header = {.prog = BS_PROGRAM,
                               .vers = BS_VERSION,
                               .procedure = procedure,
                               .type = BS_CALL,
                               .serial = ++connection->serial};
    CLEANUP_FREE uint8_t *data = NULL;
    size_t length;
    int result = rpc_message_encode(&header, proc, args, &data, &length);

    if (result < 0)
        return error_set_errno(err, -result, "can't encode the call to bistreamd");
    return send_bytes(connection, data, length, err);
}

int connection_call(struct connection *connection, int procedure, xdrproc_t args_proc,
                    const void *args, xdrproc_t ret_proc, void *ret, struct error *err)
{
    const struct rpc_message *message = &connection->inbox.message;
    int result = send_call(connection, procedure, args_proc, args, err);

    while (result == 0 || result == -EINTR) {
        result = receive_ours(connection, NULL, -1, err);
        if (result < 0)
            continue;
        if (message->header.type == BS_EVENT)
            result = queue_event(connection, err);
        else if (message->header.serial == connection->serial)
            return take_reply(connection, message, ret_proc, ret, err);
        else
            result = broken(connection, EPROTO, err);
    }
    return result;
}

int connection_next_event(struct connection *connection, const sigset_t *mask, int timeout_ms,
                          struct rpc_message *ret, struct error *err)
{
    struct event *event = STAILQ_FIRST(&connection->events);
    int result;

    if (event) {
        STAILQ_REMOVE_HEAD(&connection->events, link);
        *ret = event->message;
        free(event);
        return 0;
    }
    result = receive_ours(connection, mask, timeout_ms, err);
    if (result < 0)
        return result;
    if (connection->inbox.message.header.type != BS_EVENT)
        return broken(connection, EPROTO, err);
    *ret = take_message(connection);
    return 0;
}
