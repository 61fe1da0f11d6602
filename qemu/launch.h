/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Starting a QEMU that outlives the daemon, and ending it.
 *
 * QEMU is nobody's child (its parent is init), runs in a session of its own, and inherits nothing
 * but its two QMP sockets: they are bound before it starts and listened on by its own process, so
 * a client can connect at once, and SO_PEERCRED names QEMU.  What QEMU writes to stderr, which is
 * all it ever says about a failed incoming migration, goes to a log file; its last line stands in
 * our error sentences.
 */
#ifndef QEMU_LAUNCH_H
#define QEMU_LAUNCH_H

#include "qemu/qmp.h"

#include <stddef.h>

/* Strings may hold any character but newlines; commas are doubled for QEMU where they must be. */
struct launch_disk {
    const char *target; /* "vda": node-name vda, drive id drive-vda, device id disk-vda */
    const char *path;   /* absolute; NULL: an empty CD drive, of which only the target counts */
    const char *format; /* "qcow2", "raw" */
    bool readonly;
    bool backing; /* the image has a backing file: its node is called "vda-backing" */
    bool discard; /* the guest's discards and zeroes free space in the image */
    const char
        *cache; /* "none", "writeback", "writethrough", "directsync", "unsafe"; NULL: QEMU's */
};

struct launch_nic {
    const char *type;   /* "user", "tap" (needs ifname), "none" (a card without a cable) */
    const char *model;  /* "virtio-net-pci", "e1000", ...; NULL: virtio-net-pci */
    const char *mac;    /* NULL: QEMU's */
    const char *ifname; /* the tap device; else NULL */
};

struct launch {
    const char *binary; /* "qemu-system-x86_64": a path, or looked for in PATH */
    const char *name, *uuid;
    const char *machine;  /* "pc", "q35", "pc-i440fx-7.2"; NULL: QEMU's */
    const char *accel;    /* "kvm", "tcg"; NULL: kvm if it works, else tcg */
    const char *cpu;      /* NULL: QEMU's */
    unsigned vcpus;       /* >= 1 */
    uint64_t memory;      /* bytes, a multiple of 1 MiB */
    const char *firmware; /* -bios; NULL: QEMU's */
    const struct launch_disk *disks;
    size_t n_disks; /* the first one is booted from */
    const struct launch_nic *nics;
    size_t n_nics;
    const char *serial_log;   /* file; NULL: no serial port */
    const char *display;      /* "none", "vnc=unix:PATH", ...; NULL: none */
    const char *const *extra; /* this host's own arguments, NULL-terminated; NULL: none */
    /* A destination: waits for migrate-incoming (-incoming defer -S), and its disks are opened with
     * discard whatever they say, or raw images would fill up; block_set_discard() puts that right
     * once the guest has arrived. */
    bool incoming;
    bool paused;              /* -S */
    const char *qmp_socket;   /* the daemon's */
    const char *admin_socket; /* the operator's; NULL: none */
    const char *pidfile, *log;
};

/* The argument vector, NULL-terminated, for launch_free_argv(); QMP_FD and ADMIN_FD are the
 * descriptors that QEMU will find its listening sockets at (ADMIN_FD -1: none).
 * Returns NULL with ERR set. */
char **launch_argv(const struct launch *launch, int qmp_fd, int admin_fd, struct error *err);
void launch_free_argv(char **argv);

/* Starts QEMU and waits until its QMP answers, as long as WAIT says; old socket files are
 * replaced.  When it fails no process and none of its files but the log is left.  Returns NULL with
 * ERR set: "QEMU (/usr/bin/...) can't be run: No such file or directory" (ENOENT), QEMU's own last
 * line, or that the binary is a script that doesn't end with "exec" of QEMU (EINVAL). */
struct qmp *launch_qemu(struct qmp_thread *thread, const struct launch *launch,
                        const struct qmp_wait *wait, const struct qmp_handlers *handlers,
                        void *opaque, struct error *err);

/* Kills the process (SIGKILL) and waits until it has gone.  Returns 0, also if it had gone before;
 * -ETIMEDOUT if it is still there (stuck in the kernel), or another negative errno; ERR is set. */
int launch_kill(int pidfd, unsigned timeout_ms, struct error *err);
/* Asks the process to end (SIGTERM) and waits for that.  Returns 0, also if it had gone before, or
 * -ETIMEDOUT, or another negative errno. */
int launch_terminate(int pidfd, unsigned timeout_ms);
/* Has the process ended? */
bool launch_ended(int pidfd);
/* Waits for that, TIMEOUT_MS at the most. */
bool launch_wait_end(int pidfd, unsigned timeout_ms);

/* Is the QEMU that launch_qemu() started with QMP_SOCKET and PIDFILE still there (we may have been
 * restarted since)?  It holds a lock on its pid file as long as it lives, and the kernel tells
 * whose lock that is.  Returns 0 and a pidfd in RET_PIDFD for the caller to close; -ESRCH when it
 * has ended; -EEXIST when nobody holds the lock, but some process listens on the socket; another
 * negative errno; ERR is set. */
int launch_find(const char *qmp_socket, const char *pidfile, pid_t *ret_pid, int *ret_pidfd,
                struct error *err);

/* The process that locks PIDFILE, as QEMU does as long as it lives; 0: none, or a negative errno. */
pid_t launch_lock_holder(const char *pidfile);

/* The same with a pidfd of it in RET_PIDFD, for the caller to close.  Returns 0, -ESRCH when there is
 * none, or another negative errno. */
int launch_find_holder(const char *pidfile, int *ret_pidfd);

/* The last line that QEMU wrote into LOG, without its newline; "" when there is none. */
void launch_last_words(const char *log, char *ret, size_t size);
/* The same of what was written from position SINCE on. */
void launch_words_since(const char *log, off_t since, char *ret, size_t size);

#endif
