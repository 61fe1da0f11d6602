/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A QMP client: commands that block their caller only, and events.
 *
 * One thread serves the QMP connections of all QEMUs.  Any thread may send commands, several at a
 * time; replies find their callers by id.  A caller waits with a struct qmp_wait, which says for
 * how long, and whom to ask in between whether it should wait at all: so a job thread that is
 * stuck behind a silent QEMU still hears its operator's abort.
 *
 * Waiting for something to happen inside QEMU works like a bell and a look: each event, and each
 * qmp_wake() of another thread, rings; whoever waits asks QEMU for its present state then
 * (query-jobs, query-migrate).  Nothing is lost when events come in a burst, and no queue grows.
 *
 * A command that timed out may still be carried out, its late reply is dropped.  A time-out never
 * means that QEMU is dead: some commands stand still while a channel is silent.  QEMU has ended
 * when its pidfd says so.
 */
#ifndef QEMU_QMP_H
#define QEMU_QMP_H

#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct qmp_thread;
struct qmp;

/* One message of QEMU's may have this many bytes; past it the connection is closed.  The longest
 * known is the reply to query-qmp-schema, some 300 kB. */
#define QMP_MESSAGE_MAX (16u << 20)

/* Starts the thread.  Returns NULL with ERR set. */
struct qmp_thread *qmp_thread_new(struct error *err);
/* Ends it, after the last of its connections was freed.  NULL is fine. */
void qmp_thread_free(struct qmp_thread *thread);

/* Called in the QMP thread: they may not block, send commands or free the connection.  They may run
 * just before qmp_connect() returns; events from before that are not seen, so ask for QEMU's state
 * after connecting. */
struct qmp_handlers {
    /* DATA is an empty object where the event has none; it lives as long as the call.
     * TIMESTAMP_US is QEMU's, microseconds since 1970.  May be NULL. */
    void (*event)(void *opaque, const char *name, json_t *data, uint64_t timestamp_us);
    /* Once, when QEMU has closed the connection (it ended) or broke the protocol; not from
     * qmp_free().  May be NULL. */
    void (*closed)(void *opaque);
};

/* For how long to wait. */
struct qmp_wait {
    uint64_t deadline; /* on loop_clock()'s scale (common/loop.h); LOOP_NEVER: none */
    /* Called in the waiting thread, without a lock, before it sleeps, after each ring of the
     * bell, and at least every TICK_MS (0: only when the bell rings).  A negative errno ends the
     * wait and is returned by whoever waits; ERR should hold the reason.  The place to look at
     * abort flags and to report progress; it may send commands with another qmp_wait.  May be
     * NULL. */
    int (*check)(void *opaque, struct error *err);
    void *opaque;
    unsigned tick_ms;
};

/* A wait of MS milliseconds from now, without a check. */
struct qmp_wait qmp_wait_ms(unsigned ms);

/* Connects to the socket of a QMP monitor, waits for the greeting, and enables out-of-band
 * commands where they are offered.  QEMU talks to one client per socket at a time, a second one
 * gets no greeting: ETIMEDOUT after WAIT, and the sentence says so.  ENOENT or ECONNREFUSED: no QEMU
 * there.  HANDLERS is copied; NULL: none.  Returns NULL with ERR set; CLOSED isn't called then. */
struct qmp *qmp_connect(struct qmp_thread *thread, const char *socket_path,
                        const struct qmp_wait *wait, const struct qmp_handlers *handlers,
                        void *opaque, struct error *err);
/* Disconnects; QEMU lives on.  No handler runs any more once it has returned.  No other thread
 * may be in a call with QMP.  Not for the QMP thread.  NULL is fine. */
void qmp_free(struct qmp *qmp);

/* The process that listens on the socket (SO_PEERCRED), which is QEMU itself unless some manager
 * made the socket for it (libvirt does). */
pid_t qmp_pid(const struct qmp *qmp);
/* Its pidfd: readable once it has ended.  Stays QMP's. */
int qmp_pidfd(const struct qmp *qmp);
/* The connection is gone: QEMU ended or broke the protocol. */
bool qmp_closed(struct qmp *qmp);
/* "10.0.13", as the greeting said; stays QMP's. */
const char *qmp_version(const struct qmp *qmp);
/* True if yank and the like can be sent while QEMU is busy. */
bool qmp_has_oob(const struct qmp *qmp);

/* Who listens on SOCKET_PATH, also when QEMU doesn't answer or another client holds the socket.
 * Returns 0, and in RET_PIDFD a pidfd for the caller to close, or -ENOENT or -ECONNREFUSED (no
 * process listens: QEMU ended), or another negative errno; ERR is set. */
int qmp_peer(const char *socket_path, pid_t *ret_pid, int *ret_pidfd, struct error *err);

/* Sends COMMAND with the object ARGS, whose reference is taken in every case (json_object() for
 * none; NULL is reported as out of memory, so that json_pack() can stand in the call), and waits
 * for the reply.  RET, which may be NULL, gets a new reference to its "return".
 * Returns 0, what WAIT's check said, or with ERR set to a sentence that names COMMAND:
 * -EREMOTEIO (QEMU refused; its words are in the sentence), -ENOSYS (it has no such command),
 * -ETIMEDOUT, -ENOTCONN (QEMU has gone), -ENOMEM. */
int qmp_execute(struct qmp *qmp, const char *command, json_t *args, const struct qmp_wait *wait,
                json_t **ret, struct error *err);
/* The same, and QEMU gets a duplicate of FD, which stays the caller's, for COMMAND (getfd) to take.
 * One at a time: -EBUSY while QEMU hasn't read an earlier one. */
int qmp_execute_fd(struct qmp *qmp, const char *command, json_t *args, int fd,
                   const struct qmp_wait *wait, json_t **ret, struct error *err);
/* As qmp_execute(), out of band: QEMU answers at once, also when its main loop is stuck.  -ENOSYS where
 * QEMU doesn't offer it. */
int qmp_execute_oob(struct qmp *qmp, const char *command, json_t *args, const struct qmp_wait *wait,
                    json_t **ret, struct error *err);

/* Rings the bell: all who wait on QMP call their checks and look again.  Any thread; never blocks.
 */
void qmp_wake(struct qmp *qmp);
/* How often the bell has rung. */
uint64_t qmp_bell(struct qmp *qmp);
/* Sleeps until the bell has rung more than *SEEN times, or the tick has passed, and updates *SEEN.
 *
 *     seen = qmp_bell(qmp);
 *     for (;;) {
 *         (ask QEMU; return if it is as wished)
 *         r = qmp_wait_bell(qmp, &seen, wait, err);
 *         if (r < 0)
 *             return r;
 *     }
 *
 * Returns 0 (look again), what the check said, -ETIMEDOUT or -ENOTCONN with ERR set ("QEMU has
 * gone"; the caller puts before it what was waited for). */
int qmp_wait_bell(struct qmp *qmp, uint64_t *seen, const struct qmp_wait *wait, struct error *err);

#endif
