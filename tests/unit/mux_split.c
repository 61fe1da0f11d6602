/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Splits: a stream with every type of frame, keepalive between them, cut at every point in turn and
 * into single bytes, does what it does in one piece.  And garbage: a stream damaged anywhere ends the
 * session, if at all, as a broken rule does.
 */
#include "config.h"

#include "tests/unit/mux_wire.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct stream {
    uint8_t bytes[4096];
    size_t length;
};

static void add(struct stream *s, enum bs_frame_type type, uint32_t channel, uint64_t offset,
                uint64_t limit, const char *text)
{
    const struct bs_frame frame = {type, channel, offset, limit};

    s->length += wire_encode(s->bytes + s->length, &frame, text, strlen(text));
}

/* What a peer may say to a session that has opened channel 1, sent 5 bytes on it and ended it. */
static void make_stream(struct stream *s)
{
    static const uint8_t keepalive[28] = {0, 0, 0, 28, 0x6b, 0x65, 0x65, 0x70, 0, 0,
                                          0, 1, 0, 0,  0,    1,    0,    0,    0, 2};

    s->length = 0;
    add(s, BS_FRAME_OPEN, 2, 0, 0, "nbd/vda");
    add(s, BS_FRAME_DATA, 2, 0, 0, "0123456789");
    memcpy(s->bytes + s->length, keepalive, sizeof keepalive);
    s->length += sizeof keepalive;
    add(s, BS_FRAME_LIMIT, 1, 6, 100, "");
    add(s, BS_FRAME_PING, 0, 1234567, 0, "");
    add(s, BS_FRAME_PONG, 0, 1, 0, "");
    add(s, BS_FRAME_DATA, 1, 0, 0, "0123456789012345678901234567890123456789");
    add(s, BS_FRAME_DATA, 2, 10, 0, "x");
    add(s, BS_FRAME_EOF, 1, 40, 0, "");
    add(s, BS_FRAME_DATA, 0, 0, 0, "a call");
    add(s, BS_FRAME_OPEN, 6, 0, 0, "a");
    add(s, BS_FRAME_RESET, 2, 0, BS_RESET_BROKEN, "the socket broke");
    add(s, BS_FRAME_CLOSE, 0, 0, BS_CLOSE_CANCELLED, "enough");
}

struct outcome {
    int result;
    char events[4096]; /* without data() */
    char frames[4096];
    uint64_t received[3]; /* on channels 0 to 2, as data() said */
};

/* data() comes in other pieces when the stream does; what counts is the sum. */
static void note_events(const char *events, struct outcome *ret)
{
    while (*events) {
        const char *end = strchr(events, '\n') + 1;

        if (strncmp(events, "data ", 5) == 0) {
            char *rest;
            unsigned long channel = strtoul(events + 5, &rest, 10);

            assert_true(channel <= 2);
            ret->received[channel] += strtoul(rest + 2, NULL, 10);
        } else {
            strncat(ret->events, events, (size_t)(end - events));
        }
        events = end;
    }
}

static struct wire *wire_prepared(void)
{
    struct wire *w = wire_new(true);

    wire_write(w, wire_open(w), 5);
    mux_channel_end(w->session, 1);
    wire_frames(w);
    return w;
}

static void run(const struct stream *s, size_t first, size_t step, struct outcome *ret)
{
    struct wire *w = wire_prepared();
    size_t done = 0, n = first;

    memset(ret, 0, sizeof *ret);
    while (done < s->length && ret->result == 0) {
        n = n < s->length - done ? n : s->length - done;
        ret->result = wire_say_bytes(w, s->bytes + done, n);
        done += n;
        n = step;
    }
    note_events(wire_events(w), ret);
    strcat(ret->frames, wire_frames(w));
    wire_free(w);
}

static void test_every_split(void **state)
{
    struct stream s;
    struct outcome whole, split;

    (void)state;
    make_stream(&s);
    run(&s, s.length, s.length, &whole);
    assert_int_equal(whole.result, 0);
    assert_string_equal(whole.events, "opened 2 nbd/vda\neof 1\nopened 6 a\n"
                                      "reset 2 code 4 the socket broke\n"
                                      "reset 1 code 5 enough\nreset 6 code 5 enough\n"
                                      "closed code 1 enough\n");
    assert_string_equal(whole.frames, "CLOSE code 1 \n");
    assert_int_equal(whole.received[0], 6);
    assert_int_equal(whole.received[1], 40);
    assert_int_equal(whole.received[2], 11);

    for (size_t i = 0; i < s.length; i++) { /* 0: single bytes */
        run(&s, i ? i : 1, i ? s.length : 1, &split);
        assert_int_equal(split.result, 0);
        assert_string_equal(split.events, whole.events);
        assert_string_equal(split.frames, whole.frames);
        assert_memory_equal(split.received, whole.received, sizeof whole.received);
    }
}

/* Without CLOSE at its end, so that what is answered shows. */
static void test_every_split_is_answered_alike(void **state)
{
    struct stream s;
    struct outcome whole, split;

    (void)state;
    make_stream(&s);
    s.length -= RPC_FRAME_OVERHEAD + strlen("enough");
    run(&s, s.length, s.length, &whole);
    assert_string_equal(whole.frames, "KEEPALIVE\n"
                                      "PONG 1234567\n"
                                      "LIMIT 1 received 40 limit 100\n"
                                      "RESET 2 code 4 \n");
    for (size_t i = 1; i < s.length; i++) {
        run(&s, i, 7, &split);
        assert_string_equal(split.frames, whole.frames);
    }
}

/* Every byte of the stream changed in several ways: no crash, and an end that says why or none. */
static void test_damaged_streams(void **state)
{
    static const uint8_t changes[] = {0x01, 0x80, 0xff, 0x7f};
    struct stream good, bad;
    struct outcome outcome;

    (void)state;
    make_stream(&good);
    for (size_t i = 0; i < good.length; i++)
        for (size_t j = 0; j < ARRAY_LENGTH(changes); j++) {
            bad = good;
            bad.bytes[i] ^= changes[j];
            run(&bad, bad.length, bad.length, &outcome);
            if (outcome.result == 0)
                continue;
            assert_int_equal(outcome.result, -EPROTO);
            assert_non_null(strstr(outcome.events, "closed code "));
        }
}

/* Frames of random types with small random numbers, as a peer that knows the format but no rule. */
static void test_random_frames(void **state)
{
    uint64_t x = 88172645463325252u;

    (void)state;
    for (int i = 0; i < 3000; i++) {
        struct wire *w = wire_prepared();
        int r = 0;

        for (int j = 0; j < 30 && r == 0; j++) {
            uint64_t offset, limit;
            uint32_t type, channel;

            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            type = 1 + (uint32_t)(x % 64) % 8;
            channel = (uint32_t)(x >> 8) % 7;
            offset = type == BS_FRAME_OPEN || type >= BS_FRAME_RESET ? 0 : (x >> 16) % 3;
            limit = type == BS_FRAME_LIMIT ? 100 : type >= BS_FRAME_RESET ? (x >> 24) % 3 : 0;
            r = wire_say(w, (enum bs_frame_type)type, channel, offset, limit,
                         (x >> 32) % 2 ? "x" : NULL);
            if ((x >> 40) % 3 == 0)
                wire_frames(w);
        }
        if (r < 0)
            assert_non_null(strstr(wire_events(w), "closed code "));
        wire_free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split),
        cmocka_unit_test(test_every_split_is_answered_alike),
        cmocka_unit_test(test_damaged_streams),
        cmocka_unit_test(test_random_frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
