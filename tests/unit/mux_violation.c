/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Broken rules: each ends the session, at once, with a CLOSE whose text names it, with reset() for what
 * was open and closed() with the same text.
 */
#include "config.h"

#include "tests/unit/mux_wire.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct said {
    enum bs_frame_type type;
    uint32_t channel;
    uint64_t offset, limit;
    const char *text;
};

#define OPEN(channel, name)                \
    {                                      \
        BS_FRAME_OPEN, channel, 0, 0, name \
    }
#define DATA(channel, offset, bytes)             \
    {                                            \
        BS_FRAME_DATA, channel, offset, 0, bytes \
    }
#define LIMIT(channel, received, limit)                \
    {                                                  \
        BS_FRAME_LIMIT, channel, received, limit, NULL \
    }
#define EOF_AT(channel, offset)                \
    {                                          \
        BS_FRAME_EOF, channel, offset, 0, NULL \
    }
#define RESET(channel, code)                   \
    {                                          \
        BS_FRAME_RESET, channel, 0, code, NULL \
    }

#define TEN "0123456789"

/*
 * The session is the opener; the first window is 100 bytes, and 4 channels may be open.  It has
 * opened channel 1 and sent 5 bytes on it.  Of what is said the last frame is the one that breaks a
 * rule.
 */
static const struct violation {
    struct said said[8];
    const char *text;
} violations[] = {
    /* OPEN */
    {{OPEN(3, "a")}, "OPEN of channel 3: the number is not the peer's"},
    {{OPEN(0, "a")}, "OPEN of channel 0: the number is not the peer's"},
    {{OPEN(4, "a"), OPEN(2, "a")}, "OPEN of channel 2: channel 4 was opened before"},
    {{OPEN(2, "a"), OPEN(2, "a")}, "OPEN of channel 2: channel 2 was opened before"},
    {{OPEN(2, "a"), OPEN(4, "a"), OPEN(6, "a"), OPEN(8, "a"), OPEN(10, "a")},
     "OPEN of channel 10: 4 channels are open, no more were allowed"},
    {{OPEN(2, "a"), OPEN(4, "a"), OPEN(6, "a"), OPEN(8, "a"), RESET(2, 1), OPEN(10, "a")},
     "OPEN of channel 10: 4 channels are open, no more were allowed"},
    {{OPEN(2, "a\nb")}, "OPEN of channel 2: the endpoint's name has unprintable characters"},
    {{OPEN(2, "caf\xc3\xa9")}, "OPEN of channel 2: the endpoint's name has unprintable characters"},
    {{OPEN(2, NULL)}, "OPEN on channel 2: 0 bytes behind the header, 1 to 256 belong there"},
    {{{BS_FRAME_OPEN, 2, 1, 0, "a"}}, "OPEN on channel 2: an unused number is not 0"},
    {{{BS_FRAME_OPEN, 2, 0, 1, "a"}}, "OPEN on channel 2: an unused number is not 0"},

    /* DATA */
    {{OPEN(2, "a"), DATA(2, 1, "x")}, "DATA on channel 2: offset 1 where 0 is next"},
    {{OPEN(2, "a"), DATA(2, 0, "x"), DATA(2, 0, "x")},
     "DATA on channel 2: offset 0 where 1 is next"},
    {{DATA(0, 1, "x")}, "DATA on channel 0: offset 1 where 0 is next"},
    {{DATA(1, 5, "x")}, "DATA on channel 1: offset 5 where 0 is next"},
    {{OPEN(2, "a"), DATA(2, 0, TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "x")},
     "DATA on channel 2: 101 bytes at 0 are past the limit of 100"},
    {{OPEN(2, "a"), DATA(2, 0, TEN TEN TEN TEN TEN), DATA(2, 50, TEN TEN TEN TEN TEN "x")},
     "DATA on channel 2: 51 bytes at 50 are past the limit of 100"},
    {{DATA(2, 0, "x")}, "DATA on channel 2, which was never opened"},
    {{DATA(3, 0, "x")}, "DATA on channel 3, which was never opened"},
    {{OPEN(4, "a"), DATA(2, 0, "x")}, "DATA on channel 2, which is finished"},
    {{OPEN(2, "a"), EOF_AT(2, 0), DATA(2, 0, "x")}, "DATA on channel 2 after its EOF"},
    {{RESET(1, 1), DATA(1, 0, "x")}, "DATA on channel 1 after its RESET"},
    {{DATA(1, 0, NULL)}, "DATA on channel 1: 0 bytes behind the header, 1 to 16332 belong there"},
    {{{BS_FRAME_DATA, 1, 0, 1, "x"}}, "DATA on channel 1: an unused number is not 0"},

    /* LIMIT */
    {{LIMIT(1, 6, 100)}, "LIMIT on channel 1: received 6 is above the 5 sent"},
    {{LIMIT(0, 1, 100)}, "LIMIT on channel 0: received 1 is above the 0 sent"},
    {{LIMIT(1, UINT64_MAX, 100)},
     "LIMIT on channel 1: received 18446744073709551615 is above the 5 sent"},
    {{LIMIT(1, 5, 99)}, "LIMIT on channel 1: the limit shrinks from 100 to 99"},
    {{LIMIT(1, 5, 200), LIMIT(1, 5, 199)}, "LIMIT on channel 1: the limit shrinks from 200 to 199"},
    {{LIMIT(1, 5, 200), LIMIT(1, 4, 200)}, "LIMIT on channel 1: received shrinks from 5 to 4"},
    {{LIMIT(2, 0, 100)}, "LIMIT on channel 2, which was never opened"},
    {{{BS_FRAME_LIMIT, 1, 0, 100, "x"}},
     "LIMIT on channel 1: 1 bytes behind the header, 0 to 0 belong there"},

    /* EOF */
    {{EOF_AT(1, 1)}, "EOF on channel 1: offset 1 where 0 is next"},
    {{DATA(1, 0, "xy"), EOF_AT(1, 1)}, "EOF on channel 1: offset 1 where 2 is next"},
    {{EOF_AT(1, 0), EOF_AT(1, 1)}, "EOF on channel 1: offset 1 where 0 is next"},
    {{EOF_AT(0, 0)}, "EOF on channel 0, which ends with the session only"},
    {{EOF_AT(2, 0)}, "EOF on channel 2, which was never opened"},
    {{{BS_FRAME_EOF, 1, 0, 1, NULL}}, "EOF on channel 1: an unused number is not 0"},
    {{{BS_FRAME_EOF, 1, 0, 0, "x"}},
     "EOF on channel 1: 1 bytes behind the header, 0 to 0 belong there"},

    /* RESET */
    {{RESET(0, 1)}, "RESET on channel 0, which ends with the session only"},
    {{RESET(5, 1)}, "RESET on channel 5, which was never opened"},
    {{RESET(1, 0)}, "RESET on channel 1: no code is 0"},
    {{RESET(1, BS_RESET_CLOSED)}, "RESET on channel 1: no code is 5"},
    {{{BS_FRAME_RESET, 1, 1, 1, NULL}}, "RESET on channel 1: an unused number is not 0"},

    /* PING, PONG */
    {{{BS_FRAME_PING, 1, 1, 0, NULL}}, "PING on channel 1: it belongs on channel 0"},
    {{{BS_FRAME_PING, 0, 1, 1, NULL}}, "PING on channel 0: an unused number is not 0"},
    {{{BS_FRAME_PING, 0, 1, 0, "x"}},
     "PING on channel 0: 1 bytes behind the header, 0 to 0 belong there"},
    {{{BS_FRAME_PONG, 1, 1, 0, NULL}}, "PONG on channel 1: it belongs on channel 0"},
    {{{BS_FRAME_PONG, 0, 2, 0, NULL}}, "PONG with token 2, which no PING had"},
    {{{BS_FRAME_PONG, 0, 0, 0, NULL}}, "PONG with token 0, which no PING had"},

    /* CLOSE */
    {{{BS_FRAME_CLOSE, 1, 0, 1, NULL}}, "CLOSE on channel 1: it belongs on channel 0"},
    {{{BS_FRAME_CLOSE, 0, 1, 1, NULL}}, "CLOSE on channel 0: an unused number is not 0"},
    {{OPEN(2, "a"), {BS_FRAME_CLOSE, 0, 0, BS_CLOSE_DONE, NULL}},
     "CLOSE \"done\" while channel 2 is open"},
    {{LIMIT(1, 5, 105), {BS_FRAME_CLOSE, 0, 0, BS_CLOSE_DONE, NULL}},
     "CLOSE \"done\" while channel 1 is open"},

    /* no frame at all */
    {{{(enum bs_frame_type)0, 0, 0, 0, NULL}}, "frame of unknown type 0"},
    {{{(enum bs_frame_type)9, 0, 0, 0, NULL}}, "frame of unknown type 9"},
};

/* The session in W is dead and says why. */
static void check_dead(struct wire *w, const char *text)
{
    char expected[1024];
    const char *events;
    uint32_t channel;

    snprintf(expected, sizeof expected, "closed code 2 %s\n", text);
    events = wire_events(w);
    assert_true(strlen(events) >= strlen(expected));
    assert_string_equal(events + strlen(events) - strlen(expected), expected);
    assert_true(mux_session_wants_send(w->session));
    assert_int_equal(mux_channel_open(w->session, "a", &channel), -EPIPE);
    snprintf(expected, sizeof expected, "CLOSE code 2 %s\n", text);
    assert_string_equal(wire_frames(w), expected);

    /* nothing follows, whatever is said */
    assert_int_equal(wire_say(w, BS_FRAME_PING, 0, 1, 0, NULL), -EPROTO);
    assert_false(mux_session_wants_send(w->session));
    assert_string_equal(wire_frames(w), "");
    assert_string_equal(wire_events(w), "");
    assert_true(mux_session_deadline(w->session) == UINT64_MAX);
}

static struct wire *wire_with_channel(void)
{
    struct wire *w = wire_new(true);

    wire_write(w, wire_open(w), 5);
    assert_string_equal(wire_frames(w), "DATA 1 @0 +5\n");
    return w;
}

static void check_violation(const struct violation *v)
{
    struct wire *w = wire_with_channel();
    size_t i = 0;

    for (; i + 1 < ARRAY_LENGTH(v->said) && v->said[i + 1].type; i++)
        assert_int_equal(wire_say(w, v->said[i].type, v->said[i].channel, v->said[i].offset,
                                  v->said[i].limit, v->said[i].text),
                         0);
    assert_int_equal(wire_say(w, v->said[i].type, v->said[i].channel, v->said[i].offset,
                              v->said[i].limit, v->said[i].text),
                     -EPROTO);
    check_dead(w, v->text);
    wire_free(w);
}

static void test_frames(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(violations); i++)
        check_violation(&violations[i]);
}

/* Channels that were open are reported before the end is. */
static void test_open_channels_are_reset(void **state)
{
    struct wire *w = wire_with_channel();

    (void)state;
    wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "a");
    mux_channel_reset(w->session, 2, BS_RESET_CANCELLED, "known already");
    wire_events(w);
    assert_int_equal(wire_say(w, BS_FRAME_EOF, 0, 0, 0, NULL), -EPROTO);
    assert_string_equal(wire_events(w),
                        "reset 1 code 5 EOF on channel 0, which ends with the session only\n"
                        "closed code 2 EOF on channel 0, which ends with the session only\n");
    wire_free(w);
}

static void test_finished_channel(void **state)
{
    struct wire *w = wire_with_channel();

    (void)state;
    wire_say(w, BS_FRAME_RESET, 1, 0, BS_RESET_BROKEN, NULL);
    wire_frames(w);
    assert_int_equal(wire_say_data(w, 1, 0, 1), -EPROTO);
    check_dead(w, "DATA on channel 1, which is finished");
    wire_free(w);
}

/* Rules that hold also between our RESET and its answer. */
static void test_after_our_reset(void **state)
{
    struct wire *w = wire_with_channel();

    (void)state;
    mux_channel_reset(w->session, 1, BS_RESET_CANCELLED, "");
    assert_int_equal(wire_say_data(w, 1, 0, 60), 0);
    assert_int_equal(wire_say_data(w, 1, 60, 41), -EPROTO);
    check_dead(w, "DATA on channel 1: 41 bytes at 60 are past the limit of 100");
    wire_free(w);
}

/* The peer can't know a channel whose OPEN has not gone out. */
static void test_channel_not_opened_yet(void **state)
{
    struct wire *w = wire_with_channel();
    uint32_t channel;

    (void)state;
    assert_int_equal(mux_channel_open(w->session, "a", &channel), 0);
    assert_int_equal(channel, 3);
    assert_int_equal(wire_say(w, BS_FRAME_RESET, 3, 0, BS_RESET_BROKEN, NULL), -EPROTO);
    check_dead(w, "RESET on channel 3, which was never opened");
    wire_free(w);
}

/* The acknowledgement of our EOF can't be taken back either. */
static void test_limit_takes_eof_back(void **state)
{
    struct wire *w = wire_with_channel();

    (void)state;
    mux_channel_end(w->session, 1);
    assert_string_equal(wire_frames(w), "EOF 1 @5\n");
    assert_int_equal(wire_say(w, BS_FRAME_LIMIT, 1, 6, 100, NULL), 0);
    assert_int_equal(wire_say(w, BS_FRAME_LIMIT, 1, 6, 100, NULL), 0);
    assert_int_equal(wire_say(w, BS_FRAME_LIMIT, 1, 5, 100, NULL), -EPROTO);
    check_dead(w, "LIMIT on channel 1: received shrinks from 6 to 5");
    wire_free(w);
}

static void test_limit_acknowledges_eof_not_sent(void **state)
{
    struct wire *w = wire_with_channel();

    (void)state;
    mux_channel_end(w->session, 1);
    assert_int_equal(wire_say(w, BS_FRAME_LIMIT, 1, 6, 100, NULL), -EPROTO);
    check_dead(w, "LIMIT on channel 1: received 6 is above the 5 sent");
    wire_free(w);
}

static void test_over_long(void **state)
{
    static char text[BS_TEXT_MAX + 2];
    struct wire *w = wire_with_channel();

    (void)state;
    memset(text, 't', sizeof text - 1);
    assert_int_equal(wire_say(w, BS_FRAME_RESET, 1, 0, 1, text), -EPROTO);
    check_dead(w, "RESET on channel 1: 4097 bytes behind the header, 0 to 4096 belong there");
    wire_free(w);

    w = wire_with_channel();
    text[BS_ENDPOINT_MAX + 1] = '\0';
    assert_int_equal(wire_say(w, BS_FRAME_OPEN, 2, 0, 0, text), -EPROTO);
    check_dead(w, "OPEN on channel 2: 257 bytes behind the header, 1 to 256 belong there");
    wire_free(w);
}

/* A name that hides something behind a NUL. */
static void test_nul_in_name(void **state)
{
    const struct bs_frame frame = {.type = BS_FRAME_OPEN, .channel = 2};
    struct wire *w = wire_with_channel();
    uint8_t message[100];

    (void)state;
    assert_int_equal(wire_say_bytes(w, message, wire_encode(message, &frame, "a\0b", 3)), -EPROTO);
    check_dead(w, "OPEN of channel 2: the endpoint's name has unprintable characters");
    wire_free(w);
}

/* ---- messages that are no frames of this session ----------------------------------------------------- */

static void put(uint8_t *message, size_t word, uint32_t value)
{
    for (size_t i = 0; i < 4; i++)
        message[4 * word + i] = (uint8_t)(value >> (24 - 8 * i));
}

/* A PING whose WORDth word (0: length) is VALUE. */
static void check_header(size_t word, uint32_t value, const char *text)
{
    const struct bs_frame frame = {.type = BS_FRAME_PING, .offset = 1};
    struct wire *w = wire_with_channel();
    uint8_t message[RPC_FRAME_OVERHEAD];

    wire_encode(message, &frame, NULL, 0);
    put(message, word, value);
    assert_int_equal(wire_say_bytes(w, message, sizeof message), -EPROTO);
    check_dead(w, text);
    wire_free(w);
}

static void test_headers(void **state)
{
    static const char undecodable[] = "message with an impossible length, type or status";

    (void)state;
    check_header(0, 27, undecodable);
    check_header(0, 16385, undecodable);
    check_header(0, 28, "frame of 0 bytes, shorter than its header");
    check_header(0, 51, "frame of 23 bytes, shorter than its header");
    check_header(1, 0x20008086,
                 "message that is no frame (program 536903814 version 1 "
                 "procedure 2 type 3 status 2)");
    check_header(2, 2,
                 "message that is no frame (program 536906517 version 2 procedure 2 type 3 "
                 "status 2)");
    check_header(3, 1,
                 "message that is no frame (program 536906517 version 1 procedure 1 type 3 "
                 "status 2)");
    check_header(4, 0,
                 "message that is no frame (program 536906517 version 1 procedure 2 type 0 "
                 "status 2)");
    check_header(4, 4, undecodable);
    check_header(5, 76, "frame with serial 76 in a session of serial 77");
    check_header(6, 0,
                 "message that is no frame (program 536906517 version 1 procedure 2 type 3 "
                 "status 0)");
    check_header(6, 3, undecodable);
}

static void test_keepalive(void **state)
{
    static const uint8_t strange[][28] = {
        {0, 0, 0, 28, 0x6b, 0x65, 0x65, 0x70, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2},
        {0, 0, 0, 28, 0x6b, 0x65, 0x65, 0x70, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 2},
        {0, 0, 0, 28, 0x6b, 0x65, 0x65, 0x70, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0},
        {0, 0, 0, 32, 0x6b, 0x65, 0x65, 0x70, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(strange); i++) {
        struct wire *w = wire_with_channel();

        assert_int_equal(wire_say_bytes(w, strange[i], sizeof strange[i]), -EPROTO);
        check_dead(w, "message of the keepalive program that is neither its PING nor its PONG");
        wire_free(w);
    }
}

/* ---- after CLOSE ------------------------------------------------------------------------------------ */

static void test_frame_after_close(void **state)
{
    struct wire *w = wire_with_channel();

    (void)state;
    assert_int_equal(wire_say(w, BS_FRAME_CLOSE, 0, 0, BS_CLOSE_CANCELLED, "enough"), 0);
    assert_string_equal(wire_events(w), "reset 1 code 5 enough\nclosed code 1 enough\n");
    assert_int_equal(wire_say(w, BS_FRAME_PING, 0, 1, 0, NULL), -EPROTO);
    assert_string_equal(wire_events(w), "");
    assert_string_equal(wire_frames(w), "CLOSE code 2 message after CLOSE\n");
    wire_free(w);

    /* our answer has gone out: nothing can be said about it any more */
    w = wire_with_channel();
    wire_say(w, BS_FRAME_CLOSE, 0, 0, BS_CLOSE_CANCELLED, "enough");
    assert_string_equal(wire_frames(w), "CLOSE code 1 \n");
    assert_int_equal(wire_say(w, BS_FRAME_PING, 0, 1, 0, NULL), -EPROTO);
    assert_string_equal(wire_frames(w), "");
    wire_free(w);
}

/* A rule is broken while we wait for the answer to our CLOSE. */
static void test_violation_while_closing(void **state)
{
    struct wire *w = wire_with_channel();

    (void)state;
    mux_session_close(w->session, BS_CLOSE_CANCELLED, "enough");
    assert_string_equal(wire_frames(w), "CLOSE code 1 enough\n");
    wire_events(w);
    assert_int_equal(wire_say(w, (enum bs_frame_type)9, 0, 0, 0, NULL), -EPROTO);
    assert_string_equal(wire_events(w), "closed code 2 frame of unknown type 9\n");
    assert_string_equal(wire_frames(w), "");
    wire_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_open_channels_are_reset),
        cmocka_unit_test(test_finished_channel),
        cmocka_unit_test(test_after_our_reset),
        cmocka_unit_test(test_channel_not_opened_yet),
        cmocka_unit_test(test_limit_takes_eof_back),
        cmocka_unit_test(test_limit_acknowledges_eof_not_sent),
        cmocka_unit_test(test_over_long),
        cmocka_unit_test(test_nul_in_name),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_keepalive),
        cmocka_unit_test(test_frame_after_close),
        cmocka_unit_test(test_violation_while_closing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
