/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The dispatch table: procedure -> decoder, handler, and what the caller must be.
 */
#ifndef RPC_DISPATCH_H
#define RPC_DISPATCH_H

#include "common/error.h"
#include "rpc/message.h"

/* What a connection is; a procedure names the kinds that may call it. */
enum rpc_caller {
    RPC_CALLER_LOCAL = 1 << 0,   /* the control socket */
    RPC_CALLER_LINK = 1 << 1,    /* a fresh link: an authenticated, allowed peer */
    RPC_CALLER_SESSION = 1 << 2, /* channel 0 of a session */
    RPC_CALLER_TUNNEL = 1 << 3,  /* a link on which MIGRATE_PREPARE_TUNNEL may come */
};

struct rpc_procedure {
    int number;          /* enum bs_procedure */
    const char *name;    /* for the log */
    unsigned callers;    /* enum rpc_caller, or'ed */
    xdrproc_t args_proc; /* NULL: no arguments */
    size_t args_size;
    xdrproc_t ret_proc; /* NULL: no results */
    size_t ret_size;
    /* ARGS decoded, *RET zeroed.  Returns 0, or a negative errno with ERR.  What *RET holds is
     * freed by xdr_free() afterwards, so it must be malloc'ed. */
    int (*handler)(void *opaque, const void *args, void *ret, struct error *err);
};

struct rpc_program {
    const struct rpc_procedure *procedures;
    size_t count;
};

/* Whether CALLER may call the procedure of HEADER. */
bool rpc_program_has(const struct rpc_program *program, enum rpc_caller caller,
                     const struct bs_header *header);

/* Runs one CALL for CALLER and encodes the reply, malloc'ed: the results, the handler's error, or
 * libvirt's answers: unknown procedure (also for one that CALLER may not call), "Cannot find
 * program N version V", each 39/7; undecodable arguments are EBADMSG, not 39/7.  Returns 0; -EPROTO
 * for a message that is no CALL (no reply); -ENOMEM. */
int rpc_dispatch(const struct rpc_program *program, enum rpc_caller caller, void *opaque,
                 const struct rpc_message *call, uint8_t **ret_data, size_t *ret_length);

#endif
