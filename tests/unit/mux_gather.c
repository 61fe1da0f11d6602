/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* DATA of one input is offered to each channel at once, and before whatever is about it. */
#include "config.h"

#include "tests/unit/mux_wire.h"
#include "tests/unit/unit.h"

#include <errno.h>

struct input {
    struct wire *w;
    uint8_t bytes[65536];
    size_t length;
    uint64_t offsets[8];
};

static struct wire *wire_with_channels(void)
{
    struct mux_config config = wire_config(true);
    struct wire *w;

    config.local.first_window = 10000;
    config.memory = 1 << 20;
    w = wire_new_with(config);
    for (int i = 0; i < 3; i++)
        wire_open(w);
    return w;
}

static void add(struct input *input, enum bs_frame_type type, uint32_t channel, uint64_t offset,
                size_t length)
{
    static const uint8_t data[4096];
    const struct bs_frame frame = {.type = type,
                                   .channel = channel,
                                   .offset = offset,
                                   .limit = type == BS_FRAME_RESET ? BS_RESET_BROKEN : 0};

    input->length += wire_encode(input->bytes + input->length, &frame, data, length);
}

static void add_data(struct input *input, uint32_t channel, size_t length)
{
    add(input, BS_FRAME_DATA, channel, input->offsets[channel], length);
    input->offsets[channel] += length;
}

static void say(struct input *input, int expected, const char *events)
{
    assert_int_equal(wire_say_bytes(input->w, input->bytes, input->length), expected);
    assert_string_equal(wire_events(input->w), events);
    input->length = 0;
}

static void test_each_channel_once(void **state)
{
    struct input input = {.w = wire_with_channels()};

    (void)state;
    for (size_t i = 1; i <= 3; i++) {
        add_data(&input, 1, i);
        add_data(&input, 5, 100 * i);
        add_data(&input, 3, 10 * i);
    }
    say(&input, 0, "data 1 +6\ndata 5 +600\ndata 3 +60\n");
    add_data(&input, 3, 7);
    say(&input, 0, "data 3 +7\n");
    wire_free(input.w);
}

/* The rest of what the socket doesn't take keeps its order, whichever piece it begins in. */
static void test_some_is_taken(void **state)
{
    struct input input = {.w = wire_with_channels()};
    struct iovec rest[2];

    (void)state;
    for (size_t take = 0; take <= 30; take++) {
        int parts;

        input.w->take = take;
        for (int i = 0; i < 3; i++)
            add_data(&input, 1, 10);
        say(&input, 0, "data 1 +30\n");
        parts = mux_channel_peek(input.w->session, 1, rest);
        assert_int_equal(parts ? rest[0].iov_len + (parts > 1 ? rest[1].iov_len : 0) : 0,
                         30 - take);
        mux_channel_consume(input.w->session, 1, 30 - take);
    }
    wire_free(input.w);
}

static void test_the_end_comes_behind(void **state)
{
    struct input input = {.w = wire_with_channels()};

    (void)state;
    add_data(&input, 1, 5);
    add_data(&input, 3, 6);
    add(&input, BS_FRAME_EOF, 1, 5, 0);
    add_data(&input, 3, 7);
    add(&input, BS_FRAME_RESET, 3, 0, 0);
    say(&input, 0, "data 1 +5\ndata 3 +6\neof 1\ndata 3 +7\nreset 3 code 4 \n");
    wire_free(input.w);
}

static void test_what_came_before_a_broken_rule(void **state)
{
    struct input input = {.w = wire_with_channels()};

    (void)state;
    add_data(&input, 1, 5);
    add(&input, BS_FRAME_DATA, 1, 50, 5);
    say(&input, -EPROTO,
        "data 1 +5\nreset 1 code 5 DATA on channel 1: offset 50 where 5 is next\n"
        "reset 3 code 5 DATA on channel 1: offset 50 where 5 is next\n"
        "reset 5 code 5 DATA on channel 1: offset 50 where 5 is next\n"
        "closed code 2 DATA on channel 1: offset 50 where 5 is next\n");
    wire_free(input.w);
}

/* More pieces than are gathered. */
static void test_many_pieces(void **state)
{
    struct input input = {.w = wire_with_channels()};

    (void)state;
    for (int i = 0; i < MUX_PIECES_MAX + 10; i++)
        add_data(&input, 1, 2);
    say(&input, 0, "data 1 +128\ndata 1 +20\n");
    wire_free(input.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_channel_once),
        cmocka_unit_test(test_some_is_taken),
        cmocka_unit_test(test_the_end_comes_behind),
        cmocka_unit_test(test_what_came_before_a_broken_rule),
        cmocka_unit_test(test_many_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
