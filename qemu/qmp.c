/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The QMP client as its callers see it: see qmp.h; the other half is qmp_link.c.
 *
 * A caller appends its command to the connection's output, lists itself among the calls, has the
 * QMP thread flush the output, and sleeps on the condition variable until its reply stands in the
 * call, the bell rings (then it asks its check) or time is up.  A call that gives up takes itself
 * off the list, and its late reply finds nobody.
 */
#include "config.h"

#include "qemu/qmp_link.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "common/loop.h"
#include "qemu/qmp_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

/* --- waiting --- */

struct qmp_wait qmp_wait_ms(unsigned ms)
{
    return (struct qmp_wait){.deadline = loop_clock() + ms * LOOP_MS};
}

static int ask_check(const struct qmp_wait *wait, struct error *err)
{
    return wait->check ? wait->check(wait->opaque, err) : 0;
}

static uint64_t next_wake_up(const struct qmp_wait *wait)
{
    if (!wait->tick_ms)
        return wait->deadline;
    return min_u64(wait->deadline, loop_clock() + wait->tick_ms * LOOP_MS);
}

/* Under the lock.  Returns false when it is WHEN o'clock. */
static bool sleep_until(struct qmp *qmp, uint64_t when)
{
    struct timespec time = {.tv_sec = (time_t)(when / LOOP_SECOND),
                            .tv_nsec = (long)(when % LOOP_SECOND)};

    if (when == LOOP_NEVER)
        return pthread_cond_wait(&qmp->changed, &qmp->lock) == 0;
    return pthread_cond_timedwait(&qmp->changed, &qmp->lock, &time) == 0;
}

static int gone_error(const struct qmp *qmp, struct error *err)
{
    return error_set(err, ENOTCONN, "QEMU at %s has gone: %s", qmp->path, qmp->reason);
}

void qmp_wake(struct qmp *qmp)
{
    pthread_mutex_lock(&qmp->lock);
    qmp->bell++;
    pthread_cond_broadcast(&qmp->changed);
    pthread_mutex_unlock(&qmp->lock);
}

uint64_t qmp_bell(struct qmp *qmp)
{
    uint64_t bell;

    pthread_mutex_lock(&qmp->lock);
    bell = qmp->bell;
    pthread_mutex_unlock(&qmp->lock);
    return bell;
}

bool qmp_closed(struct qmp *qmp)
{
    bool closed;

    pthread_mutex_lock(&qmp->lock);
    closed = qmp->closed;
    pthread_mutex_unlock(&qmp->lock);
    return closed;
}

int qmp_wait_bell(struct qmp *qmp, uint64_t *seen, const struct qmp_wait *wait, struct error *err)
{
    int r = ask_check(wait, err);
    uint64_t when;
    bool closed;

    if (r != 0)
        return r;
    when = next_wake_up(wait);
    pthread_mutex_lock(&qmp->lock);
    while (qmp->bell == *seen && !qmp->closed && sleep_until(qmp, when))
        ;
    *seen = qmp->bell;
    closed = qmp->closed;
    pthread_mutex_unlock(&qmp->lock);
    if (closed)
        return gone_error(qmp, err);
    if (loop_clock() >= wait->deadline)
        return error_set(err, ETIMEDOUT, "QEMU at %s took too long", qmp->path);
    return 0;
}

/* Waits until *ANSWER, the answer to COMMAND, is there. */
static int wait_answer(struct qmp *qmp, json_t *const *answer, const char *command,
                       const struct qmp_wait *wait, struct error *err)
{
    uint64_t seen = qmp_bell(qmp), when;
    bool answered, closed;
    int r;

    for (;;) {
        r = ask_check(wait, err);
        if (r != 0)
            return r;
        when = next_wake_up(wait);
        pthread_mutex_lock(&qmp->lock);
        while (!*answer && !qmp->closed && qmp->bell == seen && sleep_until(qmp, when))
            ;
        answered = *answer;
        closed = qmp->closed;
        seen = qmp->bell;
        pthread_mutex_unlock(&qmp->lock);
        if (answered)
            return 0;
        if (closed) {
            gone_error(qmp, err);
            error_prefix(err, "%s", command);
            return -ENOTCONN;
        }
        if (loop_clock() >= wait->deadline)
            return error_set(err, ETIMEDOUT, "QEMU at %s hasn't answered %s in time", qmp->path,
                             command);
    }
}

/* --- commands --- */

/* The line that is sent.  Takes ARGS; returns NULL when there is no memory. */
static char *make_line(const char *verb, const char *command, json_t *args, json_int_t id)
{
    json_t *message = json_object();
    char *text, *line = NULL;

    if (json_object_set_new(message, verb, json_string(command)) < 0 ||
        json_object_set(message, "arguments", args) < 0 ||
        json_object_set_new(message, "id", json_integer(id)) < 0)
        text = NULL;
    else
        text = json_dumps(message, JSON_COMPACT);
    if (text && asprintf(&line, "%s\n", text) < 0)
        line = NULL;
    free(text);
    json_decref(message);
    json_decref(args);
    return line;
}

/* Has a duplicate of FD go along with what is appended next, or before it: QEMU keeps a descriptor
 * until a command asks for it.  Under the lock. */
static int pass_fd(struct qmp *qmp, int fd, struct error *err)
{
    if (qmp->passed >= 0)
        return error_set(err, EBUSY, "QEMU at %s has not read what was sent to it before",
                         qmp->path);
    qmp->passed = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return qmp->passed < 0 ? error_set_errno(err, errno, "can't hand QEMU a descriptor") : 0;
}

/* Lists CALL and has its line sent, with FD unless that is -1. */
static int send_line(struct qmp *qmp, struct qmp_call *call, const char *line, int fd,
                     struct error *err)
{
    int r = 0;

    pthread_mutex_lock(&qmp->lock);
    if (qmp->closed)
        r = gone_error(qmp, err);
    else if (fd >= 0)
        r = pass_fd(qmp, fd, err);
    if (r == 0 && ring_append(&qmp->output, line, strlen(line)) < 0) {
        qmp_link_drop_passed(qmp);
        r = error_set(err, ENOMEM, "can't send a command to QEMU: out of memory");
    }
    if (r == 0) {
        TAILQ_INSERT_TAIL(&qmp->calls, call, link);
        if (!qmp->flush_posted)
            loop_post(qmp->loop, &qmp->flush);
        qmp->flush_posted = true;
    }
    pthread_mutex_unlock(&qmp->lock);
    return r;
}

static int read_reply(const char *command, const json_t *reply, json_t **ret, struct error *err)
{
    const json_t *error = json_object_get(reply, "error");
    const char *class = json_string_value(json_object_get(error, "class"));
    const char *words = json_string_value(json_object_get(error, "desc"));

    if (error && class && strcmp(class, "CommandNotFound") == 0)
        return error_set(err, ENOSYS, "this QEMU has no command %s", command);
    if (error)
        return error_set(err, EREMOTEIO, "QEMU refused %s: %s", command, words ? words : "?");
    if (ret)
        *ret = json_incref(json_object_get(reply, "return"));
    return 0;
}

static int run_call(struct qmp *qmp, const char *verb, const char *command, json_t *args, int fd,
                    const struct qmp_wait *wait, json_t **ret, struct error *err)
{
    CLEANUP_FREE char *line = NULL;
    struct qmp_call call = {.reply = NULL};
    int r;

    pthread_mutex_lock(&qmp->lock);
    call.id = ++qmp->last_id;
    pthread_mutex_unlock(&qmp->lock);
    line = make_line(verb, command, args, call.id);
    if (!line)
        return error_set(err, ENOMEM, "can't send %s to QEMU: out of memory", command);
    r = send_line(qmp, &call, line, fd, err);
    if (r == 0) {
        r = wait_answer(qmp, &call.reply, command, wait, err);
        pthread_mutex_lock(&qmp->lock);
        TAILQ_REMOVE(&qmp->calls, &call, link);
        pthread_mutex_unlock(&qmp->lock);
    }
    if (r == 0)
        r = read_reply(command, call.reply, ret, err);
    json_decref(call.reply);
    return r;
}

int qmp_execute(struct qmp *qmp, const char *command, json_t *args, const struct qmp_wait *wait,
                json_t **ret, struct error *err)
{
    return run_call(qmp, "execute", command, args, -1, wait, ret, err);
}

int qmp_execute_fd(struct qmp *qmp, const char *command, json_t *args, int fd,
                   const struct qmp_wait *wait, json_t **ret, struct error *err)
{
    return run_call(qmp, "execute", command, args, fd, wait, ret, err);
}

int qmp_execute_oob(struct qmp *qmp, const char *command, json_t *args, const struct qmp_wait *wait,
                    json_t **ret, struct error *err)
{
    if (!qmp->oob) {
        json_decref(args);
        return error_set(err, ENOSYS, "this QEMU takes no command out of band, such as %s",
                         command);
    }
    return run_call(qmp, "exec-oob", command, args, -1, wait, ret, err);
}

/* --- connecting --- */

/* Fills in version and oob.  Returns false when the greeting is none. */
static bool read_greeting(struct qmp *qmp)
{
    int major, minor, micro;
    json_t *offers, *offer;
    size_t i;

    if (json_unpack(qmp->greeting, "{s:{s:{s:{s:i,s:i,s:i}},s:o}}", "QMP", "version", "qemu",
                    "major", &major, "minor", &minor, "micro", &micro, "capabilities", &offers) < 0)
        return false;
    snprintf(qmp->version, sizeof qmp->version, "%d.%d.%d", major, minor, micro);
    json_array_foreach (offers, i, offer) {
        if (json_is_string(offer) && strcmp(json_string_value(offer), "oob") == 0)
            qmp->oob = true;
    }
    return true;
}

/* Greeting and capabilities. */
static int negotiate(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    int r = wait_answer(qmp, &qmp->greeting, "QMP greeting", wait, err);

    if (r == -ETIMEDOUT)
        return error_set(err, ETIMEDOUT,
                         "no greeting from QEMU at %s: it is busy, or another QMP client holds "
                         "this socket (QEMU talks to one at a time)",
                         qmp->path);
    if (r < 0)
        return r;
    if (!read_greeting(qmp))
        return error_set(err, EPROTO, "what listens on %s is no QMP server", qmp->path);
    return qmp_execute(qmp, "qmp_capabilities",
                       qmp->oob ? json_pack("{s:[s]}", "enable", "oob") : json_object(), wait, NULL,
                       err);
}

/* From now on the handlers are called, unless it is over already. */
static int go_live(struct qmp *qmp, struct error *err)
{
    int r = 0;

    pthread_mutex_lock(&qmp->lock);
    if (qmp->closed)
        r = gone_error(qmp, err);
    else
        qmp->live = true;
    pthread_mutex_unlock(&qmp->lock);
    return r;
}

static void init_sync(struct qmp *qmp)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&qmp->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&qmp->lock, NULL);
}

struct qmp *qmp_connect(struct qmp_thread *thread, const char *socket_path,
                        const struct qmp_wait *wait, const struct qmp_handlers *handlers,
                        void *opaque, struct error *err)
{
    struct qmp *qmp = calloc(1, sizeof *qmp);

    if (!qmp) {
        error_set(err, ENOMEM, "can't connect to QEMU at %s: out of memory", socket_path);
        return NULL;
    }
    init_sync(qmp);
    TAILQ_INIT(&qmp->calls);
    qmp->loop = qmp_thread_loop(thread);
    qmp->flush.run = qmp_link_flush;
    qmp->pidfd = -1;
    qmp->fd = -1;
    qmp->passed = -1;
    qmp->opaque = opaque;
    if (handlers)
        qmp->handlers = *handlers;
    qmp->path = strdup(socket_path);
    qmp->fd = qmp_socket_connect(socket_path, &qmp->pid, &qmp->pidfd, err);
    if (!qmp->path || qmp->fd < 0)
        goto fail;
    if (loop_call(qmp->loop, qmp_link_attach, qmp) < 0) {
        error_set(err, ENOMEM, "can't connect to QEMU at %s: out of memory", socket_path);
        goto fail;
    }
    if (negotiate(qmp, wait, err) < 0 || go_live(qmp, err) < 0)
        goto fail;
    return qmp;
fail:
    qmp_free(qmp);
    return NULL;
}

void qmp_free(struct qmp *qmp)
{
    if (!qmp)
        return;
    loop_call(qmp->loop, qmp_link_detach, qmp);
    cleanup_close(&qmp->fd);
    cleanup_close(&qmp->pidfd);
    qmp_link_drop_passed(qmp);
    qmp_input_release(&qmp->input);
    ring_release(&qmp->output);
    json_decref(qmp->greeting);
    pthread_cond_destroy(&qmp->changed);
    pthread_mutex_destroy(&qmp->lock);
    free(qmp->path);
    free(qmp);
}

pid_t qmp_pid(const struct qmp *qmp)
{
    return qmp->pid;
}

int qmp_pidfd(const struct qmp *qmp)
{
    return qmp->pidfd;
}

const char *qmp_version(const struct qmp *qmp)
{
    return qmp->version;
}

bool qmp_has_oob(const struct qmp *qmp)
{
    return qmp->oob;
}
