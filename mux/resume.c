/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A session outlives its link.
 *
 * While the link is lost nothing is received or given out.  Local sockets go on handing over what
 * credit and pool allow, and taking what has come; both are used up soon, and so the sockets feel
 * back pressure and nothing else.
 *
 * Then each side says what has reached it: the highest number of the other's OPENs, and for each
 * channel that it has not forgotten what a LIMIT would say.  That is all it takes, because bytes are
 * kept until they are received:
 *
 *   listed        DATA from there on again; EOF if it isn't acknowledged; RESET unless the peer says
 *                 that it has come
 *   not listed    one of ours above the peer's highest: its OPEN was lost, so everything again.  Any
 *                 other one the peer has forgotten, which it may once both halves have ended or this
 *                 side gave it up; and so it is forgotten here
 *   unknown here  forgotten here, or its OPEN has yet to come: ignored
 *
 * The flag for a RESET that has come is needed for the count of channels.  A RESET said again, still
 * due here while the peer's answer to the one before arrives, would look like two that cross: the
 * channel would count until ours is out, but no longer for the peer, which opens another one.
 *
 * What was said in a resume that came about counts as said: an end that it acknowledged needs no LIMIT
 * any more.  Otherwise a channel could be forgotten over there, its place taken by a new one, while it
 * still counts here.
 *
 * A side that gave the session up has no channels left to speak of.  It lists none, and says CLOSE.
 */
#include "config.h"

#include "mux/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- the link is lost ------------------------------------------------------------------------- */

bool mux_session_link_lost(struct mux_session *session, uint64_t now)
{
    session->now = now;
    if (session->config.tunnel || session->state == MUX_CLOSED || !session->heard)
        return false;
    if (session->away)
        return true;
    session->input.decoder = (struct rpc_decoder){.callbacks = NULL};
    session->input.channel = NULL;
    mux_timer_lost(session);
    return true;
}

/* ---- what this side says ---------------------------------------------------------------------- */

/* Nothing of this side's matters any more but its CLOSE. */
static bool is_given_up(const struct mux_session *session)
{
    return session->state != MUX_OPEN && session->close_code != BS_CLOSE_DONE;
}

static void describe(struct mux_channel *channel, struct bs_resume_channel *ret)
{
    ret->channel = channel->number;
    channel->taken_said = channel->receive >= MUX_RECEIVE_TAKEN;
    if (channel->reset == MUX_RESET_NONE) {
        uint64_t received, limit;

        mux_credit_grant(channel, &received, &limit);
        ret->received = received;
        ret->limit = limit;
        return;
    }
    ret->received = channel->received + channel->taken_said;
    ret->limit = channel->receive_limit;
    ret->flags = channel->reset == MUX_RESET_THEIRS ? BS_RESUME_RESET : 0;
}

int mux_session_resume_state(struct mux_session *session, struct bs_resume_state *ret)
{
    struct mux_channel **channels;
    struct bs_resume_channel *said;
    int count;

    *ret = (struct bs_resume_state){.highest = session->opened_seen};
    if (is_given_up(session))
        return 0;
    count = mux_channels_sorted(session, &channels);
    if (count < 0)
        return count;
    said = calloc((size_t)count, sizeof *said);
    if (said) {
        for (int i = 0; i < count; i++)
            describe(channels[i], &said[i]);
        ret->channels.channels_len = (u_int)count;
        ret->channels.channels_val = said;
    }
    free(channels);
    return said ? 0 : -ENOMEM;
}

/* ---- what the peer says ----------------------------------------------------------------------- */

enum verdict {
    LISTED,
    UNHEARD_OF, /* ours, and its OPEN never arrived */
    FINISHED,   /* the peer has forgotten it, as it may */
};

static int check_listed(const struct mux_channel *channel, const struct bs_resume_channel *said,
                        struct error *err)
{
    bool ended = channel->send >= MUX_SEND_ENDED && channel->sent == channel->queued;

    if (said->received > channel->sent + ended)
        return error_set(err, EPROTO,
                         "channel %u: received %" PRIu64 " is above the %" PRIu64 " ever sent",
                         channel->number, (uint64_t)said->received, channel->sent + ended);
    if (said->received < channel->acked + (channel->send == MUX_SEND_DONE))
        return error_set(err, EPROTO,
                         "channel %u: received %" PRIu64 " is below the %" PRIu64 " said before",
                         channel->number, (uint64_t)said->received,
                         channel->acked + (channel->send == MUX_SEND_DONE));
    if (said->limit < channel->send_limit)
        return error_set(err, EPROTO, "channel %u: the limit shrinks from %" PRIu64 " to %" PRIu64,
                         channel->number, channel->send_limit, (uint64_t)said->limit);
    return LISTED;
}

/* What SAID (NULL: nothing) means for CHANNEL.  Returns an enum verdict, or -EPROTO with ERR. */
static int judge(const struct mux_channel *channel, const struct bs_resume_channel *said,
                 uint32_t highest, struct error *err)
{
    uint32_t number = channel->number;
    bool above = mux_channel_is_ours(channel->session, number) && number > highest;

    if (above && (said || channel->heard))
        return error_set(err, EPROTO, "channel %u is known there, but %u is the highest seen",
                         number, highest);
    if (said)
        return check_listed(channel, said, err);
    if (above)
        return UNHEARD_OF;
    if (channel->reset != MUX_RESET_NONE)
        return FINISHED;
    if (channel->send >= MUX_SEND_ENDED && channel->sent == channel->queued &&
        channel->receive >= MUX_RECEIVE_TAKEN)
        return FINISHED;
    return error_set(err, EPROTO, "channel %u is missing, but has not ended", number);
}

/* Of a channel that isn't here. */
static int check_unknown(const struct mux_session *session, uint32_t number, struct error *err)
{
    if (mux_channel_is_ours(session, number) && number > session->opened_sent)
        return error_set(err, EPROTO, "channel %u was never opened", number);
    return 0;
}

/* Goes through what is here and what the peer lists side by side, both by number; RET has a place for
 * each of CHANNELS. */
static int judge_all(const struct mux_session *session, const struct bs_resume_state *peer,
                     struct mux_channel *const *channels, int count, int *ret, struct error *err)
{
    const struct bs_resume_channel *said = peer->channels.channels_val;
    const struct bs_resume_channel *end = said + peer->channels.channels_len;

    if (peer->highest > session->opened_sent ||
        (peer->highest != 0 && !mux_channel_is_ours(session, peer->highest)))
        return error_set(err, EPROTO, "channel %u was never opened", peer->highest);
    for (const struct bs_resume_channel *next = said; next + 1 < end; next++)
        if (next[1].channel <= next[0].channel)
            return error_set(err, EPROTO, "channel %u is listed behind channel %u", next[1].channel,
                             next[0].channel);
    for (int i = 0; i < count; i++) {
        bool listed;

        for (; said < end && said->channel < channels[i]->number; said++)
            if (check_unknown(session, said->channel, err) < 0)
                return -EPROTO;
        listed = said < end && said->channel == channels[i]->number;
        ret[i] = judge(channels[i], listed ? said++ : NULL, peer->highest, err);
        if (ret[i] < 0)
            return ret[i];
    }
    for (; said < end; said++)
        if (check_unknown(session, said->channel, err) < 0)
            return -EPROTO;
    return 0;
}

/* ---- going on --------------------------------------------------------------------------------- */

/* What the peer has received counts as acknowledged; what it has not is to be said again. */
static void go_on(struct mux_channel *channel, const struct bs_resume_channel *said)
{
    if (said) {
        channel->heard = true;
        channel->send_limit = said->limit;
        mux_stream_acked(channel, min_u64(said->received, channel->sent));
        if (said->received > channel->sent)
            mux_channel_set_send(channel, MUX_SEND_DONE);
    } else {
        mux_schedule_say(channel, MUX_SAY_OPEN);
    }
    if (channel->taken_said)
        mux_channel_set_receive(channel, MUX_RECEIVE_DONE);
    if (mux_channel_forget_if_finished(channel))
        return;
    if (channel->reset != MUX_RESET_NONE) {
        if (channel->reset == MUX_RESET_THEIRS || !said || !(said->flags & BS_RESUME_RESET))
            mux_schedule_say(channel, MUX_SAY_RESET);
        return;
    }
    mux_schedule_again(channel);
    if (channel->sent == channel->queued &&
        (channel->send == MUX_SEND_ENDING || channel->send == MUX_SEND_ENDED))
        mux_schedule_say(channel, MUX_SAY_EOF);
    if (channel->receive == MUX_RECEIVE_TAKEN)
        mux_schedule_say(channel, MUX_SAY_LIMIT);
    mux_credit_moved(channel); /* sockets have taken bytes since that was said */
    mux_credit_recheck(channel);
}

static void apply(struct mux_session *session, const struct bs_resume_state *peer,
                  struct mux_channel *const *channels, int count, const int *verdicts)
{
    const struct bs_resume_channel *said = peer->channels.channels_val;

    for (int i = 0; i < count; i++)
        mux_schedule_unsay(channels[i], channels[i]->say);
    session->opened_sent = peer->highest; /* nobody has heard of what was opened above it */
    for (int i = 0; i < count; i++) {
        switch (verdicts[i]) {
        case LISTED:
            while (said->channel != channels[i]->number)
                said++;
            go_on(channels[i], said);
            break;
        case UNHEARD_OF:
            go_on(channels[i], NULL);
            break;
        default:
            mux_channel_forget(channels[i]);
        }
    }
    mux_timer_resumed(session);
}

/* Judges all channels, and goes on with them if REALLY. */
static int resume_channels(struct mux_session *session, const struct bs_resume_state *peer,
                           bool really, struct error *err)
{
    struct mux_channel **channels;
    int *verdicts, r = -ENOMEM, count = mux_channels_sorted(session, &channels);

    if (count < 0)
        return error_set(err, ENOMEM, "memory is short");
    verdicts = calloc((size_t)count, sizeof *verdicts);
    if (verdicts)
        r = judge_all(session, peer, channels, count, verdicts, err);
    else
        error_set(err, ENOMEM, "memory is short");
    if (r == 0 && really)
        apply(session, peer, channels, count, verdicts);
    free(verdicts);
    free(channels);
    return r;
}

/* One side has given the session up: no channel matters any more. */
static bool is_last_words(const struct mux_session *session, const struct bs_resume_state *peer)
{
    return is_given_up(session) || peer->channels.channels_len == 0;
}

int mux_session_resume_check(struct mux_session *session, const struct bs_resume_state *peer,
                             struct error *err)
{
    return is_last_words(session, peer) ? 0 : resume_channels(session, peer, false, err);
}

int mux_session_resume(struct mux_session *session, uint32_t serial,
                       const struct bs_resume_state *peer, uint64_t now, struct error *err)
{
    session->now = now;
    if (!is_last_words(session, peer)) {
        int r = resume_channels(session, peer, true, err);

        if (r < 0)
            return r;
    } else {
        mux_timer_resumed(session);
    }
    session->config.serial = serial;
    session->last_words = peer->channels.channels_len == 0;
    if (session->state == MUX_CLOSING) {
        session->say_close = true;
        session->close_sent = false;
    }
    return 0;
}
