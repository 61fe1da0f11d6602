/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A bistreamd that only talks: `fake_daemon SOCKET` listens, goes into the background, prints its
 * pid, and serves each client in a process of its own.  What it answers is decided by the names
 * that it is asked about, see the tables below.  Each call is noted with its arguments in
 * SOCKET.calls, for the tests to look at.
 */
#include "config.h"

#include "common/cleanup.h"
#include "rpc/dispatch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static const char job_id[] = "0123456789abcdef", other_id[] = "fedcba9876543210";

struct client {
    int fd;
    char migration[64];  /* the name under way, if any */
    unsigned forward;    /* likewise, its id */
    bool forward_breaks; /* right after the reply */
    bool abort;          /* was asked for */
    const char *release; /* the file that "stubborn" waits for */
    struct rpc_message message;
    size_t received;
};

static FILE *calls;

static char *copy(const char *text)
{
    char *copied = strdup(text);

    if (!copied)
        abort();
    return copied;
}

static void send_all(struct client *client, const void *data, size_t length)
{
    if (send(client->fd, data, length, MSG_NOSIGNAL) != (ssize_t)length)
        exit(0); /* the client is gone */
}

static void send_event(struct client *client, unsigned program, int procedure, xdrproc_t proc,
                       const void *body)
{
    struct bs_header header = {
        .prog = program, .vers = 1, .procedure = procedure, .type = BS_EVENT};
    CLEANUP_FREE uint8_t *data = NULL;
    size_t length;

    if (rpc_message_encode(&header, proc, body, &data, &length) < 0)
        abort();
    send_all(client, data, length);
}

/* ---- domains --------------------------------------------------------------------------------- */

static int no_domain(const char *name, struct error *err)
{
    return error_set(err, ENOENT, "there is no domain named '%s' here", name);
}

static int handle_start(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_domain_start_args *args = in;

    (void)opaque, (void)out;
    fprintf(calls, "start name='%s' definition='%s' force=%d\n", args->name, args->definition,
            args->force);
    return strcmp(args->name, "missing") == 0 ? no_domain(args->name, err) : 0;
}

static int handle_attach(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_domain_attach_args *args = in;

    (void)opaque, (void)out, (void)err;
    fprintf(calls, "attach name='%s' qmp='%s' incoming=%d\n", args->name, args->qmp,
            args->incoming);
    return 0;
}

static int handle_list(void *opaque, const void *in, void *out, struct error *err)
{
    static const struct {
        const char *name, *state;
        int pid, attached, persistent;
    } domains[] = {{"web", "running", 4242, 0, 1},
                   {"db\033[2J", "paused", 17, 1, 0},
                   {"moved", "moved to b.example", 0, 0, 1}};
    const struct bs_domain_list_args *args = in;
    struct bs_domain_list_ret *ret = out;
    u_int count = args->all ? 3 : 2;

    (void)opaque, (void)err;
    ret->domains.domains_val = calloc(count, sizeof *ret->domains.domains_val);
    if (!ret->domains.domains_val)
        abort();
    ret->domains.domains_len = count;
    for (u_int i = 0; i < count; i++) {
        struct bs_domain *domain = &ret->domains.domains_val[i];

        domain->name = copy(domains[i].name);
        domain->state = copy(domains[i].state);
        domain->pid = domains[i].pid;
        domain->attached = domains[i].attached;
        domain->persistent = domains[i].persistent;
        memset(domain->uuid, 0x10 + (int)i, sizeof domain->uuid);
    }
    return 0;
}

static int handle_info(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_domain_name_args *args = in;
    struct bs_domain_info_ret *ret = out;

    (void)opaque;
    if (strcmp(args->name, "web") != 0)
        return no_domain(args->name, err);
    ret->json = copy("{\"name\":\"web\",\"uuid\":\"10101010-1010-1010-1010-101010101010\","
                     "\"state\":\"running\",\"pid\":4242,\"attached\":false,\"persistent\":false,"
                     "\"machine\":\"q35\","
                     "\"vcpus\":2,\"memory\":268435456,\"disks\":[{\"target\":\"vda\",\"file\":"
                     "\"/pool/web.qcow2\",\"format\":\"qcow2\",\"size\":1073741824,\"readonly\":"
                     "false,\"empty\":false},{\"target\":\"cd\",\"file\":null,\"readonly\":true,"
                     "\"empty\":true}],\"qmp\":\"/run/web.qmp\",\"moved_to\":null,\"job\":null}");
    return 0;
}

static int handle_named(const char *call, const void *in, struct error *err)
{
    const struct bs_domain_name_args *args = in;

    fprintf(calls, "%s name='%s'\n", call, args->name);
    return strcmp(args->name, "web") == 0 ? 0 : no_domain(args->name, err);
}

static int handle_shutdown(void *opaque, const void *in, void *out, struct error *err)
{
    (void)opaque, (void)out;
    return handle_named("shutdown", in, err);
}

static int handle_destroy(void *opaque, const void *in, void *out, struct error *err)
{
    (void)opaque, (void)out;
    return handle_named("destroy", in, err);
}

static int handle_undefine(void *opaque, const void *in, void *out, struct error *err)
{
    (void)opaque, (void)out;
    return handle_named("undefine", in, err);
}

/* ---- migrations: what happens is the guest's name -------------------------------------------- */

static void send_progress(struct client *client, const char *id, const char *phase,
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
    send_event(client, BS_PROGRAM, BS_PROC_EVENT_MIGRATE_PROGRESS,
               (xdrproc_t)xdr_bs_migrate_progress, &progress);
}

/* More disks than a terminal has lines. */
static void send_many(struct client *client)
{
    struct bs_progress parts[BS_DISKS_MAX];
    char targets[BS_DISKS_MAX][8], phase[] = "mirror";
    struct bs_migrate_progress progress = {.phase = phase, .parts = {BS_DISKS_MAX, parts}};

    for (int i = 0; i < BS_DISKS_MAX; i++) {
        snprintf(targets[i], sizeof targets[i], "vd%d", i);
        parts[i] = (struct bs_progress){targets[i], 2 * MIB, MIB, MIB, MIB};
    }
    memcpy(progress.id, job_id, BS_ID_SIZE);
    send_event(client, BS_PROGRAM, BS_PROC_EVENT_MIGRATE_PROGRESS,
               (xdrproc_t)xdr_bs_migrate_progress, &progress);
}

static void send_notice(struct client *client, const char *text)
{
    char copied[128];
    struct bs_migrate_notice notice = {.text = copied};

    snprintf(copied, sizeof copied, "%s", text);
    memcpy(notice.id, job_id, BS_ID_SIZE);
    send_event(client, BS_PROGRAM, BS_PROC_EVENT_MIGRATE_NOTICE, (xdrproc_t)xdr_bs_migrate_notice,
               &notice);
}

static void send_result(struct client *client, const char *id, unsigned outcome, const char *error)
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
    send_event(client, BS_PROGRAM, BS_PROC_EVENT_MIGRATE_RESULT, (xdrproc_t)xdr_bs_migrate_result,
               &result);
}

static int handle_migrate(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_migrate_args *args = in;
    struct bs_migrate_ret *ret = out;
    struct client *client = opaque;

    fprintf(calls, "migrate name='%s' destination='%s' flags=%llu disks=", args->name,
            args->destination, (unsigned long long)args->flags);
    for (u_int i = 0; i < args->disks.disks_len; i++)
        fprintf(calls, "%s%s", i ? "," : "", args->disks.disks_val[i]);
    fprintf(calls, " dname='%s' bandwidth=%llu downtime=%u timeout=%u stall=%u listen='%s'\n",
            args->dname, (unsigned long long)args->bandwidth, args->downtime_ms, args->timeout_s,
            args->stall_timeout_ms, args->listen_address);
    if (strcmp(args->name, "missing") == 0)
        return no_domain(args->name, err);
    if (strcmp(args->name, "dies-early") == 0)
        exit(0);
    snprintf(client->migration, sizeof client->migration, "%s", args->name);
    memcpy(ret->id, job_id, BS_ID_SIZE);
    /* An event may be faster than the reply. */
    send_progress(client, job_id, "begin", 1000 * MIB, 4000 * MIB, 0);
    return 0;
}

static int handle_abort(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_migrate_abort_args *args = in;
    struct client *client = opaque;

    (void)out;
    fprintf(calls, "abort %s\n", memcmp(args->id, job_id, BS_ID_SIZE) == 0 ? "ours" : "other");
    client->abort = true;
    if (strcmp(client->migration, "late") == 0)
        return error_set(err, EBUSY, "too late: the destination was asked to start the guest");
    return 0;
}

static void run_migration(struct client *client)
{
    const char *name = client->migration;

    send_progress(client, job_id, "mirror", 1000 * MIB, 2000 * MIB, 0);
    if (strcmp(name, "web") == 0) {
        send_notice(client, "cd is empty and is not copied\033[2J");
        send_event(client, BS_KEEPALIVE_PROGRAM, BS_KEEPALIVE_PING, NULL, NULL);
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
        send_all(client, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    }
    /* The others wait to be aborted. */
}

static void after_abort(struct client *client)
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

/* ---- jobs ------------------------------------------------------------------------------------ */

static int handle_job_list(void *opaque, const void *in, void *out, struct error *err)
{
    static const struct {
        const char *name, *phase, *reason;
    } jobs[] = {{"web", "mirror", ""},
                {"db\033[2J", "unresolved", "can't connect to b.example:\nNo route to host"},
                {"mail", "settling", ""}};
    const u_int count = sizeof jobs / sizeof *jobs;
    struct bs_job_list_ret *ret = out;

    (void)opaque, (void)in, (void)err;
    ret->jobs.jobs_val = calloc(count, sizeof *ret->jobs.jobs_val);
    if (!ret->jobs.jobs_val)
        abort();
    ret->jobs.jobs_len = count;
    for (u_int i = 0; i < count; i++) {
        struct bs_job *job = &ret->jobs.jobs_val[i];

        memset(job->id, 0x10 + (int)i, sizeof job->id);
        job->name = copy(jobs[i].name);
        job->destination = copy("bistream://b.example");
        job->phase = copy(jobs[i].phase);
        job->reason = copy(jobs[i].reason);
    }
    return 0;
}

/* One of memory and one disk. */
static void fill_job(struct bs_job_info *job, const char *name, unsigned outcome)
{
    static const struct bs_progress parts[2] = {{NULL, 1000 * MIB, 400 * MIB, 600 * MIB, 100 * MIB},
                                                {NULL, 4000 * MIB, 4000 * MIB, 0, 200 * MIB}};

    memset(job->id, 0x10, sizeof job->id);
    job->name = copy(name);
    job->destination = copy("bistream://b.example");
    job->phase = copy("memory");
    job->mode = copy("tunnel");
    job->fallback = copy("b.example knows no\033 better");
    job->outcome = outcome;
    job->error = copy(outcome == BS_OUTCOME_FAILED ? "aborted by the operator" : "");
    job->started = 1764000000;
    job->elapsed_ms = 12345;
    job->downtime_ms = outcome == BS_OUTCOME_COMPLETED ? 18 : 0;
    job->parts.parts_len = 2;
    job->parts.parts_val = calloc(2, sizeof *job->parts.parts_val);
    if (!job->parts.parts_val)
        abort();
    for (int i = 0; i < 2; i++) {
        job->parts.parts_val[i] = parts[i];
        job->parts.parts_val[i].target = copy(i ? "vda" : "");
    }
    job->dirty_rate = 5 * MIB;
    job->bandwidth = outcome ? 0 : 100 * MIB;
    job->round_trip_us = 230;
    job->link_losses = 2;
    job->stall_ms = 1500;
}

static int handle_job_info(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_job_info_args *args = in;
    struct bs_job_info_ret *ret = out;
    u_int count = args->completed ? 2 : 1;

    (void)opaque;
    fprintf(calls, "job info name='%s' completed=%d\n", args->name, args->completed);
    if (strcmp(args->name, "missing") == 0)
        return no_domain(args->name, err);
    ret->jobs.jobs_val = calloc(count, sizeof *ret->jobs.jobs_val);
    if (!ret->jobs.jobs_val)
        abort();
    for (; ret->jobs.jobs_len < count; ret->jobs.jobs_len++)
        fill_job(&ret->jobs.jobs_val[ret->jobs.jobs_len], ret->jobs.jobs_len ? "db" : "web",
                 !args->completed     ? 0
                 : ret->jobs.jobs_len ? BS_OUTCOME_FAILED
                                      : BS_OUTCOME_COMPLETED);
    return 0;
}

static int handle_job_set(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_job_set_args *args = in;

    (void)opaque, (void)out;
    fprintf(calls, "job set name='%s' bandwidth=%llu\n", args->name,
            (unsigned long long)args->bandwidth);
    return strcmp(args->name, "missing") == 0 ? no_domain(args->name, err) : 0;
}

static int handle_job_abort(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_job_name_args *args = in;

    (void)opaque, (void)out;
    fprintf(calls, "job abort name='%s'\n", args->name);
    return strcmp(args->name, "missing") == 0 ? no_domain(args->name, err) : 0;
}

static int handle_job_resolve(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_job_resolve_args *args = in;

    (void)opaque, (void)out;
    fprintf(calls, "job resolve name='%s' resolve=%u\n", args->name, args->resolve);
    return strcmp(args->name, "missing") == 0 ? no_domain(args->name, err) : 0;
}

/* ---- probe and forward ----------------------------------------------------------------------- */

static int handle_probe(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_probe_args *args = in;
    struct bs_probe_ret *ret = out;
    bool libvirt = strstr(args->destination, "libvirt") != NULL;
    bool old = strstr(args->destination, "old") != NULL;

    (void)opaque;
    if (strstr(args->destination, "nobody"))
        return error_set(err, ECONNREFUSED,
                         "can't connect to nobody port 16520: Connection refused; is bistreamd "
                         "running there?");
    ret->kind = libvirt ? BS_PEER_LIBVIRT : old ? BS_PEER_OLD : BS_PEER_BISTREAM;
    ret->info.vers = copy(libvirt ? "" : "0.1.0");
    ret->info.hostname = copy(libvirt ? "" : "b\033]0;x");
    ret->info.qemu_version = copy(libvirt ? "" : "7.2.22");
    ret->info.features = libvirt ? 0
                         : old   ? BS_FEATURE_TUNNEL | BS_FEATURE_QEMU_BLOCK
                                 : ~(u_quad_t)0; /* with what this client can't know yet */
    ret->vers = libvirt || old ? 0 : 1;
    ret->certificate = copy("CN=b.example");
    ret->round_trip_us = 230;
    return 0;
}

static int handle_forward_start(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_forward_start_args *args = in;
    struct bs_forward_start_ret *ret = out;
    struct client *client = opaque;

    (void)err;
    fprintf(calls, "forward %s", args->destination);
    for (u_int i = 0; i < args->pairs.pairs_len; i++) {
        const struct bs_forward_pair *pair = &args->pairs.pairs_val[i];

        fprintf(calls, " %s:%s", pair->local, pair->remote);
        if (strcmp(pair->remote, "/breaks") == 0)
            client->forward_breaks = true;
    }
    fprintf(calls, " user='%s' mode=%o detach=%d\n", args->socket_user, args->socket_mode,
            args->detach);
    ret->id = client->forward = 7;
    return 0;
}

static int handle_forward_list(void *opaque, const void *in, void *out, struct error *err)
{
    struct bs_forward_list_ret *ret = out;
    struct bs_forward *forward = calloc(1, sizeof *forward);
    struct bs_forward_pair *pairs = calloc(2, sizeof *pairs);

    (void)opaque, (void)in, (void)err;
    if (!forward || !pairs)
        abort();
    for (int i = 0; i < 2; i++) {
        pairs[i].local = copy(i ? "/run/b.sock" : "/run/a.sock");
        pairs[i].remote = copy(i ? "/srv/b.sock" : "/srv/a.sock");
    }
    *forward = (struct bs_forward){.id = 7,
                                   .destination = copy("bistream://b.example"),
                                   .pairs = {2, pairs},
                                   .channels = 3,
                                   .sent = 5 * MIB,
                                   .received = 12};
    ret->forwards.forwards_len = 1;
    ret->forwards.forwards_val = forward;
    return 0;
}

static int handle_forward_stop(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_forward_stop_args *args = in;

    (void)opaque, (void)out;
    fprintf(calls, "stop %u\n", args->id);
    return args->id == 7 ? 0 : error_set(err, ENOENT, "there is no forward %u", args->id);
}

static void break_forward(struct client *client)
{
    char reason[] = "the peer was silent for too long";
    struct bs_forward_ended ended = {.id = client->forward, .reason = reason};

    send_event(client, BS_PROGRAM, BS_PROC_EVENT_FORWARD_ENDED, (xdrproc_t)xdr_bs_forward_ended,
               &ended);
}

/* ---- serving --------------------------------------------------------------------------------- */

#define ARGS(type) (xdrproc_t) xdr_##type, sizeof(struct type)
#define NOTHING NULL, 0

static const struct rpc_procedure procedures[] = {
    {BS_PROC_DOMAIN_START, "start", RPC_CALLER_LOCAL, ARGS(bs_domain_start_args), NOTHING,
     handle_start},
    {BS_PROC_DOMAIN_ATTACH, "attach", RPC_CALLER_LOCAL, ARGS(bs_domain_attach_args), NOTHING,
     handle_attach},
    {BS_PROC_DOMAIN_LIST, "list", RPC_CALLER_LOCAL, ARGS(bs_domain_list_args),
     ARGS(bs_domain_list_ret), handle_list},
    {BS_PROC_DOMAIN_INFO, "info", RPC_CALLER_LOCAL, ARGS(bs_domain_name_args),
     ARGS(bs_domain_info_ret), handle_info},
    {BS_PROC_DOMAIN_SHUTDOWN, "shutdown", RPC_CALLER_LOCAL, ARGS(bs_domain_name_args), NOTHING,
     handle_shutdown},
    {BS_PROC_DOMAIN_DESTROY, "destroy", RPC_CALLER_LOCAL, ARGS(bs_domain_name_args), NOTHING,
     handle_destroy},
    {BS_PROC_DOMAIN_UNDEFINE, "undefine", RPC_CALLER_LOCAL, ARGS(bs_domain_name_args), NOTHING,
     handle_undefine},
    {BS_PROC_MIGRATE, "migrate", RPC_CALLER_LOCAL, ARGS(bs_migrate_args), ARGS(bs_migrate_ret),
     handle_migrate},
    {BS_PROC_MIGRATE_ABORT, "abort", RPC_CALLER_LOCAL, ARGS(bs_migrate_abort_args), NOTHING,
     handle_abort},
    {BS_PROC_JOB_LIST, "jobs", RPC_CALLER_LOCAL, NOTHING, ARGS(bs_job_list_ret), handle_job_list},
    {BS_PROC_JOB_INFO, "job info", RPC_CALLER_LOCAL, ARGS(bs_job_info_args), ARGS(bs_job_info_ret),
     handle_job_info},
    {BS_PROC_JOB_SET, "job set", RPC_CALLER_LOCAL, ARGS(bs_job_set_args), NOTHING, handle_job_set},
    {BS_PROC_JOB_ABORT, "job abort", RPC_CALLER_LOCAL, ARGS(bs_job_name_args), NOTHING,
     handle_job_abort},
    {BS_PROC_JOB_RESOLVE, "job resolve", RPC_CALLER_LOCAL, ARGS(bs_job_resolve_args), NOTHING,
     handle_job_resolve},
    {BS_PROC_PROBE, "probe", RPC_CALLER_LOCAL, ARGS(bs_probe_args), ARGS(bs_probe_ret),
     handle_probe},
    {BS_PROC_FORWARD_START, "forward", RPC_CALLER_LOCAL, ARGS(bs_forward_start_args),
     ARGS(bs_forward_start_ret), handle_forward_start},
    {BS_PROC_FORWARD_LIST, "forwards", RPC_CALLER_LOCAL, NOTHING, ARGS(bs_forward_list_ret),
     handle_forward_list},
    {BS_PROC_FORWARD_STOP, "stop", RPC_CALLER_LOCAL, ARGS(bs_forward_stop_args), NOTHING,
     handle_forward_stop},
};

static int begin(void *opaque, const struct bs_header *header, size_t length)
{
    struct client *client = opaque;

    client->message.header = *header;
    client->message.payload = malloc(length + 1);
    client->message.length = length;
    client->received = 0;
    return client->message.payload ? 0 : -ENOMEM;
}

static int payload(void *opaque, const uint8_t *data, size_t length)
{
    struct client *client = opaque;

    memcpy(client->message.payload + client->received, data, length);
    client->received += length;
    return 0;
}

static void answer(struct client *client)
{
    const struct rpc_program program = {procedures, sizeof procedures / sizeof *procedures};
    CLEANUP_FREE uint8_t *reply = NULL;
    bool was_aborted = client->abort;
    bool was_migrating = client->migration[0];
    size_t length;

    if (client->message.header.prog == BS_KEEPALIVE_PROGRAM) {
        fprintf(calls, "keepalive %d\n", client->message.header.procedure);
        return;
    }
    if (rpc_dispatch(&program, RPC_CALLER_LOCAL, client, &client->message, &reply, &length) < 0)
        exit(1);
    send_all(client, reply, length);
    if (client->migration[0] && !was_migrating)
        run_migration(client);
    if (client->abort && !was_aborted)
        after_abort(client);
    if (client->forward_breaks)
        break_forward(client);
}

static int end(void *opaque)
{
    struct client *client = opaque;

    answer(client);
    rpc_message_clear(&client->message);
    return 0;
}

static void serve(int fd, const char *release)
{
    static const struct rpc_decoder_callbacks callbacks = {begin, payload, end};
    struct client client = {.fd = fd, .release = release};
    struct rpc_decoder decoder = {.callbacks = &callbacks, .opaque = &client};
    uint8_t data[4096];
    size_t used;
    ssize_t n;

    while ((n = read(fd, data, sizeof data)) > 0) {
        if (rpc_decoder_feed(&decoder, data, (size_t)n, &used) < 0)
            break;
    }
    if (client.forward)
        fprintf(calls, "gone\n");
    close(fd);
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (strlen(path) >= sizeof address.sun_path)
        return -1;
    strcpy(address.sun_path, path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 16) < 0)
        return -1;
    return fd;
}

int main(int argc, char **argv)
{
    char notes[256], release[256];
    int listener = argc == 2 ? listen_at(argv[1]) : -1;
    pid_t pid;

    if (listener < 0) {
        fprintf(stderr, "usage: fake_daemon SOCKET (%s)\n", strerror(errno));
        return 1;
    }
    snprintf(notes, sizeof notes, "%s.calls", argv[1]);
    snprintf(release, sizeof release, "%s.release", argv[1]);
    calls = fopen(notes, "a");
    if (!calls)
        return 1;
    setlinebuf(calls);
    signal(SIGCHLD, SIG_IGN);
    pid = fork();
    if (pid != 0) {
        printf("%d\n", (int)pid);
        return pid < 0;
    }
    /* Whoever reads our pid waits for the end of this. */
    if (dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return 1;
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd >= 0 && fork() == 0) {
            close(listener);
            serve(fd, release);
            exit(0);
        }
        close(fd);
    }
}
