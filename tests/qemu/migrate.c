/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A whole migration between two local QEMUs, by qemu/ alone and in the order of
 * qemu/migration.h, while the guest writes to both disks without pause.
 */
#include "config.h"

#include "tests/qemu/vm.h"
#include "common/loop.h"

#include <errno.h>
#include <string.h>

static void start_mirrors(struct vm *source, struct vm *destination,
                          struct block_mirror mirrors[VM_DISKS])
{
    struct error err = ERROR_INIT;

    assert_ok(migration_prepare(source->qmp, true, WAIT, &err), &err);
    vm_describe_mirrors(destination, mirrors);
    for (size_t i = 0; i < VM_DISKS; i++)
        assert_ok(block_mirror_start(source->qmp, &mirrors[i], WAIT, &err), &err);
    assert_ok(block_mirrors_wait_ready(source->qmp, mirrors, VM_DISKS, WAIT, &err), &err);
    for (size_t i = 0; i < VM_DISKS; i++)
        assert_true(mirrors[i].total > 0);
}

static void switch_over(struct vm *source, struct vm *destination,
                        struct block_mirror mirrors[VM_DISKS])
{
    struct migration_info info;
    struct error err = ERROR_INIT;

    assert_ok(migration_start(source->qmp, destination->ram_socket, WAIT, &err), &err);
    assert_ok(migration_wait(source->qmp, MIGRATION_PRE_SWITCHOVER, NULL, WAIT, &err), &err);
    assert_ok(block_mirrors_complete(source->qmp, mirrors, VM_DISKS, WAIT, &err), &err);
    assert_ok(migration_continue(source->qmp, WAIT, &err), &err);
    assert_ok(migration_wait(source->qmp, MIGRATION_COMPLETED, &info, WAIT, &err), &err);
    assert_true(info.ram_total > 0 && info.ram_transferred > 0);
    assert_ok(migration_wait(destination->qmp, MIGRATION_COMPLETED, NULL, WAIT, &err), &err);
}

static void test_migration(void **state)
{
    struct bench *bench = *state;
    struct vm *source = vm_new(bench, "source"), *destination = vm_new(bench, "destination");
    struct block_mirror mirrors[VM_DISKS];
    struct migration_info info;
    struct error err = ERROR_INIT;
    char run_state[32];
    bool running;

    vm_make_guest(source);
    vm_start(source, bench);
    vm_check_writes(source);
    vm_start_incoming(destination, bench);
    start_mirrors(source, destination, mirrors);
    switch_over(source, destination, mirrors);

    /* What must never be sent is refused. */
    assert_int_equal(migration_resume_here(destination->qmp, WAIT, &err), -EPERM);
    assert_non_null(strstr(err.text, "still exported"));
    assert_int_equal(migration_cancel(source->qmp, WAIT, &err), -EALREADY);

    assert_ok(block_exports_stop(destination->qmp, WAIT, &err), &err);
    assert_ok(migration_resume_here(destination->qmp, WAIT, &err), &err);
    assert_ok(migration_wait_postmigrate(source->qmp, &info, WAIT, &err), &err);
    assert_true(info.total_ms > 0);
    assert_ok(guest_run_state(source->qmp, run_state, &running, WAIT, &err), &err);
    assert_string_equal(run_state, "postmigrate");
    for (size_t i = 0; i < VM_DISKS; i++)
        assert_ok(block_set_discard(destination->qmp, source->disks[i].target, false, WAIT, &err),
                  &err);
    vm_check_writes(destination);
    vm_quit(source);
    vm_check_images(destination);
}

/* Completed at the source, but the destination died before it ran: the guest comes back. */
static void test_back_after_completed(void **state)
{
    struct bench *bench = *state;
    struct vm *source = vm_new(bench, "source"), *destination = vm_new(bench, "destination");
    struct block_mirror mirrors[VM_DISKS];
    struct error err = ERROR_INIT;

    vm_make_guest(source);
    vm_start(source, bench);
    vm_start_incoming(destination, bench);
    start_mirrors(source, destination, mirrors);
    switch_over(source, destination, mirrors);
    vm_kill(destination);
    assert_ok(block_mirrors_remove(source->qmp, WAIT, &err), &err);
    assert_ok(migration_resume_source(source->qmp, WAIT, &err), &err);
    assert_ok(migration_resume_source(source->qmp, WAIT, &err), &err); /* harmless */
    vm_check_writes(source);
    vm_check_images(source);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_migration, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_back_after_completed, bench_setup, bench_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
