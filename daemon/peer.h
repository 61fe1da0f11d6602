/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Peers that come in: their links from accept(2) on until a session takes them over.
 */
#ifndef DAEMON_PEER_H
#define DAEMON_PEER_H

#include "daemon/daemon.h"
#include "daemon/peer_session.h"
#include "rpc/dispatch.h"

struct peers;

/* A link on which no session is open.  Handlers of RPC_CALLER_LINK get it as their opaque; they run
 * on the main loop and must not block. */
struct peer_link {
    struct daemon *daemon;
    const struct tls *tls;
    const char *peer; /* the name that matched allowed_peers */
    const struct rpc_message *call;
    struct peer_sessions *sessions;
    bool opened; /* it is to become a session: */
    struct peer_session_open open;
    bool resumed; /* it is to become one of this session, which answers: */
    uint8_t session[BS_ID_SIZE];
    struct pump_resume resume;
};

/* Starts to accept on LISTENER (taken over also on failure), in the main loop.  Returns NULL with
 * ERR. */
struct peers *peers_start(struct daemon *daemon, int listener, const struct rpc_program *program,
                          struct error *err);
/* Accepts nobody any more and ends all links and sessions; waits until what these had prepared is
 * undone.  The main loop has stopped. */
void peers_stop(struct peers *peers);
/* NULL is fine. */
void peers_free(struct peers *peers);

/* Handler of BISTREAM_OPEN (rpc/dispatch.h); OPAQUE is the struct peer_link. */
int peer_handle_open(void *opaque, const void *args, void *ret, struct error *err);

/* Handler of BISTREAM_RESUME, likewise.  With link->resumed RET is not the answer. */
int peer_handle_resume(void *opaque, const void *args, void *ret, struct error *err);

/* LINK is to become one that carries a migration's calls and stream.  Returns 0, or a negative errno
 * with ERR when there is no room for it. */
int peer_open_tunnel(struct peer_link *link, struct error *err);

#endif
