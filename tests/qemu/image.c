/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* qemu/image.h with the real qemu-img. */
#include "config.h"

#include "tests/qemu/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void path_in(struct bench *bench, const char *name, char ret[VM_PATH])
{
    snprintf(ret, VM_PATH, "%s/%s", bench->folder, name);
}

static void test_made_and_looked_at(void **state)
{
    static const char *const formats[] = {"qcow2", "raw"};
    struct error err = ERROR_INIT;
    struct image_info info;
    struct stat status;
    char path[VM_PATH];

    for (size_t i = 0; i < ARRAY_LENGTH(formats); i++) {
        path_in(*state, formats[i], path);
        assert_ok(image_create(path, formats[i], 1 << 30, NULL, NULL, &err), &err);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0600);
        assert_true(status.st_blocks * 512 < 1 << 20); /* sparse */
        assert_ok(image_info_read(path, formats[i], &info, &err), &err);
        assert_string_equal(info.format, formats[i]);
        assert_int_equal(info.virtual_size, 1 << 30);
        assert_true(info.actual_size < 1 << 20);
        assert_null(info.backing);
        image_info_release(&info);
    }
    path_in(*state, "qcow2", path);
    assert_ok(image_info_read(path, NULL, &info, &err), &err);
    assert_string_equal(info.format, "qcow2");
    image_info_release(&info);
}

static void test_overlay(void **state)
{
    char base[VM_PATH], overlay[VM_PATH];
    struct error err = ERROR_INIT;
    struct image_info info;

    path_in(*state, "base", base);
    path_in(*state, "overlay", overlay);
    assert_ok(image_create(base, "raw", 1 << 20, NULL, NULL, &err), &err);
    assert_int_equal(image_create(overlay, "raw", 1 << 20, base, "raw", &err), -EINVAL);
    assert_int_equal(image_create(overlay, "qcow2", 1 << 20, base, NULL, &err), -EINVAL);
    assert_ok(image_create(overlay, "qcow2", 1 << 20, base, "raw", &err), &err);
    assert_ok(image_info_read(overlay, "qcow2", &info, &err), &err);
    assert_string_equal(info.backing, base);
    assert_string_equal(info.backing_path, base);
    assert_string_equal(info.backing_format, "raw");
    image_info_release(&info);
}

static void test_nothing_is_overwritten(void **state)
{
    char path[VM_PATH], missing[VM_PATH];
    struct error err = ERROR_INIT;
    struct stat status;

    path_in(*state, "mine", path);
    path_in(*state, "missing", missing);
    assert_ok(image_create(path, "raw", 4096, NULL, NULL, &err), &err);
    assert_int_equal(image_create(path, "qcow2", 8192, NULL, NULL, &err), -EEXIST);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, 4096);
    path_in(*state, "new", path);
    assert_int_equal(image_create(path, "qcow2", 4096, missing, "raw", &err), -EIO);
    assert_non_null(strstr(err.text, "No such file or directory"));
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(image_create(path, "vmdk", 4096, NULL, NULL, &err), -EINVAL);
    assert_int_equal(image_create("relative", "raw", 4096, NULL, NULL, &err), -EINVAL);
}

static void test_bad_images(void **state)
{
    struct error err = ERROR_INIT;
    struct image_info info;
    char path[VM_PATH];

    path_in(*state, "raw", path);
    assert_int_equal(image_info_read(path, NULL, &info, &err), -EIO);
    assert_non_null(strstr(err.text, "No such file or directory"));
    assert_ok(image_create(path, "raw", 4096, NULL, NULL, &err), &err);
    assert_int_equal(image_info_read(path, "qcow2", &info, &err), -EIO);
    assert_non_null(strstr(err.text, "not in qcow2 format"));
}

static void test_space(void **state)
{
    struct bench *bench = *state;
    struct error err = ERROR_INIT;

    assert_ok(image_check_space(bench->folder, 4096, &err), &err);
    assert_int_equal(image_check_space(bench->folder, UINT64_MAX / 2, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "MiB are free"));
    assert_int_equal(image_check_space("/nonexistent", 1, &err), -ENOENT);
}

/* While a guest runs from it, too. */
static void test_image_in_use(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    struct error err = ERROR_INIT;
    struct image_info info;

    vm_make_disks(vm);
    vm_start(vm, bench);
    assert_ok(image_info_read(vm->paths[0], "qcow2", &info, &err), &err);
    assert_int_equal(info.virtual_size, vm_disk_size);
    image_info_release(&info);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        QEMU_TEST(test_made_and_looked_at),
        QEMU_TEST(test_overlay),
        QEMU_TEST(test_nothing_is_overwritten),
        QEMU_TEST(test_bad_images),
        QEMU_TEST(test_space),
        QEMU_TEST(test_image_in_use),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
