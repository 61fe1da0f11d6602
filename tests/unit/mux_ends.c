/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Ends of a channel: each half for itself, RESET, and when a channel is forgotten. */
#include "config.h"

#include "tests/unit/mux_pair.h"
#include "tests/unit/mux_wire.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

static uint32_t channels_of(const struct mux_session *session)
{
    struct mux_session_stats stats;

    mux_session_get_stats(session, &stats);
    return stats.channels;
}

/* ---- opening ------------------------------------------------------------------------------------- */

static void test_numbers(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t a, b;

    (void)state;
    assert_int_equal(mux_channel_open(w->session, "migration", &a), 0);
    assert_int_equal(mux_channel_open(w->session, "unix:/run/a b", &b), 0);
    assert_int_equal(a, 1);
    assert_int_equal(b, 3);
    assert_string_equal(wire_frames(w), "OPEN 1 migration\nOPEN 3 unix:/run/a b\n");
    assert_true(w->urgent);
    wire_free(w);

    w = wire_new(false);
    assert_int_equal(wire_open(w), 2);
    assert_int_equal(wire_open(w), 4);
    wire_free(w);
}

static void test_open_refused(void **state)
{
    struct wire *w = wire_new(true);
    char name[BS_ENDPOINT_MAX + 2];
    uint32_t channel = 99;

    (void)state;
    memset(name, 'n', sizeof name - 1);
    name[BS_ENDPOINT_MAX + 1] = '\0';
    assert_int_equal(mux_channel_open(w->session, name, &channel), -EINVAL);
    assert_int_equal(mux_channel_open(w->session, "", &channel), -EINVAL);
    assert_int_equal(mux_channel_open(w->session, "a\nb", &channel), -EINVAL);
    assert_int_equal(mux_channel_open(w->session, "caf\xc3\xa9", &channel), -EINVAL);
    assert_int_equal(channel, 99);
    name[BS_ENDPOINT_MAX] = '\0';
    assert_int_equal(mux_channel_open(w->session, name, &channel), 0);
    for (int i = 0; i < 3; i++)
        wire_open(w);
    assert_int_equal(mux_channel_open(w->session, "one more", &channel), -EMFILE);

    /* A channel that is finished makes room for another. */
    wire_say(w, BS_FRAME_RESET, 1, 0, BS_RESET_BROKEN, NULL);
    assert_int_equal(mux_channel_open(w->session, "one more", &channel), -EMFILE);
    wire_frames(w);
    assert_int_equal(mux_channel_open(w->session, "one more", &channel), 0);
    assert_int_equal(channel, 9);
    wire_free(w);
}

static void test_data_follows_open_at_once(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t channel;

    (void)state;
    assert_int_equal(mux_channel_open(w->session, "nbd/vda", &channel), 0);
    assert_int_equal(mux_channel_space(w->session, channel), 100);
    wire_write(w, channel, 30);
    mux_channel_end(w->session, channel);
    assert_string_equal(wire_frames(w), "OPEN 1 nbd/vda\nDATA 1 @0 +30\nEOF 1 @30\n");
    wire_free(w);
}

/* ---- EOF -------------------------------------------------------------------------------------------- */

/* EOF is acknowledged once the local socket has taken every byte and the shutdown(2), not before. */
static void test_eof_acknowledged_when_taken(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    w->take = 0;
    wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "nbd/vda");
    wire_say_data(w, 2, 0, 10);
    wire_say(w, BS_FRAME_EOF, 2, 10, 0, NULL);
    assert_string_equal(wire_events(w), "opened 2 nbd/vda\ndata 2 +10\n");
    mux_channel_eof_taken(w->session, 2); /* it can't have been */
    assert_string_equal(wire_frames(w), "");
    mux_channel_consume(w->session, 2, 9);
    assert_string_equal(wire_events(w), "");
    mux_channel_consume(w->session, 2, 1);
    assert_string_equal(wire_events(w), "eof 2\n");
    assert_string_equal(wire_frames(w), "");
    mux_channel_eof_taken(w->session, 2);
    assert_string_equal(wire_frames(w), "LIMIT 2 received 11 limit 100\n");
    mux_channel_eof_taken(w->session, 2);
    assert_string_equal(wire_frames(w), "");
    wire_free(w);
}

static void test_eof_said_again_is_harmless(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "nbd/vda");
    for (int i = 0; i < 2; i++)
        assert_int_equal(wire_say(w, BS_FRAME_EOF, 2, 0, 0, NULL), 0);
    mux_channel_eof_taken(w->session, 2);
    assert_string_equal(wire_frames(w), "LIMIT 2 received 1 limit 100\n");
    assert_int_equal(wire_say(w, BS_FRAME_EOF, 2, 0, 0, NULL), 0);
    assert_string_equal(wire_events(w), "opened 2 nbd/vda\neof 2\n");
    assert_string_equal(wire_frames(w), "");

    mux_channel_end(w->session, 2);
    mux_channel_end(w->session, 2);
    assert_string_equal(wire_frames(w), "EOF 2 @0\n");
    wire_free(w);
}

/* The other half goes on as if nothing had happened. */
static void test_half_closed_still_carries(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t c = wire_open(w);

    (void)state;
    wire_say(w, BS_FRAME_EOF, c, 0, 0, NULL);
    mux_channel_eof_taken(w->session, c);
    wire_write(w, c, 100);
    assert_string_equal(wire_frames(w), "LIMIT 1 received 1 limit 100\nDATA 1 @0 +100\n");
    wire_say(w, BS_FRAME_LIMIT, c, 100, 200, NULL);
    wire_write(w, c, 5);
    mux_channel_end(w->session, c);
    assert_int_equal(mux_channel_space(w->session, c), 0);
    assert_int_equal(mux_channel_write(w->session, c, "x", 1), -EPIPE);
    assert_string_equal(wire_frames(w), "DATA 1 @100 +5\nEOF 1 @105\n");
    wire_say(w, BS_FRAME_LIMIT, c, 106, 200, NULL);
    assert_string_equal(wire_events(w), "eof 1\nwritable 1\nforgotten 1\n");
    wire_free(w);
}

/* Forgotten when our EOF is acknowledged, the peer's was taken, and that has been said. */
static void test_forgotten_only_when_the_acknowledgement_went(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t c = wire_open(w);

    (void)state;
    mux_channel_end(w->session, c);
    assert_string_equal(wire_frames(w), "EOF 1 @0\n");
    wire_say(w, BS_FRAME_LIMIT, c, 1, 100, NULL);
    wire_say(w, BS_FRAME_EOF, c, 0, 0, NULL);
    assert_string_equal(wire_events(w), "eof 1\n");
    mux_channel_eof_taken(w->session, c);
    assert_string_equal(wire_events(w), "");
    assert_int_equal(channels_of(w->session), 1);
    assert_string_equal(wire_frames(w), "LIMIT 1 received 1 limit 100\n");
    assert_string_equal(wire_events(w), "forgotten 1\n");
    assert_int_equal(channels_of(w->session), 0);
    wire_free(w);
}

/* ---- forgotten channels ------------------------------------------------------------------------------- */

static void test_nothing_is_answered_for_a_forgotten_channel(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t c = wire_open(w);

    (void)state;
    wire_say(w, BS_FRAME_RESET, c, 0, BS_RESET_BROKEN, "x");
    wire_frames(w);
    wire_events(w);
    assert_int_equal(wire_say(w, BS_FRAME_LIMIT, c, 70, 170, NULL), 0);
    assert_int_equal(wire_say(w, BS_FRAME_EOF, c, 7, 0, NULL), 0);
    assert_int_equal(wire_say(w, BS_FRAME_RESET, c, 0, BS_RESET_BROKEN, "again"), 0);
    assert_string_equal(wire_frames(w), "");
    assert_string_equal(wire_events(w), "");

    mux_channel_end(w->session, c);
    mux_channel_reset(w->session, c, BS_RESET_CANCELLED, "gone already");
    mux_channel_eof_taken(w->session, c);
    assert_int_equal(mux_channel_space(w->session, c), 0);
    assert_int_equal(mux_channel_write(w->session, c, "x", 1), -EPIPE);
    assert_string_equal(wire_frames(w), "");
    wire_free(w);
}

static void test_skipped_numbers_count_as_forgotten(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    wire_say(w, BS_FRAME_OPEN, 8, 0, 0, "nbd/vda");
    assert_int_equal(wire_say(w, BS_FRAME_LIMIT, 4, 0, 0, NULL), 0);
    assert_int_equal(wire_say(w, BS_FRAME_EOF, 2, 3, 0, NULL), 0);
    assert_int_equal(wire_say(w, BS_FRAME_RESET, 6, 0, BS_RESET_BROKEN, NULL), 0);
    assert_string_equal(wire_frames(w), "");
    assert_int_equal(wire_say_data(w, 6, 0, 1), -EPROTO);
    assert_string_equal(wire_frames(w), "CLOSE code 2 DATA on channel 6, which is finished\n");
    wire_free(w);
}

/* ---- RESET --------------------------------------------------------------------------------------------- */

static void test_reset_is_answered_once(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "nbd/vda");
    wire_write(w, 2, 50);
    wire_say(w, BS_FRAME_RESET, 2, 0, BS_RESET_BROKEN, "the disk\nis\xc2\x9bgone");
    wire_say(w, BS_FRAME_RESET, 2, 0, BS_RESET_BROKEN, "again");
    assert_int_equal(wire_say(w, BS_FRAME_EOF, 2, 7, 0, NULL), 0); /* as if it were forgotten */
    assert_int_equal(wire_say(w, BS_FRAME_LIMIT, 2, 99, 0, NULL), 0);
    assert_string_equal(wire_events(w), "opened 2 nbd/vda\nreset 2 code 4 the disk?is??gone\n");
    assert_int_equal(channels_of(w->session), 1);
    assert_string_equal(wire_frames(w), "RESET 2 code 4 \n");
    assert_string_equal(wire_events(w), "forgotten 2\n");
    assert_string_equal(wire_frames(w), "");
    wire_free(w);
}

/* Until the answer is there the channel counts, its data is dropped and its memory is free. */
static void test_data_after_our_reset_is_dropped(void **state)
{
    struct wire *w = wire_new(true);
    struct mux_session_stats stats;
    struct iovec iov[2];

    (void)state;
    w->take = 0;
    wire_say(w, BS_FRAME_OPEN, 2, 0, 0, "nbd/vda");
    wire_say_data(w, 2, 0, 30); /* a LIMIT is due */
    wire_write(w, 2, 40);
    wire_events(w);
    mux_channel_reset(w->session, 2, BS_RESET_REFUSED, "no such socket");
    mux_session_get_stats(w->session, &stats);
    assert_int_equal(stats.send_pool, 0);
    assert_int_equal(stats.receive_pool, 100); /* channel 0's */
    assert_int_equal(mux_channel_peek(w->session, 2, iov), 0);

    assert_int_equal(wire_say_data(w, 2, 30, 70), 0);
    assert_string_equal(wire_events(w), "");
    assert_string_equal(wire_frames(w), "RESET 2 code 3 no such socket\n");
    assert_int_equal(channels_of(w->session), 1);
    mux_session_get_stats(w->session, &stats);
    assert_int_equal(stats.receive_pool, 100);
    wire_say(w, BS_FRAME_EOF, 2, 100, 0, NULL);
    wire_say(w, BS_FRAME_RESET, 2, 0, BS_RESET_REFUSED, NULL);
    assert_string_equal(wire_events(w), "forgotten 2\n");
    assert_string_equal(wire_frames(w), "");
    wire_free(w);
}

static void test_resets_cross(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t c = wire_open(w);

    (void)state;
    /* ours has gone out: theirs is the answer, or crossed it, and either way the end */
    mux_channel_reset(w->session, c, BS_RESET_CANCELLED, "enough");
    assert_string_equal(wire_frames(w), "RESET 1 code 1 enough\n");
    wire_say(w, BS_FRAME_RESET, c, 0, BS_RESET_BROKEN, "broke");
    assert_string_equal(wire_events(w), "forgotten 1\n");
    assert_string_equal(wire_frames(w), "");

    /* ours has not gone out: it does, and nothing else */
    c = wire_open(w);
    mux_channel_reset(w->session, c, BS_RESET_CANCELLED, "enough");
    wire_say(w, BS_FRAME_RESET, c, 0, BS_RESET_BROKEN, "broke");
    assert_string_equal(wire_events(w), "");
    assert_string_equal(wire_frames(w), "RESET 3 code 1 enough\n");
    assert_string_equal(wire_events(w), "forgotten 3\n");
    wire_free(w);
}

/* Both halves have ended, the peer has forgotten the channel and won't answer: the acknowledgement of
 * our EOF, on its way already, is what ends it here. */
static void test_reset_too_late(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t c = wire_open(w);

    (void)state;
    mux_channel_end(w->session, c);
    wire_say(w, BS_FRAME_EOF, c, 0, 0, NULL);
    mux_channel_eof_taken(w->session, c);
    assert_string_equal(wire_frames(w), "EOF 1 @0\nLIMIT 1 received 1 limit 100\n");
    mux_channel_reset(w->session, c, BS_RESET_CANCELLED, "enough");
    assert_string_equal(wire_frames(w), "RESET 1 code 1 enough\n");
    wire_events(w);
    wire_say(w, BS_FRAME_LIMIT, c, 1, 100, NULL);
    assert_string_equal(wire_events(w), "forgotten 1\n");
    wire_free(w);
}

/* Both halves are through and only our last LIMIT is due: that one goes, and no RESET. */
static void test_reset_when_only_the_last_limit_is_due(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t c = wire_open(w);

    (void)state;
    mux_channel_end(w->session, c);
    wire_frames(w);
    wire_say(w, BS_FRAME_LIMIT, c, 1, 100, NULL);
    wire_say(w, BS_FRAME_EOF, c, 0, 0, NULL);
    mux_channel_eof_taken(w->session, c);
    mux_channel_reset(w->session, c, BS_RESET_CANCELLED, "enough");
    assert_string_equal(wire_frames(w), "LIMIT 1 received 1 limit 100\n");
    assert_string_equal(wire_events(w), "eof 1\nforgotten 1\n");

    /* The peer, which has not seen that LIMIT yet, gives it up as well: no news for whoever did here. */
    c = wire_open(w);
    mux_channel_end(w->session, c);
    wire_frames(w);
    wire_say(w, BS_FRAME_LIMIT, c, 1, 100, NULL);
    wire_say(w, BS_FRAME_EOF, c, 0, 0, NULL);
    mux_channel_eof_taken(w->session, c);
    mux_channel_reset(w->session, c, BS_RESET_CANCELLED, "enough");
    wire_events(w);
    wire_say(w, BS_FRAME_RESET, c, 0, BS_RESET_BROKEN, "broke");
    assert_string_equal(wire_frames(w), "RESET 3 code 4 \n");
    assert_string_equal(wire_events(w), "forgotten 3\n");
    wire_free(w);
}

/* The peer never heard of it, so there is nothing to say, and the number is skipped. */
static void test_reset_before_open_went_out(void **state)
{
    struct wire *w = wire_new(true);
    uint32_t a, b;

    (void)state;
    assert_int_equal(mux_channel_open(w->session, "a", &a), 0);
    assert_int_equal(mux_channel_open(w->session, "b", &b), 0);
    wire_write(w, a, 10);
    mux_channel_reset(w->session, a, BS_RESET_CANCELLED, "enough");
    assert_string_equal(wire_events(w), "");
    assert_string_equal(wire_frames(w), "OPEN 3 b\n");
    assert_string_equal(wire_events(w), "forgotten 1\n");
    wire_free(w);
}

static void test_channel_0_has_no_end(void **state)
{
    struct wire *w = wire_new(true);

    (void)state;
    mux_channel_end(w->session, 0);
    mux_channel_reset(w->session, 0, BS_RESET_CANCELLED, "enough");
    assert_string_equal(wire_frames(w), "");
    wire_write(w, 0, 10);
    assert_string_equal(wire_frames(w), "DATA 0 @0 +10\n");
    wire_free(w);
}

/* ---- all pairs of half-closed states ---------------------------------------------------------------------- */

/* How far the half that SIDE sends has ended. */
enum stage { WRITING, END_SAID, EOF_SENT, EOF_DELIVERED, EOF_TAKEN, LIMIT_SENT, ENDED, STAGES };

static void advance(struct pair_side *side, uint32_t c, enum stage to)
{
    struct pair_side *other = pair_other(side);

    if (to >= END_SAID)
        while (pair_write(side, c, 10))
            ;
    if (to >= EOF_SENT)
        pair_send(side, 65536);
    if (to >= EOF_DELIVERED)
        pair_deliver(side, SIZE_MAX);
    if (to >= EOF_TAKEN)
        while (pair_read(other, c, SIZE_MAX))
            ;
    if (to >= LIMIT_SENT)
        pair_send(other, 65536);
    if (to >= ENDED)
        pair_deliver(other, SIZE_MAX);
}

enum finish { GO_ON, RESET_BY_OPENER, RESET_BY_ACCEPTOR, RESET_BY_BOTH, FINISHES };

static void check_pair_of_stages(enum stage a, enum stage b, enum finish finish)
{
    const struct mux_config config = {.local = {50, 1}, .remote = {50, 1}, .memory = 150};
    struct pair *pair = pair_new(&config, 150);
    struct pair_side *opener = &pair->sides[0], *acceptor = &pair->sides[1];
    uint32_t c = pair_open(opener, a == WRITING ? 1000 : 30, b == WRITING ? 1000 : 30);

    pair_send(opener, 65536);
    pair_deliver(opener, SIZE_MAX);
    if (a == WRITING)
        pair_write(opener, c, 7);
    if (b == WRITING)
        pair_write(acceptor, c, 7);
    advance(opener, c, a);
    advance(acceptor, c, b);
    if (finish == RESET_BY_OPENER || finish == RESET_BY_BOTH)
        pair_reset(opener, c);
    if (finish == RESET_BY_ACCEPTOR || finish == RESET_BY_BOTH)
        pair_reset(acceptor, c);
    pair_check(pair);
    pair_run(pair);
    pair_check(pair);
    pair_check_finished(pair);
    assert_true(opener->users[c].forgotten && acceptor->users[c].forgotten);

    /* both agree that there is room for another */
    c = pair_open(opener, 10, 10);
    assert_int_equal(c, 3);
    pair_run(pair);
    pair_check_finished(pair);
    pair_free(pair);
}

static void test_all_pairs_of_half_closed_states(void **state)
{
    (void)state;
    for (int a = WRITING; a < STAGES; a++)
        for (int b = WRITING; b < STAGES; b++)
            for (int finish = GO_ON; finish < FINISHES; finish++)
                check_pair_of_stages((enum stage)a, (enum stage)b, (enum finish)finish);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_open_refused),
        cmocka_unit_test(test_data_follows_open_at_once),
        cmocka_unit_test(test_eof_acknowledged_when_taken),
        cmocka_unit_test(test_eof_said_again_is_harmless),
        cmocka_unit_test(test_half_closed_still_carries),
        cmocka_unit_test(test_forgotten_only_when_the_acknowledgement_went),
        cmocka_unit_test(test_nothing_is_answered_for_a_forgotten_channel),
        cmocka_unit_test(test_skipped_numbers_count_as_forgotten),
        cmocka_unit_test(test_reset_is_answered_once),
        cmocka_unit_test(test_data_after_our_reset_is_dropped),
        cmocka_unit_test(test_resets_cross),
        cmocka_unit_test(test_reset_too_late),
        cmocka_unit_test(test_reset_when_only_the_last_limit_is_due),
        cmocka_unit_test(test_reset_before_open_went_out),
        cmocka_unit_test(test_channel_0_has_no_end),
        cmocka_unit_test(test_all_pairs_of_half_closed_states),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
