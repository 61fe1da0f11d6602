/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The connection to the daemon on this host: one call at a time, and the events that a call such
 * as MIGRATE sets off.  Everything waits for the daemon as long as it takes.
 */
#ifndef CLIENT_CONNECTION_H
#define CLIENT_CONNECTION_H

#include "common/error.h"
#include "rpc/message.h"

#include <signal.h>
#include <stdbool.h>

struct connection;

/* Connects to the control socket that URI (NULL: the environment or the default) names.  Returns
 * NULL with ERR: "can't reach bistreamd at PATH: Connection refused; is it running?". */
struct connection *connection_open(const char *uri, struct error *err);
/* NULL is fine. */
void connection_free(struct connection *connection);
static inline void connection_cleanup(struct connection **connection)
{
    connection_free(*connection);
}
#define CLEANUP_CONNECTION __attribute__((cleanup(connection_cleanup)))

/* Calls PROCEDURE and waits for its reply; events that come first are kept.  ARGS and RET as their
 * xdrproc says (NULL: none); RET zeroed by the caller, who frees its insides with xdr_free().
 * Returns 0, or a negative errno with ERR: what the daemon answered, or what befell the
 * connection, which is broken then. */
int connection_call(struct connection *connection, int procedure, xdrproc_t args_proc,
                    const void *args, xdrproc_t ret_proc, void *ret, struct error *err);

/* Waits for the next event of the daemon (*RET, cleared by the caller with rpc_message_clear()).
 * MASK (NULL: as it is) is the signal mask while waiting, TIMEOUT_MS -1 for ever.  Returns 0;
 * -EINTR when a signal was handled, -ETIMEDOUT; or another negative errno with ERR when the
 * connection broke. */
int connection_next_event(struct connection *connection, const sigset_t *mask, int timeout_ms,
                          struct rpc_message *ret, struct error *err);

/* Whether the connection was lost: what the daemon does is not known then. */
bool connection_is_broken(const struct connection *connection);

/* The socket's path. */
const char *connection_path(const struct connection *connection);

#endif
