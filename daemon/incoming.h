/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Migrations that come in: what the destination does in Prepare, Finish and Settle, and what it
 * undoes when the session ends before Finish.
 */
#ifndef DAEMON_INCOMING_H
#define DAEMON_INCOMING_H

#include "common/error.h"

#include <stdbool.h>

struct daemon;
struct peer_session;
struct incoming_migrations;

/* Returns NULL when memory is short. */
struct incoming_migrations *incoming_new(void);
/* Takes up what the journal holds from before.  Once, before any session.  Blocks. */
int incoming_recover(struct daemon *daemon, struct error *err);
/* After all sessions have ended.  NULL is fine. */
void incoming_free(struct incoming_migrations *incoming);

/* Handlers for RPC_CALLER_SESSION and RPC_CALLER_TUNNEL (rpc/dispatch.h); OPAQUE is the struct
 * peer_session. */
int incoming_handle_prepare(void *opaque, const void *args, void *ret, struct error *err);
int incoming_handle_prepare_tunnel(void *opaque, const void *args, void *ret, struct error *err);
int incoming_handle_prepare_direct(void *opaque, const void *args, void *ret, struct error *err);
int incoming_handle_prepare_offline(void *opaque, const void *args, void *ret, struct error *err);
int incoming_handle_volume_digest(void *opaque, const void *args, void *ret, struct error *err);
int incoming_handle_finish(void *opaque, const void *args, void *ret, struct error *err);
int incoming_handle_status(void *opaque, const void *args, void *ret, struct error *err);
int incoming_handle_settle(void *opaque, const void *args, void *ret, struct error *err);

/* The UNIX socket behind "migration" or "nbd/TARGET" of the migration that SESSION prepared
 * (malloc'ed), or -ENOENT with ERR.  Never blocks for long: the pump's thread asks. */
int incoming_resolve(struct peer_session *session, const char *endpoint, char **ret_path,
                     struct error *err);

/* Finish has begun in SESSION: the source has to hear its outcome, so the session isn't ended from
 * this side now.  Any thread, does not block. */
bool incoming_is_arriving(struct peer_session *session);

/* SESSION is closing: a Prepare that runs gives up at its next step.  Any thread, does not block.
 */
void incoming_session_closing(struct peer_session *session);

/* SESSION has ended and runs no handler any more: what it prepared and never finished is fenced.
 * May take seconds (a QEMU has to die), so it is not called on the main loop. */
void incoming_session_ended(struct peer_session *session);

#endif
