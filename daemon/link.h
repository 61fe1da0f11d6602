/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The caller's side of a link: dial a peer, call it, open a session.  All of it blocks with bounds,
 * so it is for job threads and the control connections' threads.  Every call ends early, with
 * -ECANCELED, when ABORT_FD (-1: none) becomes readable, and when the daemon stops.
 */
#ifndef DAEMON_LINK_H
#define DAEMON_LINK_H

#include "daemon/daemon.h"
#include "io/pump.h"
#include "rpc/protocol.h"

struct link;

/* Dials URI, shakes hands, waits for the byte that a server greets with.  Returns NULL with ERR. */
struct link *link_dial(struct daemon *daemon, const char *uri, int abort_fd, struct error *err);
/* NULL is fine. */
void link_free(struct link *link);
/* Subject of the peer's certificate, belongs to LINK. */
const char *link_peer_subject(const struct link *link);

/* Calls PROCEDURE of BS_PROGRAM.  The caller frees RET's insides with xdr_free().  Returns 0, or a
 * negative errno with ERR: what the peer answered (-ENOSYS for a procedure that it lacks). */
int link_call(struct link *link, int procedure, xdrproc_t args_proc, const void *args,
              xdrproc_t ret_proc, void *ret, struct error *err);

/* Finds out what is at URI, and changes nothing there.  RET is freed with xdr_free(). */
int link_probe(struct daemon *daemon, const char *uri, int abort_fd, struct bs_probe_ret *ret,
               struct error *err);

/* Opens a session at URI for PURPOSE (enum bs_purpose) and starts its pump.  Returns NULL with ERR;
 * ERR->code is EPROTONOSUPPORT for a bistreamd from before BiStream, ENOPROTOOPT for what is no
 * bistreamd at all. */
struct pump *link_open_session(struct daemon *daemon, const char *uri, unsigned purpose,
                               const struct pump_handlers *handlers, int abort_fd,
                               struct error *err);

/* The same for a migration, but a bistreamd without BiStream is fine, and so is offer_bistream = false
 * here: the pump then makes calls and can carry one MIGRATE_PREPARE_TUNNEL stream.  RET (NULL: not
 * wanted) is what the peer says of itself, for xdr_free() in every case; BS_FEATURE_BISTREAM in it
 * means that the pump is a session's. */
struct pump *link_open_migration(struct daemon *daemon, const char *uri,
                                 const struct pump_handlers *handlers, int abort_fd,
                                 struct bs_host_info_ret *ret, struct error *err);

#endif
