/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Whose the guest is, at the destination: the decision in Finish, the fence, and what is left to do
 * once the source knows.
 *
 * There is one decision: the rename by which the entry becomes MINE, after everything has arrived
 * and the exports are gone, before `cont`.  Before it, whatever goes wrong fences the guest (QEMU
 * killed and waited for, NOT_MINE written, volumes deleted), and only then is "not mine" said.
 * "Mine" is said only after `cont` has succeeded and RUNNING is written.
 */
#include "config.h"

#include "daemon/incoming_private.h"
#include "daemon/socket_folder.h"
#include "common/log.h"
#include "qemu/block.h"
#include "qemu/guest.h"
#include "qemu/migration.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    ARRIVE_TIMEOUT_MS = 30000, /* the source has sent everything when it calls Finish ... */
    ARRIVE_MOST_MS = 80000,    /* ... and waits for two minutes, RESUME_TIMEOUT_MS included */
    RESUME_TIMEOUT_MS = 30000,
};

static void set_reason(struct bs_migrate_finish_ret *ret, const char *text)
{
    free(ret->reason);
    ret->reason = strdup(text);
}

/* ---- the fence ------------------------------------------------------------------------------- */

/* After a restart: the QEMU that was made for it, if it still lives. */
static int find_domain(struct incoming *in, struct error *err)
{
    struct domains *domains = in->daemon->domains;

    if (in->domain)
        return 0;
    in->domain = in->definition ? domain_find_incoming(domains, in->definition, err)
                                : domain_take_incoming(domains, in->name, in->uuid, err);
    if (in->domain || err->code == ENOENT)
        return 0;
    return -err->code;
}

/* Takes away what was created.  What can't be is named in the log and tried again after a restart. */
static bool undo_volumes(struct incoming *in)
{
    bool all = true;

    for (size_t i = in->volume_count; i-- > 0;) {
        struct error err = ERROR_INIT;

        if (volume_undo(&in->volumes[i], &err) < 0) {
            log_error("migration %s in: %s", in->hex, err.text);
            all = false;
        }
    }
    return all;
}

static void forget_volumes(struct incoming *in)
{
    for (size_t i = 0; i < in->volume_count; i++)
        volume_clear(&in->volumes[i]);
    in->volume_count = 0;
}

void incoming_explain(const struct incoming *in, struct bs_migrate_finish_ret *ret)
{
    char text[512];

    if (in->domain && domain_last_words(in->domain, text, sizeof text))
        set_reason(ret, text);
}

int incoming_fence(struct incoming *in, struct error *err)
{
    struct error writing = ERROR_INIT;
    int r;

    incoming_direct_shut(in);
    r = in->state == INCOMING_PREPARED && !in->offline ? find_domain(in, err) : 0;
    if (r == 0 && in->offline)
        r = incoming_offline_stop(in, err);
    if (r == 0 && in->domain)
        r = domain_discard_incoming(in->domain, err);
    if (r < 0)
        return r;
    domain_unref(in->domain);
    in->domain = NULL;
    socket_folder_remove(in->folder);
    incoming_direct_release(in);
    /* Said all the same when it can't be written: PREPARED without a QEMU never becomes MINE. */
    if (in->state != INCOMING_NONE && incoming_set_state(in, INCOMING_NOT_MINE, &writing) < 0)
        log_error("migration %s in: %s", in->hex, writing.text);
    if (in->keep && incoming_offline_keep(in))
        return 0;
    atomic_store(&in->kept, false);
    if (!undo_volumes(in))
        return 0;
    forget_volumes(in);
    if (in->state == INCOMING_NOT_MINE && incoming_journal_write(in, &writing) < 0)
        log_error("migration %s in: %s", in->hex, writing.text);
    return 0;
}

/* ---- Finish ---------------------------------------------------------------------------------- */

/* QEMU has everything, on disk, and lets go of the disks' exports: from here on the guest can be ours.
 * What came through an export was flushed by the source; what came in the stream by nobody: to stop a
 * guest is to flush its disks, also when it stands.
 * The guest is held up at the source meanwhile, by a QEMU that hangs here no longer than it may be. */
static int arrive(struct incoming *in, struct qmp *qmp, struct error *err)
{
    const unsigned bound_ms = in->wait_ms ? in->wait_ms : ARRIVE_TIMEOUT_MS;
    struct qmp_wait wait = qmp_wait_ms(bound_ms < ARRIVE_MOST_MS ? bound_ms : ARRIVE_MOST_MS);
    int r = migration_wait(qmp, MIGRATION_COMPLETED, NULL, &wait, err);

    if (r == 0)
        r = block_exports_stop(qmp, &wait, err);
    if (r == 0 && in->in_stream)
        r = guest_stop(qmp, &wait, err);
    if (r == -ETIMEDOUT && in->wait_ms)
        error_prefix(err, "the guest can't be held up for longer (--stall-timeout)");
    return r;
}

/* Runs the guest here.  Returns 0, or a negative errno with ERR; *RET_MAY_RUN tells whether it can
 * have run: then nobody else may run it. */
static int resume(struct incoming *in, struct qmp *qmp, bool *ret_may_run, struct error *err)
{
    struct qmp_wait wait = qmp_wait_ms(RESUME_TIMEOUT_MS);
    int r = incoming_set_state(in, INCOMING_MINE, err);

    *ret_may_run = false;
    if (r == 0 && in->running) {
        r = migration_resume_here(qmp, &wait, err);
        /* -EPERM: nothing was sent; -EREMOTEIO: QEMU refused before any vCPU ran. */
        *ret_may_run = r < 0 && r != -EPERM && r != -EREMOTEIO;
    }
    return r;
}

/* The guest is here.  The domain is registered before RUNNING is written, so that a restart finds
 * it. */
static void settle_in(struct incoming *in)
{
    struct error err = ERROR_INIT;

    incoming_direct_end(in);
    if ((in->offline ? domain_finish_offline(in->domain, &err)
                     : domain_finish_incoming(in->domain, in->running, in->persistent, &err)) < 0)
        log_error("migration %s (%s) in: %s", in->hex, in->name, err.text);
    domain_unref(in->domain);
    in->domain = NULL;
    socket_folder_remove(in->folder);
}

static void decided(struct incoming *in, struct bs_migrate_finish_ret *ret)
{
    struct error err = ERROR_INIT;
    uint64_t resumed = loop_clock();

    settle_in(in);
    if (incoming_set_state(in, INCOMING_RUNNING, &err) < 0) {
        log_error("migration %s (%s) in: %s", in->hex, in->name, err.text);
        set_reason(ret, err.text); /* it runs, and MINE stands in the journal: asked again, it is
                                    * taken up */
        return;
    }
    ret->owner = BS_OWNER_MINE;
    ret->resumed_us = (loop_clock() - resumed) / 1000;
}

static void not_decided(struct incoming *in, bool may_run, const struct error *why,
                        struct bs_migrate_finish_ret *ret)
{
    struct error fencing = ERROR_INIT;

    log_error("migration %s (%s) in: %s", in->hex, in->name, why->text);
    set_reason(ret, why->text);
    if (may_run) {
        settle_in(in); /* it stays MINE, and the domain is the operator's to look at */
        return;
    }
    if (incoming_fence(in, &fencing) < 0)
        log_error("migration %s in: %s", in->hex, fencing.text);
    else
        ret->owner = BS_OWNER_NOT_MINE;
}

void incoming_decide(struct incoming *in, struct bs_migrate_finish_ret *ret)
{
    struct error why = ERROR_INIT;
    bool may_run = false;
    struct qmp *qmp = NULL;
    int r;

    if (atomic_load(&in->closing)) { /* nobody will hear the answer: it must not be "mine" */
        error_set(&why, ECANCELED, "the session is ending");
        not_decided(in, false, &why, ret);
        return;
    }
    if (in->offline) {
        r = incoming_offline_arrive(in, &why);
    } else {
        qmp = domain_qmp(in->domain, &why);
        r = qmp ? arrive(in, qmp, &why) : -why.code;
    }
    if (r == 0)
        r = resume(in, qmp, &may_run, &why);
    if (r == 0)
        decided(in, ret);
    else
        not_decided(in, may_run, &why, ret);
}

/* ---- afterwards ------------------------------------------------------------------------------ */

/* The guest's domain as the registry has it; NULL: none. */
static struct domain *registered(struct incoming *in)
{
    struct error err = ERROR_INIT;
    struct domain *domain = domains_find(in->daemon->domains, in->name, &err);
    uint8_t uuid[UUID_SIZE];

    if (!domain)
        return NULL;
    domain_uuid(domain, uuid);
    if (memcmp(uuid, in->uuid, UUID_SIZE) == 0 && domain_state(domain) != DOMAIN_MOVED)
        return domain;
    domain_unref(domain);
    return NULL;
}

static void lost(struct incoming *in, const char *why, struct bs_migrate_finish_ret *ret)
{
    struct error err = ERROR_INIT;

    if (in->state != INCOMING_LOST && incoming_set_state(in, INCOMING_LOST, &err) < 0)
        log_error("migration %s in: %s", in->hex, err.text);
    ret->owner = BS_OWNER_LOST;
    set_reason(ret, why);
}

/* Sees to it that the guest of DOMAIN runs, whose job we have.  Returns 0 or a negative errno. */
static int run_again(struct incoming *in, struct domain *domain, struct error *err)
{
    struct qmp_wait wait = qmp_wait_ms(RESUME_TIMEOUT_MS);
    struct qmp *qmp = domain_qmp(domain, err);
    char state[32];
    bool running;
    int r = qmp ? guest_run_state(qmp, state, &running, &wait, err) : -err->code;

    if (r < 0 || running || !in->running)
        return r;
    r = block_exports_stop(qmp, &wait, err);
    return r == 0 ? migration_resume_here(qmp, &wait, err) : r;
}

/* There is no QEMU to be found, only a domain to be registered. */
static int take_up_offline(struct incoming *in, struct error *err)
{
    struct domain *domain = registered(in);
    int r = incoming_offline_stop(in, err);

    if (r == 0 && !domain) {
        in->domain = domain_new_incoming(in->daemon->domains, in->definition, err);
        if (in->domain)
            settle_in(in);
        else
            r = -err->code;
    }
    domain_unref(domain);
    return r;
}

/* The domain is in the registry already, or QEMU is all that there is. */
static int take_up(struct incoming *in, struct error *err)
{
    struct domain *domain = registered(in);
    int r;

    if (domain && !domain_pid(domain)) {
        domain_unref(domain);
        return error_set(err, ESRCH, "its QEMU has ended");
    }
    if (domain && domain_state(domain) != DOMAIN_INCOMING) {
        r = domain_begin_job(domain, "being taken up", err);
        if (r == 0) {
            r = run_again(in, domain, err);
            domain_end_job(domain);
        }
        domain_unref(domain);
        return r;
    }
    domain_unref(domain);
    r = find_domain(in, err);
    if (r == 0 && !in->domain)
        r = error_set(err, ESRCH, "its QEMU has ended");
    if (r == 0)
        r = run_again(in, in->domain, err);
    if (r == 0)
        settle_in(in);
    return r;
}

/* Its QEMU is gone, its disks are here: a domain that is shut off, for the operator to start or not. */
static void keep_domain(struct incoming *in)
{
    struct domain *domain = registered(in);
    struct error err = ERROR_INIT;

    if (!domain && in->definition) {
        in->domain = domain_new_incoming(in->daemon->domains, in->definition, &err);
        if (in->domain)
            settle_in(in);
        else
            log_error("migration %s (%s) in: %s", in->hex, in->name, err.text);
    }
    domain_unref(domain);
}

void incoming_take_up(struct incoming *in, struct bs_migrate_finish_ret *ret)
{
    struct error err = ERROR_INIT;
    int r = in->offline ? take_up_offline(in, &err) : take_up(in, &err);

    if (r == 0)
        r = incoming_set_state(in, INCOMING_RUNNING, &err);
    if (r == 0) {
        ret->owner = BS_OWNER_MINE;
    } else if (r == -ESRCH) {
        keep_domain(in);
        lost(in, err.text, ret);
    } else {
        log_error("migration %s (%s) in: it is ours, and can't be taken up: %s", in->hex, in->name,
                  err.text);
        set_reason(ret, err.text);
    }
}

void incoming_say_mine(struct incoming *in, struct bs_migrate_finish_ret *ret)
{
    struct domain *domain = registered(in);

    if (domain && domain_crashed(domain) && !in->offline) /* what ran came from nowhere else */
        lost(in, "its QEMU died after it had run there", ret);
    else
        ret->owner = BS_OWNER_MINE;
    domain_unref(domain);
}

/* The old image goes, unless somebody has come to need it since Prepare looked. */
static void delete_old_image(const struct incoming *in, const struct volume *volume)
{
    struct error err = ERROR_INIT;

    if (!volume->aside)
        return;
    if (domains_check_unused(in->daemon->domains, volume->aside, NULL, &err) < 0)
        log_warning("migration %s in: the guest's old image %s stays, delete it when nothing needs "
                    "it: %s",
                    in->hex, volume->aside, err.text);
    else if (volume_settle(volume, &err) < 0)
        log_warning("migration %s in: %s", in->hex, err.text);
}

int incoming_settled(struct incoming *in, bool old_images, struct error *err)
{
    for (size_t i = 0; i < in->volume_count; i++) {
        if (old_images)
            delete_old_image(in, &in->volumes[i]);
        else
            log_warning("migration %s in: %s stays: it may be the newest copy%s%s", in->hex,
                        in->volumes[i].path,
                        in->volumes[i].aside ? "; the guest's image from before is " : "",
                        in->volumes[i].aside ? in->volumes[i].aside : "");
    }
    return incoming_set_state(in, INCOMING_NONE, err);
}
