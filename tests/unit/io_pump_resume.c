/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Pumps whose link breaks.  The near pump dials again by what stands here for the daemon: another TLS
 * connection to the far pump, and the call on it, whose proofs are not checked.
 */
#include "config.h"

#include "common/loop.h"
#include "io/proof.h"
#include "rpc/error.h"
#include "rpc/inbox.h"
#include "tests/unit/pump_pair.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

enum { CUTS = 20, CHANNELS = 3, BULK = 24 << 20, PIECE = 64 << 10 };

static struct pair pair;
static pthread_mutex_t link_lock = PTHREAD_MUTEX_INITIALIZER;
static int newest_fd;        /* the near end of the newest link; under the lock */
static int newest_far_fd;    /* the same of the last that was tried */
static atomic_int unlucky;   /* attempts that find nobody */
static atomic_int no_answer; /* attempts whose answer is lost */
static atomic_int no_memory; /* links that the near pump can't watch */
static atomic_int last_patience;
static uint32_t last_attempt;
static struct bs_resume_state last_state; /* what was said in it */

/* ---- instead of the daemon -------------------------------------------------------------------- */

static void copy_state(const struct bs_resume_state *from, struct bs_resume_state *to)
{
    *to = *from;
    to->channels.channels_val =
        calloc(from->channels.channels_len + 1, sizeof *to->channels.channels_val);
    if (from->channels.channels_len > 0)
        memcpy(to->channels.channels_val, from->channels.channels_val,
               from->channels.channels_len * sizeof *to->channels.channels_val);
}

/* Has the far pump answer on a new link; *RET_NEAR is its other end. */
static void call_resume(uint32_t attempt, const struct bs_resume_state *state,
                        struct tls **ret_near)
{
    struct pump_resume resume = {
        .call = {BS_PROGRAM, BS_VERSION, BS_PROC_BISTREAM_RESUME, BS_CALL, 100 + attempt, BS_OK},
        .attempt = attempt,
    };

    copy_state(state, &resume.state);
    pair_make_links(ret_near, &resume.link);
    newest_far_fd = tls_fd(resume.link);
    assert_int_equal(pump_resume(pair.far.pump, &resume), 0);
}

/* The answer, and what came behind it.  Returns 0 or what the far side says. */
static int read_answer(struct tls *near, struct pump_resumed *ret, struct error *err)
{
    struct rpc_inbox inbox = {.filled = 0};
    uint8_t buffer[16384];
    size_t used = 0;
    ssize_t n = 0;
    int r = 0;

    while (r == 0) {
        n = tls_receive_wait(near, buffer, sizeof buffer, 10000, -1, err);
        if (n < 0)
            break;
        r = rpc_inbox_feed(&inbox, buffer, (size_t)n, &used);
    }
    if (r == 1 && inbox.message.header.status == BS_OK)
        r = rpc_payload_decode(inbox.message.payload, inbox.message.length,
                               (xdrproc_t)xdr_bs_bistream_resume_ret, &ret->reply);
    else if (r == 1)
        r = rpc_error_decode(inbox.message.payload, inbox.message.length, err);
    else
        r = (int)n;
    ret->serial = inbox.message.header.serial;
    rpc_inbox_clear(&inbox);
    if (r < 0)
        return r;
    ret->link = near;
    ret->early_length = (size_t)n - used;
    ret->early = malloc(ret->early_length + 1);
    memcpy(ret->early, buffer + used, ret->early_length);
    return 0;
}

static int resume(void *opaque, uint32_t attempt, const struct bs_resume_state *state,
                  int patience_ms, int abort_fd, struct pump_resumed *ret, bool *ret_final,
                  struct error *err)
{
    struct tls *near;
    int r;

    (void)opaque, (void)abort_fd, (void)ret_final;
    last_patience = patience_ms;
    if (atomic_load(&unlucky) > 0) {
        atomic_fetch_sub(&unlucky, 1);
        return error_set(err, ECONNREFUSED, "nobody is there");
    }
    last_attempt = attempt;
    xdr_free((xdrproc_t)xdr_bs_resume_state, (char *)&last_state);
    copy_state(state, &last_state);
    call_resume(attempt, state, &near);
    r = read_answer(near, ret, err);
    if (r == 0 && atomic_load(&no_answer) > 0) {
        atomic_fetch_sub(&no_answer, 1);
        ret->link = NULL;
        r = error_set(err, ETIMEDOUT, "no answer");
    }
    if (r < 0) {
        tls_free(near);
        return r;
    }
    pthread_mutex_lock(&link_lock);
    newest_fd = tls_fd(near);
    pthread_mutex_unlock(&link_lock);
    return 0;
}

struct loop_fd *__real_loop_fd_add(struct loop *loop, int fd, uint32_t events,
                                   void (*callback)(void *opaque, uint32_t events), void *opaque);
struct loop_fd *__wrap_loop_fd_add(struct loop *loop, int fd, uint32_t events,
                                   void (*callback)(void *opaque, uint32_t events), void *opaque);

struct loop_fd *__wrap_loop_fd_add(struct loop *loop, int fd, uint32_t events,
                                   void (*callback)(void *opaque, uint32_t events), void *opaque)
{
    if (fd == newest_fd && atomic_load(&no_memory) > 0) {
        atomic_fetch_sub(&no_memory, 1);
        errno = ENOMEM;
        return NULL;
    }
    return __real_loop_fd_add(loop, fd, events, callback, opaque);
}

static struct pump_config make_config(uint64_t grace)
{
    struct pump_config config = PAIR_DEFAULTS;

    config.grace = grace;
    config.redial.resume = resume;
    return config;
}

/* ---- what breaks ------------------------------------------------------------------------------ */

/* Cuts the near pump's link, which is whole: it came back as often as it was lost. */
static void cut(int how)
{
    pthread_mutex_lock(&link_lock);
    shutdown(newest_fd, how);
    pthread_mutex_unlock(&link_lock);
}

/* Both have measured the round trip. */
static bool has_heard(void)
{
    struct pump_stats near, far;

    pump_get_stats(pair.near.pump, NULL, &near);
    pump_get_stats(pair.far.pump, NULL, &far);
    return near.round_trip > 0 && far.round_trip > 0;
}

static void start(const struct pump_config *config, const struct rpc_program *program)
{
    unlucky = no_answer = no_memory = 0;
    pair_start(&pair, config, program, true);
    newest_fd = pair.link_fd;
    while (!has_heard()) /* a session from which no frame came ends with its link */
        sched_yield();
}

struct stream {
    int from, to;
    uint8_t seed;
    pthread_t writer, reader;
};

static uint8_t byte_at(const struct stream *stream, size_t offset)
{
    return (uint8_t)(offset * 7 + offset / 251 + stream->seed);
}

static void *write_stream(void *opaque)
{
    const struct stream *stream = opaque;
    uint8_t piece[PIECE];

    for (size_t at = 0; at < BULK; at += sizeof piece) {
        for (size_t i = 0; i < sizeof piece; i++)
            piece[i] = byte_at(stream, at + i);
        write_all(stream->from, piece, sizeof piece);
    }
    shutdown(stream->from, SHUT_WR);
    return NULL;
}

static void *read_stream(void *opaque)
{
    const struct stream *stream = opaque;
    uint8_t piece[PIECE];

    for (size_t at = 0; at < BULK; at += sizeof piece) {
        read_all(stream->to, piece, sizeof piece);
        for (size_t i = 0; i < sizeof piece; i++)
            if (piece[i] != byte_at(stream, at + i))
                fail_msg("stream %d: wrong byte at %zu", stream->seed, at + i);
    }
    read_end(stream->to);
    return NULL;
}

static atomic_int handled;

static int handle_settle(void *opaque, const void *args, void *ret, struct error *err)
{
    (void)opaque, (void)args, (void)ret, (void)err;
    atomic_fetch_add(&handled, 1);
    return 0;
}

static const struct rpc_procedure procedures[] = {{
    .number = BS_PROC_MIGRATE_SETTLE,
    .name = "settle",
    .callers = RPC_CALLER_SESSION,
    .args_proc = (xdrproc_t)xdr_bs_migrate_settle_args,
    .args_size = sizeof(struct bs_migrate_settle_args),
    .handler = handle_settle,
}};
static const struct rpc_program program = {procedures, 1};

static atomic_bool calling;

static void *call_all_the_time(void *opaque)
{
    const struct bs_migrate_settle_args args = {.settle = 1};
    struct error err = ERROR_INIT;
    int *calls = opaque;

    for (*calls = 0; atomic_load(&calling); ++*calls)
        if (pump_call(pair.near.pump, BS_PROC_MIGRATE_SETTLE, (xdrproc_t)xdr_bs_migrate_settle_args,
                      &args, NULL, NULL, 20000, &err) < 0)
            fail_msg("call %d: %s", *calls, err.text);
    return NULL;
}

/* Every byte of every stream comes, and every call is made once, however often the link is cut. */
static void test_nothing_is_lost(void **state)
{
    const struct pump_config config = make_config(60 * SECOND);
    struct stream streams[2 * CHANNELS];
    struct pump_stats stats;
    pthread_t caller;
    int calls;

    (void)state;
    start(&config, &program);
    for (int i = 0; i < CHANNELS; i++) {
        char name[16];
        int near, far;

        snprintf(name, sizeof name, "disk%d", i);
        pair_join(&pair, name, &near, &far);
        streams[2 * i] = (struct stream){near, far, (uint8_t)(2 * i), 0, 0};
        streams[2 * i + 1] = (struct stream){far, near, (uint8_t)(2 * i + 1), 0, 0};
    }
    handled = 0;
    calling = true;
    for (int i = 0; i < 2 * CHANNELS; i++) {
        pthread_create(&streams[i].writer, NULL, write_stream, &streams[i]);
        pthread_create(&streams[i].reader, NULL, read_stream, &streams[i]);
    }
    pthread_create(&caller, NULL, call_all_the_time, &calls);
    for (int i = 0; i < CUTS; i++) {
        struct timespec moment = {.tv_nsec = (i % 5) * 3000000};

        nanosleep(&moment, NULL); /* so that it happens anywhere */
        unlucky = i % 3;
        no_answer = i % 4 == 0;
        cut(i % 2 ? SHUT_RDWR : SHUT_WR);
        side_wait_resumed(&pair.near, i + 1);
    }
    for (int i = 0; i < 2 * CHANNELS; i++) {
        pthread_join(streams[i].writer, NULL);
        pthread_join(streams[i].reader, NULL);
    }
    calling = false;
    pthread_join(caller, NULL);
    assert_int_equal(handled, calls);
    pump_get_stats(pair.near.pump, NULL, &stats);
    assert_int_equal(stats.link_losses, CUTS);
    assert_true(stats.away == 0 && stats.away_total > CUTS * 50 * LOOP_MS);
    assert_int_equal(pair.near.lost, CUTS);
    for (int i = 0; i < CHANNELS; i++) {
        close(streams[2 * i].from);
        close(streams[2 * i].to);
    }
    pump_close(pair.near.pump, BS_CLOSE_DONE, "", 5000);
    side_wait_ended(&pair.far);
    assert_int_equal(pair.far.why.code, 0);
    pair_stop(&pair);
}

/* ---- what ends it ----------------------------------------------------------------------------- */

static void test_grace_is_over(void **state)
{
    const struct pump_config config = make_config(SECOND / 2);
    struct pump_stats stats;
    struct error err = ERROR_INIT;
    int near, far;

    (void)state;
    start(&config, NULL);
    pair_join(&pair, "disk", &near, &far);
    write_all(near, "1234", 4);
    read_all(far, (char[4]){0}, 4);
    unlucky = 1000;
    cut(SHUT_RDWR);
    side_wait_ended(&pair.near);
    side_wait_ended(&pair.far);
    assert_int_equal(pair.near.why.code, ETIMEDOUT);
    assert_in_range(last_patience, 2000, 10000); /* it was 1000 for the first attempt */
    assert_non_null(strstr(pair.near.why.text, "nobody is there"));
    assert_int_equal(pair.far.why.code, ETIMEDOUT);
    assert_int_equal(
        pump_call(pair.near.pump, BS_PROC_MIGRATE_SETTLE, NULL, NULL, NULL, NULL, 1000, &err),
        -ECONNRESET);
    pump_get_stats(pair.near.pump, NULL, &stats);
    assert_true(stats.away == 0 && stats.away_total >= SECOND / 2);
    read_end(near);
    read_end(far);
    close(near);
    close(far);
    pair_stop(&pair);
}

/* Without a grace time a session ends with its link, at once. */
static void test_no_grace(void **state)
{
    const struct pump_config config = make_config(0);

    (void)state;
    start(&config, NULL);
    cut(SHUT_RDWR);
    side_wait_ended(&pair.near);
    assert_int_equal(pair.near.lost, 0);
    pair_stop(&pair);
}

static unsigned patience_of(int fd)
{
    unsigned ms = 0;
    socklen_t length = sizeof ms;

    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &length), 0);
    return ms;
}

/* The kernel, too, gives up what isn't acknowledged, at both ends and on every link. */
static void test_silence_is_noticed_by_the_kernel(void **state)
{
    const struct pump_config config = make_config(60 * SECOND);

    (void)state;
    start(&config, NULL);
    assert_int_equal(patience_of(pair.link_fd), 15000);
    assert_int_equal(patience_of(pair.far_fd), 15000);
    cut(SHUT_RDWR);
    side_wait_resumed(&pair.near, 1);
    assert_int_equal(patience_of(newest_fd), 15000);
    assert_int_equal(patience_of(newest_far_fd), 15000);
    pair_stop(&pair);
}

/* The call fails that says so; the session goes on where it is. */
static void refused(uint32_t attempt, const struct bs_resume_state *what, const char *why)
{
    struct pump_resumed resumed = {.link = NULL};
    struct error err = ERROR_INIT;
    struct tls *near;

    call_resume(attempt, what, &near);
    assert_true(read_answer(near, &resumed, &err) < 0);
    if (!strstr(err.text, why))
        fail_msg("not \"%s\" but: %s", why, err.text);
    tls_free(near);
}

static void test_refused_and_unharmed(void **state)
{
    const struct pump_config config = make_config(60 * SECOND);
    struct bs_resume_state wrong;
    int near, far;

    (void)state;
    start(&config, NULL);
    pair_join(&pair, "disk", &near, &far);
    write_all(near, "1234", 4);
    read_all(far, (char[4]){0}, 4);
    cut(SHUT_RDWR);
    side_wait_resumed(&pair.near, 1);
    refused(last_attempt, &last_state, "stale");
    refused(0, &last_state, "stale");
    copy_state(&last_state, &wrong);
    wrong.channels.channels_val[1].received += 1000;
    refused(last_attempt + 1, &wrong, "above");
    wrong.channels.channels_val[1].received -= 1000;
    wrong.channels.channels_val[0].limit = 0;
    refused(last_attempt + 1, &wrong, "shrinks");
    wrong.highest = 2000;
    refused(last_attempt + 1, &wrong, "never opened");
    xdr_free((xdrproc_t)xdr_bs_resume_state, (char *)&wrong);
    write_all(near, "5678", 4);
    read_all(far, (char[4]){0}, 4);
    write_all(far, "90", 2);
    read_all(near, (char[2]){0}, 2);
    assert_int_equal(pair.near.lost, 1);
    assert_true(pair.far.ended == 0 && pair.near.ended == 0);
    close(near);
    close(far);
    pair_stop(&pair);
}

/* Given up while there is no link: the opener comes back to say so. */
static void test_closed_without_a_link(void **state)
{
    const struct pump_config config = make_config(60 * SECOND);

    (void)state;
    start(&config, NULL);
    cut(SHUT_RDWR);
    side_wait_resumed(&pair.near, 1);
    unlucky = 2;
    cut(SHUT_RDWR);
    pump_close(pair.near.pump, BS_CLOSE_CANCELLED, "enough", 10000);
    side_wait_ended(&pair.far);
    assert_int_equal(pair.far.why.code, ECANCELED);
    assert_string_equal(pair.far.why.text, "enough");
    pair_stop(&pair);
}

/* The other side has long ended: no further attempt is made. */
static void test_closed_there(void **state)
{
    const struct pump_config config = make_config(60 * SECOND);

    (void)state;
    start(&config, NULL);
    cut(SHUT_RDWR);
    side_wait_resumed(&pair.near, 1);
    unlucky = 3;
    cut(SHUT_RDWR);
    pump_close(pair.far.pump, BS_CLOSE_CANCELLED, "enough", 0);
    side_wait_ended(&pair.near);
    assert_int_equal(pair.near.why.code, ECANCELED);
    pair_stop(&pair);
}

/* A link that can't be taken up is one more attempt that failed. */
static void test_short_of_memory(void **state)
{
    const struct pump_config config = make_config(60 * SECOND);
    int near, far;

    (void)state;
    start(&config, NULL);
    pair_join(&pair, "disk", &near, &far);
    write_all(near, "1234", 4);
    no_memory = 2;
    cut(SHUT_RDWR);
    side_wait_resumed(&pair.near, 1);
    assert_int_equal(no_memory, 0);
    assert_int_equal(last_attempt, 3);
    read_all(far, (char[4]){0}, 4);
    write_all(far, "90", 2);
    read_all(near, (char[2]){0}, 2);
    close(near);
    close(far);
    pair_stop(&pair);
}

static void test_freed_without_a_link(void **state)
{
    const struct pump_config config = make_config(60 * SECOND);

    (void)state;
    start(&config, NULL);
    cut(SHUT_RDWR);
    side_wait_resumed(&pair.near, 1);
    unlucky = 1000;
    cut(SHUT_RDWR);
    pair_stop(&pair);
}

static int clean_up(void **state)
{
    (void)state;
    xdr_free((xdrproc_t)xdr_bs_resume_state, (char *)&last_state);
    last_state = (struct bs_resume_state){.highest = 0};
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_nothing_is_lost, clean_up),
        cmocka_unit_test_teardown(test_grace_is_over, clean_up),
        cmocka_unit_test_teardown(test_no_grace, clean_up),
        cmocka_unit_test_teardown(test_silence_is_noticed_by_the_kernel, clean_up),
        cmocka_unit_test_teardown(test_refused_and_unharmed, clean_up),
        cmocka_unit_test_teardown(test_closed_without_a_link, clean_up),
        cmocka_unit_test_teardown(test_closed_there, clean_up),
        cmocka_unit_test_teardown(test_short_of_memory, clean_up),
        cmocka_unit_test_teardown(test_freed_without_a_link, clean_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
