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

static int run(void)
{
    const struct CMUnitTest tests[] = {
        QEMU_TEST(test_migration),
        QEMU_TEST(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
