/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * QEMU's own part of a migration: see migration.h.
 *
 * Each wait is the bell and the look of qmp.h: query-migrate is asked whenever an event came in,
 * so it doesn't matter which event that was, and none can be missed.  What must never be sent is
 * refused here, where the state is known: "cont" at the destination before incoming is complete
 * means "start by yourself later", and beside a writable export it gives the disks two writers.
 */
#include "config.h"

#include "qemu/migration.h"
#include "qemu/block.h"
#include "common/cleanup.h"
#include "qemu/guest.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { LOOK_AGAIN_MS = 5 }; /* where no event tells */

static const char *const state_names[] = {
    [MIGRATION_NONE] = "none",           [MIGRATION_SETUP] = "setup",
    [MIGRATION_ACTIVE] = "active",       [MIGRATION_PRE_SWITCHOVER] = "pre-switchover",
    [MIGRATION_DEVICE] = "device",       [MIGRATION_COMPLETED] = "completed",
    [MIGRATION_FAILED] = "failed",       [MIGRATION_CANCELLING] = "cancelling",
    [MIGRATION_CANCELLED] = "cancelled",
};
static_assert(sizeof state_names / sizeof state_names[0] == MIGRATION_OTHER,
              "each state of QEMU's that we know has its name");

static enum migration_state state_by_name(const char *name)
{
    for (size_t i = 0; i < MIGRATION_OTHER; i++) {
        if (strcmp(name, state_names[i]) == 0)
            return (enum migration_state)i;
    }
    return MIGRATION_OTHER;
}

/* --- setting up; more in migration_setup.c --- */

int migration_set_bandwidth(struct qmp *qmp, uint64_t bandwidth, const struct qmp_wait *wait,
                            struct error *err)
{
    if (bandwidth > INT64_MAX)
        return error_set(err, EINVAL,
                         "a bandwidth of %llu bytes per second is more than QEMU takes",
                         (unsigned long long)bandwidth);
    if (bandwidth == 0)
        bandwidth = MIGRATION_NO_LIMIT;
    return qmp_execute(qmp, "migrate-set-parameters",
                       json_pack("{s:I}", "max-bandwidth", (json_int_t)bandwidth), wait, NULL, err);
}

static int with_uri(struct qmp *qmp, const char *command, const struct qemu_address *address,
                    const struct qmp_wait *wait, struct error *err)
{
    CLEANUP_FREE char *uri = qemu_address_uri(address);

    if (!uri)
        return error_set(err, ENOMEM, "no memory for the address of a migration");
    return qmp_execute(qmp, command, json_pack("{s:s}", "uri", uri), wait, NULL, err);
}

int migration_incoming(struct qmp *qmp, const struct qemu_address *address,
                       const struct qmp_wait *wait, struct error *err)
{
    return with_uri(qmp, "migrate-incoming", address, wait, err);
}

int migration_start(struct qmp *qmp, const struct qemu_address *address,
                    const struct qmp_wait *wait, struct error *err)
{
    return with_uri(qmp, "migrate", address, wait, err);
}

#define FD_NAME "bistream-ram" /* among the descriptors that QEMU has got; a new one replaces it */

/* QEMU has made it blocking when it came.  It is one file with QEMU's, so this holds there too: with a
 * blocking one QEMU's main loop, and QMP with it, would wait for each answer of the TLS handshake.
 * Once hands are shaken QEMU makes it blocking again, for the migration's own threads. */
static int make_nonblocking(int fd, struct error *err)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return error_set_errno(err, errno, "can't prepare the connection of a migration");
    return 0;
}

static int with_fd(struct qmp *qmp, const char *command, int fd, const struct qmp_wait *wait,
                   struct error *err)
{
    int r =
        qmp_execute_fd(qmp, "getfd", json_pack("{s:s}", "fdname", FD_NAME), fd, wait, NULL, err);

    if (r == 0)
        r = make_nonblocking(fd, err);
    if (r == 0)
        r = qmp_execute(qmp, command, json_pack("{s:s}", "uri", "fd:" FD_NAME), wait, NULL, err);
    return r;
}

int migration_incoming_fd(struct qmp *qmp, int fd, const struct qmp_wait *wait, struct error *err)
{
    return with_fd(qmp, "migrate-incoming", fd, wait, err);
}

int migration_start_fd(struct qmp *qmp, int fd, const struct qmp_wait *wait, struct error *err)
{
    return with_fd(qmp, "migrate", fd, wait, err);
}

int migration_forget(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    int r = qmp_execute(qmp, "closefd", json_pack("{s:s}", "fdname", FD_NAME), wait, NULL, err);

    if (r == 0 || r == -EREMOTEIO) /* refused: there is none */
        r = qmp_execute(qmp, "migrate-set-parameters",
                        json_pack("{s:s,s:s}", "tls-creds", "", "tls-hostname", ""), wait, NULL,
                        err);
    return r;
}

/* --- looking --- */

static uint64_t number(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));

    return value > 0 ? (uint64_t)value : 0;
}

static void read_info(const json_t *answer, struct migration_info *ret)
{
    const char *status = json_string_value(json_object_get(answer, "status"));
    const char *error = json_string_value(json_object_get(answer, "error-desc"));
    const json_t *ram = json_object_get(answer, "ram"), *disk = json_object_get(answer, "disk");

    snprintf(ret->status, sizeof ret->status, "%s", status ? status : "none");
    snprintf(ret->error, sizeof ret->error, "%s", error ? error : "");
    ret->state = state_by_name(ret->status);
    ret->ram_total = number(ram, "total");
    ret->ram_transferred = number(ram, "transferred");
    ret->ram_remaining = number(ram, "remaining");
    ret->disk_total = number(disk, "total");
    ret->disk_transferred = number(disk, "transferred");
    ret->dirty_rate = number(ram, "dirty-pages-rate") * number(ram, "page-size");
    ret->total_ms = number(answer, "total-time");
    ret->downtime_ms = number(answer, "downtime");
}

int migration_query(struct qmp *qmp, struct migration_info *ret, const struct qmp_wait *wait,
                    struct error *err)
{
    json_t *answer;
    int r = qmp_execute(qmp, "query-migrate", json_object(), wait, &answer, err);

    memset(ret, 0, sizeof *ret);
    if (r != 0)
        return r;
    read_info(answer, ret);
    json_decref(answer);
    return 0;
}

/* 1: reached; 0: not yet; else it never will be. */
static int has_reached(const struct migration_info *info, enum migration_state state,
                       struct error *err)
{
    if (info->state == state)
        return 1;
    switch (info->state) {
    case MIGRATION_FAILED:
        return error_set(err, EIO, "the migration failed: %s",
                         info->error[0] ? info->error : "QEMU gives no reason");
    case MIGRATION_CANCELLING:
    case MIGRATION_CANCELLED:
        return error_set(err, ECANCELED, "the migration was cancelled");
    case MIGRATION_COMPLETED:
        return error_set(err, EALREADY, "the migration has completed");
    default:
        return 0;
    }
}

int migration_wait(struct qmp *qmp, enum migration_state state, struct migration_info *ret,
                   const struct qmp_wait *wait, struct error *err)
{
    struct migration_info info;
    uint64_t seen = qmp_bell(qmp);
    int r;

    for (;;) {
        r = migration_query(qmp, &info, wait, err);
        if (ret)
            *ret = info;
        if (r == 0)
            r = has_reached(&info, state, err);
        if (r == 0)
            r = qmp_wait_bell(qmp, &seen, wait, err);
        if (r == -ETIMEDOUT)
            error_prefix(err, "waiting for the migration's state \"%s\" (it is \"%s\")",
                         state_names[state], info.status[0] ? info.status : "not known");
        if (r != 0)
            return r == 1 ? 0 : r;
    }
}

/* --- switching over, or not --- */

int migration_pause_guest(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    char run_state[32];
    bool running;
    int r = guest_run_state(qmp, run_state, &running, wait, err);

    return r != 0 || !running ? r : guest_stop(qmp, wait, err);
}

int migration_continue(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    return qmp_execute(qmp, "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"), wait,
                       NULL, err);
}

/* 1: none runs any more; 0: one does. */
static int has_ended(const struct migration_info *info, struct error *err)
{
    switch (info->state) {
    case MIGRATION_NONE:
    case MIGRATION_FAILED:
    case MIGRATION_CANCELLED:
        return 1;
    case MIGRATION_COMPLETED:
        return error_set(err, EALREADY, "the migration has completed, it can't be cancelled");
    case MIGRATION_OTHER:
        return error_set(err, ENOTSUP, "a migration in state \"%s\" can't be cancelled",
                         info->status);
    default:
        return 0;
    }
}

int migration_wait_end(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    uint64_t seen = qmp_bell(qmp);
    struct migration_info info;
    int r;

    for (;;) {
        r = migration_query(qmp, &info, wait, err);
        if (r == 0)
            r = has_ended(&info, err);
        if (r == 0)
            r = qmp_wait_bell(qmp, &seen, wait, err);
        if (r != 0)
            return r == 1 ? 0 : r;
    }
}

int migration_cancel(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    uint64_t seen = qmp_bell(qmp);
    struct migration_info info;
    bool sent = false;
    int r;

    for (;;) {
        r = migration_query(qmp, &info, wait, err);
        if (r == 0)
            r = has_ended(&info, err);
        if (r == 0 && !sent) {
            r = qmp_execute(qmp, "migrate_cancel", json_object(), wait, NULL, err);
            sent = true;
            if (r == 0)
                continue; /* the events came before the reply */
        }
        if (r == 0)
            r = qmp_wait_bell(qmp, &seen, wait, err);
        if (r != 0)
            return r == 1 ? 0 : r;
    }
}

static int check_no_exports(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    json_t *answer;
    size_t count;
    int r = qmp_execute(qmp, "query-block-exports", json_object(), wait, &answer, err);

    if (r != 0)
        return r;
    count = json_array_size(answer);
    json_decref(answer);
    if (count)
        return error_set(err, EPERM,
                         "the guest can't run here yet: its disks are still exported "
                         "to the source");
    return 0;
}

/* "cont", and waits until the guest really runs. */
static int run_guest(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    uint64_t seen = qmp_bell(qmp);
    char run_state[32];
    bool running;
    int r = guest_cont(qmp, wait, err);

    while (r == 0) {
        r = guest_run_state(qmp, run_state, &running, wait, err);
        if (r == 0 && running)
            return 0;
        if (r == 0)
            r = qmp_wait_bell(qmp, &seen, wait, err);
    }
    return r;
}

/* The instances of ANSWER that are this migration's. */
static json_t *choose_ours(const json_t *answer)
{
    json_t *ours = json_array(), *instance;
    size_t i;

    json_array_foreach (answer, i, instance) {
        const char *type = json_string_value(json_object_get(instance, "type"));
        const char *node = json_string_value(json_object_get(instance, "node-name"));

        if (type && (strcmp(type, "migration") == 0 ||
                     (node && strncmp(node, BLOCK_MIRROR_NODE, strlen(BLOCK_MIRROR_NODE)) == 0)))
            json_array_append(ours, instance);
    }
    return ours;
}

int migration_yank(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    json_t *answer, *ours;
    int r = qmp_execute_oob(qmp, "query-yank", json_object(), wait, &answer, err);

    if (r == 0) {
        ours = choose_ours(answer);
        json_decref(answer);
        r = qmp_execute_oob(qmp, "yank", json_pack("{s:o}", "instances", ours), wait, NULL, err);
    }
    return r < 0 ? error_prefix(err, "can't tear down QEMU's connections") : 0;
}

int migration_resume_here(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    struct migration_info info;
    char run_state[32];
    bool running;
    int r = migration_query(qmp, &info, wait, err);

    if (r == 0 && info.state != MIGRATION_COMPLETED)
        r = error_set(err, EPERM, "the guest can't run here: it hasn't arrived (\"%s\")",
                      info.status);
    if (r == 0)
        r = guest_run_state(qmp, run_state, &running, wait, err);
    if (r == 0 && strcmp(run_state, "inmigrate") == 0)
        r = error_set(err, EPERM, "the guest can't run here yet: it is still being loaded");
    if (r == 0)
        r = check_no_exports(qmp, wait, err);
    return r == 0 ? run_guest(qmp, wait, err) : r;
}

/* After "completed" the run state follows a little later, and no event tells. */
static int wait_postmigrate(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    uint64_t seen = qmp_bell(qmp);
    struct qmp_wait look_again = *wait;
    char run_state[32];
    bool running;
    int r;

    look_again.tick_ms = LOOK_AGAIN_MS;
    for (;;) {
        r = guest_run_state(qmp, run_state, &running, wait, err);
        if (r != 0 || strcmp(run_state, "finish-migrate") != 0)
            return r;
        r = qmp_wait_bell(qmp, &seen, &look_again, err);
        if (r != 0)
            return r;
    }
}

int migration_wait_postmigrate(struct qmp *qmp, struct migration_info *ret,
                               const struct qmp_wait *wait, struct error *err)
{
    int r = wait_postmigrate(qmp, wait, err);

    return r == 0 ? migration_query(qmp, ret, wait, err) : r;
}

int migration_resume_source(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    struct migration_info info;
    char run_state[32];
    bool running;
    int r = migration_query(qmp, &info, wait, err);

    if (r == 0 && info.state != MIGRATION_COMPLETED && has_ended(&info, NULL) != 1)
        r = error_set(err, EPERM, "the guest can't be resumed while its migration is \"%s\"",
                      info.status);
    if (r == 0)
        r = wait_postmigrate(qmp, wait, err);
    if (r == 0)
        r = guest_run_state(qmp, run_state, &running, wait, err);
    if (r == 0 && !running)
        r = run_guest(qmp, wait, err);
    return r;
}
