/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The fake daemon's migrations: what happens is the guest's name. */
#include "config.h"

#include "tests/client/fake_daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char job_id[] = "0123456789abcdef", other_id[] = "fedcba9876543210";

static void send_progress(struct fake_client *client, const char *id, const char *phase,
                          uint64_t memory_left, uint64_t disk_left, uint64_t away_ms)
{
    const uint64_t memory_size = 1000 * MIB, disk_size = 4000 * MIB;
    char memory[] = "", vda[] = "vda", text[16];
    struct bs_progress parts[2] = {
        {memory, memory_size, memory_size - memory_left, memory_left, 100 * MIB},
        {vda, disk_size, disk_size - disk_left, disk_left, 200 * MIB}};
    struct bs_migrate_progress progress = {.phase = text, .parts = {2, parts}, .away_ms = away_ms};

    snprintf(text, sizeof text, "%s", phase);
    memcpy(progress.id, id, BS_ID_SIZE);
    fake_send_event(client, BS_PROGRAM, BS_PROC_EVENT_MIGRATE_PROGRESS,
                    (xdrproc_t)xdr_bs_migrate_progress, &progress);
}

/* More disks than a terminal has lines. */
static void send_many(struct fake_client *client)
{
    struct bs_progress parts[BS_DISKS_MAX];
    char targets[BS_DISKS_MAX][8], phase[] = "mirror";
    struct bs_migrate_progress progress = {.phase = phase, .parts = {BS_DISKS_MAX, parts}};

    for (int i = 0; i < BS_DISKS_MAX; i++) {
        snprintf(targets[i], sizeof targets[i], "vd%d", i);
        parts[i] = (struct bs_progress){targets[i], 2 * MIB, MIB, MIB, MIB};
    }
    memcpy(progress.id, job_id, BS_ID_SIZE);
    fake_send_event(client, BS_PROGRAM, BS_PROC_EVENT_MIGRATE_PROGRESS,
                    (xdrproc_t)xdr_bs_migrate_progress, &progress);
}

static void send_notice(struct fake_client *client, const char *text)
{
    char copied[128];
    struct bs_migrate_notice notice = {.text = copied};

    snprintf(copied, sizeof copied, "%s", text);
    memcpy(notice.id, job_id, BS_ID_SIZE);
    fake_send_event(client, BS_PROGRAM, BS_PROC_EVENT_MIGRATE_NOTICE,
                    (xdrproc_t)xdr_bs_migrate_notice, &notice);
}

static void send_result(struct fake_client *client, const char *id, unsigned outcome,
                        const char *error)
{
    char mode[] = "bistream", text[256], vda[] = "vda";
    struct bs_disk_bytes disk = {vda, 4000 * MIB};
    struct bs_migrate_result result = {.outcome = outcome,
                                       .mode = mode,
                                       .total_ms = 12345,
                                       .downtime_ms = 18,
                                       .ram_bytes = 1000 * MIB,
                                       .disks = {1, &disk},
                                       .error = text};

    snprintf(text, sizeof text, "%s", error);
    memcpy(result.id, id, BS_ID_SIZE);
    fake_send_event(client, BS_PROGRAM, BS_PROC_EVENT_MIGRATE_RESULT,
                    (xdrproc_t)xdr_bs_migrate_result, &result);
}

int handle_migrate(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_migrate_args *args = in;
    struct bs_migrate_ret *ret = out;
    struct fake_client *client = opaque;

    fprintf(fake_calls, "migrate name='%s' destination='%s' flags=%llu disks=", args->name,
            args->destination, (unsigned long long)args->flags);
    for (u_int i = 0; i < args->disks.disks_len; i++)
        fprintf(fake_calls, "%s%s", i ? "," : "", args->disks.disks_val[i]);
    fprintf(fake_calls, " dname='%s' bandwidth=%llu downtime=%u timeout=%u stall=%u listen='%s'\n",
            args->dname, (unsigned long long)args->bandwidth, args->downtime_ms, args->timeout_s,
            args->stall_timeout_ms, args->listen_address);
    if (strcmp(args->name, "missing") == 0)
        return fake_no_domain(args->name, err);
    if (strcmp(args->name, "dies-early") == 0)
        exit(0);
    snprintf(client->migration, sizeof client->migration, "%s", args->name);
    memcpy(ret->id, job_id, BS_ID_SIZE);
    /* An event may be faster than the reply. */
    send_progress(client, job_id, "begin", 1000 * MIB, 4000 * MIB, 0);
    return 0;
}

int handle_abort(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_migrate_abort_args *args = in;
    struct fake_client *client = opaque;

    (void)out;
    fprintf(fake_calls, "abort %s\n", memcmp(args->id, job_id, BS_ID_SIZE) == 0 ? "ours" : "other");
    client->abort = true;
    if (strcmp(client->migration, "late") == 0)
        return error_set(err, EBUSY, "too late: the destination was asked to start the guest");
    return 0;
}

void fake_migration_run(struct fake_client *client)
{
    const char *name = client->migration;

    send_progress(client, job_id, "mirror", 1000 * MIB, 2000 * MIB, 0);
    if (strcmp(name, "web") == 0) {
        send_notice(client, "cd is empty and is not copied\033[2J");
        fake_send_event(client, BS_KEEPALIVE_PROGRAM, BS_KEEPALIVE_PING, NULL, NULL);
        /* The guest wrote: more remains than before. */
        send_progress(client, job_id, "mirror", 1000 * MIB, 3000 * MIB, 3456);
        send_progress(client, job_id, "memory", 400 * MIB, 0, 0);
        send_progress(client, other_id, "memory", 0, 0, 0);
        send_result(client, other_id, BS_OUTCOME_FAILED, "not this migration");
        send_result(client, job_id, BS_OUTCOME_COMPLETED, "");
    } else if (strcmp(name, "many") == 0) {
        send_many(client);
        send_result(client, job_id, BS_OUTCOME_COMPLETED, "");
    } else if (strcmp(name, "fails") == 0) {
        send_result(client, job_id, BS_OUTCOME_FAILED, "the destination's disk is full");
    } else if (strcmp(name, "unresolved") == 0) {
        send_result(client, job_id, BS_OUTCOME_UNRESOLVED, "no answer to Finish");
    } else if (strcmp(name, "dies") == 0) {
        exit(0);
    } else if (strcmp(name, "garbage") == 0) {
        fake_send(client, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    }
    /* The others wait to be aborted. */
}

void fake_migration_aborted(struct fake_client *client)
{
    if (strcmp(client->migration, "late") == 0) {
        send_result(client, job_id, BS_OUTCOME_COMPLETED, "");
        return;
    }
    /* Until the test has seen what it wants to see. */
    while (strcmp(client->migration, "stubborn") == 0 && access(client->release, F_OK) < 0)
        usleep(10000);
    send_result(client, job_id, BS_OUTCOME_FAILED, "aborted by the operator");
}
