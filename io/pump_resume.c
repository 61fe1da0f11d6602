/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A pump without a link, and with another one.
 *
 * When the link breaks and the session outlives it, only the link goes: the loop goes on serving local
 * sockets and callers, as far as credit and memory reach.  It gets a new link as work for the loop: the
 * opener from its thread (pump_redial.c), the acceptor from whoever answers new connections
 * (pump_resume()).  When the grace time ends first, the session ends as it would have with its link.
 *
 * An acceptor checks before it changes anything: the attempt must be a new one, and what the peer claims
 * must be possible.  Only then does it drop the link that it has, if it still has one, take stock,
 * answer, and go on, all in one step, so that nothing comes between what it says and what it does.
 */
#include "config.h"

#include "io/pump_internal.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "rpc/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the link is lost ------------------------------------------------------------------------- */

uint64_t pump_away(const struct pump *pump)
{
    uint64_t now = loop_now(pump->loop);

    return pump->away_since < now ? now - pump->away_since : 0;
}

static void drop_link(struct pump *pump)
{
    loop_fd_remove(pump->link_watch);
    pump->link_watch = NULL;
    tls_free(pump->link);
    pump->link = NULL;
    pump->link_more = false;
    pump->link_held = pump->link_unsent = 0;
}

/* Forgets the link if the session can go on without it, and tells so. */
static bool lose_link(struct pump *pump, const struct error *why)
{
    if (!mux_session_link_lost(pump->session, loop_now(pump->loop)))
        return false;
    drop_link(pump);
    pump->away_since = loop_now(pump->loop);
    pump->away_why = *why;
    pump->link_losses++;
    log_warning("session %s: link lost, waiting for another: %s", pump->name, why->text);
    if (pump->handlers.link_lost)
        pump->handlers.link_lost(pump->handlers.opaque, why);
    return true;
}

bool pump_outlives_link(struct pump *pump, const struct error *why)
{
    int r;

    if (!pump->link)
        return true;
    if (pump->grace == 0 || !lose_link(pump, why))
        return false;
    if (!pump->redial.how.resume)
        return true;
    r = redial_start(pump);
    if (r < 0)
        log_error("session %s: can't start a thread to dial again: %s", pump->name, strerror(-r));
    return r == 0;
}

void pump_away_tick(struct pump *pump, uint64_t now)
{
    struct error why = ERROR_INIT;

    if (pump->away_since == LOOP_NEVER || now < pump->away_since + pump->grace)
        return;
    error_set(&why, ETIMEDOUT, "no link to %s came back within %llu s: %s", pump->peer,
              (unsigned long long)(pump->grace / LOOP_SECOND), pump->away_why.text);
    pump->away_total += pump_away(pump);
    pump->away_since = LOOP_NEVER;
    pump_abandon(pump, &why);
}

/* ---- there is another one --------------------------------------------------------------------- */

int pump_attach(struct pump *pump, struct tls *link, uint32_t serial,
                const struct bs_resume_state *peer, const void *early, size_t early_length,
                struct error *err)
{
    uint64_t now = loop_now(pump->loop), away = pump_away(pump);
    struct loop_fd *watch = loop_fd_add(pump->loop, tls_fd(link), 0, link_ready, pump);

    if (!watch) {
        tls_free(link);
        return error_set(err, ENOMEM, "can't watch a new link: memory is short");
    }
    if (mux_session_resume(pump->session, serial, peer, now, err) < 0) {
        loop_fd_remove(watch);
        tls_free(link);
        return -err->code;
    }
    tls_set_patience(link, (unsigned)(pump->ping_timeout / LOOP_MS));
    pump->link = link;
    pump->link_watch = watch;
    pump->away_since = LOOP_NEVER;
    pump->away_total += away;
    log_info("session %s: goes on over another link, after %llu ms", pump->name,
             (unsigned long long)(away / LOOP_MS));
    if (pump->handlers.link_resumed)
        pump->handlers.link_resumed(pump->handlers.opaque, away);
    if (early_length > 0)
        mux_session_receive(pump->session, early, early_length, now);
    return 0;
}

/* ---- the acceptor ----------------------------------------------------------------------------- */

struct resume_work {
    struct loop_work work; /* first: the loop gives it back */
    struct pump *pump;
    struct pump_resume resume;
    uint8_t early[];
};

/* Sends what is told at once, or not at all: the peer will ask again. */
static void answer_and_leave(struct tls *link, const uint8_t *data, size_t length)
{
    struct error ignored = ERROR_INIT;

    if (tls_write(link, data, length, &ignored) >= 0)
        tls_flush(link, &ignored);
    tls_free(link);
}

static void refuse(struct pump *pump, const struct pump_resume *resume, const struct error *err)
{
    CLEANUP_FREE uint8_t *reply = NULL;
    size_t length = 0;

    log_warning("session %s: attempt %u of %s to resume it is refused: %s", pump->name,
                resume->attempt, tls_peer(resume->link), err->text);
    if (rpc_error_encode(&resume->call, err, &reply, &length) < 0)
        tls_free(resume->link);
    else
        answer_and_leave(resume->link, reply, length);
}

static int encode_reply(const struct pump_resume *resume, const struct bs_bistream_resume_ret *ret,
                        uint8_t **ret_data, size_t *ret_length)
{
    struct bs_header header = resume->call;

    header.type = BS_REPLY;
    header.status = BS_OK;
    return rpc_message_encode(&header, (xdrproc_t)xdr_bs_bistream_resume_ret, ret, ret_data,
                              ret_length);
}

static void answer_closed(const struct pump_resume *resume, uint64_t code)
{
    struct bs_bistream_resume_ret ret = {.outcome = BS_RESUME_CLOSED, .close_code = code};
    CLEANUP_FREE uint8_t *reply = NULL;
    size_t length = 0;

    memcpy(ret.proof, resume->proof, sizeof resume->proof);
    if (encode_reply(resume, &ret, &reply, &length) < 0)
        tls_free(resume->link);
    else
        answer_and_leave(resume->link, reply, length);
}

/* Whether the attempt can come about.  Nothing has been changed. */
static int check(struct pump *pump, const struct pump_resume *resume, struct error *err)
{
    if (pump->grace == 0)
        return error_set(err, EPERM, "the session ends with its link");
    if (resume->attempt <= pump->accepted)
        return error_set(err, EBUSY, "the attempt is stale: %u was accepted before",
                         pump->accepted);
    return mux_session_resume_check(pump->session, &resume->state, err);
}

/* Answers, and takes over the link. */
static int accept_link(struct pump *pump, const struct pump_resume *resume, struct error *err)
{
    struct bs_bistream_resume_ret ret = {.outcome = BS_RESUME_GOES_ON};
    struct error dropped = ERROR_INIT;
    CLEANUP_FREE uint8_t *reply = NULL;
    size_t length = 0;
    int r;

    error_set(&dropped, ECONNRESET, "%s has dialled again", tls_peer(resume->link));
    if (pump->link && !lose_link(pump, &dropped))
        return error_set(err, EPERM, "no frame ever came, and it ends with its link");
    pump->accepted = resume->attempt;
    memcpy(ret.proof, resume->proof, sizeof resume->proof);
    r = mux_session_resume_state(pump->session, &ret.state);
    if (r == 0)
        r = encode_reply(resume, &ret, &reply, &length);
    xdr_free((xdrproc_t)xdr_bs_resume_state, (char *)&ret.state);
    if (r < 0)
        return error_set_errno(err, -r, "can't answer");
    if (tls_write(resume->link, reply, length, err) < 0)
        return -err->code;
    return 0;
}

static void resume_session(struct pump *pump, struct pump_resume *resume)
{
    struct error err = ERROR_INIT;

    if (pump->state >= PUMP_ENDING || pump->session_over) {
        answer_closed(resume, pump->why.code == 0 ? BS_CLOSE_DONE : BS_CLOSE_CANCELLED);
        return;
    }
    if (check(pump, resume, &err) < 0 || accept_link(pump, resume, &err) < 0) {
        refuse(pump, resume, &err);
        return;
    }
    if (pump_attach(pump, resume->link, resume->call.serial, &resume->state, resume->early,
                    resume->early_length, &err) < 0)
        log_warning("session %s: can't go on over another link: %s", pump->name, err.text);
}

static void resume_posted(struct loop_work *work)
{
    struct resume_work *posted = (struct resume_work *)work;

    resume_session(posted->pump, &posted->resume);
    xdr_free((xdrproc_t)xdr_bs_resume_state, (char *)&posted->resume.state);
    free(posted);
}

int pump_resume(struct pump *pump, struct pump_resume *resume)
{
    struct resume_work *posted = malloc(sizeof *posted + resume->early_length);

    if (!posted) {
        tls_free(resume->link);
        return -ENOMEM;
    }
    posted->work.run = resume_posted;
    posted->pump = pump;
    posted->resume = *resume;
    posted->resume.early = posted->early;
    if (resume->early_length > 0)
        memcpy(posted->early, resume->early, resume->early_length);
    resume->state = (struct bs_resume_state){.highest = 0};
    loop_post(pump->loop, &posted->work);
    return 0;
}
