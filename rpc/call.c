/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The call table: see call.h.
 *
 * A handful of calls is pending at a time, so they stand in a list.  A call leaves its list before
 * it is completed: DONE may do anything to the table, and no call is completed twice.  Those that
 * are completed together are put into a list of their own first, so that a call made meanwhile by
 * a DONE isn't among them.
 */
#include "config.h"

#include "rpc/call.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

struct pending {
    uint32_t serial;
    int procedure;
    uint64_t deadline;
    rpc_call_done *done;
    void *opaque;
    TAILQ_ENTRY(pending) link;
};

TAILQ_HEAD(pending_list, pending);

struct rpc_calls {
    struct pending_list pending;
    uint64_t given; /* serials given out; they go from 1 to UINT32_MAX and round again */
};

struct rpc_calls *rpc_calls_new(void)
{
    struct rpc_calls *calls = calloc(1, sizeof *calls);

    if (calls)
        TAILQ_INIT(&calls->pending);
    return calls;
}

static void complete(struct pending *call, int result, const struct rpc_message *reply)
{
    call->done(call->opaque, result, reply);
    free(call);
}

static void complete_all(struct pending_list *list, int result)
{
    struct pending *call;

    while ((call = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, call, link);
        complete(call, result, NULL);
    }
}

void rpc_calls_free(struct rpc_calls *calls)
{
    if (!calls)
        return;
    complete_all(&calls->pending, -ECONNRESET);
    free(calls);
}

int rpc_calls_add(struct rpc_calls *calls, int procedure, uint64_t deadline, rpc_call_done *done,
                  void *opaque, uint32_t *ret_serial)
{
    struct pending *call = calloc(1, sizeof *call);

    if (!call)
        return -ENOMEM;
    call->serial = (uint32_t)(calls->given++ % UINT32_MAX) + 1;
    call->procedure = procedure;
    call->deadline = deadline;
    call->done = done;
    call->opaque = opaque;
    TAILQ_INSERT_TAIL(&calls->pending, call, link);
    *ret_serial = call->serial;
    return 0;
}

static bool was_given(const struct rpc_calls *calls, uint32_t serial)
{
    return serial > 0 && serial <= calls->given;
}

int rpc_calls_reply(struct rpc_calls *calls, const struct rpc_message *reply)
{
    struct pending *call;

    if (reply->header.type != BS_REPLY || !was_given(calls, reply->header.serial))
        return -EPROTO;
    TAILQ_FOREACH(call, &calls->pending, link)
    {
        if (call->serial != reply->header.serial)
            continue;
        if (call->procedure != reply->header.procedure)
            return -EPROTO;
        TAILQ_REMOVE(&calls->pending, call, link);
        complete(call, 0, reply);
        return 0;
    }
    return -ENOENT;
}

uint64_t rpc_calls_deadline(const struct rpc_calls *calls)
{
    const struct pending *call;
    uint64_t first = UINT64_MAX;

    TAILQ_FOREACH(call, &calls->pending, link)
    {
        if (call->deadline < first)
            first = call->deadline;
    }
    return first;
}

void rpc_calls_tick(struct rpc_calls *calls, uint64_t now)
{
    struct pending_list late = TAILQ_HEAD_INITIALIZER(late);
    struct pending *call = TAILQ_FIRST(&calls->pending);

    while (call) {
        struct pending *next = TAILQ_NEXT(call, link);

        if (call->deadline != UINT64_MAX && call->deadline <= now) {
            TAILQ_REMOVE(&calls->pending, call, link);
            TAILQ_INSERT_TAIL(&late, call, link);
        }
        call = next;
    }
    complete_all(&late, -ETIMEDOUT);
}

void rpc_calls_fail(struct rpc_calls *calls, int result)
{
    struct pending_list all = TAILQ_HEAD_INITIALIZER(all);

    TAILQ_CONCAT(&all, &calls->pending, link);
    complete_all(&all, result);
}
