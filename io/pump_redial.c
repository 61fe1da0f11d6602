/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * How an opener comes to another link: a thread that lives while the link is lost.
 *
 * It makes one attempt after the other, with pauses that double up to a few seconds and are drawn at
 * random below that, so that many sessions that lost their links at once don't dial at once.  An attempt
 * may find a way that breaks meanwhile and never hear an answer: the first ones don't wait for long.  For each
 * attempt it has the pump's thread take stock; what it brings back it hands over there and ends.  It also
 * ends when the session does without it, and when an answer says that no attempt can help.
 */
#include "config.h"

#include "io/pump_internal.h"
#include "common/checked.h"
#include "common/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

enum {
    PAUSE_FIRST_MS = 100, /* before the first attempt: whatever broke the link may last a moment */
    PAUSE_MAX_MS = 5000,
    PATIENCE_FIRST_MS = 1000, /* with each answer of an attempt */
    PATIENCE_MAX_MS = 10000,
};

/* ---- on the pump's thread --------------------------------------------------------------------- */

struct attempt {
    struct pump *pump;
    uint32_t number;
    struct bs_resume_state state;
    struct pump_resumed resumed;
    struct error err;
};

static bool is_wanted(const struct pump *pump)
{
    return pump->away_since != LOOP_NEVER && !pump->session_over && pump->state < PUMP_ENDING;
}

static int take_stock(void *opaque)
{
    struct attempt *attempt = opaque;
    struct pump *pump = attempt->pump;

    if (attempt->err.code)
        pump->away_why = attempt->err; /* of the last attempt */
    if (!is_wanted(pump))
        return -ECANCELED;
    attempt->number = ++pump->redial.attempt;
    return mux_session_resume_state(pump->session, &attempt->state);
}

/* Returns -ENOMEM when the session has stayed as it was: another attempt may do. */
static int hand_over(void *opaque)
{
    struct attempt *attempt = opaque;
    struct pump *pump = attempt->pump;
    struct pump_resumed *resumed = &attempt->resumed;
    struct tls *link = resumed->link;
    int r;

    resumed->link = NULL;
    if (!is_wanted(pump) || resumed->reply.outcome == BS_RESUME_CLOSED) {
        if (is_wanted(pump))
            mux_session_closed_there(pump->session, resumed->reply.close_code);
        tls_free(link);
        return 0;
    }
    r = pump_attach(pump, link, resumed->serial, &resumed->reply.state, resumed->early,
                    resumed->early_length, &attempt->err);
    if (r < 0 && r != -ENOMEM) {
        error_prefix(&attempt->err, "what %s says of the session can't be true", pump->peer);
        pump_abandon(pump, &attempt->err);
    }
    return r;
}

static int give_up(void *opaque)
{
    struct attempt *attempt = opaque;

    if (is_wanted(attempt->pump))
        pump_abandon(attempt->pump, &attempt->err);
    return 0;
}

/* ---- the thread ------------------------------------------------------------------------------- */

/* Half of it at least, so that it does grow. */
static int draw(int pause_ms)
{
    uint32_t random = 0;

    if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0)
        random = 0;
    return pause_ms / 2 + (int)(random % (uint32_t)(pause_ms / 2 + 1));
}

/* Returns false when the thread is to end. */
static bool rest(const struct pump *pump, int pause_ms)
{
    struct pollfd pollfd = {.fd = pump->redial.abort_fd, .events = POLLIN};

    return poll(&pollfd, 1, draw(pause_ms)) == 0;
}

static void clear(struct attempt *attempt)
{
    xdr_free((xdrproc_t)xdr_bs_resume_state, (char *)&attempt->state);
    xdr_free((xdrproc_t)xdr_bs_bistream_resume_ret, (char *)&attempt->resumed.reply);
    free(attempt->resumed.early);
    tls_free(attempt->resumed.link);
    attempt->state = (struct bs_resume_state){.highest = 0};
    attempt->resumed = (struct pump_resumed){.link = NULL};
}

/* Makes one attempt.  Returns whether that was the last. */
static bool try(struct attempt *attempt, int patience_ms)
{
    struct pump *pump = attempt->pump;
    const struct pump_redial *how = &pump->redial.how;
    bool final = false;
    int r = loop_call(pump->loop, take_stock, attempt);

    if (r < 0)
        return r == -ECANCELED;
    attempt->err = (struct error)ERROR_INIT;
    r = how->resume(how->opaque, attempt->number, &attempt->state, patience_ms,
                    pump->redial.abort_fd, &attempt->resumed, &final, &attempt->err);
    if (r == 0 && loop_call(pump->loop, hand_over, attempt) != -ENOMEM)
        return true;
    log_info("session %s: attempt %u to resume it failed: %s", pump->name, attempt->number,
             attempt->err.text);
    if (final)
        loop_call(pump->loop, give_up, attempt);
    return final;
}

static int twice(int ms, int max_ms)
{
    return ms < max_ms / 2 ? 2 * ms : max_ms;
}

static void *redial(void *opaque)
{
    struct attempt attempt = {.pump = opaque};
    int pause = PAUSE_FIRST_MS, patience = PATIENCE_FIRST_MS;
    bool done = false;

    while (!done && rest(attempt.pump, pause)) {
        done = try(&attempt, patience);
        clear(&attempt);
        pause = twice(pause, PAUSE_MAX_MS);
        patience = twice(patience, PATIENCE_MAX_MS);
    }
    tls_thread_end();
    return NULL;
}

/* ---- starting and stopping -------------------------------------------------------------------- */

int redial_start(struct pump *pump)
{
    struct pump_redialler *redialler = &pump->redial;
    int r;

    if (redialler->started) /* it has handed over the link that is lost now, and is ending */
        pthread_join(redialler->thread, NULL);
    redialler->started = false;
    if (redialler->abort_fd < 0)
        redialler->abort_fd = eventfd(0, EFD_CLOEXEC);
    if (redialler->abort_fd < 0)
        return -errno;
    r = pump_thread_create(&redialler->thread, redial, pump);
    redialler->started = r == 0;
    return r;
}

void redial_stop(struct pump *pump)
{
    if (!pump->redial.started)
        return;
    eventfd_write(pump->redial.abort_fd, 1);
    pthread_join(pump->redial.thread, NULL);
    pump->redial.started = false;
}

void redial_release(struct pump *pump)
{
    if (pump->redial.abort_fd >= 0)
        close(pump->redial.abort_fd);
    if (pump->redial.how.free)
        pump->redial.how.free(pump->redial.how.opaque);
}
