/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* qemu/block.h and qemu/caps.h with a real QEMU: drives however they were started, exports. */
#include "config.h"

#include "tests/qemu/vm.h"
#include "common/loop.h"
#include "qemu/caps.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static void test_caps(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    struct error err = ERROR_INIT;
    struct qemu_caps caps;

    vm_make_disks(vm);
    vm_start(vm, bench);
    assert_ok(qemu_caps_query(vm->qmp, &caps, WAIT, &err), &err);
    assert_ok(qemu_caps_require(&caps, true, true, &err), &err);
    assert_true(caps.major >= 7);
    assert_true(caps.blockdev_reopen && caps.yank && caps.mirror_copy_mode);
    assert_true(caps.auto_converge && caps.postcopy_ram && caps.multifd);
    caps.return_path = false;
    assert_int_equal(qemu_caps_require(&caps, true, true, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "lacks the migration capability return-path"));
}

static const struct block_drive *find_drive(const struct block_drive *drives, size_t count,
                                            const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(drives[i].name, name) == 0)
            return &drives[i];
    }
    fail_msg("no drive is called %s", name);
    return NULL;
}

/* A QEMU of someone else's has its drives in any style. */
static void test_drives(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    char plain[2 * VM_PATH], blockdev[2 * VM_PATH];
    const char *const extra[] = {
        "-drive",    plain,    "-drive",  "if=ide,media=cdrom",
        "-blockdev", blockdev, "-device", "virtio-blk-pci,drive=node-d,id=d",
        NULL};
    const struct block_drive *drive;
    struct block_drive *drives;
    struct error err = ERROR_INIT;
    char path[VM_PATH];
    size_t count;

    vm_make_disks(vm);
    snprintf(path, VM_PATH, "%s/c", vm->folder);
    assert_ok(image_create(path, "raw", 1 << 20, NULL, NULL, &err), &err);
    snprintf(plain, sizeof plain, "if=virtio,format=raw,file=%s", path);
    snprintf(blockdev, sizeof blockdev,
             "driver=null-co,node-name=node-d,size=4096,read-only=on,read-zeroes=on");
    vm->launch.extra = extra;
    vm->disks[1].readonly = true;
    vm_start(vm, bench);
    assert_ok(block_drives_query(vm->qmp, &drives, &count, WAIT, &err), &err);
    assert_int_equal(count, 5);

    drive = find_drive(drives, count, "vda");
    assert_true(drive->inserted && !drive->readonly);
    assert_string_equal(drive->format, "qcow2");
    assert_string_equal(drive->filename, vm->paths[0]);
    assert_string_equal(drive->device, "drive-vda");
    assert_non_null(strstr(drive->qdev, "disk-vda"));
    assert_int_equal(drive->size, vm_disk_size);
    assert_true(find_drive(drives, count, "vdb")->readonly);

    drive = find_drive(drives, count, "virtio0");
    assert_int_equal(drive->node[0], '#');
    assert_int_equal(drive->size, 1 << 20);
    drive = find_drive(drives, count, "ide0-cd0");
    assert_false(drive->inserted);
    drive = find_drive(drives, count, "node-d");
    assert_string_equal(drive->device, "");
    block_drives_free(drives, count);
}

static void test_exports(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    struct error err = ERROR_INIT;

    vm_make_disks(vm);
    vm->launch.incoming = true;
    vm_start(vm, bench);
    assert_int_equal(block_export_check(vm->nbd_socket, "vda", vm_disk_size, WAIT_MS, &err),
                     -ENOENT);
    assert_ok(block_exports_stop(vm->qmp, WAIT, &err), &err); /* none runs */
    assert_ok(
        block_exports_start(vm->qmp, QEMU_ADDRESS_UNIX(vm->nbd_socket), NULL, NULL, WAIT, &err),
        &err);
    assert_ok(block_export_add(vm->qmp, "vda", "vda", WAIT, &err), &err);
    assert_ok(block_export_add(vm->qmp, "vdb", "#odd name", WAIT, &err), &err);
    assert_ok(block_export_check(vm->nbd_socket, "vda", vm_disk_size, WAIT_MS, &err), &err);
    assert_int_equal(block_export_check(vm->nbd_socket, "vda", vm_disk_size + 512, WAIT_MS, &err),
                     -EINVAL);
    assert_string_equal(err.text,
                        "disk vda has 67109376 bytes at the source, but its export at the "
                        "destination has 67108864: both must be equal");
    assert_true(block_export_check(vm->nbd_socket, "vdx", vm_disk_size, WAIT_MS, &err) < 0);
    assert_non_null(strstr(err.text, "NBD export vdx"));
    assert_int_equal(migration_resume_here(vm->qmp, WAIT, &err), -EPERM);
    assert_ok(block_exports_stop(vm->qmp, WAIT, &err), &err);
    assert_true(block_export_check(vm->nbd_socket, "vda", vm_disk_size, WAIT_MS, &err) < 0);
}

static void test_no_jobs(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    struct error err = ERROR_INIT;

    vm_make_guest(vm);
    vm_start(vm, bench);
    assert_ok(block_check_no_jobs(vm->qmp, WAIT, &err), &err);
    assert_ok(qmp_execute(vm->qmp, "blockdev-add",
                          json_pack("{s:s,s:s,s:I}", "driver", "null-co", "node-name", "null",
                                    "size", (json_int_t)vm_disk_size),
                          WAIT, NULL, &err),
              &err);
    assert_ok(qmp_execute(vm->qmp, "blockdev-mirror",
                          json_pack("{s:s,s:s,s:s,s:s,s:I}", "job-id", "nightly", "device", "vda",
                                    "target", "null", "sync", "full", "speed", (json_int_t)65536),
                          WAIT, NULL, &err),
              &err);
    assert_int_equal(block_check_no_jobs(vm->qmp, WAIT, &err), -EBUSY);
    assert_non_null(strstr(err.text, "(mirror \"nightly\")"));
}

/* Like a guest's request, through QEMU's own shell for disks. */
static void disk_io(struct vm *vm, const char *disk, const char *command)
{
    struct error err = ERROR_INIT;
    char line[80];

    snprintf(line, sizeof line, "qemu-io drive-%s \"%s\"", disk, command);
    assert_ok(qmp_execute(vm->qmp, "human-monitor-command",
                          json_pack("{s:s}", "command-line", line), WAIT, NULL, &err),
              &err);
}

static uint64_t allocated(const char *path)
{
    struct stat status;

    assert_int_equal(stat(path, &status), 0);
    return (uint64_t)status.st_blocks * 512;
}

static void test_discard(void **state)
{
    const uint64_t much = 4 << 20;
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    struct error err = ERROR_INIT;

    vm_make_disks(vm);
    vm->launch.paused = true;
    vm->disks[0].discard = vm->disks[1].discard = true;
    vm_start(vm, bench);
    for (size_t i = 0; i < VM_DISKS; i++) {
        const char *disk = vm->disks[i].target;

        disk_io(vm, disk, "write -P 1 0 8M");
        disk_io(vm, disk, "discard 0 4M");
        assert_in_range(allocated(vm->paths[i]), much, 2 * much - 1);
        assert_ok(block_set_discard(vm->qmp, disk, false, WAIT, &err), &err);
        disk_io(vm, disk, "discard 4M 4M");
        assert_in_range(allocated(vm->paths[i]), much, 2 * much - 1);
        assert_ok(block_set_discard(vm->qmp, disk, true, WAIT, &err), &err);
        disk_io(vm, disk, "discard 4M 4M");
        assert_in_range(allocated(vm->paths[i]), 0, much - 1);
    }
    assert_int_equal(block_set_discard(vm->qmp, "vdx", true, WAIT, &err), -ENODEV);
}

/* An overlay keeps its backing file. */
static void test_discard_of_overlay(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    struct error err = ERROR_INIT;
    char base[VM_PATH];

    snprintf(base, VM_PATH, "%s/base", vm->folder);
    assert_ok(image_create(base, "raw", vm_disk_size, NULL, NULL, &err), &err);
    assert_ok(image_create(vm->paths[0], "qcow2", vm_disk_size, base, "raw", &err), &err);
    vm->disks[0].backing = true;
    vm->launch.n_disks = 1;
    vm_start(vm, bench);
    assert_ok(block_set_discard(vm->qmp, "vda", true, WAIT, &err), &err);
    assert_ok(block_set_discard(vm->qmp, "vda", false, WAIT, &err), &err);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        QEMU_TEST(test_caps),    QEMU_TEST(test_drives),  QEMU_TEST(test_exports),
        QEMU_TEST(test_no_jobs), QEMU_TEST(test_discard), QEMU_TEST(test_discard_of_overlay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
