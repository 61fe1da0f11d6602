/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The fake daemon's probes and its one forward: see fake_daemon.h. */
#include "config.h"

#include "tests/client/fake_daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int handle_probe(void *opaque, const void *in, void *out, struct error *err)
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
    ret->info.vers = fake_copy(libvirt ? "" : "0.1.0");
    ret->info.hostname = fake_copy(libvirt ? "" : "b\033]0;x");
    ret->info.qemu_version = fake_copy(libvirt ? "" : "7.2.22");
    ret->info.features = libvirt ? 0
                         : old   ? BS_FEATURE_TUNNEL | BS_FEATURE_QEMU_BLOCK
                                 : ~(u_quad_t)0; /* with what this client can't know yet */
    ret->vers = libvirt || old ? 0 : 1;
    ret->certificate = fake_copy("CN=b.example");
    ret->round_trip_us = 230;
    return 0;
}

int handle_forward_start(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_forward_start_args *args = in;
    struct bs_forward_start_ret *ret = out;
    struct fake_client *client = opaque;

    (void)err;
    fprintf(fake_calls, "forward %s", args->destination);
    for (u_int i = 0; i < args->pairs.pairs_len; i++) {
        const struct bs_forward_pair *pair = &args->pairs.pairs_val[i];

        fprintf(fake_calls, " %s:%s", pair->local, pair->remote);
        if (strcmp(pair->remote, "/breaks") == 0)
            client->forward_breaks = true;
    }
    fprintf(fake_calls, " user='%s' mode=%o detach=%d\n", args->socket_user, args->socket_mode,
            args->detach);
    ret->id = client->forward = 7;
    return 0;
}

int handle_forward_list(void *opaque, const void *in, void *out, struct error *err)
{
    struct bs_forward_list_ret *ret = out;
    struct bs_forward *forward = calloc(1, sizeof *forward);
    struct bs_forward_pair *pairs = calloc(2, sizeof *pairs);

    (void)opaque, (void)in, (void)err;
    if (!forward || !pairs)
        abort();
    for (int i = 0; i < 2; i++) {
        pairs[i].local = fake_copy(i ? "/run/b.sock" : "/run/a.sock");
        pairs[i].remote = fake_copy(i ? "/srv/b.sock" : "/srv/a.sock");
    }
    *forward = (struct bs_forward){.id = 7,
                                   .destination = fake_copy("bistream://b.example"),
                                   .pairs = {2, pairs},
                                   .channels = 3,
                                   .sent = 5 * MIB,
                                   .received = 12};
    ret->forwards.forwards_len = 1;
    ret->forwards.forwards_val = forward;
    return 0;
}

int handle_forward_stop(void *opaque, const void *in, void *out, struct error *err)
{
    const struct bs_forward_stop_args *args = in;

    (void)opaque, (void)out;
    fprintf(fake_calls, "stop %u\n", args->id);
    return args->id == 7 ? 0 : error_set(err, ENOENT, "there is no forward %u", args->id);
}

void fake_forward_break(struct fake_client *client)
{
    char reason[] = "the peer was silent for too long";
    struct bs_forward_ended ended = {.id = client->forward, .reason = reason};

    fake_send_event(client, BS_PROGRAM, BS_PROC_EVENT_FORWARD_ENDED,
                    (xdrproc_t)xdr_bs_forward_ended, &ended);
}
