/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * BISTREAM_OPEN: checks what the peer offers and says what this side does.  Nothing is made here;
 * the link becomes a session when the reply has been written to it (peer.c).  A peer that doesn't know
 * it begins with a call about a migration, and gets what goes without saying.
 */
#include "config.h"

#include "daemon/session_limits.h"
#include "daemon/peer.h"

#include <errno.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

static int check_offer(const struct bs_bistream_open_args *args, struct error *err)
{
    if (args->vers_min > BS_BISTREAM_VERSION || args->vers_max < BS_BISTREAM_VERSION ||
        args->vers_min > args->vers_max)
        return error_set(err, EOPNOTSUPP,
                         "BiStream versions %u to %u are offered, this host knows version %d",
                         args->vers_min, args->vers_max, BS_BISTREAM_VERSION);
    if (args->grace_ms > BS_GRACE_MAX_MS)
        return error_set(err, EINVAL, "a grace time of %u ms is above %d", args->grace_ms,
                         BS_GRACE_MAX_MS);
    switch (args->purpose) {
    case BS_PURPOSE_PROBE:
    case BS_PURPOSE_FORWARD:
    case BS_PURPOSE_MIGRATION:
        return 0;
    default:
        return error_set(err, EINVAL, "a session for purpose %u is not known here", args->purpose);
    }
}

int peer_handle_open(void *opaque, const void *args_, void *ret_, struct error *err)
{
    const struct bs_bistream_open_args *args = args_;
    struct bs_bistream_open_ret *ret = ret_;
    struct peer_link *link = opaque;
    uint64_t memory = link->daemon->config->session_memory;
    struct peer_session_open open = {.peer = link->peer, .purpose = args->purpose};
    int r;

    r = check_offer(args, err);
    if (r == 0)
        r = peer_sessions_check(link->sessions, link->peer, err);
    if (r == 0)
        r = session_limits_remote(&args->limits, memory, false, &open.remote, err);
    if (r < 0)
        return r;
    open.local = session_limits_local(memory, false);
    open.serial = link->call->header.serial;
    open.grace_ms = args->grace_ms;
    if (RAND_bytes(open.id, sizeof open.id) != 1 ||
        RAND_bytes((uint8_t *)ret->secret, sizeof ret->secret) != 1)
        return error_set(err, EIO, "no random numbers for a session's id can be had");
    ret->vers = BS_BISTREAM_VERSION;
    memcpy(ret->session, open.id, sizeof open.id);
    memcpy(open.secret, ret->secret, sizeof open.secret);
    ret->limits.first_window = open.local.first_window;
    ret->limits.channels = open.local.channels;
    link->open = open;
    link->opened = true;
    return 0;
}

int peer_handle_resume(void *opaque, const void *args_, void *ret_, struct error *err)
{
    const struct bs_bistream_resume_args *args = args_;
    const struct bs_resume_state *state = &args->state;
    struct bs_bistream_resume_ret *ret = ret_;
    struct peer_link *link = opaque;
    struct bs_resume_channel *channels;
    int r = peer_sessions_find(link->sessions, link->tls, args, ret, err);

    if (r <= 0)
        return r;
    channels = calloc(state->channels.channels_len + 1, sizeof *channels);
    if (!channels)
        return error_set(err, ENOMEM, "memory is short");
    if (state->channels.channels_len > 0)
        memcpy(channels, state->channels.channels_val,
               state->channels.channels_len * sizeof *channels);
    link->resume = (struct pump_resume){.call = link->call->header, .attempt = args->attempt};
    link->resume.state = *state;
    link->resume.state.channels.channels_val = channels;
    memcpy(link->resume.proof, ret->proof, sizeof link->resume.proof);
    memcpy(link->session, args->session, sizeof link->session);
    link->resumed = true;
    return 0;
}

int peer_open_tunnel(struct peer_link *link, struct error *err)
{
    struct peer_session_open open = {
        .peer = link->peer, .purpose = BS_PURPOSE_MIGRATION, .tunnel = true};
    int r = peer_sessions_check(link->sessions, link->peer, err);

    if (r < 0)
        return r;
    open.local = session_limits_local(link->daemon->config->session_memory, false);
    if (RAND_bytes(open.id, sizeof open.id) != 1)
        return error_set(err, EIO, "no random numbers for a session's id can be had");
    link->open = open;
    link->opened = true;
    return 0;
}
