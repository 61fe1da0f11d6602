/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Domains: the guests that this daemon knows, and the QEMU of each.
 *
 * A *state* says what the guest's QEMU does.  A *job* says who may change it: starting, destroying
 * and migrating a domain all need its one job, and whoever comes second is told what is going on
 * ("domain web is migrating").  QEMU's own doings (it pauses, the guest shuts down, it dies) change
 * the state at any time, also under a job.
 *
 * Each domain has a file state_dir/domains/NAME.json with its definition as last used, its state
 * and what is needed to find its QEMU again, which outlives the daemon.
 *
 * All functions may be called by any thread and those marked "blocks" not by the main loop's or
 * QMP's.  They take the registry's one lock for as long as they need it, never across a wait.  Lock
 * order: the registry's lock may be taken under any other, and none but QMP's own is taken under
 * it.
 */
#ifndef DAEMON_DOMAIN_H
#define DAEMON_DOMAIN_H

#include "common/error.h"
#include "common/loop.h"
#include "daemon/conf.h"
#include "daemon/definition.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct domain;
struct domains;
struct qmp;
struct qmp_thread;
struct qmp_wait;

enum domain_state {
    DOMAIN_SHUT_OFF, /* no QEMU; may be started and undefined */
    DOMAIN_STARTING, /* its QEMU is being made, or looked for by a restarted daemon */
    DOMAIN_RUNNING,
    DOMAIN_PAUSED,   /* its QEMU is there and its vCPUs stand */
    DOMAIN_INCOMING, /* its QEMU waits for, or loads, a migration */
    DOMAIN_MOVED,    /* shut off, because it was migrated to a peer; starts only by force */
    DOMAIN_GONE,     /* no longer in the registry; only somebody's reference is left */
};
#define DOMAIN_STATES (DOMAIN_GONE + 1)

/* ---- the registry ---------------------------------------------------------------------------- */

/* Reads state_dir/domains and looks for the QEMUs that were left running.  LOOP is the main loop,
 * which may not yet run; QMP's thread must.  A domain whose QEMU is gone is shut off; a file that
 * can't be read is named in the log and left alone.  Blocks.  Returns NULL with ERR. */
struct domains *domains_new(const struct config *config, struct loop *loop, struct qmp_thread *qmp,
                            struct error *err);
/* The daemon stops: nobody waits any longer for a QEMU to answer for the first time.  Any thread. */
void domains_stop(struct domains *domains);
/* Lets go of all QEMUs, which run on.  After LOOP was stopped and before it is freed; nobody may
 * hold a domain any more. */
void domains_free(struct domains *domains);

/* Returns a reference, or NULL with ERR "no domain named NAME here ...". */
struct domain *domains_find(struct domains *domains, const char *name, struct error *err);
/* All domains in order of their names, with a reference each, in a malloc'ed array. */
int domains_list(struct domains *domains, struct domain ***ret, size_t *ret_count);

struct domain *domain_ref(struct domain *domain);
void domain_unref(struct domain *domain); /* NULL is fine */

/* ---- what a domain is ------------------------------------------------------------------------ */

const char *domain_name(const struct domain *domain); /* never changes */
void domain_uuid(const struct domain *domain, uint8_t ret[UUID_SIZE]);
enum domain_state domain_state(struct domain *domain);
/* "running", "moved to PEER", ... into RET. */
void domain_state_text(struct domain *domain, char *ret, size_t size);
/* Taken in by attach: somebody else's QEMU, never started by us, its definition unknown. */
bool domain_attached(const struct domain *domain);
pid_t domain_pid(struct domain *domain); /* 0: no QEMU */
/* When its QEMU has died of itself: that, in words such as "its QEMU has died: QEMU's own last line", into
 * RET, and true.  For the job's holder. */
bool domain_last_words(const struct domain *domain, char *ret, size_t size);
/* Whether it stays when its guest is shut down.  One that has come by a migration without
 * --persistent goes then, and so does an attached one. */
bool domain_persistent(struct domain *domain);
/* Its last QEMU has died instead of shutting down, for all that is known. */
bool domain_crashed(struct domain *domain);

/* The object of `info --json`:
 *   name, uuid, state, pid (or null), attached, persistent, machine, vcpus, memory (bytes, or null when
 *   attached), disks [{target, file, format, size, readonly, empty}], qmp (the operator's socket,
 *   or null), log (QEMU's own output, or null), serial_log, vnc (socket, or null), moved_to (or
 *   null), job (or null).
 * Asks QEMU for nothing.  A new reference; NULL without memory. */
json_t *domain_info(struct domain *domain);

/* ---- jobs ------------------------------------------------------------------------------------ */

/* Takes the domain for oneself.  WHAT completes "domain NAME is ..." and is a constant.  Returns 0,
 * or -EBUSY with ERR telling the job that has it; -ENOENT when it is gone. */
int domain_begin_job(struct domain *domain, const char *what, struct error *err);
void domain_end_job(struct domain *domain);

/* The following are for the job's holder, and what they return lasts until it ends the job. */

const struct definition *domain_definition(const struct domain *domain); /* NULL: attached */
/* QMP of its QEMU; connects again when the daemon could not when it was started (blocks then). When
 * QEMU dies, calls on it fail; it isn't freed.  NULL with ERR when there is no QEMU to talk to. */
struct qmp *domain_qmp(struct domain *domain, struct error *err);

/* A disk as QEMU has it now. */
struct domain_disk {
    char *target;  /* of the definition; attached: QEMU's name for it (block_drive.name) */
    char *device;  /* what blockdev-mirror's "device" and block-export-add's "node-name" take */
    char *path;    /* of the image; NULL when empty */
    char *format;  /* "raw", "qcow2", or what else QEMU calls it; NULL when empty */
    uint64_t size; /* virtual size in bytes */
    bool readonly;
    bool empty;            /* a drive without a medium */
    char *backing;         /* path of the backing file; NULL: none */
    char *backing_format;  /* NULL: not said */
    uint64_t backing_size; /* its virtual size */
};

/* Asks QEMU (query-block).  In the definition's order; attached: in QEMU's.  Blocks. */
int domain_disks(struct domain *domain, struct domain_disk **ret, size_t *ret_count,
                 struct error *err);
/* The same from the definition and the images themselves, of a guest that is shut off.  Not for an
 * attached one. */
int domain_images(struct domain *domain, struct domain_disk **ret, size_t *ret_count,
                  struct error *err);
void domain_disks_free(struct domain_disk *disks, size_t count); /* NULL is fine */

/* ---- the operator's commands ----------------------------------------------------------------- */

/* Starts the guest of DEFINITION (copied; NULL: the one that the domain NAME was last started
 * with), making images that are missing with their sizes.  Waits until the guest runs.  FORCE: also
 * one that was moved away.  Blocks. */
int domain_start(struct domains *domains, const char *name, const struct definition *definition,
                 bool force, struct error *err);
/* Takes in the QEMU whose QMP listens at SOCKET, as NAME.  INCOMING: it waits with -incoming
 * defer, and a failed migration will kill it.  Blocks. */
int domain_attach(struct domains *domains, const char *name, const char *socket, bool incoming,
                  struct error *err);
int domain_shutdown(struct domain *domain, struct error *err); /* asks the guest.  Blocks. */
int domain_destroy(struct domain *domain, struct error *err);  /* kills QEMU and waits.  Blocks. */
/* Forgets a domain that has no QEMU (attached: lets go of it); its images stay. */
int domain_undefine(struct domain *domain, struct error *err);

/* ---- migration: the destination ------------------------------------------------------------- */

/* Registers a guest that is to come in (DEFINITION is copied), as DOMAIN_INCOMING with the job
 * "coming in" already begun, and returns a reference.  Refuses with -EEXIST when the name or the
 * UUID is taken; a moved domain of both the same is fine: it comes back.  Nothing is written. */
struct domain *domain_new_incoming(struct domains *domains, const struct definition *definition,
                                   struct error *err);
/* The attached QEMU that waits under this name and UUID, with the job begun.  NULL with
 * ERR: -ENOENT, or -EBUSY when another migration has it. */
struct domain *domain_take_incoming(struct domains *domains, const char *name,
                                    const uint8_t uuid[UUID_SIZE], struct error *err);
/* After a restart: the QEMU that domain_start_incoming() had made for DEFINITION, as it was then, with
 * the job begun.  NULL with ERR: -ENOENT when it has ended.  Blocks. */
struct domain *domain_find_incoming(struct domains *domains, const struct definition *definition,
                                    struct error *err);
/* Whether domain_new_incoming() found the guest's own moved domain, and the file at PATH is an image
 * that it had then: its old image, which may be set aside.  Any other file is somebody else's. */
bool domain_left_image(const struct domain *domain, const char *path);

/* How a guest that comes in means to use an image. */
struct image_use {
    const struct domain
        *self; /* its domain; NULL: it is no disk of the guest's, but a backing file */
    bool writable;
    const char *format; /* as which it is read; NULL: it is made anew */
};
/* Refuses, -EEXIST with ERR, the image at PATH when it is a disk of another domain here, running or
 * not: of any if it is to be written to, else of one that writes to it.  The guest's own old image
 * it may have, in the format that it always had: the content of a raw one is the guest's to choose,
 * and read as qcow2 it could name any file of this host as its backing file. */
int domains_check_image(struct domains *domains, const char *path, const struct image_use *use,
                        struct error *err);
/* Refuses, with ERR saying what to do, when somebody needs the image at PATH: a domain here, running or
 * not, of which it is a disk or a backing file of one, or a program that has it open.  Of SELF, a guest
 * that comes back, or NULL, it may be an old image.  What can't be found out is refused too.  Runs
 * qemu-img for every layer of every image. */
int domains_check_unused(struct domains *domains, const char *path, const struct domain *self,
                         struct error *err);

/* Starts QEMU with -incoming defer -S and returns once its QMP answers, as long as WAIT says.  Its images must be where
 * definition_disk_path() says.  Not for an attached one.  After a failure no QEMU is left;
 * domain_discard_incoming() is still due.  Blocks. */
int domain_start_incoming(struct domain *domain, const struct qmp_wait *wait, struct error *err);

/* The guest is here: running or paused, which is written to its file.  PERSISTENT: the domain stays
 * when the guest is shut down.  Ends the job.  The domain is the registry's then, also when writing
 * failed (with ERR, for the log). */
int domain_finish_incoming(struct domain *domain, bool running, bool persistent, struct error *err);

/* The images of a guest that is shut off are here: so is the guest, shut off.  Otherwise the same. */
int domain_finish_offline(struct domain *domain, struct error *err);

/* It did not come: kills its QEMU (attached or not) and waits, removes its sockets and registration
 * (a moved domain is as before), ends the job.  Drop the reference afterwards.  Blocks.  Returns 0,
 * or a negative errno with ERR when QEMU could not be killed: the job goes on then, and this is
 * still due. */
int domain_discard_incoming(struct domain *domain, struct error *err);

/* ---- migration: the source ------------------------------------------------------------------ */

/* The guest lives at PEER now: QEMU is ended and waited for, and the domain is shut off and "moved
 * to PEER".  For the job's holder, who ends the job afterwards.  Blocks.  Returns 0, or a negative
 * errno with ERR when QEMU is still there or the file could not be written. */
int domain_mark_moved(struct domain *domain, const char *peer, struct error *err);
/* The same domain is not wanted any more, so it goes; its images stay.  Likewise. */
int domain_forget_moved(struct domain *domain, struct error *err);
/* Writes its file again, for when there was no room before.  Returns 0, or a negative errno with ERR. */
int domain_store(struct domain *domain, struct error *err);

#endif
