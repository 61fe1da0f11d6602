/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Channel 0: the session's own calls, in both directions.
 *
 * Ours: pump_call() encodes on its caller's thread, posts the message to the pump and sleeps; the
 * call table completes it exactly once, by the reply, the time-out or the end of the session.  All
 * that is shared lives on the caller's stack until then.
 *
 * The peer's: a CALL waits in a queue for the worker thread, which runs the handler, for seconds if
 * it likes, and posts the reply back.  The pump never waits for the worker.  A peer may have a
 * bounded number of calls waiting, more are answered with an error at once; and a peer that
 * calls without ever reading its answers is cut off.
 */
#include "config.h"

#include "io/pump_internal.h"
#include "rpc/error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* of one side that wait for an answer: a job makes one after the other, and has some to spare */
    CALLS_MAX = 16,
    ANSWERS_MAX = 2 * BS_MESSAGE_MAX, /* bytes that a peer may leave unread before it calls again */
    SERIAL_OFFSET =
        BS_LENGTH_SIZE + 4 * 4, /* program, version, procedure and type stand before it */
};

/* ---- ours ------------------------------------------------------------------------------------- */

struct outgoing {
    struct loop_work work; /* first: the loop gives it back */
    struct pump *pump;
    uint8_t *message;
    size_t length;
    int procedure, timeout_ms;
    xdrproc_t ret_proc;
    void *ret;
    struct error *err;

    int result;
    bool done; /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t finished;
};

static void finish(struct outgoing *call, int result)
{
    pthread_mutex_lock(&call->lock);
    call->result = result;
    call->done = true;
    pthread_cond_signal(&call->finished);
    pthread_mutex_unlock(&call->lock);
}

static int session_gone(const struct pump *pump, struct error *err)
{
    return error_set(err, ECONNRESET, "the session has ended: %s",
                     pump->why.code ? pump->why.text : "it was closed");
}

static int take_results(const struct outgoing *call, const struct rpc_message *reply)
{
    int r;

    if (reply->header.status != BS_OK)
        return rpc_error_decode(reply->payload, reply->length, call->err);
    if (!call->ret_proc)
        return 0;
    r = rpc_payload_decode(reply->payload, reply->length, call->ret_proc, call->ret);
    return r < 0 ? error_set_errno(call->err, -r, "can't decode the answer to procedure %d",
                                   call->procedure)
                 : 0;
}

static void call_done(void *opaque, int result, const struct rpc_message *reply)
{
    struct outgoing *call = opaque;

    call->pump->calls.pending--;
    if (result == 0)
        result = take_results(call, reply);
    else if (result == -ECANCELED)
        error_set(call->err, ECANCELED, "the call of procedure %d was given up", call->procedure);
    else if (result == -ETIMEDOUT)
        error_set(call->err, ETIMEDOUT, "no answer to procedure %d came within %d ms",
                  call->procedure, call->timeout_ms);
    else
        result = session_gone(call->pump, call->err);
    finish(call, result);
}

static void begin_call(struct loop_work *work)
{
    struct outgoing *call = (struct outgoing *)work;
    struct pump *pump = call->pump;
    struct pump_calls *calls = &pump->calls;
    uint64_t deadline = call->timeout_ms < 0
                            ? UINT64_MAX
                            : loop_now(pump->loop) + (uint64_t)call->timeout_ms * LOOP_MS;
    uint32_t serial;

    if (pump->state != PUMP_RUNNING || pump->session_over) {
        finish(call, session_gone(pump, call->err));
        return;
    }
    if (calls->pending >= CALLS_MAX) {
        finish(call,
               error_set(call->err, EBUSY, "%d calls wait for their answers already", CALLS_MAX));
        return;
    }
    if (rpc_calls_add(calls->table, call->procedure, deadline, call_done, call, &serial) < 0) {
        finish(call, error_set_errno(call->err, ENOMEM, "can't call the peer"));
        return;
    }
    calls->pending++;
    serial = htonl(serial);
    memcpy(call->message + SERIAL_OFFSET, &serial, sizeof serial);
    if (ring_append(&calls->out, call->message, call->length) < 0)
        pump_fault(pump, BS_CLOSE_RESOURCES, "there is not enough memory for a call");
}

int pump_call(struct pump *pump, int procedure, xdrproc_t args_proc, const void *args,
              xdrproc_t ret_proc, void *ret, int timeout_ms, struct error *err)
{
    struct outgoing call = {
        .work.run = begin_call,
        .pump = pump,
        .procedure = procedure,
        .timeout_ms = timeout_ms,
        .ret_proc = ret_proc,
        .ret = ret,
        .err = err,
    };
    const struct bs_header header = {
        .prog = BS_PROGRAM,
        .vers = BS_VERSION,
        .procedure = procedure,
        .type = BS_CALL,
        .status = BS_OK,
    };
    int r = rpc_message_encode(&header, args_proc, args, &call.message, &call.length);

    if (r < 0)
        return error_set_errno(err, -r, "can't encode a call of procedure %d", procedure);
    pthread_mutex_init(&call.lock, NULL);
    pthread_cond_init(&call.finished, NULL);
    loop_post(pump->loop, &call.work);
    pthread_mutex_lock(&call.lock);
    while (!call.done)
        pthread_cond_wait(&call.finished, &call.lock);
    pthread_mutex_unlock(&call.lock);
    pthread_cond_destroy(&call.finished);
    pthread_mutex_destroy(&call.lock);
    free(call.message);
    return call.result;
}

static void cancel_calls(struct loop_work *work)
{
    struct pump *pump = ((struct pump_cancel *)work)->pump;

    pthread_mutex_lock(&pump->calls.lock);
    pump->calls.cancel.posted = false;
    pthread_mutex_unlock(&pump->calls.lock);
    rpc_calls_fail(pump->calls.table, -ECANCELED);
}

void pump_cancel_calls(struct pump *pump)
{
    struct pump_calls *calls = &pump->calls;
    bool posted;

    pthread_mutex_lock(&calls->lock);
    posted = calls->cancel.posted;
    calls->cancel.posted = true;
    pthread_mutex_unlock(&calls->lock);
    if (posted)
        return; /* and not yet run: it will find our call as well */
    calls->cancel.work.run = cancel_calls;
    calls->cancel.pump = pump;
    loop_post(pump->loop, &calls->cancel.work);
}

/* ---- the peer's ------------------------------------------------------------------------------- */

static void job_free(struct pump_job *job)
{
    rpc_message_clear(&job->call);
    free(job->reply);
    free(job);
}

/* A job has come back from the worker. */
static void job_done(struct loop_work *work)
{
    struct pump_job *job = (struct pump_job *)work;
    struct pump *pump = job->pump;

    pump->calls.jobs--;
    if (job->reply && pump->state == PUMP_RUNNING &&
        ring_append(&pump->calls.out, job->reply, job->reply_length) < 0)
        pump_fault(pump, BS_CLOSE_RESOURCES, "there is not enough memory for an answer");
    job_free(job);
}

static void *run_worker(void *opaque)
{
    static const struct rpc_program nothing = {.procedures = NULL};
    struct pump *pump = opaque;
    struct pump_calls *calls = &pump->calls;
    const struct rpc_program *program = pump->handlers.program;
    const enum rpc_caller caller = pump->tunnel ? RPC_CALLER_TUNNEL : RPC_CALLER_SESSION;
    struct pump_job *job;

    pthread_mutex_lock(&calls->lock);
    while (!calls->stopping) {
        job = TAILQ_FIRST(&calls->queue);
        if (!job) {
            pthread_cond_wait(&calls->wake, &calls->lock);
            continue;
        }
        TAILQ_REMOVE(&calls->queue, job, link);
        pthread_mutex_unlock(&calls->lock);
        /* Without a reply (no memory for one) the caller's time-out has to do. */
        if (rpc_dispatch(program ? program : &nothing, caller, pump->handlers.opaque, &job->call,
                         &job->reply, &job->reply_length) < 0)
            job->reply = NULL;
        loop_post(pump->loop, &job->work);
        pthread_mutex_lock(&calls->lock);
    }
    pthread_mutex_unlock(&calls->lock);
    return NULL;
}

static void refuse_call(struct pump *pump, const struct bs_header *header)
{
    struct error err = ERROR_INIT;
    uint8_t *reply;
    size_t length;

    error_set(&err, EBUSY, "%d calls wait for their answers already", CALLS_MAX);
    if (rpc_error_encode(header, &err, &reply, &length) < 0)
        return;
    if (ring_append(&pump->calls.out, reply, length) < 0)
        pump_fault(pump, BS_CLOSE_RESOURCES, "there is not enough memory for an answer");
    free(reply);
}

/* Takes over calls->incoming. */
static void queue_call(struct pump *pump)
{
    struct pump_calls *calls = &pump->calls;
    struct pump_job *job;

    if (calls->out.size > ANSWERS_MAX) {
        pump_fault(pump, BS_CLOSE_PROTOCOL, "calls come, but their answers aren't read");
        return;
    }
    if (calls->jobs >= CALLS_MAX) {
        refuse_call(pump, &calls->incoming.header);
        return;
    }
    job = calloc(1, sizeof *job);
    if (!job) {
        pump_fault(pump, BS_CLOSE_RESOURCES, "there is not enough memory for a call");
        return;
    }
    job->work.run = job_done;
    job->pump = pump;
    job->call = calls->incoming;
    calls->incoming = (struct rpc_message){.payload = NULL};
    calls->jobs++;
    pthread_mutex_lock(&calls->lock);
    TAILQ_INSERT_TAIL(&calls->queue, job, link);
    pthread_cond_signal(&calls->wake);
    pthread_mutex_unlock(&calls->lock);
}

/* ---- the stream of messages ------------------------------------------------------------------- */

static int message_begins(void *opaque, const struct bs_header *header, size_t length)
{
    struct pump_calls *calls = &((struct pump *)opaque)->calls;

    if (header->type == BS_STREAM)
        return -EPROTO;
    calls->incoming = (struct rpc_message){.header = *header, .length = length};
    calls->incoming_used = 0;
    if (length == 0)
        return 0;
    calls->incoming.payload = malloc(length);
    return calls->incoming.payload ? 0 : -ENOMEM;
}

static int message_payload(void *opaque, const uint8_t *data, size_t length)
{
    struct pump_calls *calls = &((struct pump *)opaque)->calls;

    memcpy(calls->incoming.payload + calls->incoming_used, data, length);
    calls->incoming_used += length;
    return 0;
}

/* Events are for later versions to send: this one knows none here. */
static int message_ends(void *opaque)
{
    struct pump *pump = opaque;
    struct rpc_message *message = &pump->calls.incoming;

    if (message->header.type == BS_CALL)
        queue_call(pump);
    else if (message->header.type == BS_REPLY &&
             rpc_calls_reply(pump->calls.table, message) == -EPROTO)
        pump_fault(pump, BS_CLOSE_PROTOCOL, "an answer came to a call that was never made");
    rpc_message_clear(message);
    return 0;
}

static const struct rpc_decoder_callbacks decoder_callbacks = {
    .begin = message_begins,
    .payload = message_payload,
    .end = message_ends,
};

void calls_feed(struct pump *pump, const uint8_t *data, size_t length)
{
    size_t used;
    int r;

    if (pump->state != PUMP_RUNNING || pump->fault)
        return;
    r = rpc_decoder_feed(&pump->calls.decoder, data, length, &used);
    if (r == -ENOMEM)
        pump_fault(pump, BS_CLOSE_RESOURCES, "there is not enough memory for a message");
    else if (r < 0)
        pump_fault(pump, BS_CLOSE_PROTOCOL, "what came on channel 0 is no message");
}

void calls_flush(struct pump *pump)
{
    struct ring *out = &pump->calls.out;
    struct iovec iov[2];

    while (out->size > 0) {
        int64_t n;

        ring_peek(out, 0, out->size, iov);
        n = mux_channel_write(pump->session, 0, iov[0].iov_base, iov[0].iov_len);
        if (n <= 0)
            break; /* no credit now, or the session is over */
        ring_drop(out, (size_t)n);
    }
    if (out->size == 0)
        ring_release(out);
}

/* ---- beginning and end ------------------------------------------------------------------------ */

int calls_start(struct pump *pump)
{
    struct pump_calls *calls = &pump->calls;
    int r;

    calls->decoder = (struct rpc_decoder){.callbacks = &decoder_callbacks, .opaque = pump};
    calls->table = rpc_calls_new();
    if (!calls->table)
        return -ENOMEM;
    r = pump_thread_create(&calls->worker, run_worker, pump);
    calls->started = r == 0;
    return r;
}

void calls_end(struct pump *pump)
{
    struct pump_calls *calls = &pump->calls;
    struct pump_job *job;

    rpc_calls_fail(calls->table, -ECONNRESET);
    ring_release(&calls->out);
    pthread_mutex_lock(&calls->lock);
    while ((job = TAILQ_FIRST(&calls->queue))) {
        TAILQ_REMOVE(&calls->queue, job, link);
        job_free(job);
    }
    pthread_mutex_unlock(&calls->lock);
}

void calls_stop(struct pump *pump)
{
    struct pump_calls *calls = &pump->calls;

    if (!calls->started)
        return;
    pthread_mutex_lock(&calls->lock);
    calls->stopping = true;
    pthread_cond_signal(&calls->wake);
    pthread_mutex_unlock(&calls->lock);
    pthread_join(calls->worker, NULL);
    calls->started = false;
}

void calls_release(struct pump *pump)
{
    struct pump_calls *calls = &pump->calls;

    rpc_calls_free(calls->table);
    rpc_message_clear(&calls->incoming);
    ring_release(&calls->out);
    pthread_cond_destroy(&calls->wake);
    pthread_mutex_destroy(&calls->lock);
}
