/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A whole migration between two local QEMUs, by qemu/ alone and in the order of
 * qemu/migration.h, while the guest writes to both disks without pause.
 */
#include "config.h"

#include "tests/qemu/migrating.h"
#include "common/loop.h"

#include <errno.h>
#include <string.h>

static void test_migration(void **state)
{
    struct migrating pair = migrating_pair(*state);
    struct migration_info info;
    struct error err = ERROR_INIT;
    char run_state[32];
    bool running;

    migrating_until_ready(pair.source, pair.destination, pair.mirrors);
    migrating_until_pre_switchover(pair.source, pair.destination);
    migrating_until_completed(pair.source, pair.destination, pair.mirrors);
    assert_ok(migration_wait_postmigrate(pair.source->qmp, &info, WAIT, &err), &err);
    assert_true(info.total_ms > 0);
    assert_ok(guest_run_state(pair.source->qmp, run_state, &running, WAIT, &err), &err);
    assert_string_equal(run_state, "postmigrate");
    migrating_finish(pair.source, pair.destination);
}

/* What would give the disks two writers, or the guest two homes, is not even sent. */
static void test_refusals(void **state)
{
    struct migrating pair = migrating_pair(*state);
    struct error err = ERROR_INIT;

    assert_int_equal(migration_resume_here(pair.destination->qmp, WAIT, &err), -EPERM);
    assert_non_null(strstr(err.text, "hasn't arrived"));
    migrating_until_ready(pair.source, pair.destination, pair.mirrors);
    migrating_until_pre_switchover(pair.source, pair.destination);
    assert_int_equal(migration_resume_source(pair.source->qmp, WAIT, &err), -EPERM);
    assert_non_null(strstr(err.text, "pre-switchover"));
    migrating_until_completed(pair.source, pair.destination, pair.mirrors);
    assert_int_equal(migration_cancel(pair.source->qmp, WAIT, &err), -EALREADY);
    assert_int_equal(migration_resume_here(pair.destination->qmp, WAIT, &err), -EPERM);
    assert_non_null(strstr(err.text, "still exported"));
    migrating_finish(pair.source, pair.destination);
}

/* Only the top layer is copied; the base is there already. */
static void test_top_layer(void **state)
{
    struct bench *bench = *state;
    struct migrating pair = {.bench = bench,
                             .source = vm_new(bench, "source"),
                             .destination = vm_new(bench, "destination")};
    struct error err = ERROR_INIT;
    struct image_info info;
    char base[VM_PATH];

    snprintf(base, sizeof base, "%s/base", pair.source->folder);
    vm_make_guest(pair.source);
    assert_int_equal(rename(pair.source->paths[0], base), 0);
    assert_ok(image_create(pair.source->paths[0], "qcow2", vm_disk_size, base, "qcow2", &err),
              &err);
    vm_start(pair.source, bench);
    assert_ok(image_create(pair.destination->paths[0], "qcow2", vm_disk_size, base, "qcow2", &err),
              &err);
    vm_start_incoming(pair.destination, bench);
    vm_describe_mirrors(pair.destination, pair.mirrors);
    pair.mirrors[0].top = true;
    assert_ok(migration_prepare(pair.source->qmp, &vm_source, WAIT, &err), &err);
    for (size_t i = 0; i < VM_DISKS; i++)
        assert_ok(block_mirror_start(pair.source->qmp, &pair.mirrors[i], WAIT, &err), &err);
    assert_ok(block_mirrors_wait_ready(pair.source->qmp, pair.mirrors, VM_DISKS, WAIT, &err), &err);
    migrating_until_pre_switchover(pair.source, pair.destination);
    migrating_until_completed(pair.source, pair.destination, pair.mirrors);
    migrating_finish(pair.source, pair.destination);
    assert_ok(image_info_read(pair.destination->paths[0], "qcow2", &info, &err), &err);
    assert_string_equal(info.backing_path, base);
    assert_true(info.actual_size < 8 << 20); /* the base holds that much data */
    image_info_release(&info);
}

/* Synchronous writes, and a limit that is lifted in flight. */
static void test_write_blocking(void **state)
{
    struct migrating pair = migrating_pair(*state);
    struct error err = ERROR_INIT;

    assert_ok(migration_prepare(pair.source->qmp, &vm_source, WAIT, &err), &err);
    vm_describe_mirrors(pair.destination, pair.mirrors);
    for (size_t i = 0; i < VM_DISKS; i++) {
        pair.mirrors[i].write_blocking = true;
        pair.mirrors[i].bandwidth = 65536;
        assert_ok(block_mirror_start(pair.source->qmp, &pair.mirrors[i], WAIT, &err), &err);
    }
    for (size_t i = 0; i < VM_DISKS; i++)
        assert_ok(block_mirror_set_bandwidth(pair.source->qmp, &pair.mirrors[i], 0, WAIT, &err),
                  &err);
    assert_ok(block_mirrors_wait_ready(pair.source->qmp, pair.mirrors, VM_DISKS, WAIT, &err), &err);
    migrating_until_pre_switchover(pair.source, pair.destination);
    migrating_until_completed(pair.source, pair.destination, pair.mirrors);
    migrating_finish(pair.source, pair.destination);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        QEMU_TEST(test_migration),
        QEMU_TEST(test_refusals),
        QEMU_TEST(test_top_layer),
        QEMU_TEST(test_write_blocking),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
