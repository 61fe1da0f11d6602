/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A bistreamd that only talks: `fake_daemon SOCKET` listens, goes into the background, prints its
 * pid, and serves each client in a process of its own.  What it answers is decided by the names
 * that it is asked about, see the tables in the files beside this one.  Each call is noted with its
 * arguments in SOCKET.calls, for the tests to look at.
 */
#include "config.h"

#include "common/cleanup.h"
#include "tests/client/fake_daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

FILE *fake_calls;

/* ---- what the answers are made with ---------------------------------------------------------- */

char *fake_copy(const char *text)
{
    char *copied = strdup(text);

    if (!copied)
        abort();
    return copied;
}

void fake_send(struct fake_client *client, const void *data, size_t length)
{
    if (send(client->fd, data, length, MSG_NOSIGNAL) != (ssize_t)length)
        exit(0); /* the client is gone */
}

void fake_send_event(struct fake_client *client, unsigned program, int procedure, xdrproc_t proc,
                     const void *body)
{
    struct bs_header header = {
        .prog = program, .vers = 1, .procedure = procedure, .type = BS_EVENT};
    CLEANUP_FREE uint8_t *data = NULL;
    size_t length;

    if (rpc_message_encode(&header, proc, body, &data, &length) < 0)
        abort();
    fake_send(client, data, length);
}

int fake_no_domain(const char *name, struct error *err)
{
    return error_set(err, ENOENT, "there is no domain named '%s' here", name);
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
    struct fake_client *client = opaque;

    client->message.header = *header;
    client->message.payload = malloc(length + 1);
    client->message.length = length;
    client->received = 0;
    return client->message.payload ? 0 : -ENOMEM;
}

static int payload(void *opaque, const uint8_t *data, size_t length)
{
    struct fake_client *client = opaque;

    memcpy(client->message.payload + client->received, data, length);
    client->received += length;
    return 0;
}

static void answer(struct fake_client *client)
{
    const struct rpc_program program = {procedures, sizeof procedures / sizeof *procedures};
    CLEANUP_FREE uint8_t *reply = NULL;
    bool was_aborted = client->abort;
    bool was_migrating = client->migration[0];
    size_t length;

    if (client->message.header.prog == BS_KEEPALIVE_PROGRAM) {
        fprintf(fake_calls, "keepalive %d\n", client->message.header.procedure);
        return;
    }
    if (rpc_dispatch(&program, RPC_CALLER_LOCAL, client, &client->message, &reply, &length) < 0)
        exit(1);
    fake_send(client, reply, length);
    if (client->migration[0] && !was_migrating)
        fake_migration_run(client);
    if (client->abort && !was_aborted)
        fake_migration_aborted(client);
    if (client->forward_breaks)
        fake_forward_break(client);
}

static int end(void *opaque)
{
    struct fake_client *client = opaque;

    answer(client);
    rpc_message_clear(&client->message);
    return 0;
}

static void serve(int fd, const char *release)
{
    static const struct rpc_decoder_callbacks callbacks = {begin, payload, end};
    struct fake_client client = {.fd = fd, .release = release};
    struct rpc_decoder decoder = {.callbacks = &callbacks, .opaque = &client};
    uint8_t data[4096];
    size_t used;
    ssize_t n;

    while ((n = read(fd, data, sizeof data)) > 0) {
        if (rpc_decoder_feed(&decoder, data, (size_t)n, &used) < 0)
            break;
    }
    if (client.forward)
        fprintf(fake_calls, "gone\n");
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
    fake_calls = fopen(notes, "a");
    if (!fake_calls)
        return 1;
    setlinebuf(fake_calls);
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
