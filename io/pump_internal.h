/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What the files of the pump share.  pump.c has the theory of operation.
 *
 * Everything here belongs to the pump's thread, except where a lock or "constant" says otherwise.
 */
#ifndef IO_PUMP_INTERNAL_H
#define IO_PUMP_INTERNAL_H

#include "common/loop.h"
#include "common/ring.h"
#include "io/pump.h"
#include "rpc/call.h"
#include "rpc/message.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

/* ---- channels and their sockets (pump_channel.c) --------------------------------------------- */

/* What has been counted for one endpoint, over all channels to it. */
struct pump_endpoint {
    char *name;
    uint64_t sent, received;
    uint64_t waiting_since;       /* LOOP_NEVER: not waiting */
    uint32_t channels, listeners; /* that lead there now */
    TAILQ_ENTRY(pump_endpoint) link;
};

/* From the program at the local socket to the peer. */
enum channel_in {
    CHANNEL_IN_OPEN,  /* read whenever there is credit */
    CHANNEL_IN_ENDED, /* the program's half has ended, and the peer was told */
};

/* From the peer to the program at the local socket. */
enum channel_out {
    CHANNEL_OUT_OPEN,   /* written whenever the socket takes something */
    CHANNEL_OUT_ENDED,  /* the peer's half has ended, and shutdown(2) has passed it on */
    CHANNEL_OUT_BROKEN, /* the program takes nothing any more: what comes is thrown away, and the
                           channel is reset as soon as the peer has all that the program sent */
};

enum channel_state {
    CHANNEL_DIALLING, /* the peer opened it; the local socket isn't connected yet */
    CHANNEL_OPEN,     /* the local socket is connected */
    CHANNEL_DEAD,     /* reset; the socket is closed, the session still knows the number */
};

struct pump_channel {
    struct pump *pump;
    uint32_t number;
    struct pump_endpoint *endpoint;
    enum channel_state state;
    enum channel_in in;
    enum channel_out out;
    bool eof_due;   /* the peer's half has ended: shutdown(2) once all is written */
    bool forgotten; /* by the session: to be freed */
    bool touched;   /* stands in pump->touched */
    bool full;      /* the local socket took less than there was */
    int fd;         /* -1: none */
    struct loop_fd *watch;
    size_t read_size;  /* how much is read at once: follows what comes */
    char *path;        /* while dialling: the local socket's */
    uint64_t dial_end; /* while dialling: when to give up */
    TAILQ_ENTRY(pump_channel) link, touch;
    LIST_ENTRY(pump_channel) bucket;
};

TAILQ_HEAD(pump_channel_list, pump_channel);

enum { PUMP_BUCKETS = 1024 }; /* numbers rise, so that the low bits spread well */

/* The session's callbacks for channels. */
void channel_opened(void *opaque, uint32_t number, const char *endpoint);
size_t channel_data(void *opaque, uint32_t number, const struct iovec *pieces, int count);
void channel_eof(void *opaque, uint32_t number);
void channel_writable(void *opaque, uint32_t number);
void channel_was_reset(void *opaque, uint32_t number, uint64_t code, const char *text);
void channel_forgotten(void *opaque, uint32_t number);

/* A new channel; FD -1: to be dialled, else what the program has said already is read.  FD is taken over
 * only on success.  Returns NULL when memory is short. */
struct pump_channel *channel_new(struct pump *pump, uint32_t number, const char *endpoint, int fd);
void channel_free(struct pump_channel *channel);
/* The local socket is connected; FD is taken over only on success.  Returns 0 or -ENOMEM. */
int channel_attach(struct pump_channel *channel, int fd);
/* Has channel_settle() called for it before the loop waits. */
void channel_touch(struct pump_channel *channel);
/* Does what callbacks could not do: the session may be called here.  May free the channel. */
void channel_settle(struct pump_channel *channel);
/* Resets the channel because of something on this side, and tells the user of the pump. */
void channel_fail(struct pump_channel *channel, uint64_t code, const char *text);
/* Closes the local socket; the channel is dead from now on. */
void channel_close(struct pump_channel *channel);

/* Returns NULL when memory is short. */
struct pump_endpoint *endpoint_get(struct pump *pump, const char *name);

/* ---- listening and dialling (pump_listen.c) --------------------------------------------------- */

struct pump_listener {
    struct pump *pump;
    struct pump_endpoint *endpoint;
    int fd;
    int held; /* accepted, but the peer allows no more channels now; -1: none */
    struct loop_fd *watch;
    TAILQ_ENTRY(pump_listener) link;
};

void pump_listener_free(struct pump_listener *listener);
/* After a channel was forgotten: connections that were held may have one. */
void listeners_resume(struct pump *pump);
/* Connects the local socket of a channel that the peer opened. */
void channel_dial(struct pump_channel *channel);
/* Time for those that wait: for descriptors, or for a program to accept. */
void listeners_tick(struct pump *pump, uint64_t now);

/* ---- channel 0 (pump_call.c) ------------------------------------------------------------------ */

/* A call from the peer: waits for the worker, runs there, comes back as a reply. */
struct pump_job {
    struct loop_work work; /* first: the loop gives it back */
    struct pump *pump;
    struct rpc_message call;
    uint8_t *reply;
    size_t reply_length;
    TAILQ_ENTRY(pump_job) link;
};

/* pump_cancel_calls() on its way to the pump. */
struct pump_cancel {
    struct loop_work work; /* first: the loop gives it back */
    struct pump *pump;
    bool posted; /* under calls->lock */
};

struct pump_calls {
    struct rpc_calls *table; /* ours that wait for answers */
    uint32_t pending;        /* how many */
    struct ring out;         /* encoded, waiting for room on channel 0 */
    struct rpc_decoder decoder;
    struct rpc_message incoming;
    size_t incoming_used;
    uint32_t jobs; /* calls of the peer's that have no answer yet */

    pthread_t worker;     /* constant */
    bool started;         /* constant */
    pthread_mutex_t lock; /* a leaf, nothing is called under it; guards what follows */
    pthread_cond_t wake;
    TAILQ_HEAD(, pump_job) queue;
    bool stopping;
    struct pump_cancel cancel;
};

/* Returns 0 or a negative errno. */
int calls_start(struct pump *pump);
/* Takes what came on channel 0. */
void calls_feed(struct pump *pump, const uint8_t *data, size_t length);
/* Hands the session what it takes of what is to be said. */
void calls_flush(struct pump *pump);
/* The session has ended: pending calls fail, and those of the peer that wait are not run. */
void calls_end(struct pump *pump);
/* Waits for a handler that runs, and ends the worker.  Not on the pump's thread. */
void calls_stop(struct pump *pump);
void calls_release(struct pump *pump);

/* ---- without a link (pump_resume.c, pump_redial.c) -------------------------------------------- */

/* The opener's thread that gets another link; there is one while the link is lost. */
struct pump_redialler {
    struct pump_redial how; /* constant */
    pthread_t thread;
    bool started;     /* it is to be joined */
    int abort_fd;     /* eventfd: readable when it is to end; -1: none */
    uint32_t attempt; /* the last one */
};

/* Whether the session goes on without the link that it has just lost. */
bool pump_outlives_link(struct pump *pump, const struct error *why);
/* The grace time may be over. */
void pump_away_tick(struct pump *pump, uint64_t now);
/* The session goes on over LINK, taken over.  Returns 0, or a negative errno with ERR. */
int pump_attach(struct pump *pump, struct tls *link, uint32_t serial,
                const struct bs_resume_state *peer, const void *early, size_t early_length,
                struct error *err);
/* For how long there has been no link. */
uint64_t pump_away(const struct pump *pump);

/* Returns 0 or a negative errno. */
int redial_start(struct pump *pump);
/* Ends the thread if there is one, waiting for it.  Not on the pump's thread. */
void redial_stop(struct pump *pump);
void redial_release(struct pump *pump);

/* ---- the pump --------------------------------------------------------------------------------- */

enum pump_state {
    PUMP_RUNNING, /* frames go both ways */
    PUMP_CLOSING, /* this side wants the end: CLOSE is said, or waits for the last channel */
    PUMP_ENDING,  /* the session is over; its last words are on their way out */
    PUMP_ENDED,   /* the link is closed and ended() was told; the loop only serves callers */
};

/* Bytes of records that are decrypted before they are passed on. */
enum { LINK_INPUT_MAX = 240 * 1024 };

struct pump {
    char *name;                    /* constant */
    struct pump_handlers handlers; /* constant */
    bool tunnel;                   /* constant */
    uint64_t ping_timeout;         /* constant */
    uint64_t grace;                /* constant */
    char *peer;                    /* constant: as sentences call it */
    struct loop *loop;             /* constant */
    pthread_t thread;              /* constant */

    struct tls *link;      /* NULL in PUMP_ENDED, and while it is lost: */
    uint64_t away_since;   /* LOOP_NEVER: there is a link */
    uint64_t away_total;   /* ns, of those that are over */
    struct error away_why; /* the last thing that went wrong */
    uint32_t link_losses;
    uint32_t accepted; /* the last attempt of the peer's that was */
    struct pump_redialler redial;
    struct loop_fd *link_watch;
    struct mux_session *session;
    struct loop_timer *timer;
    uint64_t state_deadline; /* when PUMP_CLOSING or PUMP_ENDING is cut short */
    enum pump_state state;
    bool link_mute;     /* nothing can be sent any more */
    bool link_more;     /* bytes that were read from the socket wait in TLS */
    size_t link_held;   /* bytes of records that wait for others to go out with */
    size_t link_unsent; /* bytes of records that were there when the round began */
    size_t taken;       /* bytes from local sockets, since the last link_send() */
    bool session_over;  /* the session has called closed() */
    bool close_said;
    bool why_known;
    bool accept_warned;  /* said once, until it goes again */
    uint64_t close_code; /* of the CLOSE that PUMP_CLOSING is about */
    char *close_text;
    const char *fault;   /* found during a callback: the session has to be closed with this text */
    uint64_t fault_code; /* BS_CLOSE_* */
    uint8_t *early;
    size_t early_length;

    struct pump_channel_list channels, touched;
    LIST_HEAD(, pump_channel) buckets[PUMP_BUCKETS];
    TAILQ_HEAD(, pump_endpoint) endpoints;
    TAILQ_HEAD(, pump_listener) listeners;
    uint32_t endpoint_count;
    uint32_t broken;       /* channels in CHANNEL_OUT_BROKEN */
    uint32_t resets;       /* that were logged */
    uint64_t accept_again; /* LOOP_NEVER, or when descriptors may be there again */
    uint64_t dial_again;   /* LOOP_NEVER, or when programs may accept again */
    uint64_t sent, received;

    struct pump_calls calls;

    uint8_t staging[BS_FRAME_MESSAGE_MAX];                /* one TLS record that goes out */
    uint8_t input[LINK_INPUT_MAX + BS_FRAME_MESSAGE_MAX]; /* those that came in */
    struct error why;                                     /* of the end, once why_known */

    pthread_mutex_t lock; /* a leaf, nothing is called under it; guards what follows */
    pthread_cond_t ended_changed;
    bool ended;
};

/* The link can't be used any more; WHY has a sentence.  There may be none afterwards. */
void pump_break(struct pump *pump, const struct error *why);
/* The session ends, without a word to the peer. */
void pump_abandon(struct pump *pump, const struct error *why);
/* For callbacks of the session, which may not call it: has it closed with CODE (BS_CLOSE_*) and
 * TEXT (constant) afterwards. */
void pump_fault(struct pump *pump, uint64_t code, const char *text);
/* Sends what there is, of channel 0 first. */
void pump_send(struct pump *pump);
/* Closes the listener and the local sockets of channels to ENDPOINT; NULL: all. */
void pump_close_sockets(struct pump *pump, const struct pump_endpoint *endpoint);
/* A thread that gets no signals: those are the main thread's.  Returns 0 or a negative errno. */
int pump_thread_create(pthread_t *ret, void *(*run)(void *opaque), void *opaque);

/* ---- the link (pump_link.c) ------------------------------------------------------------------- */

enum {
    LINK_READ_BUDGET = 1024 * 1024,     /* bytes per round */
    LINK_SEND_BUDGET = 2 * 1024 * 1024, /* the same of what is sent at once */
    LINK_TAKEN_MAX = 256 * 1024,        /* from local sockets, before records are made of them */
};

void link_ready(void *opaque, uint32_t events);
/* Reads up to BUDGET bytes, or what there is. */
void link_read(struct pump *pump, size_t budget);
/* Sends what the session has to say, as far as the socket takes it and up to a bound, or holds it for another
 * round (link_held). */
void link_send(struct pump *pump);
/* True when all that the session had to say has gone, or never will. */
bool link_is_done(const struct pump *pump);
/* Says what the loop is to wait for, and whether it shouldn't (link_more). */
void link_want(struct pump *pump);

#endif
