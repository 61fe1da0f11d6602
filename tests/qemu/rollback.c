/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A migration that is cancelled, or whose destination dies, in each of its phases: the guest runs
 * on at the source, nothing is left behind there, no write is lost, and it can be migrated again.
 */
#include "config.h"

#include "tests/qemu/migrating.h"
#include "common/loop.h"

#include <errno.h>
#include <string.h>

enum { SLOW = 1 << 20 }; /* bytes per second: a phase that doesn't end by itself */

static void test_nothing_started(void **state)
{
    struct migrating pair = migrating_pair(*state);

    migrating_roll_back(&pair);
}

static void test_cancel_before_ready(void **state)
{
    struct migrating pair = migrating_pair(*state);

    migrating_start(pair.source, pair.destination, pair.mirrors, SLOW);
    migrating_roll_back(&pair);
}

static void test_cancel_when_ready(void **state)
{
    struct migrating pair = migrating_pair(*state);

    migrating_until_ready(pair.source, pair.destination, pair.mirrors);
    migrating_roll_back(&pair);
}

static void start_slow_ram(struct migrating *pair)
{
    struct error err = ERROR_INIT;

    migrating_until_ready(pair->source, pair->destination, pair->mirrors);
    assert_ok(migration_set_bandwidth(pair->source->qmp, SLOW, WAIT, &err), &err);
    assert_ok(migration_start(pair->source->qmp, QEMU_ADDRESS_UNIX(pair->destination->ram_socket),
                              WAIT, &err),
              &err);
    assert_ok(migration_wait(pair->source->qmp, MIGRATION_ACTIVE, NULL, WAIT, &err), &err);
}

static void test_cancel_in_ram_copy(void **state)
{
    struct migrating pair = migrating_pair(*state);

    start_slow_ram(&pair);
    migrating_roll_back(&pair);
}

static void test_cancel_at_pre_switchover(void **state)
{
    struct migrating pair = migrating_pair(*state);

    migrating_until_ready(pair.source, pair.destination, pair.mirrors);
    migrating_until_pre_switchover(pair.source, pair.destination);
    migrating_roll_back(&pair);
}

static void test_cancel_after_mirrors(void **state)
{
    struct migrating pair = migrating_pair(*state);
    struct error err = ERROR_INIT;

    migrating_until_ready(pair.source, pair.destination, pair.mirrors);
    migrating_until_pre_switchover(pair.source, pair.destination);
    assert_ok(block_mirrors_complete(pair.source->qmp, pair.mirrors, VM_DISKS, WAIT, &err), &err);
    migrating_roll_back(&pair);
}

static void test_death_before_ready(void **state)
{
    struct migrating pair = migrating_pair(*state);
    struct error err = ERROR_INIT;

    migrating_start(pair.source, pair.destination, pair.mirrors, SLOW);
    vm_kill(pair.destination);
    assert_int_equal(block_mirrors_wait_ready(pair.source->qmp, pair.mirrors, VM_DISKS, WAIT, &err),
                     -EIO);
    assert_non_null(strstr(err.text, "the copy of disk vd"));
    assert_non_null(strstr(err.text, "Input/output error"));
    migrating_roll_back(&pair);
}

static void test_death_in_ram_copy(void **state)
{
    struct migrating pair = migrating_pair(*state);
    struct error err = ERROR_INIT;

    start_slow_ram(&pair);
    vm_kill(pair.destination);
    assert_int_equal(migration_wait(pair.source->qmp, MIGRATION_PRE_SWITCHOVER, NULL, WAIT, &err),
                     -EIO);
    assert_non_null(strstr(err.text, "the migration failed"));
    migrating_roll_back(&pair);
}

/* QEMU says nothing; the first step afterwards finds out. */
static void test_death_at_pre_switchover(void **state)
{
    struct migrating pair = migrating_pair(*state);
    struct error err = ERROR_INIT;

    migrating_until_ready(pair.source, pair.destination, pair.mirrors);
    migrating_until_pre_switchover(pair.source, pair.destination);
    vm_kill(pair.destination);
    assert_int_equal(block_mirrors_complete(pair.source->qmp, pair.mirrors, VM_DISKS, WAIT, &err),
                     -EIO);
    migrating_roll_back(&pair);
}

static void test_death_after_mirrors(void **state)
{
    struct migrating pair = migrating_pair(*state);
    struct error err = ERROR_INIT;

    migrating_until_ready(pair.source, pair.destination, pair.mirrors);
    migrating_until_pre_switchover(pair.source, pair.destination);
    assert_ok(block_mirrors_complete(pair.source->qmp, pair.mirrors, VM_DISKS, WAIT, &err), &err);
    vm_kill(pair.destination);
    assert_ok(migration_continue(pair.source->qmp, WAIT, &err), &err);
    assert_ok(migration_wait_end(pair.source->qmp, WAIT, &err), &err);
    assert_int_equal(migration_wait(pair.source->qmp, MIGRATION_COMPLETED, NULL, WAIT, &err), -EIO);
    migrating_roll_back(&pair);
}

static void test_death_after_completed(void **state)
{
    struct migrating pair = migrating_pair(*state);

    migrating_until_ready(pair.source, pair.destination, pair.mirrors);
    migrating_until_pre_switchover(pair.source, pair.destination);
    migrating_until_completed(pair.source, pair.destination, pair.mirrors);
    vm_kill(pair.destination);
    migrating_roll_back(&pair);
}

/* The destination is another machine: it ends, and its log says why. */
static void test_destination_cannot_load(void **state)
{
    struct migrating pair = {.bench = *state};
    struct error err = ERROR_INIT;
    char words[256];

    pair.source = vm_new(pair.bench, "source");
    pair.destination = vm_new(pair.bench, "destination");
    vm_make_guest(pair.source);
    vm_start(pair.source, pair.bench);
    vm_check_writes(pair.source);
    pair.destination->launch.machine = "q35";
    vm_start_incoming(pair.destination, pair.bench);
    migrating_until_ready(pair.source, pair.destination, pair.mirrors);
    assert_ok(migration_start(pair.source->qmp, QEMU_ADDRESS_UNIX(pair.destination->ram_socket),
                              WAIT, &err),
              &err);
    assert_int_equal(migration_wait(pair.destination->qmp, MIGRATION_COMPLETED, NULL, WAIT, &err),
                     -ENOTCONN);
    assert_true(launch_wait_end(pair.destination->pidfd, WAIT_MS));
    launch_last_words(pair.destination->log, words, sizeof words);
    assert_non_null(strstr(words, "load of migration failed"));
    assert_int_equal(migration_wait(pair.source->qmp, MIGRATION_COMPLETED, NULL, WAIT, &err), -EIO);
    migrating_roll_back(&pair);
}

/* The copy must be of the same size; QEMU takes the command and fails afterwards. */
static void test_other_size(void **state)
{
    struct bench *bench = *state;
    struct migrating pair = {.bench = bench};
    struct error err = ERROR_INIT;

    pair.source = vm_new(bench, "source");
    pair.destination = vm_new(bench, "destination");
    vm_make_guest(pair.source);
    vm_start(pair.source, bench);
    for (size_t i = 0; i < VM_DISKS; i++)
        assert_ok(image_create(pair.destination->paths[i], pair.destination->disks[i].format,
                               2 * vm_disk_size, NULL, NULL, &err),
                  &err);
    pair.destination->launch.incoming = true;
    vm_start(pair.destination, bench);
    assert_ok(block_exports_start(pair.destination->qmp,
                                  QEMU_ADDRESS_UNIX(pair.destination->nbd_socket), NULL, NULL, WAIT,
                                  &err),
              &err);
    for (size_t i = 0; i < VM_DISKS; i++)
        assert_ok(block_export_add(pair.destination->qmp, pair.destination->disks[i].target,
                                   pair.destination->disks[i].target, WAIT, &err),
                  &err);
    migrating_start(pair.source, pair.destination, pair.mirrors, 0);
    assert_int_equal(block_mirrors_wait_ready(pair.source->qmp, pair.mirrors, VM_DISKS, WAIT, &err),
                     -EIO);
    assert_non_null(strstr(err.text, "Source and target image have different sizes"));
    migrating_roll_back(&pair);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        QEMU_TEST(test_nothing_started),
        QEMU_TEST(test_cancel_before_ready),
        QEMU_TEST(test_cancel_when_ready),
        QEMU_TEST(test_cancel_in_ram_copy),
        QEMU_TEST(test_cancel_at_pre_switchover),
        QEMU_TEST(test_cancel_after_mirrors),
        QEMU_TEST(test_death_before_ready),
        QEMU_TEST(test_death_in_ram_copy),
        QEMU_TEST(test_death_at_pre_switchover),
        QEMU_TEST(test_death_after_mirrors),
        QEMU_TEST(test_death_after_completed),
        QEMU_TEST(test_destination_cannot_load),
        QEMU_TEST(test_other_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
