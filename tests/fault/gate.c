/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * gate hold PID TEXT FILE: lets the process run until one of its threads is about to write TEXT, to
 * its log or to a QEMU's monitor.  That thread is held there, before the write; the others go on.
 * FILE is made then.  The end of the gate (by SIGTERM) lets the thread go on.
 *
 * gate spoil PID TEXT FILE: changes the last letter of TEXT when it is about to be written, makes
 * FILE and ends.  So QEMU refuses a command ("The command migrate-continux has not been found"),
 * and that is a real error at a chosen moment.
 *
 * FILE.ready is made once the gate watches.  All is done by ptrace(2): nothing in the daemon knows
 * of it.  A tracer that ends sets its threads free, whatever state they are in.
 */
#include "config.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* <linux/ptrace.h> can't be included beside <sys/ptrace.h>. */
#define SYSCALL_INFO struct __ptrace_syscall_info

enum { PIECE_MAX = 65536, IOV_LOOKED_AT = 4 };

struct gate {
    const char *text, *file;
    bool spoil, hit;
};

static void die(const char *what)
{
    fprintf(stderr, "gate: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void make_file(const char *name)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

    if (fd < 0)
        die(name);
    close(fd);
}

/* ---- the traced process's memory ---------------------------------------------------------------- */

static bool peek(pid_t thread, uint64_t from, void *to, size_t length)
{
    struct iovec here = {.iov_base = to, .iov_len = length};
    struct iovec there = {.iov_base = (void *)(uintptr_t)from, .iov_len = length};

    return process_vm_readv(thread, &here, 1, &there, 1, 0) == (ssize_t)length;
}

/* Where TEXT stands in LENGTH bytes at FROM; 0: nowhere. */
static uint64_t find_in(pid_t thread, uint64_t from, uint64_t length, const char *text)
{
    static char piece[PIECE_MAX];
    const char *found;

    if (length > sizeof piece)
        length = sizeof piece;
    if (!peek(thread, from, piece, length))
        return 0;
    found = memmem(piece, length, text, strlen(text));
    return found ? from + (uint64_t)(found - piece) : 0;
}

static uint64_t find_in_iov(pid_t thread, uint64_t from, uint64_t count, const char *text)
{
    struct iovec iov[IOV_LOOKED_AT];
    uint64_t found = 0;

    if (count > IOV_LOOKED_AT)
        count = IOV_LOOKED_AT;
    if (!peek(thread, from, iov, count * sizeof *iov))
        return 0;
    for (size_t i = 0; i < count && !found; i++)
        found = find_in(thread, (uintptr_t)iov[i].iov_base, iov[i].iov_len, text);
    return found;
}

/* Where TEXT stands in what the thread is about to write; 0: it writes something else. */
static uint64_t find_in_write(pid_t thread, const char *text)
{
    SYSCALL_INFO info;
    struct msghdr message;

    if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) <= 0 ||
        info.op != PTRACE_SYSCALL_INFO_ENTRY)
        return 0;
    switch (info.entry.nr) {
    case SYS_write:
    case SYS_sendto:
        return find_in(thread, info.entry.args[1], info.entry.args[2], text);
    case SYS_writev:
        return find_in_iov(thread, info.entry.args[1], info.entry.args[2], text);
    case SYS_sendmsg:
        if (!peek(thread, info.entry.args[1], &message, sizeof message))
            return 0;
        return find_in_iov(thread, (uintptr_t)message.msg_iov, message.msg_iovlen, text);
    default:
        return 0;
    }
}

/* Changes the last letter of the text at WHERE. */
static void spoil(pid_t thread, uint64_t where, const char *text)
{
    size_t last = strlen(text);
    char letter;
    struct iovec here = {.iov_base = &letter, .iov_len = 1}, there = {.iov_len = 1};

    do
        last--;
    while (last && strchr("\"{}:, ", text[last]));
    letter = text[last] == 'x' ? 'y' : 'x';
    there.iov_base = (void *)(uintptr_t)(where + last);
    if (process_vm_writev(thread, &here, 1, &there, 1, 0) != 1)
        die("can't change what is written");
}

/* ---- threads ------------------------------------------------------------------------------------ */

/* Seizes the threads that were not yet; those started later come by themselves.  Returns how many. */
static int seize_new(pid_t process)
{
    const uintptr_t options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE;
    struct dirent *entry;
    char path[64];
    int count = 0;
    DIR *tasks;

    snprintf(path, sizeof path, "/proc/%d/task", process);
    tasks = opendir(path);
    if (!tasks)
        die(path);
    while ((entry = readdir(tasks))) {
        pid_t thread = (pid_t)atoi(entry->d_name);

        if (thread > 0 && ptrace(PTRACE_SEIZE, thread, NULL, options) == 0) {
            ptrace(PTRACE_INTERRUPT, thread, NULL, NULL);
            count++;
        } else if (thread > 0 && errno == EPERM && count == 0 && thread == process) {
            break;
        }
    }
    closedir(tasks);
    return count;
}

/* A thread stands at a system call.  Returns false if it shall stay there. */
static bool look(struct gate *gate, pid_t thread)
{
    uint64_t where = gate->hit ? 0 : find_in_write(thread, gate->text);

    if (!where)
        return true;
    gate->hit = true;
    if (gate->spoil)
        spoil(thread, where, gate->text);
    make_file(gate->file);
    return gate->spoil;
}

/* A thread has stopped, and goes on as is due. */
static void handle_stop(struct gate *gate, pid_t thread, int status)
{
    /* After the hit no system call has to be looked at any more. */
    const enum __ptrace_request on = gate->hit ? PTRACE_CONT : PTRACE_SYSCALL;
    int signal_number = WSTOPSIG(status), event = status >> 16;

    if (signal_number == (SIGTRAP | 0x80)) {
        if (look(gate, thread))
            ptrace(gate->hit ? PTRACE_CONT : PTRACE_SYSCALL, thread, NULL, NULL);
    } else if (event == PTRACE_EVENT_STOP && signal_number != SIGTRAP) {
        ptrace(PTRACE_LISTEN, thread, NULL, NULL); /* the process was stopped as a whole */
    } else if (event) {
        ptrace(on, thread, NULL, NULL);
    } else {
        ptrace(on, thread, NULL, (uintptr_t)signal_number);
    }
}

int main(int argc, char **argv)
{
    struct gate gate = {0};
    char ready[4096];
    pid_t process, thread;
    int status;

    if (argc != 5 || (strcmp(argv[1], "hold") != 0 && strcmp(argv[1], "spoil") != 0)) {
        fputs("usage: gate hold|spoil PID TEXT FILE\n", stderr);
        return 2;
    }
    process = (pid_t)atoi(argv[2]);
    gate = (struct gate){.text = argv[3], .file = argv[4], .spoil = strcmp(argv[1], "spoil") == 0};
    if (seize_new(process) == 0)
        die("can't trace the process");
    while (seize_new(process) > 0)
        ;
    snprintf(ready, sizeof ready, "%s.ready", gate.file);
    make_file(ready);
    while (!(gate.spoil && gate.hit) && (thread = waitpid(-1, &status, __WALL)) > 0)
        if (WIFSTOPPED(status))
            handle_stop(&gate, thread, status);
    return gate.hit ? 0 : 1;
}
