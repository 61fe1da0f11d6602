/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* qemu/launch.h: starting real QEMUs, finding and ending them, and what is said when it fails. */
#include "config.h"

#include "qemu/launch.c" /* one test stops in the middle of it */

#include "tests/qemu/vm.h"
#include "common/cleanup.h"
#include "common/loop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void test_guest_is_as_described(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    static const struct launch_nic nics[] = {{.type = "user"}, {.type = "none", .model = "e1000"}};
    struct error err = ERROR_INIT;
    struct guest_info info;

    vm_make_disks(vm);
    vm->launch.paused = true;
    vm->launch.nics = nics;
    vm->launch.n_nics = ARRAY_LENGTH(nics);
    vm_start(vm, bench);
    assert_ok(guest_query(vm->qmp, &info, WAIT, &err), &err);
    assert_string_equal(info.name, "test, with a comma");
    assert_string_equal(info.uuid, vm->launch.uuid);
    assert_string_equal(info.run_state, "prelaunch");
    assert_false(info.running);
    assert_int_equal(info.memory, 64 << 20);
    assert_non_null(strstr(info.machine, "pc-i440fx"));
    assert_ok(guest_cont(vm->qmp, WAIT, &err), &err);
    assert_true(vm_is_running(vm));
    assert_true(qmp_has_oob(vm->qmp));
}

/* It must not die with us, nor keep anything of ours. */
static void test_process_is_on_its_own(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    char path[64];
    struct stat status;

    vm_make_disks(vm);
    vm_start(vm, bench);
    assert_int_equal(waitpid(qmp_pid(vm->qmp), NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(getsid(qmp_pid(vm->qmp)), qmp_pid(vm->qmp));
    snprintf(path, sizeof path, "/proc/%d/fd/2", (int)qmp_pid(vm->qmp));
    assert_int_equal(stat(path, &status), 0);
    assert_true(S_ISREG(status.st_mode)); /* the log */
}

/* The daemon is killed between fork and exec: what was to become QEMU ends, and until then it holds
 * nothing of the daemon's that another daemon needs. */
static void test_daemon_killed_meanwhile(void **state)
{
    struct vm *vm = vm_new(*state, "a");
    struct start start = {.launch = &vm->launch, .null = -1, .log = -1, .qmp = -1, .admin = -1};
    CLEANUP_CLOSE int lock = open("/dev/null", O_RDONLY | O_CLOEXEC), pidfd = -1;
    struct error err = ERROR_INIT;
    struct report report;
    char path[64];
    int pair[2], status;

    assert_true(lock >= 0);
    assert_true(open_all(&start, &err));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    start.parent = pair[1];
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    assert_ok(fork_twice(&start, &err), &err);
    close(pair[1]);
    assert_int_equal(read_report(pair[0], &report), sizeof report);
    assert_int_equal(report.code, 0);
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)report.pid, lock);
    assert_int_equal(access(path, F_OK), -1);
    pidfd = pidfd_open(report.pid, 0);
    close(pair[0]); /* as the kernel does for one that is killed */
    if (!launch_wait_end(pidfd, WAIT_MS)) {
        kill(report.pid, SIGKILL);
        fail_msg("it waits for ever");
    }
    assert_int_equal(waitpid(report.pid, &status, 0), report.pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 126);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    close_all(&start);
}

static void test_found_again(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    CLEANUP_CLOSE int pidfd = -1, none = -1, by_lock = -1;
    struct error err = ERROR_INIT;
    pid_t pid = 0;

    vm_make_disks(vm);
    vm_start(vm, bench);
    assert_ok(launch_find(vm->qmp_socket, vm->pidfile, &pid, &pidfd, &err), &err);
    assert_int_equal(pid, qmp_pid(vm->qmp));
    assert_int_equal(launch_find(vm->qmp_socket, "/nonexistent", &pid, &none, &err), -EEXIST);
    assert_int_equal(unlink(vm->qmp_socket), 0); /* no reason to call it dead */
    assert_ok(launch_find(vm->qmp_socket, vm->pidfile, &pid, &by_lock, &err), &err);
    assert_int_equal(pid, qmp_pid(vm->qmp));
    assert_false(launch_ended(pidfd));
    assert_ok(launch_kill(pidfd, WAIT_MS, &err), &err);
    assert_true(launch_ended(pidfd));
    assert_int_equal(launch_kill(pidfd, WAIT_MS, &err), 0);
    assert_int_equal(launch_find(vm->qmp_socket, vm->pidfile, &pid, &none, &err), -ESRCH);
    assert_int_equal(qmp_execute(vm->qmp, "query-status", json_object(), WAIT, NULL, &err),
                     -ENOTCONN);
}

/* QEMU talks to one client at a time; the operator has a socket of his own. */
static void test_second_client(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    struct qmp_wait wait = qmp_wait_ms(200);
    struct error err = ERROR_INIT;
    struct qmp *second;

    vm_make_disks(vm);
    vm_start(vm, bench);
    assert_null(qmp_connect(bench->thread, vm->qmp_socket, &wait, NULL, NULL, &err));
    assert_int_equal(err.code, ETIMEDOUT);
    assert_non_null(strstr(err.text, "another QMP client holds this socket"));
    wait = qmp_wait_ms(WAIT_MS);
    second = qmp_connect(bench->thread, vm->admin_socket, &wait, NULL, NULL, &err);
    assert_non_null(second);
    assert_int_equal(qmp_pid(second), qmp_pid(vm->qmp));
    qmp_free(second);
}

static void expect_failure(struct bench *bench, struct vm *vm, int code, const char *sentence)
{
    struct qmp_wait wait = qmp_wait_ms(WAIT_MS);
    struct error err = ERROR_INIT;

    assert_null(launch_qemu(bench->thread, &vm->launch, &wait, NULL, NULL, &err));
    assert_int_equal(err.code, code);
    if (!strstr(err.text, sentence))
        fail_msg("\"%s\" doesn't say \"%s\"", err.text, sentence);
    assert_int_not_equal(access(vm->qmp_socket, F_OK), 0);
    assert_int_not_equal(access(vm->launch.pidfile, F_OK), 0);
}

static void test_failures_say_why(void **state)
{
    static const char *const bad_option[] = {"-device", "no-such-device", NULL};
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");

    expect_failure(bench, vm, EIO, "vda.qcow2': No such file or directory");
    vm_make_disks(vm);
    vm->launch.binary = "/nonexistent/qemu";
    expect_failure(bench, vm, ENOENT,
                   "QEMU (/nonexistent/qemu) can't be run: No such file or directory");
    vm->launch.binary = QEMU_BINARY;
    vm->launch.extra = bad_option;
    expect_failure(bench, vm, EIO, "'no-such-device' is not a valid device model name");
    vm->launch.extra = NULL;
    vm->launch.memory = 1000;
    expect_failure(bench, vm, EINVAL, "a multiple of 1 MiB");
    vm->launch.memory = 64 << 20;
    vm->paths[0][0] = 'x';
    expect_failure(bench, vm, EINVAL, "the path of disk vda must be absolute");
}

/* The pid of the QEMU that SCRIPT below has run, once it is dead. */
static void expect_dead(const struct bench *bench)
{
    struct error err = ERROR_INIT;
    char path[300];
    int pid, pidfd;
    FILE *file;

    snprintf(path, sizeof path, "%s/qemu.pid", bench->folder);
    file = fopen(path, "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%d", &pid), 1);
    fclose(file);
    pidfd = pidfd_open(pid, 0);
    if (pidfd >= 0) {
        assert_true(launch_wait_end(pidfd, WAIT_MS));
        close(pidfd);
    } else {
        error_set_errno(&err, errno, "no process %d", pid);
        assert_int_equal(err.code, ESRCH);
    }
}

/* A fence that kills a script in front of QEMU would leave a QEMU behind. */
static void test_script_without_exec(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    char script[300];
    FILE *file;

    vm_make_disks(vm);
    snprintf(script, sizeof script, "%s/qemu.sh", bench->folder);
    file = fopen(script, "we");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\n" QEMU_BINARY " \"$@\" &\necho $! >%s/qemu.pid\nwait\n",
            bench->folder);
    fclose(file);
    assert_int_equal(chmod(script, 0700), 0);
    vm->launch.binary = script;
    expect_failure(bench, vm, EINVAL, "a script must end with \"exec\" of QEMU");
    expect_dead(bench);
}

static void test_running_one_is_not_replaced(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    struct qmp_wait wait = qmp_wait_ms(WAIT_MS);
    struct error err = ERROR_INIT;

    vm_make_disks(vm);
    vm_start(vm, bench);
    assert_null(launch_qemu(bench->thread, &vm->launch, &wait, NULL, NULL, &err));
    assert_int_equal(err.code, EEXIST);
    assert_true(vm_is_running(vm));
}

static bool has_argument(char **argv, const char *argument)
{
    for (; *argv; argv++) {
        if (strcmp(*argv, argument) == 0)
            return true;
    }
    return false;
}

static void test_arguments(void **state)
{
    static const struct launch_disk disk = {
        .target = "vda", .path = "/a,b=c", .format = "raw", .readonly = true, .discard = true};
    static const struct launch_nic nics[] = {
        {.type = "tap", .ifname = "t0", .mac = "52:54:00:00:00:01"},
        {.type = "none", .ifname = "t1", .model = "e1000"},
    };
    const struct launch launch = {.binary = "qemu",
                                  .name = "n",
                                  .vcpus = 1,
                                  .memory = 1 << 20,
                                  .disks = &disk,
                                  .n_disks = 1,
                                  .nics = nics,
                                  .n_nics = 2,
                                  .serial_log = "/x,y",
                                  .pidfile = "/p"};
    char **argv = launch_argv(&launch, 5, -1, NULL);

    (void)state;
    assert_non_null(argv);
    assert_true(has_argument(argv, "if=none,id=drive-vda,node-name=vda,driver=raw,discard=ignore,"
                                   "file.driver=file,file.node-name=vda-file,"
                                   "file.filename=/a,,b=c,file.discard=ignore,read-only=on"));
    assert_true(has_argument(argv, "tap,id=net0,ifname=t0,script=no,downscript=no"));
    assert_true(has_argument(argv, "virtio-net-pci,id=nic0,netdev=net0,mac=52:54:00:00:00:01"));
    assert_true(has_argument(argv, "e1000,id=nic1"));
    assert_true(has_argument(argv, "file,id=serial0,path=/x,,y,append=on"));
    assert_true(has_argument(argv, "socket,id=qmp,fd=5,server=on,wait=off"));
    assert_false(has_argument(argv, "-S"));
    launch_free_argv(argv);
}

/* More disks than a PCI bus has places: QEMU finds a place for each all the same. */
static void test_many_disks(void **state)
{
    enum { MANY = 64 };
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    struct launch_disk disks[MANY];
    char names[MANY][2][256];
    struct error err = ERROR_INIT;
    struct block_drive *drives;
    size_t count;

    for (size_t i = 0; i < MANY; i++) {
        snprintf(names[i][0], sizeof names[i][0], "vd%c%c", (char)('a' + i / 26),
                 (char)('a' + i % 26));
        snprintf(names[i][1], sizeof names[i][1], "%s/%s", bench->folder, names[i][0]);
        assert_ok(image_create(names[i][1], "raw", 1 << 20, NULL, NULL, &err), &err);
        disks[i] = (struct launch_disk){
            .target = names[i][0], .path = names[i][1], .format = "raw", .discard = true};
    }
    vm->launch.disks = disks;
    vm->launch.n_disks = MANY;
    vm_start(vm, bench);
    assert_ok(block_drives_query(vm->qmp, &drives, &count, WAIT, &err), &err);
    assert_int_equal(count, MANY);
    block_drives_free(drives, count);
    for (size_t i = 0; i < MANY; i++)
        unlink(names[i][1]);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        QEMU_TEST(test_guest_is_as_described),
        QEMU_TEST(test_process_is_on_its_own),
        QEMU_TEST(test_daemon_killed_meanwhile),
        QEMU_TEST(test_found_again),
        QEMU_TEST(test_second_client),
        QEMU_TEST(test_failures_say_why),
        QEMU_TEST(test_script_without_exec),
        QEMU_TEST(test_running_one_is_not_replaced),
        QEMU_TEST(test_many_disks),
        cmocka_unit_test(test_arguments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
