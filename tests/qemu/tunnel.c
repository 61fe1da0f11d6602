/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A migration whose disks go along in the stream (QEMU's own `block` migration), through a path that
 * carries no byte back.  Only a QEMU that still has it can run this: up to 9.0.
 */
#include "config.h"

#include "tests/qemu/migrating.h"
#include "tests/qemu/relay.h"
#include "common/loop.h"
#include "qemu/caps.h"

#include <errno.h>
#include <string.h>

struct one_way {
    struct migrating pair;
    struct relay *relay;
    char socket[VM_PATH]; /* the relay's */
};

static void start_destination(struct one_way *way)
{
    struct vm *vm = way->pair.destination;
    struct error err = ERROR_INIT;

    vm_make_disks(vm);
    vm->launch.incoming = true;
    vm_start(vm, way->pair.bench);
    assert_ok(migration_prepare(vm->qmp, &(struct migration_setup){.block = true}, WAIT, &err),
              &err);
    assert_ok(migration_incoming(vm->qmp, QEMU_ADDRESS_UNIX(vm->ram_socket), WAIT, &err), &err);
    snprintf(way->socket, sizeof way->socket, "%s/relay", vm->folder);
    way->relay = relay_new_one_way(way->socket, vm->ram_socket);
}

/* The source runs, with vda's first layer in BASE (NULL: it has but one); the destination waits. */
static struct one_way start_pair(struct bench *bench, const char *base)
{
    struct one_way way = {.pair = {.bench = bench,
                                   .source = vm_new(bench, "source"),
                                   .destination = vm_new(bench, "destination")}};
    struct vm *source = way.pair.source;
    struct error err = ERROR_INIT;
    struct qemu_caps caps;

    vm_make_guest(source);
    if (base) {
        assert_int_equal(rename(source->paths[0], base), 0);
        assert_ok(image_create(source->paths[0], "qcow2", vm_disk_size, base, "qcow2", &err), &err);
        assert_ok(image_create(way.pair.destination->paths[0], "qcow2", vm_disk_size, base, "qcow2",
                               &err),
                  &err);
    }
    vm_start(source, bench);
    assert_ok(qemu_caps_query(source->qmp, &caps, WAIT, &err), &err);
    if (!caps.block)
        skip();
    vm_check_writes(source);
    start_destination(&way);
    return way;
}

static void migrate(struct one_way *way, const struct migration_setup *setup)
{
    struct vm *source = way->pair.source, *destination = way->pair.destination;
    struct error err = ERROR_INIT;

    assert_ok(migration_prepare(source->qmp, setup, WAIT, &err), &err);
    assert_ok(migration_start(source->qmp, QEMU_ADDRESS_UNIX(way->socket), WAIT, &err), &err);
    assert_ok(migration_wait(source->qmp, MIGRATION_PRE_SWITCHOVER, NULL, WAIT, &err), &err);
    assert_false(vm_is_running(source));
    assert_ok(migration_continue(source->qmp, WAIT, &err), &err);
    assert_ok(migration_wait(source->qmp, MIGRATION_COMPLETED, NULL, WAIT, &err), &err);
    assert_ok(migration_wait(destination->qmp, MIGRATION_COMPLETED, NULL, WAIT, &err), &err);
    migrating_finish(source, destination);
    relay_free(way->relay);
}

static const struct migration_setup whole = {.source = true, .block = true, .zero_blocks = true};

static void test_whole_disks(void **state)
{
    struct one_way way = start_pair(*state, NULL);

    migrate(&way, &whole);
}

/* vda's base is there already and isn't sent; vdb has none and is sent wholly. */
static void test_incremental(void **state)
{
    const struct migration_setup setup = {
        .source = true, .block = true, .zero_blocks = true, .block_incremental = true};
    struct bench *bench = *state;
    struct error err = ERROR_INIT;
    struct image_info info;
    struct one_way way;
    char base[VM_PATH];

    snprintf(base, sizeof base, "%s/base", bench->folder);
    way = start_pair(bench, base);
    migrate(&way, &setup);
    assert_ok(image_info_read(way.pair.destination->paths[0], "qcow2", &info, &err), &err);
    assert_string_equal(info.backing_path, base);
    assert_true(info.actual_size < 8 << 20); /* the base holds that much data */
    image_info_release(&info);
}

/* The next attempt goes through a session: nothing of this one may be left. */
static void test_another_mode_afterwards(void **state)
{
    struct one_way way = start_pair(*state, NULL);
    struct qmp *source = way.pair.source->qmp;
    struct error err = ERROR_INIT;

    assert_ok(migration_prepare(source, &whole, WAIT, &err), &err);
    assert_ok(migration_start(source, QEMU_ADDRESS_UNIX(way.socket), WAIT, &err), &err);
    assert_ok(migration_wait(source, MIGRATION_PRE_SWITCHOVER, NULL, WAIT, &err), &err);
    relay_free(way.relay);
    migrating_roll_back(&way.pair);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        QEMU_TEST(test_whole_disks),
        QEMU_TEST(test_incremental),
        QEMU_TEST(test_another_mode_afterwards),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
