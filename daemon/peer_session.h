/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The acceptor's side of a session: a peer opened it, and calls on its channel 0 (MIGRATE_PREPARE,
 * ...) and channels to endpoints come in by it.
 */
#ifndef DAEMON_PEER_SESSION_H
#define DAEMON_PEER_SESSION_H

#include "common/error.h"
#include "daemon/daemon.h"
#include "io/pump.h"
#include "rpc/protocol.h"

#include <netinet/in.h>

struct peer_sessions;

/* Handlers of RPC_CALLER_SESSION get it as their opaque.  It lives until incoming_session_ended()
 * has returned. */
struct peer_session {
    struct daemon *daemon;
    char *peer;                           /* the name that matched allowed_peers */
    char *name;                           /* for the log: "3f2a1c" */
    char local_address[INET6_ADDRSTRLEN]; /* of this host, where it came to */
    uint8_t id[BS_ID_SIZE];
    unsigned purpose;                    /* enum bs_purpose */
    _Atomic(struct incoming *) incoming; /* daemon/incoming.c's own; NULL: nothing prepared */
};

/* Returns NULL when memory is short. */
struct peer_sessions *peer_sessions_new(struct daemon *daemon);
/* Ends all sessions ("bistreamd is stopping"), waits until what they prepared is undone. */
void peer_sessions_stop(struct peer_sessions *sessions);
/* After peer_sessions_stop().  NULL is fine. */
void peer_sessions_free(struct peer_sessions *sessions);

/* What BISTREAM_OPEN agreed on, or, with `tunnel`, nothing: the link goes on carrying calls, the first
 * of which is in `early`, and at most one migration's stream. */
struct peer_session_open {
    const char *peer; /* copied, as everything here */
    uint8_t id[BS_ID_SIZE];
    uint8_t secret[BS_SECRET_SIZE];
    unsigned grace_ms; /* that the peer announced */
    bool tunnel;
    unsigned purpose;
    uint32_t serial;
    struct mux_limits local, remote;
    const void
        *early; /* bytes read behind the OPEN message, or with `tunnel` from the first call on */
    size_t early_length;
};
/* Whether PEER may open one more.  Returns 0, or -EBUSY with ERR. */
int peer_sessions_check(struct peer_sessions *sessions, const char *peer, struct error *err);

/* Finds the session that ARGS, which came by LINK, is to resume: it must know the session's secret, and
 * LINK have the certificate that opened it.  Returns 1 with RET->proof, for peer_session_resume(); 0
 * when the session is over, and RET is the answer; or a negative errno with ERR. */
int peer_sessions_find(struct peer_sessions *sessions, const struct tls *link,
                       const struct bs_bistream_resume_args *args,
                       struct bs_bistream_resume_ret *ret, struct error *err);
/* Hands RESUME to that session, in the same round of the main loop.  The link is taken over, and left
 * without an answer when the session has ended meanwhile. */
void peer_session_resume(struct peer_sessions *sessions, const uint8_t id[BS_ID_SIZE],
                         struct pump_resume *resume);

/* Makes a session of LINK, to which the reply has been written; LINK is taken over also on failure.
 * Returns 0, or a negative errno with ERR. */
int peer_session_start(struct peer_sessions *sessions, struct tls *link,
                       const struct peer_session_open *open, struct error *err);

#endif
