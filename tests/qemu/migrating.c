/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The steps of a migration that tests have in common: see migrating.h. */
#include "config.h"

#include "tests/qemu/migrating.h"
#include "common/loop.h"

#include <errno.h>
#include <string.h>

void migrating_start(struct vm *source, const struct vm *destination,
                     struct block_mirror mirrors[VM_DISKS], uint64_t bandwidth)
{
    struct error err = ERROR_INIT;

    assert_ok(migration_prepare(source->qmp, &vm_source, WAIT, &err), &err);
    vm_describe_mirrors(destination, mirrors);
    for (size_t i = 0; i < VM_DISKS; i++) {
        mirrors[i].bandwidth = bandwidth;
        assert_ok(block_mirror_start(source->qmp, &mirrors[i], WAIT, &err), &err);
    }
}

void migrating_until_ready(struct vm *source, const struct vm *destination,
                           struct block_mirror mirrors[VM_DISKS])
{
    struct error err = ERROR_INIT;

    migrating_start(source, destination, mirrors, 0);
    assert_ok(block_mirrors_wait_ready(source->qmp, mirrors, VM_DISKS, WAIT, &err), &err);
    for (size_t i = 0; i < VM_DISKS; i++)
        assert_true(mirrors[i].total > 0);
}

void migrating_until_pre_switchover(struct vm *source, const struct vm *destination)
{
    struct error err = ERROR_INIT;

    assert_ok(migration_start(source->qmp, QEMU_ADDRESS_UNIX(destination->ram_socket), WAIT, &err),
              &err);
    assert_ok(migration_wait(source->qmp, MIGRATION_PRE_SWITCHOVER, NULL, WAIT, &err), &err);
}

void migrating_until_completed(struct vm *source, struct vm *destination,
                               struct block_mirror mirrors[VM_DISKS])
{
    struct migration_info info;
    struct error err = ERROR_INIT;

    assert_ok(block_mirrors_complete(source->qmp, mirrors, VM_DISKS, WAIT, &err), &err);
    assert_ok(migration_continue(source->qmp, WAIT, &err), &err);
    assert_ok(migration_wait(source->qmp, MIGRATION_COMPLETED, &info, WAIT, &err), &err);
    assert_true(info.ram_total > 0 && info.ram_transferred > 0);
    assert_ok(migration_wait(destination->qmp, MIGRATION_COMPLETED, NULL, WAIT, &err), &err);
}

void migrating_finish(struct vm *source, struct vm *destination)
{
    struct error err = ERROR_INIT;

    assert_ok(block_exports_stop(destination->qmp, WAIT, &err), &err);
    assert_ok(migration_resume_here(destination->qmp, WAIT, &err), &err);
    assert_false(vm_is_running(source));
    vm_check_writes(destination);
    vm_quit(source);
    vm_check_images(destination);
}

static void check_nothing_left(struct vm *source)
{
    struct error err = ERROR_INIT;
    json_t *jobs, *nodes;
    char *text;

    assert_ok(qmp_execute(source->qmp, "query-jobs", json_object(), WAIT, &jobs, &err), &err);
    assert_int_equal(json_array_size(jobs), 0);
    json_decref(jobs);
    assert_ok(
        qmp_execute(source->qmp, "query-named-block-nodes", json_object(), WAIT, &nodes, &err),
        &err);
    text = json_dumps(nodes, 0);
    assert_null(strstr(text, "bistream-nbd-"));
    free(text);
    json_decref(nodes);
}

static void check_migrates(struct bench *bench, struct vm *source)
{
    struct block_mirror mirrors[VM_DISKS];
    struct vm *again = vm_new(bench, "again");

    vm_start_incoming(again, bench);
    migrating_until_ready(source, again, mirrors);
    migrating_until_pre_switchover(source, again);
    migrating_until_completed(source, again, mirrors);
    migrating_finish(source, again);
}

struct migrating migrating_pair(struct bench *bench)
{
    struct migrating pair = {.bench = bench,
                             .source = vm_new(bench, "source"),
                             .destination = vm_new(bench, "destination")};

    vm_make_guest(pair.source);
    vm_start(pair.source, bench);
    vm_check_writes(pair.source);
    vm_start_incoming(pair.destination, bench);
    return pair;
}

void migrating_roll_back(struct migrating *pair)
{
    struct error err = ERROR_INIT;
    int r = migration_cancel(pair->source->qmp, WAIT, &err);

    if (r != -EALREADY)
        assert_ok(r, &err);
    assert_ok(block_mirrors_remove(pair->source->qmp, WAIT, &err), &err);
    assert_ok(migration_resume_source(pair->source->qmp, WAIT, &err), &err);
    vm_kill(pair->destination);
    assert_true(vm_is_running(pair->source));
    check_nothing_left(pair->source);
    vm_check_writes(pair->source);
    check_migrates(pair->bench, pair->source);
}
