/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Both ends of a session and their users: see mux_pair.h. */
#include "config.h"

#include "tests/unit/mux_pair.h"
#include "mux/internal.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The byte at OFFSET of what SIDE says on CHANNEL. */
static uint8_t pattern(const struct pair_side *side, uint32_t channel, uint64_t offset)
{
    uint64_t x = offset / 8 + ((uint64_t)channel << 40) + ((uint64_t)side->index << 60);

    x = (x ^ (x >> 31)) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint8_t)((x ^ (x >> 29)) >> (offset % 8 * 8));
}

static void check_bytes(struct pair_side *side, uint32_t channel, const uint8_t *bytes,
                        size_t length)
{
    struct pair_user *user = &side->users[channel];
    const struct pair_side *other = pair_other(side);

    for (size_t i = 0; i < length; i++)
        if (bytes[i] != pattern(other, channel, user->read + i))
            fail_msg("channel %u: wrong byte at %llu", channel, (unsigned long long)user->read + i);
    user->read += length;
}

/* ---- callbacks ----------------------------------------------------------------------------------
 */

static struct pair_user *live_user(struct pair_side *side, uint32_t channel)
{
    assert_true(channel < PAIR_CHANNELS);
    assert_true(side->users[channel].open);
    assert_false(side->users[channel].reset);
    assert_false(side->closed);
    return &side->users[channel];
}

static void opened(void *opaque, uint32_t channel, const char *endpoint)
{
    struct pair_side *side = opaque;

    assert_true(channel < PAIR_CHANNELS && channel > 0);
    assert_string_equal(endpoint, "nbd/vda");
    assert_false(side->users[channel].open || side->users[channel].forgotten);
    side->users[channel] =
        (struct pair_user){.open = true, .can_write = true, .plan = side->plan_of_peers};
    if (channel > side->highest)
        side->highest = channel;
}

static size_t data(void *opaque, uint32_t channel, const struct iovec *pieces, int count)
{
    struct pair_side *side = opaque;
    size_t length = mux_pieces_length(pieces, count), left;
    size_t taken = side->pair->take ? side->pair->take(side, channel, length) : length;

    assert_false(live_user(side, channel)->eof);
    assert_in_range(count, 1, MUX_PIECES_MAX);
    left = taken;
    for (int i = 0; i < count; i++) {
        size_t n = min_size(left, pieces[i].iov_len);

        check_bytes(side, channel, pieces[i].iov_base, n);
        left -= n;
    }
    return taken;
}

static void eof(void *opaque, uint32_t channel)
{
    struct pair_side *side = opaque;
    struct pair_user *user = live_user(side, channel);

    assert_false(user->eof);
    assert_true(pair_other(side)->users[channel].ended);
    assert_int_equal(user->read, pair_other(side)->users[channel].written);
    user->eof = true;
}

static void writable(void *opaque, uint32_t channel)
{
    struct pair_side *side = opaque;

    assert_true(mux_channel_space(side->session, channel) > 0);
    live_user(side, channel)->can_write = true;
}

static void reset(void *opaque, uint32_t channel, uint64_t code, const char *text)
{
    struct pair_side *side = opaque;

    assert_non_null(text);
    live_user(side, channel)->reset = true;
    if (code == BS_RESET_CLOSED) {
        side->users[channel].open = false;
        side->users[channel].forgotten = true;
    }
}

static void forgotten(void *opaque, uint32_t channel)
{
    struct pair_side *side = opaque;

    assert_true(side->users[channel].open);
    assert_false(side->closed);
    side->users[channel].open = false;
    side->users[channel].forgotten = true;
}

static void closed(void *opaque, uint64_t code, const char *text)
{
    struct pair_side *side = opaque;

    assert_false(side->closed);
    side->closed = true;
    side->close_code = code;
    snprintf(side->close_text, sizeof side->close_text, "%s", text);
}

/* ---- making
 * -------------------------------------------------------------------------------------- */

struct pair_side *pair_other(const struct pair_side *side)
{
    return &side->pair->sides[!side->index];
}

struct pair *pair_new(const struct mux_config *config, uint64_t acceptor_memory)
{
    struct pair *pair = calloc(1, sizeof *pair);

    assert_non_null(pair);
    pair->callbacks = (struct mux_callbacks){opened, data, eof, writable, reset, forgotten, closed};
    pair->now = 5000000000;
    for (int i = 0; i < 2; i++) {
        struct mux_config own = *config;
        struct pair_side *side = &pair->sides[i];

        own.opener = i == 0;
        own.callbacks = &pair->callbacks;
        own.opaque = side;
        if (i == 1) {
            own.local = config->remote;
            own.remote = config->local;
            own.memory = acceptor_memory;
        }
        side->pair = pair;
        side->index = i;
        side->users[0] = (struct pair_user){.open = true, .can_write = true};
        side->session = mux_session_new(&own, pair->now);
        assert_non_null(side->session);
    }
    return pair;
}

void pair_free(struct pair *pair)
{
    for (int i = 0; i < 2; i++) {
        mux_session_free(pair->sides[i].session);
        free(pair->sides[i].link);
    }
    free(pair);
}

/* ---- doing
 * ---------------------------------------------------------------------------------------- */

uint32_t pair_open(struct pair_side *side, uint64_t plan, uint64_t plan_back)
{
    uint32_t channel;
    int r = mux_channel_open(side->session, "nbd/vda", &channel);

    if (r == -EMFILE)
        return 0;
    assert_int_equal(r, 0);
    assert_true(channel < PAIR_CHANNELS);
    side->users[channel] = (struct pair_user){.open = true, .can_write = true, .plan = plan};
    pair_other(side)->plan_of_peers = plan_back;
    if (channel > side->highest)
        side->highest = channel;
    return channel;
}

static bool is_live(const struct pair_side *side, uint32_t channel)
{
    const struct pair_user *user = &side->users[channel];

    return user->open && !user->reset && !side->closed;
}

bool pair_write(struct pair_side *side, uint32_t channel, size_t most)
{
    struct pair_user *user = &side->users[channel];
    struct iovec iov[2];
    size_t length;
    int parts;

    if (!is_live(side, channel) || user->ended)
        return false;
    if (user->written == user->plan) {
        if (channel == 0)
            return false;
        mux_channel_end(side->session, channel);
        user->ended = true;
        return true;
    }
    if (!user->can_write)
        return false;
    length = mux_channel_space(side->session, channel);
    if (length == 0) {
        user->can_write = false;
        return false;
    }
    length = min_size(min_size(length, most), (size_t)(user->plan - user->written));
    parts = mux_channel_reserve(side->session, channel, length, iov);
    assert_in_range(parts, 1, 2);
    for (int i = 0; i < parts; i++)
        for (size_t j = 0; j < iov[i].iov_len; j++)
            ((uint8_t *)iov[i].iov_base)[j] = pattern(side, channel, user->written++);
    mux_channel_commit(side->session, channel, length);
    return true;
}

bool pair_read(struct pair_side *side, uint32_t channel, size_t most)
{
    struct pair_user *user = &side->users[channel];
    struct iovec iov[2];
    size_t left = most;
    int parts;

    if (!is_live(side, channel))
        return false;
    if (user->eof && !user->eof_taken) {
        mux_channel_eof_taken(side->session, channel);
        user->eof_taken = true;
        return true;
    }
    parts = mux_channel_peek(side->session, channel, iov);
    for (int i = 0; i < parts; i++) {
        size_t n = min_size(left, iov[i].iov_len);

        check_bytes(side, channel, iov[i].iov_base, n);
        left -= n;
    }
    mux_channel_consume(side->session, channel, most - left);
    return most > left;
}

bool pair_send(struct pair_side *side, size_t buffer_size)
{
    bool urgent;
    size_t n;

    if (!mux_session_wants_send(side->session))
        return false;
    while (side->link_size - side->link_used < buffer_size) {
        side->link_size = side->link_size ? 2 * side->link_size : 65536;
        side->link = realloc(side->link, side->link_size);
        assert_non_null(side->link);
    }
    n = mux_session_send(side->session, side->link + side->link_used, buffer_size, side->pair->now,
                         &urgent);
    assert_in_range(n, 0, buffer_size);
    side->link_used += n;
    return true;
}

bool pair_deliver(struct pair_side *from, size_t most)
{
    struct pair_side *to = pair_other(from);
    size_t n = min_size(most, from->link_used);

    if (n == 0)
        return false;
    if (mux_session_receive(to->session, from->link, n, from->pair->now) < 0)
        fail_msg("violation: %s", to->close_text);
    memmove(from->link, from->link + n, from->link_used - n);
    from->link_used -= n;
    return true;
}

bool pair_tick(struct pair_side *side)
{
    if (mux_session_deadline(side->session) > side->pair->now)
        return false;
    assert_int_equal(mux_session_tick(side->session, side->pair->now), 0);
    return true;
}

void pair_reset(struct pair_side *side, uint32_t channel)
{
    if (channel == 0 || !is_live(side, channel))
        return;
    mux_channel_reset(side->session, channel, BS_RESET_CANCELLED, "given up");
    side->users[channel].reset = true;
}

/* ---- checking
 * --------------------------------------------------------------------------------------- */

static void check_side(const struct pair_side *side)
{
    const struct mux_session *session = side->session;
    uint64_t sent = 0, granted = 0;
    uint32_t channels = 0;

    for (uint32_t i = 0; i <= session->bucket_mask; i++)
        for (const struct mux_channel *c = session->buckets[i]; c; c = c->next) {
            channels += c->number != 0;
            if (c->reset != MUX_RESET_NONE) {
                assert_null(c->in.data);
                assert_null(c->out.data);
                continue;
            }
            assert_int_equal(c->out.size, c->queued - c->acked);
            assert_int_equal(c->in.size, c->received - c->taken);
            assert_true(c->queued <= c->send_limit && c->received <= c->receive_limit);
            sent += c->out.size;
            granted += c->receive == MUX_RECEIVE_OPEN ? c->receive_limit - c->taken : c->in.size;
        }
    assert_int_equal(session->send_pool.used, sent);
    assert_int_equal(session->receive_pool.used, granted);
    assert_int_equal(channels, session->ours + session->theirs);
    assert_true(sent <= session->config.memory);
    assert_true(granted <= session->config.memory);
    assert_true(session->ours <= session->config.remote.channels);
    assert_true(session->theirs <= session->config.local.channels);
}

void pair_check(const struct pair *pair)
{
    check_side(&pair->sides[0]);
    check_side(&pair->sides[1]);
}

/* ---- running
 * ---------------------------------------------------------------------------------------- */

static bool run_side(struct pair_side *side)
{
    bool did = pair_tick(side);

    for (uint32_t c = 0; c <= side->highest; c++) {
        did |= pair_write(side, c, SIZE_MAX);
        did |= pair_read(side, c, SIZE_MAX);
    }
    did |= pair_send(side, 256 * 1024);
    did |= pair_deliver(side, SIZE_MAX);
    return did;
}

void pair_run(struct pair *pair)
{
    uint64_t far = pair->now + 60 * UINT64_C(1000000000);

    for (;;) {
        bool did = run_side(&pair->sides[0]);
        uint64_t next;

        did |= run_side(&pair->sides[1]);
        if (did)
            continue;
        next = min_u64(mux_session_deadline(pair->sides[0].session),
                       mux_session_deadline(pair->sides[1].session));
        if (next > far)
            return;
        pair->now = next;
    }
}

void pair_check_finished(const struct pair *pair)
{
    for (int i = 0; i < 2; i++) {
        const struct pair_side *side = &pair->sides[i], *other = pair_other(side);

        for (uint32_t c = 0; c <= side->highest; c++) {
            const struct pair_user *user = &side->users[c];

            if (c > 0 && user->open)
                fail_msg("channel %u of side %d is not forgotten: %llu of %llu written", c, i,
                         (unsigned long long)user->written, (unsigned long long)user->plan);
            if (user->reset || other->users[c].reset)
                continue;
            assert_int_equal(user->written, user->plan);
            assert_int_equal(user->read, other->users[c].plan);
            if (user->forgotten)
                assert_true(user->ended && user->eof_taken);
        }
    }
}
