/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * How much goes out at once.  The program at the near socket is as fast as can be: it fills its socket
 * while the pump encrypts what it has read, in the pump's thread, and there is credit for all of it, so that
 * there is no chance in it.
 */
#include "config.h"

#include "common/checked.h"
#include "io/pump_internal.h"
#include "tests/unit/pump_pair.h"
#include "tests/unit/unit.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BULK = 8 << 20, PIECE = 64 << 10, SOCKETFUL = 256 << 10 };

static struct pair pair;
static uint8_t data[BULK];
static _Thread_local int program = -1; /* in the near pump's thread: its end; -1: nobody writes */
static size_t written;
static size_t most_sent; /* at once */

ssize_t __real_tls_write(struct tls *tls, const void *bytes, size_t length, struct error *err);
ssize_t __wrap_tls_write(struct tls *tls, const void *bytes, size_t length, struct error *err);
int __real_tls_flush(struct tls *tls, struct error *err);
int __wrap_tls_flush(struct tls *tls, struct error *err);

/* As far as it goes: what fails is missing at the far end. */
static void fill_socket(void)
{
    ssize_t n;

    while ((n = send(program, data + written, min_size(PIECE, BULK - written),
                     MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
        written += (size_t)n;
}

ssize_t __wrap_tls_write(struct tls *tls, const void *bytes, size_t length, struct error *err)
{
    if (program >= 0)
        fill_socket();
    return __real_tls_write(tls, bytes, length, err);
}

int __wrap_tls_flush(struct tls *tls, struct error *err)
{
    if (program >= 0 && tls_unsent(tls) > most_sent)
        most_sent = tls_unsent(tls);
    return __real_tls_flush(tls, err);
}

static int begin(void *opaque)
{
    program = *(int *)opaque;
    most_sent = written = 0;
    fill_socket();
    return 0;
}

static int stop(void *opaque)
{
    (void)opaque;
    program = -1;
    return 0;
}

/* Several socketfuls go out together, and the last without anything else that happens. */
static void test_bulk_goes_out_together(void **state)
{
    static uint8_t got[BULK];
    struct pump_config config = PAIR_DEFAULTS;
    int near, far;

    (void)state;
    for (size_t i = 0; i < BULK; i++)
        data[i] = (uint8_t)(i * 13 + i / 509);
    config.local.channels = config.remote.channels = 2;
    config.local.first_window = config.remote.first_window = BULK;
    pair_start(&pair, &config, NULL, true);
    pair_join(&pair, "disk", &near, &far);
    loop_call(pair.near.pump->loop, begin, &near);
    read_all(far, got, BULK);
    assert_memory_equal(got, data, BULK);
    loop_call(pair.near.pump->loop, stop, NULL);
    assert_in_range(most_sent, 2 * SOCKETFUL, 1280 << 10);
    close(near);
    close(far);
    pair_stop(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bulk_goes_out_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
