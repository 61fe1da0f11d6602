/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The QMP thread: see qmp.h.
 *
 * It alone touches the sockets: it writes what callers have appended, splits what comes in, puts
 * each reply into the call that waits for it, calls the handlers for events and then rings the
 * bell, so that whoever looks sees what the handler has noted.  It never blocks, neither on a
 * QEMU nor on a caller.
 */
#include "config.h"

#include "qemu/qmp_link.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

struct qmp_thread {
    struct loop *loop;
    pthread_t thread;
};

void qmp_link_drop_passed(struct qmp *qmp)
{
    cleanup_close(&qmp->passed);
    qmp->passed = -1;
}

/* The connection is over; whoever waits is told. */
static void hang_up(struct qmp *qmp, const char *reason)
{
    bool live;

    loop_fd_remove(qmp->watch);
    qmp->watch = NULL;
    cleanup_close(&qmp->fd);
    qmp->fd = -1;
    pthread_mutex_lock(&qmp->lock);
    qmp->closed = true;
    snprintf(qmp->reason, sizeof qmp->reason, "%s", reason);
    ring_release(&qmp->output);
    qmp_link_drop_passed(qmp);
    qmp->bell++;
    live = qmp->live;
    pthread_cond_broadcast(&qmp->changed);
    pthread_mutex_unlock(&qmp->lock);
    if (live && qmp->handlers.closed)
        qmp->handlers.closed(qmp->opaque);
}

/* Takes MESSAGE: no reference is ever shared between threads. */
static void handle_reply(struct qmp *qmp, json_t *message)
{
    json_int_t id = json_integer_value(json_object_get(message, "id"));
    struct qmp_call *call;

    pthread_mutex_lock(&qmp->lock);
    TAILQ_FOREACH(call, &qmp->calls, link)
    {
        if (call->id == id && !call->reply) {
            call->reply = message;
            pthread_cond_broadcast(&qmp->changed);
            break;
        }
    }
    pthread_mutex_unlock(&qmp->lock);
    if (!call) {
        log_debug("QMP %s: a late reply was dropped", qmp->path);
        json_decref(message);
    }
}

static void handle_event(struct qmp *qmp, const json_t *message)
{
    const char *name = json_string_value(json_object_get(message, "event"));
    json_t *data = json_object_get(message, "data"), *empty = NULL;
    const json_t *stamp = json_object_get(message, "timestamp");
    json_int_t us = json_integer_value(json_object_get(stamp, "seconds")) * 1000000 +
                    json_integer_value(json_object_get(stamp, "microseconds"));
    bool live;

    pthread_mutex_lock(&qmp->lock);
    live = qmp->live;
    pthread_mutex_unlock(&qmp->lock);
    if (!json_is_object(data))
        data = empty = json_object();
    if (live && data && qmp->handlers.event)
        qmp->handlers.event(qmp->opaque, name, data, us < 0 ? 0 : (uint64_t)us);
    json_decref(empty);
    qmp_wake(qmp); /* after the handler, so that whoever looks sees what it noted */
}

/* Takes MESSAGE; a second greeting changes nothing. */
static void handle_greeting(struct qmp *qmp, json_t *message)
{
    pthread_mutex_lock(&qmp->lock);
    if (!qmp->greeting) {
        qmp->greeting = take_ptr(message);
        pthread_cond_broadcast(&qmp->changed);
    }
    pthread_mutex_unlock(&qmp->lock);
    json_decref(message);
}

/* Takes MESSAGE. */
static int handle_message(struct qmp *qmp, json_t *message)
{
    if (json_object_get(message, "return") || json_object_get(message, "error")) {
        handle_reply(qmp, message);
        return 0;
    }
    if (json_object_get(message, "QMP")) {
        handle_greeting(qmp, message);
        return 0;
    }
    if (json_is_string(json_object_get(message, "event"))) {
        handle_event(qmp, message);
        json_decref(message);
        return 0;
    }
    json_decref(message);
    return -EPROTO;
}

static void handle_input(struct qmp *qmp)
{
    json_t *message;
    int r;

    while ((r = qmp_input_next(&qmp->input, &message)) > 0) {
        r = handle_message(qmp, message);
        if (r < 0)
            break;
    }
    if (r < 0) {
        log_warning("QMP %s: what came is no QMP, hanging up", qmp->path);
        hang_up(qmp, "it sent something that is no QMP");
    }
}

/* One read per round: other QEMUs get their turn. */
static void read_input(struct qmp *qmp)
{
    size_t size;
    char *to = qmp_input_reserve(&qmp->input, &size);
    ssize_t n;

    if (!to) {
        hang_up(qmp, errno == EMSGSIZE ? "it sent an over-long message" : "out of memory");
        return;
    }
    n = read(qmp->fd, to, size);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        hang_up(qmp, "it has ended");
        return;
    }
    qmp_input_commit(&qmp->input, (size_t)n);
    handle_input(qmp);
}

union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

/* Has FD go along with MESSAGE, which points into CONTROL then. */
static void attach_fd(struct msghdr *message, union control *control, int fd)
{
    memset(control, 0, sizeof *control);
    control->header.cmsg_level = SOL_SOCKET;
    control->header.cmsg_type = SCM_RIGHTS;
    control->header.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control->header), &fd, sizeof fd);
    message->msg_control = control;
    message->msg_controllen = sizeof *control;
}

static void write_output(struct qmp *qmp)
{
    struct iovec iov[2];
    struct msghdr message = {.msg_iov = iov};
    union control control;
    bool more;
    ssize_t n;

    if (!qmp->watch)
        return;
    pthread_mutex_lock(&qmp->lock);
    message.msg_iovlen = (size_t)ring_peek(&qmp->output, 0, qmp->output.size, iov);
    if (qmp->passed >= 0)
        attach_fd(&message, &control, qmp->passed);
    n = message.msg_iovlen ? sendmsg(qmp->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    if (n > 0) {
        ring_drop(&qmp->output, (size_t)n);
        qmp_link_drop_passed(qmp);
    }
    more = qmp->output.size > 0;
    pthread_mutex_unlock(&qmp->lock);
    /* A broken pipe shows in the next read, behind what QEMU still had to say. */
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        more = false;
    loop_fd_want(qmp->watch, EPOLLIN | (more ? EPOLLOUT : 0u));
}

static void on_ready(void *opaque, uint32_t events)
{
    struct qmp *qmp = opaque;

    if (events & EPOLLOUT)
        write_output(qmp);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_input(qmp);
}

void qmp_link_flush(struct loop_work *work)
{
    struct qmp *qmp = (struct qmp *)((char *)work - offsetof(struct qmp, flush));

    pthread_mutex_lock(&qmp->lock);
    qmp->flush_posted = false;
    pthread_mutex_unlock(&qmp->lock);
    write_output(qmp);
}

int qmp_link_attach(void *opaque)
{
    struct qmp *qmp = opaque;

    qmp->watch = loop_fd_add(qmp->loop, qmp->fd, EPOLLIN, on_ready, qmp);
    return qmp->watch ? 0 : -errno;
}

int qmp_link_detach(void *opaque)
{
    struct qmp *qmp = opaque;

    loop_fd_remove(qmp->watch);
    qmp->watch = NULL;
    return 0;
}

static void *run_thread(void *opaque)
{
    struct qmp_thread *thread = opaque;
    int r = loop_run(thread->loop);

    if (r < 0)
        log_error("the QMP thread has ended: %s", strerror(-r));
    return NULL;
}

struct qmp_thread *qmp_thread_new(struct error *err)
{
    struct qmp_thread *thread = calloc(1, sizeof *thread);
    sigset_t all, before;
    int r;

    if (!thread || !(thread->loop = loop_new())) {
        error_set_errno(err, errno, "can't set up the QMP thread");
        free(thread);
        return NULL;
    }
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&thread->thread, NULL, run_thread, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r) {
        error_set_errno(err, r, "can't start the QMP thread");
        loop_free(thread->loop);
        free(thread);
        return NULL;
    }
    return thread;
}

struct loop *qmp_thread_loop(struct qmp_thread *thread)
{
    return thread->loop;
}

void qmp_thread_free(struct qmp_thread *thread)
{
    if (!thread)
        return;
    loop_stop(thread->loop);
    pthread_join(thread->thread, NULL);
    loop_free(thread->loop);
    free(thread);
}
