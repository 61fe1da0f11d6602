/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Flow over links with a rate and a delay: the window must not be what limits the rate, and bulk must
 * not be what others wait for.  Both ends run in steps; what a step may carry arrives when the delay is
 * over.  A link may also have a buffer, as sockets have: it takes more than it carries, and that waits.
 */
#include "config.h"

#include "common/checked.h"
#include "mux/session.h"
#include "rpc/protocol.h"
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

enum { STEP_MAX = 2 * 1024 * 1024, BUDGET_MAX = STEP_MAX + BS_FRAME_MESSAGE_MAX, CHANNELS = 4 };

struct piece {
    struct piece *next;
    uint64_t due;
    size_t length;
    uint8_t bytes[];
};

struct end {
    struct link *link;
    struct mux_session *session;
    size_t budget;               /* bytes that the link takes just now */
    size_t waiting;              /* in its buffer */
    struct piece *first, **last; /* on their way from here */
    uint64_t received[2 * CHANNELS];
    uint64_t small_due; /* when the first byte of channel 0 came; 0: not yet */
};

struct link {
    struct end ends[2];
    uint64_t now, delay;
    uint64_t step;   /* ns */
    size_t per_step; /* bytes each way in a step */
    size_t buffer;   /* bytes that it takes ahead */
};

static void opened(void *opaque, uint32_t channel, const char *endpoint)
{
    (void)opaque;
    (void)channel;
    (void)endpoint;
}

static size_t data(void *opaque, uint32_t channel, const struct iovec *pieces, int count)
{
    size_t length = mux_pieces_length(pieces, count);
    struct end *end = opaque;

    end->received[channel] += length;
    if (channel == 0 && end->small_due == 0)
        end->small_due = end->link->now;
    return length;
}

static void on_channel(void *opaque, uint32_t channel)
{
    (void)opaque;
    (void)channel;
}

static void reset(void *opaque, uint32_t channel, uint64_t code, const char *text)
{
    (void)opaque;
    fail_msg("channel %u: reset %llu %s", channel, (unsigned long long)code, text);
}

static void closed(void *opaque, uint64_t code, const char *text)
{
    (void)opaque;
    fail_msg("closed %llu %s", (unsigned long long)code, text);
}

static const struct mux_callbacks callbacks = {
    opened, data, on_channel, on_channel, reset, on_channel, closed,
};

static struct link *link_new(uint64_t rate, uint64_t round_trip, uint64_t memory)
{
    struct link *link = calloc(1, sizeof *link);

    assert_non_null(link);
    link->now = 1000 * MS;
    link->delay = round_trip / 2;
    link->step = MS;
    link->per_step = (size_t)(rate / 1000);
    assert_true(link->per_step <= STEP_MAX);
    for (int i = 0; i < 2; i++) {
        const struct mux_config config = {
            .opener = i == 0,
            .local = {16384, CHANNELS},
            .remote = {16384, CHANNELS},
            .memory = memory,
            .callbacks = &callbacks,
            .opaque = &link->ends[i],
        };

        link->ends[i].link = link;
        link->ends[i].last = &link->ends[i].first;
        link->ends[i].session = mux_session_new(&config, link->now);
        assert_non_null(link->ends[i].session);
    }
    return link;
}

static void link_free(struct link *link)
{
    for (int i = 0; i < 2; i++) {
        for (struct piece *p = link->ends[i].first; p;) {
            struct piece *next = p->next;

            free(p);
            p = next;
        }
        mux_session_free(link->ends[i].session);
    }
    free(link);
}

/* BYTES go out, behind what waits in the buffer. */
static void put(struct end *end, const uint8_t *bytes, size_t length)
{
    struct link *link = end->link;
    struct piece *piece = malloc(sizeof *piece + length);

    assert_non_null(piece);
    *piece =
        (struct piece){.due = link->now + link->delay + end->waiting / link->per_step * link->step,
                       .length = length};
    memcpy(piece->bytes, bytes, length);
    *end->last = piece;
    end->last = &piece->next;
    if (link->buffer > 0)
        end->waiting += length;
}

static void send_step(struct end *end)
{
    static uint8_t buffer[BUDGET_MAX];
    struct link *link = end->link;
    size_t used = 0, n = 1;
    bool urgent;

    end->waiting -= min_size(end->waiting, link->per_step);
    end->budget = link->buffer ? link->buffer - end->waiting : end->budget + link->per_step;
    while (n > 0 && end->budget - used >= BS_FRAME_MESSAGE_MAX) {
        n = mux_session_send(end->session, buffer, BS_FRAME_MESSAGE_MAX, link->now, &urgent);
        if (n > 0)
            put(end, buffer, n);
        used += n;
    }
    end->budget = n > 0 ? end->budget - used : 0; /* what a link was not given is lost */
}

static void deliver_step(struct end *from, struct end *to)
{
    struct piece *piece;

    while ((piece = from->first) && piece->due <= from->link->now) {
        assert_int_equal(
            mux_session_receive(to->session, piece->bytes, piece->length, from->link->now), 0);
        from->first = piece->next;
        if (!from->first)
            from->last = &from->first;
        free(piece);
    }
}

/* As much as may be handed over, on all channels that are there. */
static void write_step(struct end *end, uint32_t channels)
{
    struct iovec iov[2];

    for (uint32_t c = 1; c < 2 * channels; c += 2) {
        size_t space = mux_channel_space(end->session, c);

        if (space == 0)
            continue;
        assert_true(mux_channel_reserve(end->session, c, space, iov) > 0);
        mux_channel_commit(end->session, c, space);
    }
}

static void run(struct link *link, uint32_t channels, uint64_t steps)
{
    for (uint64_t i = 0; i < steps; i++) {
        struct mux_session_stats stats;

        link->now += link->step;
        write_step(&link->ends[0], channels);
        for (int j = 0; j < 2; j++)
            mux_session_tick(link->ends[j].session, link->now);
        send_step(&link->ends[0]);
        send_step(&link->ends[1]);
        deliver_step(&link->ends[0], &link->ends[1]);
        deliver_step(&link->ends[1], &link->ends[0]);
        mux_session_get_stats(link->ends[0].session, &stats);
        assert_true(stats.send_pool <= UINT64_C(64) << 20);
    }
}

static uint64_t received(const struct end *end)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < ARRAY_LENGTH(end->received); i++)
        sum += end->received[i];
    return sum;
}

/* What part of the link's rate arrives once the windows have grown, in percent. */
static uint64_t percent_used(uint64_t rate, uint64_t round_trip, uint32_t channels)
{
    struct link *link = link_new(rate, round_trip, UINT64_C(64) << 20);
    /* A window doubles every other round trip: after 30 it has come to a stop. */
    uint64_t before, result, time = 12 * round_trip / MS;
    uint32_t channel;

    for (uint32_t i = 0; i < channels; i++)
        assert_int_equal(mux_channel_open(link->ends[0].session, "nbd/vda", &channel), 0);
    run(link, channels, 30 * round_trip / MS);
    before = received(&link->ends[1]);
    run(link, channels, time);
    result = (received(&link->ends[1]) - before) * 100 / (link->per_step * time);
    link_free(link);
    return result;
}

static void test_windows_are_not_the_bottleneck(void **state)
{
    (void)state;
    assert_in_range(percent_used(20000000, 100 * MS, 1), 95, 100);
    assert_in_range(percent_used(20000000, 100 * MS, 3), 95, 100);
    assert_in_range(percent_used(125000000, 4 * MS, 1), 95, 100);
    /* what 64 MiB are said to carry */
    assert_in_range(percent_used(125000000, 320 * MS, 1), 95, 100);
    assert_in_range(percent_used(1200000000, 33 * MS, 3), 95, 100);
}

/* A channel that has taken most of the pool leaves others enough to get on. */
static void test_late_channels_get_their_part(void **state)
{
    struct link *link = link_new(20000000, 100 * MS, 64 << 20);
    uint64_t before;
    uint32_t channel;

    (void)state;
    assert_int_equal(mux_channel_open(link->ends[0].session, "nbd/vda", &channel), 0);
    run(link, 1, 3000);
    assert_int_equal(mux_channel_open(link->ends[0].session, "nbd/vdb", &channel), 0);
    run(link, 2, 2000);
    before = link->ends[1].received[channel];
    run(link, 2, 1000);
    /* close to half of 20 MB/s */
    assert_in_range(link->ends[1].received[channel] - before, 9000000, 11000000);
    link_free(link);
}

/* A call on channel 0 waits for no more than what lies on the link already. */
static void test_calls_overtake_bulk(void **state)
{
    struct link *link = link_new(20000000, 10 * MS, 64 << 20);
    uint64_t start;
    uint32_t channel;

    (void)state;
    assert_int_equal(mux_channel_open(link->ends[0].session, "nbd/vda", &channel), 0);
    run(link, 1, 1000);
    assert_int_equal(mux_channel_write(link->ends[0].session, 0, "call", 4), 4);
    start = link->now;
    run(link, 1, 20);
    assert_in_range(link->ends[1].small_due - start, 1, 6 * MS);
    link_free(link);
}

/* Sends a small message on CHANNEL every 5 ms for a second.  Returns how long the slowest of the second
 * half took, in ns. */
static uint64_t slowest_small(struct link *link, uint32_t channel)
{
    uint64_t slowest = 0, written = 0;

    for (uint64_t round = 0; round < 200; round++) {
        uint64_t start = link->now;

        written += 64;
        assert_int_equal(
            mux_channel_write(link->ends[0].session, channel, (const uint8_t[64]){0}, 64), 64);
        while (link->ends[1].received[channel] < written)
            run(link, 1, 1);
        if (round >= 100 && link->now - start > slowest)
            slowest = link->now - start;
        while (link->now - start < 5 * MS)
            run(link, 1, 1);
    }
    return slowest;
}

/* A link whose buffers hold 8 MB ahead: beside small messages bulk doesn't fill them, and still all that
 * the link carries is used. */
static void small_beside_bulk(uint64_t rate, uint64_t round_trip, uint64_t most)
{
    struct link *link = link_new(rate, round_trip, UINT64_C(64) << 20);
    uint64_t before, start, slowest;
    uint32_t bulk, small;

    link->step = MS / 20;
    link->per_step = (size_t)(rate / 20000);
    link->buffer = 8000000;
    assert_int_equal(mux_channel_open(link->ends[0].session, "nbd/vda", &bulk), 0);
    assert_int_equal(mux_channel_open(link->ends[0].session, "nbd/vdb", &small), 0);
    run(link, 1, 20000);
    before = received(&link->ends[1]);
    start = link->now;
    slowest = slowest_small(link, small);
    assert_in_range(slowest, round_trip / 2, most);
    assert_in_range((received(&link->ends[1]) - before) * 100 /
                        ((link->now - start) / link->step * link->per_step),
                    85, 110); /* what waited in the buffer comes on top */
    link_free(link);
}

static void test_small_beside_bulk(void **state)
{
    (void)state;
    small_beside_bulk(1200000000, MS / 10, MS);
    small_beside_bulk(125000000, MS / 2, 4 * MS);
    small_beside_bulk(125000000, 20 * MS, 40 * MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows_are_not_the_bottleneck),
        cmocka_unit_test(test_late_channels_get_their_part),
        cmocka_unit_test(test_calls_overtake_bulk),
        cmocka_unit_test(test_small_beside_bulk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
