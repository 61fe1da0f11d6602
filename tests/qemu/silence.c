/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The path between source and destination falls silent in each phase.  QEMU may not even answer
 * then: no call may hang past its deadline or its check, and once our ends of the sockets are
 * closed, everything must come free, in this order.
 */
#include "config.h"

#include "tests/qemu/migrating.h"
#include "common/loop.h"
#include "tests/qemu/relay.h"

#include <errno.h>
#include <string.h>

enum { SILENCE_MS = 500, SLOW = 1 << 20 };

#define SILENCE (&(struct qmp_wait){.deadline = loop_clock() + SILENCE_MS * LOOP_MS})

/* A pair of QEMUs with a relay in each of the two paths. */
struct lossy {
    struct migrating pair;
    struct relay *nbd, *ram;
};

static struct relay *insert_relay(char path[VM_PATH])
{
    char behind[VM_PATH];

    snprintf(behind, sizeof behind, "%s", path);
    path[strlen(path) - 1] = '+'; /* from now on the source is sent here */
    return relay_new(path, behind);
}

static struct lossy start_lossy(struct bench *bench)
{
    struct lossy lossy = {.pair = migrating_pair(bench)};

    lossy.nbd = insert_relay(lossy.pair.destination->nbd_socket);
    lossy.ram = insert_relay(lossy.pair.destination->ram_socket);
    return lossy;
}

/* Sockets first, QMP afterwards. */
static void close_and_roll_back(struct lossy *lossy)
{
    relay_free(lossy->nbd);
    relay_free(lossy->ram);
    migrating_roll_back(&lossy->pair);
}

static int abort_at_once(void *opaque, struct error *err)
{
    (void)opaque;
    return error_set(err, ECANCELED, "the operator aborts");
}

static void test_during_the_copy(void **state)
{
    struct lossy lossy = start_lossy(*state);
    struct migrating *pair = &lossy.pair;
    struct qmp_wait aborted = {.deadline = LOOP_NEVER, .check = abort_at_once};
    struct error err = ERROR_INIT;

    migrating_start(pair->source, pair->destination, pair->mirrors, SLOW);
    relay_silence(lossy.nbd);
    assert_int_equal(
        block_mirrors_wait_ready(pair->source->qmp, pair->mirrors, VM_DISKS, SILENCE, &err),
        -ETIMEDOUT);
    assert_int_equal(
        block_mirrors_wait_ready(pair->source->qmp, pair->mirrors, VM_DISKS, &aborted, &err),
        -ECANCELED);
    vm_check_writes(pair->source); /* a background copy doesn't hold up the guest */
    close_and_roll_back(&lossy);
}

/* The mirrors' writes must end before the guest can be stopped: QMP stands still. */
static void test_when_the_guest_stops(void **state)
{
    struct lossy lossy = start_lossy(*state);
    struct migrating *pair = &lossy.pair;
    struct error err = ERROR_INIT;

    migrating_until_ready(pair->source, pair->destination, pair->mirrors);
    relay_silence(lossy.nbd);
    vm_check_writes(pair->source); /* there is something to be written now */
    assert_ok(migration_start(pair->source->qmp, QEMU_ADDRESS_UNIX(pair->destination->ram_socket),
                              WAIT, &err),
              &err);
    assert_int_equal(
        migration_wait(pair->source->qmp, MIGRATION_PRE_SWITCHOVER, NULL, SILENCE, &err),
        -ETIMEDOUT);
    close_and_roll_back(&lossy);
}

static void test_when_the_mirrors_complete(void **state)
{
    struct lossy lossy = start_lossy(*state);
    struct migrating *pair = &lossy.pair;
    struct error err = ERROR_INIT;
    int r;

    migrating_until_ready(pair->source, pair->destination, pair->mirrors);
    migrating_until_pre_switchover(pair->source, pair->destination);
    relay_silence(lossy.nbd);
    r = block_mirrors_complete(pair->source->qmp, pair->mirrors, VM_DISKS, SILENCE, &err);
    assert_int_equal(r, -ETIMEDOUT);
    close_and_roll_back(&lossy);
}

static void test_in_the_ram_copy(void **state)
{
    struct lossy lossy = start_lossy(*state);
    struct migrating *pair = &lossy.pair;
    struct error err = ERROR_INIT;

    migrating_until_ready(pair->source, pair->destination, pair->mirrors);
    assert_ok(migration_set_bandwidth(pair->source->qmp, SLOW, WAIT, &err), &err);
    assert_ok(migration_start(pair->source->qmp, QEMU_ADDRESS_UNIX(pair->destination->ram_socket),
                              WAIT, &err),
              &err);
    assert_ok(migration_wait(pair->source->qmp, MIGRATION_ACTIVE, NULL, WAIT, &err), &err);
    relay_silence(lossy.ram);
    assert_int_equal(
        migration_wait(pair->source->qmp, MIGRATION_PRE_SWITCHOVER, NULL, SILENCE, &err),
        -ETIMEDOUT);
    close_and_roll_back(&lossy);
}

/*
 * The last part of the stream is sent under QEMU's big lock: QMP stands still, before or after it
 * has answered migrate-continue.
 */
static void test_in_the_last_phase(void **state)
{
    struct lossy lossy = start_lossy(*state);
    struct migrating *pair = &lossy.pair;
    struct error err = ERROR_INIT;
    int r;

    migrating_until_ready(pair->source, pair->destination, pair->mirrors);
    migrating_until_pre_switchover(pair->source, pair->destination);
    assert_ok(block_mirrors_complete(pair->source->qmp, pair->mirrors, VM_DISKS, WAIT, &err), &err);
    relay_silence(lossy.ram);
    r = migration_continue(pair->source->qmp, SILENCE, &err);
    if (r == 0)
        r = migration_wait(pair->source->qmp, MIGRATION_COMPLETED, NULL, SILENCE, &err);
    assert_int_equal(r, -ETIMEDOUT);
    close_and_roll_back(&lossy);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        QEMU_TEST(test_during_the_copy),           QEMU_TEST(test_when_the_guest_stops),
        QEMU_TEST(test_when_the_mirrors_complete), QEMU_TEST(test_in_the_ram_copy),
        QEMU_TEST(test_in_the_last_phase),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
