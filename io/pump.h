/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The pump: one thread that moves bytes between a session's link and the UNIX sockets of its
 * channels.  It reads a socket only with credit, writes what was delivered, passes a half-close on
 * as shutdown(2), a dead socket as RESET and a RESET as close(2).
 *
 * A link can also be pumped that carries no session but the old protocol (pump_config.tunnel): calls,
 * which are messages of their own there, and at most one stream, from the opener to the acceptor's
 * "migration".  What is said of channel 0 and of channels holds for them, but for this: nothing comes
 * back through the stream; an acceptor whose local socket takes nothing more can't hear calls either
 * once it holds a megabyte; and no answer is awaited when the link is closed.
 *
 * Calls on channel 0: pump_call() blocks its caller only; calls from the peer are run one after the
 * other on one worker thread per session.
 *
 * All functions may be called from any thread but the pump's, so not from pump_handlers' callbacks;
 * the handlers of a program run on the worker and may call all but pump_close() and pump_free().
 */
#ifndef IO_PUMP_H
#define IO_PUMP_H

#include "common/error.h"
#include "io/tls.h"
#include "mux/session.h"
#include "rpc/dispatch.h"

struct pump;

struct pump_handlers {
    /* The peer opened a channel to ENDPOINT: name the UNIX socket to dial (malloc'ed, *RET_PATH).
     * Returns 0, or a negative errno with ERR, whose sentence goes into the RESET.  Pump thread;
     * may not block.  NULL: no endpoints here. */
    int (*resolve)(void *opaque, const char *endpoint, char **ret_path, struct error *err);

    /* A channel to ENDPOINT ended by RESET from the peer, or because its socket here was refused or
     * broke; not by pump_close_endpoint() or the end of the session.  Pump thread; may not block. */
    void (*channel_reset)(void *opaque, const char *endpoint, uint64_t code, const char *text);

    /* The link is lost, and the session waits for another one; and there it is, after NS.  Pump thread;
     * may not block. */
    void (*link_lost)(void *opaque, const struct error *why);
    void (*link_resumed)(void *opaque, uint64_t ns);

    /* Calls that the peer may make on channel 0 (RPC_CALLER_SESSION, in a tunnel
     * RPC_CALLER_TUNNEL); NULL: none.  Handlers run on the worker thread and
     * get OPAQUE. */
    const struct rpc_program *program;

    /* The session has ended; WHY->code is 0 after CLOSE "done".  The last of all callbacks; on the
     * pump's thread.  pump_free() must not be called from here. */
    void (*ended)(void *opaque, const struct error *why);

    void *opaque;
};

/* A new link, on which BISTREAM_RESUME was answered. */
struct pump_resumed {
    struct tls *link;
    uint32_t serial; /* of the call */
    struct bs_bistream_resume_ret reply;
    void *early; /* malloc'ed: bytes that were read behind the reply */
    size_t early_length;
};

/* How an opener comes to it.  RESUME runs on a thread of the pump's and may block; it ends early when
 * ABORT_FD becomes readable.  It makes one attempt: dials, and calls BISTREAM_RESUME with ATTEMPT and
 * STATE, waiting no longer than PATIENCE_MS for each answer.  Returns 0 with RET, or a negative errno with ERR; *RET_FINAL says that no further attempt can
 * help. */
struct pump_redial {
    int (*resume)(void *opaque, uint32_t attempt, const struct bs_resume_state *state,
                  int patience_ms, int abort_fd, struct pump_resumed *ret, bool *ret_final,
                  struct error *err);
    void (*free)(void *opaque); /* called once, also when pump_start() fails */
    void *opaque;
};

struct pump_config {
    const char *name; /* for the log: "3f2a1c" */
    bool opener;
    bool tunnel;     /* no session: SERIAL, LOCAL and REMOTE are not used */
    uint32_t serial; /* of the BISTREAM_OPEN call */
    struct mux_limits local, remote;
    uint64_t memory;                      /* bytes, each way */
    uint64_t ping_interval, ping_timeout; /* ns */
    uint64_t
        grace; /* ns that the session waits for another link when it has lost its own; 0: it ends
                     * with its link, as a tunnel does */
    struct pump_redial redial; /* opener, with GRACE */
    const void *early; /* bytes that were read from the link and are for the pump, in a tunnel with
                        * the first call for it; copied */
    size_t early_length;
};

/* Takes over LINK, also on failure, and starts the threads.  Returns NULL with ERR. */
struct pump *pump_start(struct tls *link, const struct pump_config *config,
                        const struct pump_handlers *handlers, struct error *err);

/* The acceptor's side of BISTREAM_RESUME, whose certificate and proof have been checked. */
struct pump_resume {
    struct tls *link;
    struct bs_header call; /* of the call: the answer goes to it */
    uint32_t attempt;
    struct bs_resume_state state; /* what the peer says; taken over, and zeroed */
    uint8_t proof[BS_PROOF_SIZE]; /* of the answer */
    const void *early;            /* bytes that were read behind the call; copied */
    size_t early_length;
};
/* Has the session answer, and go on over that link if it can; nothing changes for it otherwise.  LINK is
 * taken over also on failure.  Doesn't block.  Returns 0 or -ENOMEM. */
int pump_resume(struct pump *pump, struct pump_resume *resume);

/* Every connection accepted on LISTENER (a listening UNIX socket, taken over also on failure) opens
 * a channel of its own to ENDPOINT.  In a tunnel the first one becomes the stream, as soon as
 * MIGRATE_PREPARE_TUNNEL was called, and any other is closed. */
int pump_listen(struct pump *pump, int listener, const char *endpoint, struct error *err);

/* Closes (close(2), never only shutdown) the listener and all local sockets of channels to ENDPOINT
 * and resets those channels; NULL: all of them.  When it returns, they are closed. */
void pump_close_endpoint(struct pump *pump, const char *endpoint);

/* Calls PROCEDURE of BS_PROGRAM at the peer and waits.  ARGS and RET as their xdrproc says, RET
 * zeroed; the caller frees its insides with xdr_free().  NULL: none.  Returns 0, or a negative errno
 * with ERR: what the peer answered, -ETIMEDOUT, or -ECONNRESET when the session ended first. */
int pump_call(struct pump *pump, int procedure, xdrproc_t args_proc, const void *args,
              xdrproc_t ret_proc, void *ret, int timeout_ms, struct error *err);

/* Has all calls that wait in pump_call() return -ECANCELED now; their replies are dropped when they
 * come.  Any thread; does not block. */
void pump_cancel_calls(struct pump *pump);

struct pump_stats {
    uint64_t sent, received; /* payload bytes over all channels to the endpoint */
    uint32_t channels;       /* open now */
    uint64_t round_trip;     /* ns; 0: not measured yet */
    /* ns for which the peer has owed us an answer (to a PING, or an acknowledgement of sent bytes) and
     * nothing at all has come from the link; 0: it owes none, or it answers */
    uint64_t silent;
    uint64_t silent_total; /* ns; all such times that lasted for more than a second */
    uint32_t link_losses;
    uint64_t away, away_total; /* ns without a link: now, and altogether */
    /* ns since the first byte was sent to the endpoint after the last one that came from it; 0: the
     * last was one from it.  An NBD server that this grows for leaves requests unanswered. */
    uint64_t waiting;
};
/* ENDPOINT NULL: all channels but 0, and the longest `waiting` of any endpoint. */
void pump_get_stats(struct pump *pump, const char *endpoint, struct pump_stats *ret);

/* Caps what all channels but 0 send together, from now on; 0: no cap.  Returns 0, or -ECONNRESET when
 * the session has ended. */
int pump_set_bandwidth(struct pump *pump, uint64_t bytes_per_second);

/* Ends the session (BS_CLOSE_*), waiting for the peer's answer (in a tunnel: until what was to be
 * said has gone) at most TIMEOUT_MS.  Local sockets
 * and listeners are closed when it returns.  Harmless after the end. */
void pump_close(struct pump *pump, uint64_t code, const char *text, int timeout_ms);

/* Closes if that has not happened (at once, "cancelled"), joins the threads (a handler that runs is
 * waited for), frees.  Not from a handler or callback.  NULL is fine. */
void pump_free(struct pump *pump);

#endif
