/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What a migration sets in QEMU (qemu/migration_setup.c), that the next one sets it back, and a
 * guest that is paused on its way.
 */
#include "config.h"

#include "tests/qemu/migrating.h"
#include "common/loop.h"
#include "qemu/caps.h"

#include <errno.h>
#include <string.h>

enum { SLOW = 1 << 20 }; /* bytes per second: a phase that doesn't end by itself */

static json_t *ask(struct vm *vm, const char *command)
{
    struct error err = ERROR_INIT;
    json_t *answer;

    assert_ok(qmp_execute(vm->qmp, command, json_object(), WAIT, &answer, &err), &err);
    return answer;
}

static bool is_on(struct vm *vm, const char *capability)
{
    json_t *list = ask(vm, "query-migrate-capabilities"), *entry;
    bool on = false;
    size_t i;

    json_array_foreach (list, i, entry) {
        if (strcmp(json_string_value(json_object_get(entry, "capability")), capability) == 0)
            on = json_is_true(json_object_get(entry, "state"));
    }
    json_decref(list);
    return on;
}

/* TLS: what all three of its parameters are. */
static void check_parameters(struct vm *vm, json_int_t downtime, const char *tls,
                             bool block_incremental)
{
    static const char *const names[] = {"tls-creds", "tls-hostname", "tls-authz"};
    json_t *parameters = ask(vm, "query-migrate-parameters");

    assert_int_equal(json_integer_value(json_object_get(parameters, "downtime-limit")), downtime);
    assert_int_equal(json_integer_value(json_object_get(parameters, "max-bandwidth")),
                     MIGRATION_NO_LIMIT);
    assert_int_equal(json_is_true(json_object_get(parameters, "block-incremental")),
                     block_incremental);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_string_equal(json_string_value(json_object_get(parameters, names[i])), tls);
    json_decref(parameters);
}

static void test_all_is_set_back(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    struct migration_setup all = {.source = true,
                                  .auto_converge = true,
                                  .downtime_ms = 50,
                                  .tls_creds = "x",
                                  .tls_hostname = "x",
                                  .tls_authz = "x"};
    struct error err = ERROR_INIT;
    struct qemu_caps caps;

    vm_make_disks(vm);
    vm_start(vm, bench);
    assert_ok(qemu_caps_query(vm->qmp, &caps, WAIT, &err), &err);
    all.block = all.zero_blocks = all.block_incremental = caps.block;
    assert_ok(migration_prepare(vm->qmp, &all, WAIT, &err), &err);
    assert_true(is_on(vm, "auto-converge") && is_on(vm, "pause-before-switchover"));
    assert_false(is_on(vm, "return-path"));
    assert_int_equal(is_on(vm, "block"), caps.block);
    check_parameters(vm, caps.block ? 0 : 50, "x", caps.block);
    assert_ok(migration_prepare(vm->qmp, &vm_source, WAIT, &err), &err);
    assert_true(is_on(vm, "events") && is_on(vm, "return-path"));
    assert_false(is_on(vm, "auto-converge") || is_on(vm, "block") || is_on(vm, "zero-blocks"));
    check_parameters(vm, 300, "", false);
}

/* Either it can be had or it is refused, never left out. */
static void test_what_there_is_not(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    struct error err = ERROR_INIT;
    struct qemu_caps caps;
    int r;

    vm_make_disks(vm);
    vm_start(vm, bench);
    assert_ok(qemu_caps_query(vm->qmp, &caps, WAIT, &err), &err);
    r = migration_prepare(vm->qmp, &(struct migration_setup){.block = true}, WAIT, &err);
    assert_int_equal(r, caps.block ? 0 : -ENOTSUP);
    if (r < 0)
        assert_non_null(strstr(err.text, "lacks the migration capability block"));
}

/* RAM is on its way, and the guest has been paused. */
static struct migrating pause_in_ram_copy(struct bench *bench)
{
    struct migrating pair = migrating_pair(bench);
    struct migration_info info;
    struct error err = ERROR_INIT;

    migrating_until_ready(pair.source, pair.destination, pair.mirrors);
    assert_ok(migration_set_bandwidth(pair.source->qmp, SLOW, WAIT, &err), &err);
    assert_ok(migration_start(pair.source->qmp, QEMU_ADDRESS_UNIX(pair.destination->ram_socket),
                              WAIT, &err),
              &err);
    assert_ok(migration_wait(pair.source->qmp, MIGRATION_ACTIVE, NULL, WAIT, &err), &err);
    assert_true(vm_is_running(pair.source));
    assert_ok(migration_pause_guest(pair.source->qmp, WAIT, &err), &err);
    assert_false(vm_is_running(pair.source));
    assert_ok(migration_query(pair.source->qmp, &info, WAIT, &err), &err);
    assert_int_equal(info.state, MIGRATION_ACTIVE);
    return pair;
}

static void test_paused_guest_arrives(void **state)
{
    struct migrating pair = pause_in_ram_copy(*state);
    struct error err = ERROR_INIT;

    assert_ok(migration_set_bandwidth(pair.source->qmp, 0, WAIT, &err), &err);
    assert_ok(migration_wait(pair.source->qmp, MIGRATION_PRE_SWITCHOVER, NULL, WAIT, &err), &err);
    assert_ok(migration_pause_guest(pair.source->qmp, WAIT, &err), &err); /* nothing to do */
    migrating_until_completed(pair.source, pair.destination, pair.mirrors);
    assert_false(vm_is_running(pair.destination));
    migrating_finish(pair.source, pair.destination);
}

static void test_paused_guest_stays(void **state)
{
    struct migrating pair = pause_in_ram_copy(*state);

    migrating_roll_back(&pair);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        QEMU_TEST(test_all_is_set_back),
        QEMU_TEST(test_what_there_is_not),
        QEMU_TEST(test_paused_guest_arrives),
        QEMU_TEST(test_paused_guest_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
