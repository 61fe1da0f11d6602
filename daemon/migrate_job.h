/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * One migration that goes out, shared by
 *
 *     migrate.c          jobs and their threads, also those of before a restart
 *     migrate_plan.c     which disks go along, and how
 *     migrate_mode.c     in which mode
 *     migrate_phases.c   Begin and Perform, from top to bottom
 *     migrate_prepare.c  Prepare
 *     migrate_direct.c   what mode direct has of its own
 *     migrate_offline.c  what mode offline has of its own
 *     migrate_watch.c    what is looked after while QEMU is waited for
 *     migrate_owner.c    Finish, Confirm, rolling back: whose the guest is
 *     migrate_journal.c  state_dir/migrations/ID.json
 *     migrate_report.c   what the operator sees
 *     migrate_info.c     what he is told when he asks, and what is remembered
 *     migrate_service.c  what the operator asks about jobs, and says to them
 */
#ifndef DAEMON_MIGRATE_JOB_H
#define DAEMON_MIGRATE_JOB_H

#include "daemon/control.h"
#include "daemon/daemon.h"
#include "daemon/direct_pki.h"
#include "daemon/domain.h"
#include "daemon/migrate_mode.h"
#include "daemon/ownership.h"
#include "io/pump.h"
#include "qemu/block.h"
#include "qemu/caps.h"
#include "qemu/migration.h"
#include "rpc/protocol.h"

#include <pthread.h>
#include <sys/queue.h>

/* What becomes of one disk. */
struct migrate_disk {
    const struct domain_disk *disk; /* points into struct migrate_plan */
    bool copy;                      /* else shared, or at the destination already */
    bool top;                       /* only the top layer */
    bool shared;                    /* not copied, though it is written to */
    char *marker;                   /* the file that shows that it is shared */
};

struct migrate_plan {
    struct domain_disk *disks; /* all that the guest has */
    size_t disk_count;
    struct migrate_disk *chosen; /* all but empty drives */
    size_t chosen_count;
    size_t copies;
    size_t tops; /* of them */
};

/* Decides about every disk from the flags and names of ARGS; SAY is told, in a sentence, of each
 * disk that is left out.  A name that is no disk, or one that can't be copied, is refused.  Returns
 * 0, or a negative errno with ERR; migrate_plan_clear() in every case. */
int migrate_plan_make(struct migrate_plan *plan, struct domain *domain,
                      const struct bs_migrate_args *args,
                      void (*say)(void *opaque, const char *sentence), void *opaque,
                      struct error *err);
void migrate_plan_clear(struct migrate_plan *plan);
/* Lays the markers of shared disks for the migration ID (hex).  Returns 0, or a negative errno with
 * ERR. */
int migrate_plan_mark_shared(struct migrate_plan *plan, const char *id, struct error *err);
/* Takes them away, as migrate_plan_clear() does too. */
void migrate_plan_unmark(struct migrate_plan *plan);
/* What PLAN means for the choice of the mode. */
void migrate_plan_ask(const struct migrate_plan *plan, struct migrate_question *question);
/* The cookie for PLAN, for xdr_free().  Returns 0, or a negative errno with ERR. */
int migrate_plan_cookie(const struct migrate_plan *plan, struct bs_cookie_source *ret,
                        struct error *err);

enum migrate_phase {
    PHASE_BEGIN,
    PHASE_PREPARE,
    PHASE_MIRROR, /* Perform: disks until all are ready */
    PHASE_MEMORY, /* Perform: RAM until the guest is stopped */
    PHASE_SWITCH, /* Perform: the rest, while the guest stands still */
    PHASE_FINISH, /* the destination decides; no way back from here on its own */
    PHASE_CONFIRM,
};
#define PHASES (PHASE_CONFIRM + 1)

/* What the operator says about an unresolved job. */
enum migrate_resolve {
    RESOLVE_ASK,     /* nothing: go on asking the destination */
    RESOLVE_KEEP,    /* run it here, unless the destination says that it has it */
    RESOLVE_GIVE_UP, /* leave it to the destination */
};

/* How far it is, as last looked at. */
struct migrate_figures {
    struct bs_progress streamed;                /* disks in the migration stream; total 0: none */
    struct bs_progress parts[1 + BS_DISKS_MAX]; /* memory first; the plan's targets */
    u_int part_count;
    uint64_t dirty_rate;              /* of memory, bytes per second */
    uint64_t round_trip_us, stall_ms; /* of the session */
    uint64_t away_ms;                 /* without a link, until now */
    uint32_t link_losses;
};

/* A mirror that has come close to being ready. */
struct migrate_chase {
    uint64_t since; /* loop_clock(); 0: it hasn't */
    uint64_t until; /* bytes that would have to be copied for it, as it looked then */
    bool told;      /* that the guest writes too often for it */
};

struct migrate_job {
    struct daemon *daemon;
    uint8_t id[BS_ID_SIZE];
    char hex[2 * BS_ID_SIZE + 1];
    struct bs_migrate_args args; /* a copy of our own */
    struct control_connection *connection;
    struct domain *domain; /* the job of it is ours */
    struct qmp *qmp;
    bool was_running;
    int abort_fd;     /* eventfd: readable once aborted */
    int poke_fd;      /* eventfd: ends waiting between two questions */
    uint64_t started; /* loop_clock() */
    uint64_t begun;   /* the same moment in seconds since 1970, also before a restart */

    /* The phases' own. */
    struct migrate_plan plan;
    struct pump *pump;
    struct qemu_caps caps; /* of the guest's QEMU */
    struct migrate_choice choice;
    char *folder; /* of the local sockets, one per channel */
    char *ram_socket;
    char *direct_host;                 /* mode direct: where QEMU connects to ... */
    unsigned migration_port, nbd_port; /* ... and its ports there */
    bool direct_id;                    /* ... where the daemon hears callers before QEMU does */
    struct migrate_direct *direct;     /* ... and the connections there */
    struct qemu_address ram_address;   /* else, of the migration stream; points to the above */
    char **disk_sockets;               /* one per mirror */
    struct block_mirror *mirrors;
    struct migrate_chase *chases; /* one per mirror */
    uint64_t *disk_bytes;         /* one per mirror: what went over for it, once counted */
    size_t mirror_count;
    bool migrating; /* QEMU's migration was started, so it is to be cancelled */
    bool continued; /* migrate-continue was sent */
    bool mirroring; /* likewise the mirrors */
    bool unwritten; /* what was decided could not be written: not yet to be settled */
    bool restarted; /* known from the journal */
    bool prepared;  /* Prepare was sent, so the destination may have something to undo */
    bool stalled;   /* it was given up because time ran out: the peer may not answer */
    bool paused;    /* we have stopped the guest: --timeout has run out, or the rest goes fast */
    uint64_t paused_at; /* loop_clock(), in the latter case; 0: not so */
    uint64_t bandwidth; /* the cap that holds, bytes per second; 0: none */
    uint64_t asked;     /* loop_clock() of the question that QEMU leaves open; 0: none */
    struct migration_info memory;
    uint64_t held_since;            /* loop_clock(): the guest stands still for the switch */
    uint64_t completed_at;          /* loop_clock() */
    uint64_t switched_us;           /* from the source's `completed` until the guest ran there */
    uint64_t next_report, measured; /* loop_clock() */
    uint64_t measured_bytes;        /* of RAM had gone over then */
    uint64_t memory_rate;           /* bytes per second */
    uint64_t moved;                 /* loop_clock(): QEMU's stream was last seen to go on ... */
    uint64_t moved_bytes;           /* ... when it had sent that much */

    pthread_mutex_t lock; /* what follows; a leaf */
    enum migrate_phase phase;
    const char *aborted;       /* why it is to end early, a constant; NULL: it isn't */
    enum outgoing_state state; /* as in the journal; written by the job's thread only */
    enum migrate_resolve resolve;
    bool chosen;             /* the mode is */
    bool decided;            /* the guest has been let go of; the destination has to hear it */
    bool reported;           /* its client has the result; the job's thread's own */
    struct error last_known; /* why it is unresolved, or can't be settled */
    bool dropped;            /* the destination isn't told any more what was decided */
    bool mirrors_complete;   /* what becomes of the disks' channels no longer matters */
    struct error lost;       /* why the session or a channel is gone; code 0: it isn't */
    bool session_ended;      /* nothing reaches the destination any more */
    struct migrate_figures figures; /* written by the job's thread only */

    LIST_ENTRY(migrate_job) link; /* under the lock of struct migrate_jobs */
};

/* Lock order: the jobs' list, then a job's own. */
struct migrate_jobs {
    struct daemon *daemon;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a job has gone */
    bool stopping;
    unsigned running; /* threads, also those whose job has left the list */
    LIST_HEAD(, migrate_job) list;
};

/* Begin, Prepare, Perform: until QEMU says `completed`.  Returns 0, or a negative errno with ERR. */
int migrate_perform(struct migrate_job *job, struct error *err);

/* Reaches the destination and chooses the mode; nothing is touched.  As all below: 0, or a negative
 * errno with ERR. */
int migrate_connect(struct migrate_job *job, struct error *err);
/* Has the guest made ready there, and names where QEMU is to connect to. */
int migrate_prepare(struct migrate_job *job, struct error *err);

/* struct qmp_wait's check, for whatever waits: is there still a reason to?  Looks after what else
 * there is to be looked after, too.  -ETIME: some bound of the migration's has run out. */
int migrate_check(void *job, struct error *err);
struct qmp_wait migrate_wait_until(struct migrate_job *job, uint64_t deadline);
struct qmp_wait migrate_wait_ms(struct migrate_job *job, unsigned ms);
/* For what is asked of QEMU within the check.  The wait is ended by what ends the migration: an abort,
 * a loss, a QEMU that leaves the question open for too long.  Its result R goes through the second,
 * which returns it. */
struct qmp_wait migrate_ask(struct migrate_job *job);
int migrate_answered(struct migrate_job *job, int r);
/* Has a cap of BANDWIDTH bytes per second (0: none) hold from now on. */
int migrate_throttle(struct migrate_job *job, uint64_t bandwidth, struct error *err);
/* For how long the guest may be held up. */
unsigned migrate_stall_ms(const struct migrate_job *job);

/* Mode direct.  The subject of the certificate that QEMU here will show (empty without TLS), for the
 * destination to let in. */
int migrate_direct_subject(struct migrate_job *job, char ret[DIRECT_PKI_SUBJECT_MAX],
                           struct error *err);
/* Aims the stream and the mirrors at the ports that Prepare has named. */
int migrate_direct_aim(struct migrate_job *job, struct error *err);
/* Connects to the port for RAM and has QEMU's migration begin. */
int migrate_direct_start(struct migrate_job *job, struct error *err);
/* QEMU has sent everything: its connection is no longer ours to end. */
void migrate_direct_sent(struct migrate_job *job);
/* Gives QEMU what it needs for TLS; nothing in the other modes, nor without TLS. */
int migrate_direct_set_up(struct migrate_job *job, struct error *err);
/* Takes that away again. */
void migrate_direct_clear(struct migrate_job *job);
/* Tears down QEMU's connections, also those that are silent; nothing in the other modes. */
void migrate_direct_break(struct migrate_job *job);
/* NULL is fine. */
void migrate_direct_free(struct migrate_direct *direct);
/* ns for which the TLS handshake of the stream's connection, while it lasts, has gone unanswered. */
uint64_t migrate_direct_shakes(struct migrate_job *job);
/* ns for which something that the mirrors have sent has gone unanswered, as far as can be seen.  To be
 * asked often: it goes by what has changed since. */
uint64_t migrate_direct_waits(struct migrate_job *job);
/* Has BANDWIDTH (bytes per second, 0: no limit) hold for RAM, and for all disks together. */
int migrate_direct_throttle(struct migrate_job *job, uint64_t bandwidth, struct error *err);

/* Of a guest that is shut off: by the operator's word, or by the journal's after a restart. */
bool migrate_is_offline(const struct migrate_job *job);
/* Mode offline.  Begin: the guest is shut off, and its disks go along. */
int migrate_offline_begin(struct migrate_job *job, struct error *err);
/* Perform: copies and compares the disks. */
int migrate_offline_perform(struct migrate_job *job, struct error *err);
/* Ends what Perform has started and a killed daemon left; nothing in the other modes. */
void migrate_offline_clear(struct migrate_job *job);
/* Whether what was copied is worth keeping at the destination: a path or a daemon broke it off. */
bool migrate_offline_keeps(struct migrate_job *job);

/* Runs all phases.  Returns enum bs_outcome, with ERR unless it is COMPLETED; UNRESOLVED only when the
 * daemon stops. */
enum bs_outcome migrate_run(struct migrate_job *job, struct error *err);
/* The same for a job from the journal, whose domain may have lost its QEMU (job->qmp NULL). */
enum bs_outcome migrate_run_again(struct migrate_job *job, struct error *err);
/* Tells the destination what has been decided, until it has heard it or the daemon stops. */
void migrate_settle(struct migrate_job *job);

/* Has the entry for FINISH_ASKED ready, before the guest stands still. */
int migrate_journal_prepare_finish(struct migrate_job *job, struct error *err);
/* Writes STATE to the journal, then into JOB.  Returns 0, or a negative errno with ERR. */
int migrate_set_state(struct migrate_job *job, enum outgoing_state state, struct error *err);
/* Fills in what the entry HEX says.  Returns 0, or a negative errno with ERR. */
int migrate_journal_read(struct migrate_job *job, const char *hex, struct error *err);

/* Ends the job early if Finish has not been sent, because of WHY (a constant, the operator reads it):
 * returns 0; -EBUSY with ERR when it is too late. */
int migrate_job_abort(struct migrate_job *job, const char *why, struct error *err);

/* "mirror", "unresolved", ... as the operator knows it.  With the job's lock. */
const char *migrate_phase_name(const struct migrate_job *job);
/* "bistream", ...; empty while the mode has not been chosen. */
const char *migrate_mode_text(const struct migrate_job *job);
/* The same for one that has ended: the last that it entered. */
const char *migrate_last_phase(const struct migrate_job *job);
/* The job that holds the guest NAME; NULL with ERR.  With the list's lock. */
struct migrate_job *migrate_find_job(struct migrate_jobs *jobs, const char *name,
                                     struct error *err);
/* Returns 0, or -EINVAL with ERR for more bytes per second than QEMU can count. */
int migrate_check_bandwidth(uint64_t bandwidth, struct error *err);
/* Has daemon/job_history.h remember it, as RESULT tells. */
void migrate_remember(struct migrate_job *job, const struct bs_migrate_result *result);
/* A line for the operator, also in the log. */
void migrate_say(struct migrate_job *job, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Enters PHASE and says so.  Returns 0, or -ECANCELED with ERR when the job was aborted before. */
int migrate_enter(struct migrate_job *job, enum migrate_phase phase, struct error *err);
/* Asks QEMU how far it is and sends it, if it is time for that. */
void migrate_report_progress(struct migrate_job *job);
/* Notes what went over for each disk (mode direct: what QEMU says that it copied), before the pump is
 * freed. */
void migrate_count_bytes(struct migrate_job *job);
void migrate_report_result(struct migrate_job *job, enum bs_outcome outcome,
                           const struct error *why);

#endif
