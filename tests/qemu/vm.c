/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Real QEMUs for tests: see vm.h. */
#include "config.h"

#include "tests/qemu/vm.h"
#include "common/cleanup.h"
#include "common/loop.h"
#include "qemu/child.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const uint64_t vm_disk_size = 64 << 20;
const struct migration_setup vm_source = {.source = true, .return_path = true};
static const char *const disk_names[VM_DISKS] = {"vda", "vdb"};
static const char *const formats[VM_DISKS] = {"qcow2", "raw"};

/* --- the bench --- */

int bench_setup(void **state)
{
    struct bench *bench = calloc(1, sizeof *bench);

    assert_non_null(bench);
    strcpy(bench->folder, "/tmp/bistream-qemu-XXXXXX");
    assert_non_null(mkdtemp(bench->folder));
    bench->thread = qmp_thread_new(NULL);
    assert_non_null(bench->thread);
    *state = bench;
    return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

static void vm_free(struct vm *vm)
{
    vm_kill(vm);
    free(vm);
}

int bench_teardown(void **state)
{
    struct bench *bench = *state;

    for (size_t i = 0; i < bench->n_vms; i++)
        vm_free(bench->vms[i]);
    qmp_thread_free(bench->thread);
    nftw(bench->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(bench);
    return 0;
}

int run_with_qemu(int (*run)(void))
{
    char *const argv[] = {(char *)QEMU_BINARY, (char *)"--version", NULL};

    if (child_run(argv, WAIT_MS, NULL, NULL) < 0) {
        puts("skipped: qemu-system-x86_64 is missing");
        return 77;
    }
    return run();
}

/* --- a machine --- */

static void describe_disks(struct vm *vm)
{
    for (size_t i = 0; i < VM_DISKS; i++) {
        snprintf(vm->paths[i], VM_PATH, "%s/%s.%s", vm->folder, disk_names[i], formats[i]);
        vm->disks[i] = (struct launch_disk){
            .target = disk_names[i], .path = vm->paths[i], .format = formats[i], .cache = "unsafe"};
    }
}

struct vm *vm_new(struct bench *bench, const char *name)
{
    struct vm *vm = calloc(1, sizeof *vm);

    assert_non_null(vm);
    assert_true(bench->n_vms < VM_MAX);
    bench->vms[bench->n_vms++] = vm;
    vm->pidfd = -1;
    snprintf(vm->folder, sizeof vm->folder, "%s/%s", bench->folder, name);
    assert_int_equal(mkdir(vm->folder, 0700), 0);
    snprintf(vm->qmp_socket, VM_PATH, "%s/qmp", vm->folder);
    snprintf(vm->admin_socket, VM_PATH, "%s/admin", vm->folder);
    snprintf(vm->pidfile, VM_PATH, "%s/pid", vm->folder);
    snprintf(vm->log, VM_PATH, "%s/log", vm->folder);
    snprintf(vm->nbd_socket, VM_PATH, "%s/nbd", vm->folder);
    snprintf(vm->ram_socket, VM_PATH, "%s/ram", vm->folder);
    describe_disks(vm);
    vm->launch = (struct launch){
        .binary = QEMU_BINARY,
        .name = "test, with a comma",
        .uuid = "5d1c3a0e-6f0e-4d8e-9d0b-3b9c7b0f9a11",
        .machine = "pc",
        .accel = "tcg",
        .vcpus = 1,
        .memory = 64 << 20,
        .disks = vm->disks,
        .n_disks = VM_DISKS,
        .qmp_socket = vm->qmp_socket,
        .admin_socket = vm->admin_socket,
        .pidfile = vm->pidfile,
        .log = vm->log,
    };
    return vm;
}

void vm_make_guest(struct vm *vm)
{
    char *const argv[] = {(char *)MKGUEST, (char *)"--dir",      vm->folder,   (char *)"--size",
                          (char *)"64M",   (char *)"--vda-data", (char *)"8M", (char *)"--slots",
                          (char *)"256",   (char *)"--ram",      (char *)"1M", NULL};
    struct error err = ERROR_INIT;

    assert_ok(child_run(argv, WAIT_MS, NULL, &err), &err);
}

void vm_make_disks(struct vm *vm)
{
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < VM_DISKS; i++) {
        if (access(vm->paths[i], F_OK) != 0)
            assert_ok(image_create(vm->paths[i], formats[i], vm_disk_size, NULL, NULL, &err), &err);
    }
}

void vm_start(struct vm *vm, struct bench *bench)
{
    struct qmp_wait wait = qmp_wait_ms(WAIT_MS);
    struct error err = ERROR_INIT;

    vm->qmp = launch_qemu(bench->thread, &vm->launch, &wait, NULL, NULL, &err);
    if (!vm->qmp)
        fail_msg("%s", err.text);
    vm->pidfd = fcntl(qmp_pidfd(vm->qmp), F_DUPFD_CLOEXEC, 0);
    assert_true(vm->pidfd >= 0);
}

void vm_start_incoming(struct vm *vm, struct bench *bench)
{
    struct error err = ERROR_INIT;

    vm_make_disks(vm);
    vm->launch.incoming = true;
    vm_start(vm, bench);
    assert_ok(migration_prepare(vm->qmp, &(struct migration_setup){.source = false}, WAIT, &err),
              &err);
    assert_ok(
        block_exports_start(vm->qmp, QEMU_ADDRESS_UNIX(vm->nbd_socket), NULL, NULL, WAIT, &err),
        &err);
    for (size_t i = 0; i < VM_DISKS; i++) {
        assert_ok(block_export_add(vm->qmp, disk_names[i], disk_names[i], WAIT, &err), &err);
        assert_ok(block_export_check(vm->nbd_socket, disk_names[i], vm_disk_size, WAIT_MS, &err),
                  &err);
    }
    assert_ok(migration_incoming(vm->qmp, QEMU_ADDRESS_UNIX(vm->ram_socket), WAIT, &err), &err);
}

static void forget(struct vm *vm)
{
    qmp_free(vm->qmp);
    vm->qmp = NULL;
    cleanup_close(&vm->pidfd);
    vm->pidfd = -1;
}

void vm_kill(struct vm *vm)
{
    if (vm->pidfd >= 0)
        assert_int_equal(launch_kill(vm->pidfd, WAIT_MS, NULL), 0);
    forget(vm);
}

void vm_quit(struct vm *vm)
{
    struct error err = ERROR_INIT;

    assert_ok(guest_quit(vm->qmp, WAIT, &err), &err);
    assert_true(launch_wait_end(vm->pidfd, WAIT_MS));
    forget(vm);
}

void vm_describe_mirrors(const struct vm *destination, struct block_mirror mirrors[VM_DISKS])
{
    for (unsigned i = 0; i < VM_DISKS; i++)
        mirrors[i] = (struct block_mirror){.number = i,
                                           .target = disk_names[i],
                                           .device = disk_names[i],
                                           .address.path = destination->nbd_socket,
                                           .export_name = disk_names[i]};
}

/* --- the guest --- */

bool vm_is_running(struct vm *vm)
{
    struct error err = ERROR_INIT;
    char run_state[32];
    bool running;

    assert_ok(guest_run_state(vm->qmp, run_state, &running, WAIT, &err), &err);
    return running;
}

/* The counter once it is above ABOVE. */
static unsigned long long read_counter(struct vm *vm, unsigned long long above)
{
    char text[32];
    char *const argv[] = {(char *)GUESTCHECK,
                          (char *)"ram",
                          (char *)"--qmp",
                          vm->admin_socket,
                          (char *)"--above",
                          text,
                          NULL};
    CLEANUP_FREE char *output = NULL;
    struct error err = ERROR_INIT;
    const char *number;

    snprintf(text, sizeof text, "%llu", above);
    assert_ok(child_run(argv, WAIT_MS, &output, &err), &err);
    number = strstr(output, "counter=");
    assert_non_null(number);
    return strtoull(number + strlen("counter="), NULL, 10);
}

void vm_check_writes(struct vm *vm)
{
    unsigned long long counter = read_counter(vm, 0);

    assert_true(read_counter(vm, counter + 20) > counter);
}

void vm_check_images(struct vm *vm)
{
    char text[32];
    char *const argv[] = {(char *)GUESTCHECK,
                          (char *)"images",
                          (char *)"--counter",
                          text,
                          vm->paths[0],
                          vm->paths[1],
                          NULL};
    struct error err = ERROR_INIT;

    assert_ok(guest_stop(vm->qmp, WAIT, &err), &err);
    snprintf(text, sizeof text, "%llu", read_counter(vm, 0));
    vm_quit(vm);
    assert_ok(child_run(argv, WAIT_MS, NULL, &err), &err);
}
