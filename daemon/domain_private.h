/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What the domain_*.c files share, and nobody else includes:
 *
 *     domain.c            the registry, states, jobs, references
 *     domain_file.c       state_dir/domains/NAME.json
 *     domain_vm.c         a domain's QEMU: launched, found again, watched
 *     domain_end.c        the end of it
 *     domain_log.c        state_dir/log/NAME
 *     domain_images.c     the images that a definition names, made or looked at before a start
 *     domain_commands.c   start, shutdown, destroy, undefine
 *     domain_attach.c     QEMUs that somebody else started
 *     domain_migration.c  coming in, and having moved
 *     domain_info.c       what is told of a domain: disks as QEMU has them, the object of `info`
 */
#ifndef DAEMON_DOMAIN_PRIVATE_H
#define DAEMON_DOMAIN_PRIVATE_H

#include "daemon/domain.h"
#include "qemu/guest.h"
#include "qemu/launch.h"
#include "qemu/qmp.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

enum {
    VM_LAUNCH_MS = 30000,    /* from exec to the first answer: a loaded host, many disks */
    VM_CONNECT_MS = 5000,    /* to a QEMU that runs */
    VM_COMMAND_MS = 10000,   /* a command that QEMU answers at once unless it is stuck */
    VM_KILL_MS = 30000,      /* SIGKILL: the kernel may have to finish I/O first */
    VM_LAST_WORDS_MS = 1000, /* of a process that has ended: its socket holds them all */
};

LIST_HEAD(domain_list, domain);
LIST_HEAD(vm_watch_list, vm_watch);

struct domains {
    const struct config *config;
    struct loop *loop;
    struct qmp_thread *qmp;
    pthread_mutex_t files; /* held while a domain's file is written or removed; before LOCK */
    pthread_mutex_t lock;  /* guards the rest, and the domains' fields */
    pthread_cond_t heard;  /* with it: some domain has no listeners any more */
    struct domain_list list;
    struct vm_watch_list watches;
    atomic_bool stopping; /* without the lock */
};

struct domain {
    /* Constant. */
    struct domains *domains;
    char *name;
    uint8_t uuid[UUID_SIZE];
    bool attached;
    char *qmp_socket, *admin_socket, *pidfile, *vnc_socket; /* attached: only the first */
    char *log_dir, *qemu_log;                               /* attached: NULL */

    /* Under the registry's lock. */
    LIST_ENTRY(domain) link; /* until it is gone */
    unsigned refs;
    enum domain_state state;
    const char *job;         /* NULL: none */
    char *moved_to;          /* the peer it went to; NULL: it did not */
    char shutdown_cause[32]; /* QEMU's word for why it shuts down; "" */
    bool crashed;            /* the last QEMU ended without such a word */
    bool transient;          /* goes when the guest is shut down or destroyed */

    /* Written under the lock by the job's holder only, who may therefore read them without it. */
    struct definition *definition; /* NULL: attached */
    struct definition *previous;   /* coming back: of the time before it moved */
    bool incoming;                 /* its QEMU was started to be migrated into */

    /* Its QEMU.  Taken away only while there is no job and nobody listens to its last words
     * (vm_settle), so that these may use them without the lock. */
    unsigned listeners;
    struct qmp *qmp; /* NULL with a pidfd: it could not be connected to yet */
    int pidfd;       /* -1: no QEMU */
    pid_t pid;

    /* Attached: as QEMU said when it was taken in. */
    struct domain_disk *drives;
    size_t drive_count;
    uint64_t memory;
    char machine[64];
};

/* ---- domain.c -------------------------------------------------------------------------------- */

/* A domain that is not yet in the registry, with one reference for it; owns SOCKET's copy (NULL:
 * not attached).  NULL with ERR. */
struct domain *domain_new(struct domains *domains, const char *name, const uint8_t uuid[UUID_SIZE],
                          const char *attached_socket, struct error *err);

/* One that was never in the registry. */
void domain_free(struct domain *domain);

void domains_lock(struct domains *domains);
void domains_unlock(struct domains *domains);

/* With the lock held: */
struct domain *domains_lookup(struct domains *domains, const char *name); /* no reference */
/* Puts a new domain in.  Returns 0, or -EEXIST with ERR when its name or UUID is taken. */
int domains_insert(struct domains *domains, struct domain *domain, struct error *err);
/* The one place where a state changes; DOMAIN_GONE takes it out of the registry. */
void domain_set_state(struct domain *domain, enum domain_state state);
int domain_begin_job_locked(struct domain *domain, const char *what, struct error *err);
void domain_state_text_locked(const struct domain *domain, char *ret, size_t size);

/* ---- domain_file.c --------------------------------------------------------------------------- */

/* Brings the file in line with the domain: written anew, or removed when it is gone.  On disk when
 * it returns 0.  Without the lock. */
int domain_save(struct domain *domain, struct error *err);
/* Reads all files and puts their domains into the registry; what can't be read is logged. */
int domains_load(struct domains *domains, struct error *err);

/* ---- domain_log.c ---------------------------------------------------------------------------- */

/* Where the serial port is logged: malloc'ed; NULL: nowhere, or no memory. */
char *vm_serial_log(const struct domain *domain);
/* Returns 0, or a negative errno with ERR. */
int vm_make_log_folder(const struct domain *domain, struct error *err);
/* The log folder of a guest that was to come, and now: has arrived; does not.  In the second case a
 * folder that was made for it goes, and its QEMU's last words are in our log; one that was there
 * before stays. */
void vm_keep_logs(const struct domain *domain);
void vm_remove_logs(const struct domain *domain);

/* ---- domain_vm.c ----------------------------------------------------------------------------- */

/* A wait of MS milliseconds that ends early when the daemon stops. */
struct qmp_wait vm_wait_ms(struct domains *domains, unsigned ms);
/* Starts the QEMU of the definition; WAIT is for its first answer. */
int vm_launch(struct domain *domain, const struct qmp_wait *wait, struct error *err);
/* Looks for the QEMU that an earlier daemon has left running, and sets the state; when there is
 * none any more, the domain is shut off (attached: gone).  DOMAIN is referenced by the caller. */
void vm_recover(struct domain *domain);
/* Connects to the QMP socket and asks what runs there.  NULL with ERR. */
struct qmp *vm_open(struct domain *domain, struct guest_info *ret, struct error *err);
/* Takes note of PID and PIDFD (taken over), and watches it.  With the lock held. */
int vm_adopt(struct domain *domain, pid_t pid, int pidfd, struct error *err);
/* When the daemon ends: forgets all watches.  The main loop does not run. */
void vm_watches_free(struct domains *domains);

/* ---- domain_end.c ---------------------------------------------------------------------------- */

/* Kills QEMU and waits for it; fine when there is none.  For the job's holder. */
int vm_kill(struct domain *domain, struct error *err);

/* If QEMU has ended, its last words are heard and the state follows; with no job in the way, what is
 * left of QEMU is released and its sockets are removed.  Without the lock, and not for the QMP thread;
 * DOMAIN is referenced by the caller. */
void vm_settle(struct domain *domain);
/* Files of a QEMU that has ended; not of an attached one. */
void vm_remove_sockets(const struct domain *domain);
/* The state of a domain whose QEMU has ended.  With the lock held. */
enum domain_state vm_state_after_end(const struct domain *domain);

/* ---- domain_images.c ------------------------------------------------------------------------- */

/* Makes DEFINITION's images that are missing and checks the others.  Returns 0 with the size of
 * each disk, also where the definition didn't say it. */
int images_prepare(const struct config *config, const struct definition *definition,
                   uint64_t ret_sizes[BS_DISKS_MAX], struct error *err);

/* ---- domain_attach.c ------------------------------------------------------------------------- */

/* Takes down what the attached QEMU says of itself.  Returns 0, or a negative errno with ERR. */
int attached_describe(struct domain *domain, struct qmp *qmp, const struct guest_info *info,
                      struct error *err);

/* ---- domain_info.c --------------------------------------------------------------------------- */

/* What QEMU says of its disks, under its own names for them. */
int drives_query(struct qmp *qmp, struct domain_disk **ret, size_t *ret_count, struct error *err);

#endif
