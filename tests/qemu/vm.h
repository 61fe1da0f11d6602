/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Real QEMUs for tests: a bench is a folder of its own with a QMP thread, and gives back
 * everything, processes too, when the test ends, also when it failed.  Without qemu-system-x86_64
 * all tests are skipped (exit code 77).
 */
#ifndef TESTS_QEMU_VM_H
#define TESTS_QEMU_VM_H

#include "qemu/block.h"
#include "qemu/guest.h"
#include "qemu/image.h"
#include "qemu/launch.h"
#include "qemu/migration.h"
#include "tests/unit/unit.h"

enum { VM_MAX = 4, VM_DISKS = 2, VM_PATH = 108, WAIT_MS = 20000 };

struct bench;

/* A QEMU with the disks vda (qcow2) and vdb (raw) in FOLDER/NAME. */
struct vm {
    char folder[VM_PATH / 2];
    char qmp_socket[VM_PATH], admin_socket[VM_PATH], pidfile[VM_PATH], log[VM_PATH];
    char nbd_socket[VM_PATH], ram_socket[VM_PATH];
    char paths[VM_DISKS][VM_PATH];
    struct launch_disk disks[VM_DISKS];
    struct launch launch;
    struct qmp *qmp;
    int pidfd; /* a duplicate of QMP's, so that it can be waited for after qmp_free() */
};

struct bench {
    char folder[40];
    struct qmp_thread *thread;
    struct vm *vms[VM_MAX];
    size_t n_vms;
};

extern const uint64_t vm_disk_size;
/* What mode bistream sets at the source. */
extern const struct migration_setup vm_source;

/* cmocka's set-up and tear-down of one test: *STATE is a struct bench. */
int bench_setup(void **state);
int bench_teardown(void **state);

/* A folder and a description, nothing is started; vm_make_guest() or vm_make_disks() comes next. */
struct vm *vm_new(struct bench *bench, const char *name);
/* The guest of tests/guest on its disks; it writes for ever once started. */
void vm_make_guest(struct vm *vm);
/* Empty disks of the same sizes, where there are none yet. */
void vm_make_disks(struct vm *vm);
/* Starts it and expects success. */
void vm_start(struct vm *vm, struct bench *bench);
/* Starts it as the destination: exports made, checked and listened on, incoming begun. */
void vm_start_incoming(struct vm *vm, struct bench *bench);
/* SIGKILL, and waits. */
void vm_kill(struct vm *vm);
/* Ends QEMU in good order, so that its images are written. */
void vm_quit(struct vm *vm);

/* Fills MIRRORS for the disks of VM, towards DESTINATION. */
void vm_describe_mirrors(const struct vm *destination, struct block_mirror mirrors[VM_DISKS]);
bool vm_is_running(struct vm *vm);
/* Waits until the guest's counter has gone up, which proves that it runs and its disks work. */
void vm_check_writes(struct vm *vm);
/* Ends the guest and looks for each of its last writes on its images. */
void vm_check_images(struct vm *vm);

/* Fails the test with ERR's sentence unless R is 0. */
#define assert_ok(r, err)                                  \
    do {                                                   \
        if ((r) != 0)                                      \
            fail_msg("%s (%d)", (err)->text, (err)->code); \
    } while (0)

/* A fresh wait, as an expression. */
#define WAIT (&(struct qmp_wait){.deadline = loop_clock() + WAIT_MS * LOOP_MS})

#define QEMU_TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)

/* main() of a test program. */
int run_with_qemu(int (*run)(void));

#endif
