/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The call table: serials of calls that wait for their replies.  Sans-I/O: time is an argument.
 */
#ifndef RPC_CALL_H
#define RPC_CALL_H

#include "rpc/message.h"

#include <stdint.h>

struct rpc_calls;

/* Serials begin with 1. */
struct rpc_calls *rpc_calls_new(void);
/* Pending calls are completed with -ECONNRESET first.  NULL is fine. */
void rpc_calls_free(struct rpc_calls *calls);

/* RESULT is 0 with the REPLY (status OK or ERROR; the payload is only lent), or -ETIMEDOUT or
 * -ECONNRESET with REPLY NULL.  Called exactly once per call.  It may use the table, but not free
 * it; a call that it adds isn't among those that are being completed, except by rpc_calls_free().
 */
typedef void rpc_call_done(void *opaque, int result, const struct rpc_message *reply);

/* Registers a call and gives it a serial.  DEADLINE on the scale of rpc_calls_tick(), UINT64_MAX:
 * none.  Returns 0 or -ENOMEM. */
int rpc_calls_add(struct rpc_calls *calls, int procedure, uint64_t deadline, rpc_call_done *done,
                  void *opaque, uint32_t *ret_serial);

/* Matches a REPLY.  Returns 0; -ENOENT for a serial nobody waits for but that was once given out (a
 * late reply after a time-out: harmless); -EPROTO for a serial never given out, or a procedure that
 * is not the call's. */
int rpc_calls_reply(struct rpc_calls *calls, const struct rpc_message *reply);

uint64_t rpc_calls_deadline(const struct rpc_calls *calls);
void rpc_calls_tick(struct rpc_calls *calls, uint64_t now);
/* Completes all pending calls with RESULT. */
void rpc_calls_fail(struct rpc_calls *calls, int result);

#endif
