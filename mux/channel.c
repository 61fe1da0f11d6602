/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Channels: numbers, states, and the moment at which a channel is forgotten.
 *
 * Each half ends on its own, and each has a small machine: an enum, a table of the steps that it
 * allows, one setter.  A third machine stands for RESET, which kills both halves at once.  The
 * setters refuse a step that their table lacks, and so decide also what a call or a frame that
 * comes twice does: nothing.
 *
 * A channel is forgotten
 *  (a) when both halves are DONE: our EOF is acknowledged, the peer's has been taken and the LIMIT
 *      that says so has been sent; or
 *  (b) when RESET has been both sent and received.
 * One that sent RESET may still go by (a): the RESET came too late, the peer had forgotten the
 * channel by then and answers nothing.  Since all that makes one side forget travels ahead of
 * whatever it says afterwards, the sides agree about how many channels there are whenever it
 * matters.
 *
 * forgotten() is called from mux_session_receive() and mux_session_send() only: each of the two
 * conditions becomes true by a frame that came or went.
 */
#include "config.h"

#include "mux/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- states --------------------------------------------------------------------------------- */

#define STEP(state) (1u << (state))

static const unsigned send_steps[] = {
    [MUX_SEND_OPEN] = STEP(MUX_SEND_ENDING),
    [MUX_SEND_ENDING] = STEP(MUX_SEND_ENDED),
    [MUX_SEND_ENDED] = STEP(MUX_SEND_DONE),
    [MUX_SEND_DONE] = 0,
};
static_assert(sizeof send_steps / sizeof send_steps[0] == MUX_SEND_DONE + 1, "one row per state");

static const unsigned receive_steps[] = {
    [MUX_RECEIVE_OPEN] = STEP(MUX_RECEIVE_ENDED),
    [MUX_RECEIVE_ENDED] = STEP(MUX_RECEIVE_TOLD),
    [MUX_RECEIVE_TOLD] = STEP(MUX_RECEIVE_TAKEN),
    [MUX_RECEIVE_TAKEN] = STEP(MUX_RECEIVE_DONE),
    [MUX_RECEIVE_DONE] = 0,
};
static_assert(sizeof receive_steps / sizeof receive_steps[0] == MUX_RECEIVE_DONE + 1,
              "one row per state");

static const unsigned reset_steps[] = {
    [MUX_RESET_NONE] = STEP(MUX_RESET_OURS) | STEP(MUX_RESET_THEIRS),
    [MUX_RESET_OURS] = STEP(MUX_RESET_THEIRS), /* theirs crossed ours, which has not gone out yet */
    [MUX_RESET_THEIRS] = 0,
};
static_assert(sizeof reset_steps / sizeof reset_steps[0] == MUX_RESET_THEIRS + 1,
              "one row per state");

bool mux_channel_set_send(struct mux_channel *channel, enum mux_send_state state)
{
    if (!(send_steps[channel->send] & STEP(state)))
        return false;
    channel->send = state;
    return true;
}

bool mux_channel_set_receive(struct mux_channel *channel, enum mux_receive_state state)
{
    if (!(receive_steps[channel->receive] & STEP(state)))
        return false;
    channel->receive = state;
    return true;
}

bool mux_channel_set_reset(struct mux_channel *channel, enum mux_reset_state state)
{
    if (!(reset_steps[channel->reset] & STEP(state)))
        return false;
    channel->reset = state;
    return true;
}

/* ---- the table ------------------------------------------------------------------------------- */

bool mux_channel_is_ours(const struct mux_session *session, uint32_t number)
{
    return number != 0 && (number % 2 == 1) == session->config.opener;
}

static struct mux_channel **bucket_of(const struct mux_session *session, uint32_t number)
{
    return &session->buckets[number & session->bucket_mask];
}

static int compare_numbers(const void *a_, const void *b_)
{
    const struct mux_channel *const *a = a_, *const *b = b_;

    return ((*a)->number > (*b)->number) - ((*a)->number < (*b)->number);
}

int mux_channels_sorted(const struct mux_session *session, struct mux_channel ***ret)
{
    size_t count = (size_t)session->ours + session->theirs + 1, n = 0;
    struct mux_channel **all = calloc(count, sizeof(struct mux_channel *));

    if (!all)
        return -ENOMEM;
    for (uint32_t i = 0; i <= session->bucket_mask; i++)
        for (struct mux_channel *channel = session->buckets[i]; channel; channel = channel->next)
            all[n++] = channel;
    assert(n == count);
    qsort(all, count, sizeof(struct mux_channel *), compare_numbers);
    *ret = all;
    return (int)count;
}

struct mux_channel *mux_channel_find(const struct mux_session *session, uint32_t number)
{
    struct mux_channel *channel = *bucket_of(session, number);

    while (channel && channel->number != number)
        channel = channel->next;
    return channel;
}

struct mux_channel *mux_channel_find_live(const struct mux_session *session, uint32_t number)
{
    struct mux_channel *channel;

    if (session->state != MUX_OPEN)
        return NULL;
    channel = mux_channel_find(session, number);
    return channel && channel->reset == MUX_RESET_NONE ? channel : NULL;
}

struct mux_channel *mux_channel_new(struct mux_session *session, uint32_t number)
{
    struct mux_channel *channel = calloc(1, sizeof *channel);
    struct mux_channel **bucket = bucket_of(session, number);

    if (!channel)
        return NULL;
    channel->session = session;
    channel->number = number;
    channel->send_limit = session->config.remote.first_window;
    channel->receive_limit = session->config.local.first_window;
    channel->window = channel->receive_limit;
    channel->measured_at = session->now;
    if (session->config.tunnel)
        mux_tunnel_set_up(channel);
    channel->next = *bucket;
    *bucket = channel;
    mux_credit_charge_receive(channel);
    if (number != 0)
        (*(mux_channel_is_ours(session, number) ? &session->ours : &session->theirs))++;
    return channel;
}

void mux_channel_free(struct mux_channel *channel)
{
    struct mux_session *session = channel->session;
    struct mux_channel **link = bucket_of(session, channel->number);

    channel->reset = MUX_RESET_OURS; /* whatever it was: it holds nothing from here on */
    mux_channel_drop(channel);
    mux_schedule_unsay(channel, channel->say);
    if (channel->active)
        TAILQ_REMOVE(&session->active, channel, active_link);
    if (session->input.channel == channel)
        session->input.channel = NULL;
    while (*link != channel)
        link = &(*link)->next;
    *link = channel->next;
    if (channel->number != 0)
        (*(mux_channel_is_ours(session, channel->number) ? &session->ours : &session->theirs))--;
    free(channel->endpoint);
    free(channel->reset_text);
    free(channel);
}

/* ---- open ------------------------------------------------------------------------------------ */

bool mux_endpoint_valid(const char *name, size_t length)
{
    if (length == 0 || length > BS_ENDPOINT_MAX)
        return false;
    for (size_t i = 0; i < length; i++)
        if (name[i] < ' ' || name[i] > '~')
            return false;
    return true;
}

int mux_channel_open(struct mux_session *session, const char *endpoint, uint32_t *ret_channel)
{
    struct mux_channel *channel;

    if (!mux_endpoint_valid(endpoint, strnlen(endpoint, BS_ENDPOINT_MAX + 1)))
        return -EINVAL;
    if (session->state != MUX_OPEN)
        return -EPIPE;
    if (session->config.tunnel) {
        int r = mux_tunnel_may_open(session, endpoint);

        if (r < 0)
            return r;
    }
    if (session->ours >= session->config.remote.channels || session->next_number > UINT32_MAX - 2)
        return -EMFILE;

    channel = mux_channel_new(session, session->next_number);
    if (!channel)
        return -ENOMEM;
    channel->endpoint = strdup(endpoint);
    if (!channel->endpoint) {
        mux_channel_free(channel);
        return -ENOMEM;
    }
    session->next_number += 2;
    mux_schedule_say(channel, MUX_SAY_OPEN);
    *ret_channel = channel->number;
    return 0;
}

/* ---- end ------------------------------------------------------------------------------------- */

void mux_channel_end(struct mux_session *session, uint32_t number)
{
    struct mux_channel *channel = mux_channel_find_live(session, number);

    if (!channel || number == 0 || !mux_channel_set_send(channel, MUX_SEND_ENDING))
        return;
    if (channel->sent == channel->queued)
        mux_schedule_say(channel, MUX_SAY_EOF);
}

void mux_channel_eof_taken(struct mux_session *session, uint32_t number)
{
    struct mux_channel *channel = mux_channel_find_live(session, number);

    if (channel && mux_channel_set_receive(channel, MUX_RECEIVE_TAKEN))
        mux_schedule_say(channel, MUX_SAY_LIMIT);
}

/* ---- reset ----------------------------------------------------------------------------------- */

void mux_channel_drop(struct mux_channel *channel)
{
    mux_schedule_remove(channel);
    ring_release(&channel->out);
    ring_release(&channel->in);
    channel->queued = channel->sent;
    channel->taken = channel->received;
    mux_credit_charge_send(channel);
    mux_credit_charge_receive(channel);
    channel->blocked = false;
}

/* From here on RESET is all that there is to say (behind the OPEN, if that has not gone out). */
static void schedule_reset(struct mux_channel *channel)
{
    mux_schedule_unsay(channel, MUX_SAY_LIMIT | MUX_SAY_EOF);
    mux_schedule_say(channel, MUX_SAY_RESET);
    mux_channel_drop(channel);
}

void mux_channel_reset(struct mux_session *session, uint32_t number, uint64_t code,
                       const char *text)
{
    struct mux_channel *channel = mux_channel_find_live(session, number);

    if (!channel || number == 0)
        return;
    /* Too late already: both halves are through, only our last LIMIT has to go out. */
    if (channel->send == MUX_SEND_DONE && channel->receive == MUX_RECEIVE_TAKEN) {
        channel->given_up = true;
        return;
    }
    mux_channel_set_reset(channel, MUX_RESET_OURS);
    channel->reset_code = code;
    channel->reset_text = strndup(text, BS_TEXT_MAX); /* without memory it goes without the text */
    schedule_reset(channel);
}

void mux_channel_peer_reset(struct mux_channel *channel, uint64_t code, const char *text)
{
    struct mux_session *session = channel->session;

    switch (channel->reset) {
    case MUX_RESET_NONE:
        mux_channel_set_reset(channel, MUX_RESET_THEIRS);
        channel->reset_code = code;
        schedule_reset(channel);
        if (!channel->given_up)
            session->config.callbacks->reset(session->config.opaque, channel->number, code, text);
        break;
    case MUX_RESET_OURS:
        if (channel->say & MUX_SAY_RESET)
            mux_channel_set_reset(channel, MUX_RESET_THEIRS);
        else
            mux_channel_forget(channel);
        break;
    case MUX_RESET_THEIRS: /* said again: harmless */
        break;
    }
}

/* ---- forget ---------------------------------------------------------------------------------- */

void mux_channel_forget(struct mux_channel *channel)
{
    struct mux_session *session = channel->session;
    uint32_t number = channel->number;

    mux_channel_free(channel);
    session->config.callbacks->forgotten(session->config.opaque, number);
}

bool mux_channel_forget_if_finished(struct mux_channel *channel)
{
    if (channel->send != MUX_SEND_DONE || channel->receive != MUX_RECEIVE_DONE)
        return false;
    mux_channel_forget(channel);
    return true;
}
