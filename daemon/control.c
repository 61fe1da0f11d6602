/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The control socket: see control.h.
 *
 * The main loop accepts; each connection then has a thread of its own, which reads a call, runs its
 * handler, which may take its time, and sends the reply.  Whoever sends (the thread its replies,
 * other threads their events) puts the whole message into the connection's queue under its lock and
 * lets the socket take what it takes at once; the thread sends the rest when there is room.  So a
 * client that doesn't read holds nobody up but itself.
 *
 * Lock order: control->lock before connection->lock.  Hooks run under connection->lock.
 */
#include "config.h"

#include "daemon/control.h"
#include "rpc/inbox.h"
#include "daemon/entrance.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "common/ring.h"
#include "io/net.h"
#include "io/tls.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum {
    CONNECTIONS_MAX = 64, /* each has a thread; an operator has a handful */
    QUEUE_FULL = 262144,  /* from here on, nothing is read and progress is left out */
    QUEUE_MAX = 4194304,  /* a client that lets this much wait is given up */
    READ_SIZE = 16384,
};

struct connection {
    struct control_connection public; /* first: handlers get this */
    struct control *control;
    int wake;               /* eventfd: look again at what to wait for */
    struct rpc_inbox inbox; /* the thread's own */
    atomic_uint references;
    LIST_ENTRY(connection) link; /* under control->lock */

    pthread_mutex_t lock; /* the rest */
    int fd;               /* -1 after the end */
    bool ended;
    struct ring queue;
    LIST_HEAD(, control_hook) hooks;
};

struct control {
    struct daemon *daemon;
    const struct rpc_program *program;
    struct entrance *entrance;
    unsigned last_id; /* the main loop's */

    pthread_mutex_t lock; /* the rest */
    pthread_cond_t changed;
    LIST_HEAD(, connection) connections;
    unsigned threads, calls; /* that run */
    bool quiet;
};

/* ---- references ------------------------------------------------------------------------------ */

void control_ref(struct control_connection *public)
{
    atomic_fetch_add(&((struct connection *)public)->references, 1);
}

void control_unref(struct control_connection *public)
{
    struct connection *connection = (struct connection *)public;

    if (atomic_fetch_sub(&connection->references, 1) > 1)
        return;
    cleanup_close(&connection->fd);
    cleanup_close(&connection->wake);
    rpc_inbox_clear(&connection->inbox);
    ring_release(&connection->queue);
    pthread_mutex_destroy(&connection->lock);
    free(connection);
}

/* ---- sending --------------------------------------------------------------------------------- */

/* The client is gone, or given up: the thread wakes up and ends.  Under the lock. */
static void break_off(struct connection *connection)
{
    shutdown(connection->fd, SHUT_RDWR);
    ring_release(&connection->queue);
}

/* Sends what the socket takes now.  Under the lock. */
static int flush(struct connection *connection)
{
    struct iovec iov[2];
    int parts;

    while ((parts = ring_peek(&connection->queue, 0, connection->queue.size, iov)) > 0) {
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)parts};
        ssize_t n = sendmsg(connection->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0) {
            int error = errno;

            break_off(connection);
            return -error;
        }
        ring_drop(&connection->queue, (size_t)n);
    }
    return 0;
}

/* Queues and flushes one message.  MAY_DROP: leave it out when the queue is full. */
static int put_message(struct connection *connection, const uint8_t *data, size_t length,
                       bool may_drop)
{
    int r;

    pthread_mutex_lock(&connection->lock);
    if (connection->ended)
        r = -ECONNRESET;
    else if (connection->queue.size + length > (may_drop ? QUEUE_FULL : QUEUE_MAX))
        r = -ENOBUFS;
    else
        r = ring_append(&connection->queue, data, length);
    if (r == 0)
        r = flush(connection);
    else if (!connection->ended && !may_drop)
        break_off(connection);
    pthread_mutex_unlock(&connection->lock);
    eventfd_write(connection->wake, 1);
    return r;
}

int control_send_event(struct control_connection *public, int procedure, xdrproc_t proc,
                       const void *body)
{
    struct connection *connection = (struct connection *)public;
    struct bs_header header = {
        .prog = BS_PROGRAM, .vers = BS_VERSION, .procedure = procedure, .type = BS_EVENT};
    CLEANUP_FREE uint8_t *data = NULL;
    size_t length;
    int r;

    r = rpc_message_encode(&header, proc, body, &data, &length);
    if (r < 0)
        return r;
    r = put_message(connection, data, length, procedure == BS_PROC_EVENT_MIGRATE_PROGRESS);
    if (r == -ENOBUFS && procedure != BS_PROC_EVENT_MIGRATE_PROGRESS)
        log_warning("control %u: the client does not read what it is sent: connection closed",
                    public->id);
    return r;
}

/* ---- hooks ----------------------------------------------------------------------------------- */

int control_hook_add(struct control_connection *public, struct control_hook *hook)
{
    struct connection *connection = (struct connection *)public;
    int r = -ECONNRESET;

    pthread_mutex_lock(&connection->lock);
    if (!connection->ended) {
        LIST_INSERT_HEAD(&connection->hooks, hook, link);
        hook->linked = true;
        r = 0;
    }
    pthread_mutex_unlock(&connection->lock);
    return r;
}

void control_hook_remove(struct control_connection *public, struct control_hook *hook)
{
    struct connection *connection = (struct connection *)public;

    pthread_mutex_lock(&connection->lock);
    if (hook->linked)
        LIST_REMOVE(hook, link);
    hook->linked = false;
    pthread_mutex_unlock(&connection->lock);
}

/* ---- a connection's thread ------------------------------------------------------------------- */

/* Runs one call, unless the daemon is stopping.  Returns 0, or a negative errno that ends the
 * connection. */
static int run_call(struct connection *connection)
{
    struct control *control = connection->control;
    CLEANUP_FREE uint8_t *reply = NULL;
    size_t length = 0;
    bool quiet;
    int r;

    pthread_mutex_lock(&control->lock);
    quiet = control->quiet;
    if (!quiet)
        control->calls++;
    pthread_mutex_unlock(&control->lock);
    if (quiet)
        return -ESHUTDOWN;
    r = rpc_dispatch(control->program, RPC_CALLER_LOCAL, &connection->public,
                     &connection->inbox.message, &reply, &length);
    if (r == 0)
        r = put_message(connection, reply, length, false);
    pthread_mutex_lock(&control->lock);
    control->calls--;
    pthread_cond_broadcast(&control->changed);
    pthread_mutex_unlock(&control->lock);
    return r;
}

static int handle_message(struct connection *connection)
{
    CLEANUP_FREE uint8_t *answer = NULL;
    size_t length;

    if (!rpc_inbox_is_keepalive(&connection->inbox.message, &answer, &length))
        return run_call(connection);
    return answer ? put_message(connection, answer, length, false) : 0;
}

/* Reads what has come and runs the calls in it.  Returns 1, 0 at the client's end, or a negative
 * errno. */
static int read_calls(struct connection *connection)
{
    uint8_t buffer[READ_SIZE];
    size_t used = 0, length;
    ssize_t n;

    n = recv(connection->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n <= 0)
        return n == 0 ? 0 : errno == EAGAIN || errno == EINTR ? 1 : -errno;
    length = (size_t)n;
    for (;;) {
        size_t step = 0;
        int r = rpc_inbox_feed(&connection->inbox, buffer + used, length - used, &step);

        used += step;
        if (r == 0)
            return 1;
        if (r > 0)
            r = handle_message(connection);
        if (r < 0)
            return r;
    }
}

/* Waits for something to do.  Returns whether there is something to read; *RET_ENDED: the client
 * has hung up. */
static bool wait_for_client(struct connection *connection, bool *ret_ended)
{
    struct control *control = connection->control;
    struct pollfd fds[2] = {{.fd = connection->fd, .events = POLLRDHUP},
                            {.fd = connection->wake, .events = POLLIN}};
    eventfd_t ignored;
    bool quiet;

    pthread_mutex_lock(&control->lock);
    quiet = control->quiet;
    pthread_mutex_unlock(&control->lock);
    pthread_mutex_lock(&connection->lock);
    flush(connection);
    if (connection->queue.size > 0)
        fds[0].events |= POLLOUT;
    if (connection->queue.size < QUEUE_FULL && !quiet)
        fds[0].events = (short)((fds[0].events & ~POLLRDHUP) | POLLIN);
    pthread_mutex_unlock(&connection->lock);

    *ret_ended = false;
    if (poll(fds, 2, -1) < 0)
        return false;
    if (fds[1].revents)
        eventfd_read(connection->wake, &ignored);
    *ret_ended = fds[0].revents & (POLLERR | POLLHUP | POLLRDHUP) && !(fds[0].revents & POLLIN);
    return fds[0].revents & POLLIN;
}

/* Nothing is sent any more, and what depends on the connection ends with it. */
static void end_connection(struct connection *connection)
{
    struct control_hook *hook;

    pthread_mutex_lock(&connection->lock);
    connection->ended = true;
    cleanup_close(&connection->fd);
    connection->fd = -1;
    while ((hook = LIST_FIRST(&connection->hooks))) {
        LIST_REMOVE(hook, link);
        hook->linked = false;
        hook->ended(hook);
    }
    pthread_mutex_unlock(&connection->lock);
}

static void *serve(void *opaque)
{
    struct connection *connection = opaque;
    struct control *control = connection->control;
    bool ended = false;
    int r = 1;

    while (r > 0 && !ended)
        if (wait_for_client(connection, &ended))
            r = read_calls(connection);
    if (r == -EPROTO)
        log_warning("control %u: the client sent what is no call: connection closed",
                    connection->public.id);
    else if (r < 0 && r != -ECONNRESET && r != -EPIPE && r != -ESHUTDOWN)
        log_warning("control %u: connection closed: %s", connection->public.id, strerror(-r));
    else
        log_debug("control %u: ended", connection->public.id);
    end_connection(connection);
    tls_thread_end(); /* handlers dial peers */

    pthread_mutex_lock(&control->lock);
    LIST_REMOVE(connection, link);
    control_unref(&connection->public);
    control->threads--;
    pthread_cond_broadcast(&control->changed);
    pthread_mutex_unlock(&control->lock);
    return NULL;
}

/* ---- accepting ------------------------------------------------------------------------------- */

/* Takes over FD. */
static struct connection *new_connection(struct control *control, int fd)
{
    struct connection *connection = calloc(1, sizeof *connection);

    if (!connection) {
        close(fd);
        return NULL;
    }
    connection->public.daemon = control->daemon;
    connection->public.id = ++control->last_id;
    connection->control = control;
    connection->fd = fd;
    connection->references = 1;
    LIST_INIT(&connection->hooks);
    pthread_mutex_init(&connection->lock, NULL);
    connection->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (connection->wake < 0) {
        control_unref(&connection->public);
        return NULL;
    }
    return connection;
}

static int start_thread(struct connection *connection)
{
    struct control *control = connection->control;
    pthread_t thread;
    int r = EAGAIN;

    pthread_mutex_lock(&control->lock);
    if (control->threads < CONNECTIONS_MAX)
        r = pthread_create(&thread, NULL, serve, connection);
    if (r == 0) {
        pthread_detach(thread);
        control->threads++;
        LIST_INSERT_HEAD(&control->connections, connection, link);
    }
    pthread_mutex_unlock(&control->lock);
    return -r;
}

static void on_accepted(void *opaque, int fd)
{
    struct control *control = opaque;
    struct net_credentials client = {0};
    struct connection *connection;

    net_peer_credentials(fd, &client);
    connection = new_connection(control, fd);
    if (!connection) {
        log_error("control socket: no memory for a connection of pid %d", (int)client.pid);
        return;
    }
    connection->public.uid = client.uid;
    log_info("control %u: pid %d uid %u gid %u connected", connection->public.id, (int)client.pid,
             (unsigned)client.uid, (unsigned)client.gid);
    if (start_thread(connection) < 0) {
        log_error("control %u: refused: %d connections are open already", connection->public.id,
                  CONNECTIONS_MAX);
        control_unref(&connection->public);
    }
}

struct control *control_start(struct daemon *daemon, int listener,
                              const struct rpc_program *program, struct error *err)
{
    struct control *control = calloc(1, sizeof *control);

    if (!control) {
        close(listener);
        error_set(err, ENOMEM, "can't serve the control socket: memory is short");
        return NULL;
    }
    control->daemon = daemon;
    control->program = program;
    LIST_INIT(&control->connections);
    pthread_mutex_init(&control->lock, NULL);
    pthread_cond_init(&control->changed, NULL);
    control->entrance =
        entrance_new(daemon->loop, listener, "control socket", on_accepted, control, err);
    if (!control->entrance) {
        control_free(control);
        return NULL;
    }
    return control;
}

void control_quiesce(struct control *control)
{
    struct connection *connection;

    entrance_free(control->entrance);
    control->entrance = NULL;
    pthread_mutex_lock(&control->lock);
    control->quiet = true;
    LIST_FOREACH(connection, &control->connections, link)
    eventfd_write(connection->wake, 1);
    while (control->calls > 0)
        pthread_cond_wait(&control->changed, &control->lock);
    pthread_mutex_unlock(&control->lock);
}

void control_free(struct control *control)
{
    struct connection *connection;

    if (!control)
        return;
    entrance_free(control->entrance);
    pthread_mutex_lock(&control->lock);
    LIST_FOREACH(connection, &control->connections, link)
    {
        pthread_mutex_lock(&connection->lock);
        if (!connection->ended)
            shutdown(connection->fd, SHUT_RDWR);
        pthread_mutex_unlock(&connection->lock);
    }
    while (control->threads > 0)
        pthread_cond_wait(&control->changed, &control->lock);
    pthread_mutex_unlock(&control->lock);
    pthread_cond_destroy(&control->changed);
    pthread_mutex_destroy(&control->lock);
    free(control);
}
