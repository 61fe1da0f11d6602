/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A BiStream session: many flow-controlled byte streams in both directions over one link, as a pure
 * state machine.  Bytes that came from the link go in by mux_session_receive(), bytes for the link
 * come out by mux_session_send(), the clock is an argument (nanoseconds on any monotonic scale).
 * The session does no I/O, starts no thread, reads no clock and logs nothing; what it has to say it
 * says through callbacks.  docs/protocol.md has the rules of the wire.
 *
 * A session can also speak the old protocol (mux_config.tunnel): then there are no frames but plain
 * messages, channel 0 for the calls among them, and at most one channel more, whose number is 1, for
 * the stream that MIGRATE_PREPARE_TUNNEL begins, from the opener to the acceptor.
 *
 * One thread at a time.  A callback must not call back into the session.  opened(), data(), eof(),
 * writable(), reset(), forgotten() and closed() come out of mux_session_receive(); writable() and
 * forgotten() also out of mux_session_send() and mux_session_resume(), eof() out of
 * mux_channel_consume(), reset() and closed() out of mux_session_abandon() and
 * mux_session_closed_there(), reset() out of mux_session_close(), and closed() in a tunnel out of
 * mux_session_send() and mux_session_hangup().
 */
#ifndef MUX_SESSION_H
#define MUX_SESSION_H

#include "common/error.h"
#include "rpc/protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct mux_session;

/* What one side said in BISTREAM_OPEN (struct bs_limits). */
struct mux_limits {
    uint32_t first_window; /* bytes that may be sent on any channel before the first LIMIT */
    uint32_t channels;     /* that the peer may have open at a time, channel 0 not counted */
};

/* What data() gets at once; fewer than IOV_MAX. */
enum { MUX_PIECES_MAX = 64 };

/* Their bytes. */
static inline size_t mux_pieces_length(const struct iovec *pieces, int count)
{
    size_t length = 0;

    for (int i = 0; i < count; i++)
        length += pieces[i].iov_len;
    return length;
}

struct mux_callbacks {
    /* The peer opened CHANNEL to ENDPOINT (NUL-terminated, printable, gone after the call). */
    void (*opened)(void *opaque, uint32_t channel, const char *endpoint);

    /* Bytes came for CHANNEL, in COUNT (1 to MUX_PIECES_MAX) PIECES, and nothing is queued before
     * them.  Returns how many of them were taken; the rest is queued and comes by
     * mux_channel_peek(). */
    size_t (*data)(void *opaque, uint32_t channel, const struct iovec *pieces, int count);

    /* The peer's half of CHANNEL has ended, and every byte of it has been taken: pass the end on
     * (shutdown(2)), then say mux_channel_eof_taken(). */
    void (*eof)(void *opaque, uint32_t channel);

    /* mux_channel_space() has become larger than 0 after having been 0. */
    void (*writable)(void *opaque, uint32_t channel);

    /* CHANNEL is dead in both directions because the peer, or the end of the session
     * (BS_RESET_CLOSED), reset it.  Not called for one that mux_channel_reset() gave up. */
    void (*reset)(void *opaque, uint32_t channel, uint64_t code, const char *text);

    /* CHANNEL is finished on both sides and its number is never used again.  What the end of the
     * session resets is gone at once, without this call. */
    void (*forgotten)(void *opaque, uint32_t channel);

    /* The session has ended: by the peer's CLOSE, by the answer to ours, or by a violation, after
     * which mux_session_send() still gives out the CLOSE that names it.  Called once, and the last
     * of all callbacks. */
    void (*closed)(void *opaque, uint64_t code, const char *text);
};

/* What the stream of a tunnel leads to; no name of it is on the wire. */
#define MUX_TUNNEL_ENDPOINT "migration"

struct mux_config {
    bool opener;     /* this side called BISTREAM_OPEN, or dialled the tunnel */
    bool tunnel;     /* the old protocol; SERIAL, LOCAL and REMOTE are not used */
    uint32_t serial; /* of that call: stands in every STREAM message, until a resume */
    struct mux_limits local, remote; /* what this side said, and what the peer said */
    uint64_t memory;                 /* cap of each of the two pools, in bytes */
    /* ns without anything received after which a PING goes out, and after which the link is dead.
     * 0: never.  (PINGs that measure the round trip go out in any case, while data comes.) */
    uint64_t ping_interval, ping_timeout;
    const struct mux_callbacks *callbacks;
    void *opaque;
};

/* Makes a session on which nothing has been said yet.  Returns NULL when memory is short, when a
 * first window is 0, or when MEMORY can't hold LOCAL's first window for every channel that LOCAL
 * and REMOTE allow, and for channel 0. */
struct mux_session *mux_session_new(const struct mux_config *config, uint64_t now);
void mux_session_free(struct mux_session *session);

/* Takes LENGTH bytes from the link, split anywhere; all of them are taken.  Returns 0, also for the
 * peer's CLOSE; or -EPROTO when the session is dead by a broken rule or for want of memory
 * (closed() has said why, mux_session_send() has the CLOSE): nothing more need be read. */
int mux_session_receive(struct mux_session *session, const uint8_t *data, size_t length,
                        uint64_t now);

/* False while a tunnel holds as much of its stream as it may and the local socket takes no more: the
 * link shouldn't be read now, so that the peer is held up. */
bool mux_session_wants_receive(const struct mux_session *session);

/* The peer has closed the link, which is how a tunnel ends.  Returns true when that was in order and
 * closed() has been called; false when something was still going on (always in a session, whose end is
 * CLOSE): the link is broken. */
bool mux_session_hangup(struct mux_session *session);

/* ---- a link that breaks ----------------------------------------------------------------------- */

/* The link is lost.  What came over it and is no whole frame is dropped; nothing is to be received,
 * and nothing is given out, until mux_session_resume(); everything else goes on, within the same
 * memory.  Returns false, having done nothing, when this session ends with its link: a tunnel, one that
 * is over, and one from which no frame ever came. */
bool mux_session_link_lost(struct mux_session *session, uint64_t now);

/* What this side says in BISTREAM_RESUME, or in the reply to it, while the link is lost.  RET is for
 * xdr_free().  Returns 0 or -ENOMEM. */
int mux_session_resume_state(struct mux_session *session, struct bs_resume_state *ret);

/* Whether what the PEER says there can be true.  Changes nothing.  Returns 0; -EPROTO with ERR, which
 * says what can't; or -ENOMEM. */
int mux_session_resume_check(struct mux_session *session, const struct bs_resume_state *peer,
                             struct error *err);

/* A new link has been agreed on by a BISTREAM_RESUME call of SERIAL, in which the last
 * mux_session_resume_state() was said, and PEER by the other side: goes on.  Errors as
 * mux_session_resume_check(); nothing has been changed then. */
int mux_session_resume(struct mux_session *session, uint32_t serial,
                       const struct bs_resume_state *peer, uint64_t now, struct error *err);

/* The peer answered that it has closed the session with CODE: closed() follows. */
void mux_session_closed_there(struct mux_session *session, uint64_t code);

/* ---- bytes for the link ----------------------------------------------------------------------- */

/* Puts whole messages for the link into BUFFER, as many as fit and as there are.  SIZE is at least
 * BS_FRAME_MESSAGE_MAX.  Each message is at most that long, so one TLS record holds it.
 * *RET_URGENT says that control frames (other than LIMIT), channel 0 or small messages are in
 * BUFFER, which must not wait behind more gathering; at most one message of bulk stands behind them
 * then. Returns the number of bytes; 0: nothing to say now. */
size_t mux_session_send(struct mux_session *session, uint8_t *buffer, size_t size, uint64_t now,
                        bool *ret_urgent);

/* True when mux_session_send() would give out something. */
bool mux_session_wants_send(const struct mux_session *session);

/* Caps what all channels but 0 send together to RATE bytes per second from NOW on; 0: no cap.  What is
 * held back makes mux_session_wants_send() false and mux_session_deadline() nearer. */
void mux_session_set_bandwidth(struct mux_session *session, uint64_t rate, uint64_t now);

/* How much to gather per write(2) just now: 1 MiB for bulk, 32 KiB for 100 ms after any small message. */
size_t mux_session_gather(const struct mux_session *session, uint64_t now);

/* When mux_session_tick() wants to be called; UINT64_MAX: never. */
uint64_t mux_session_deadline(const struct mux_session *session);
/* Does what time asks for.  Returns 0, or -ETIMEDOUT when the link is dead. */
int mux_session_tick(struct mux_session *session, uint64_t now);

/* Begins the end of the session (in a tunnel: what was handed over for channel 0 goes out, then an
 * ERROR with TEXT when there is a stream, then closed() says that the link may be closed).  CODE is BS_CLOSE_*.  BS_CLOSE_DONE wants all channels but 0
 * forgotten (-EBUSY otherwise) and goes out behind what was handed over for channel 0; any other
 * code goes out at once and resets the rest.  closed() follows the peer's answer; what the peer
 * says before it is skipped.  Harmless after the end. */
int mux_session_close(struct mux_session *session, uint64_t code, const char *text);

/* The link is gone for good: everything still open is reported by reset() and closed(). */
void mux_session_abandon(struct mux_session *session, uint64_t code, const char *text);

struct mux_session_stats {
    uint64_t round_trip;   /* ns, smoothed; 0: not measured yet */
    uint64_t send_pool;    /* bytes held until the peer has received them */
    uint64_t receive_pool; /* bytes of credit granted and not yet taken */
    uint32_t channels;     /* not forgotten, channel 0 not counted */
};
void mux_session_get_stats(const struct mux_session *session, struct mux_session_stats *ret);

/* For how long (ns) the peer has owed an answer (to a PING, or an acknowledgement of bytes that were
 * sent) while nothing at all came from the link; 0: it owes none, or it is this side that doesn't read.
 * *RET_TOTAL is the sum of all such times that lasted for more than a second. */
uint64_t mux_session_silent(const struct mux_session *session, uint64_t now, uint64_t *ret_total);

/* ---- channels ------------------------------------------------------------------------------- */

/* Opens a channel to ENDPOINT at the far side.  Returns 0 with its number; -EINVAL for a name the
 * wire can't carry, -EMFILE when the peer allows no more now (in a tunnel: the call that begins the
 * stream has not gone out), -EBUSY for a second stream in a tunnel or one from the acceptor, -ENOMEM,
 * -EPIPE after the end. */
int mux_channel_open(struct mux_session *session, const char *endpoint, uint32_t *ret_channel);

/* Bytes that may be handed over now: what the peer's credit and the send pool allow, and no more
 * than 1 MiB ahead of the link.  0 also for a channel that is gone or whose half has ended. */
size_t mux_channel_space(const struct mux_session *session, uint32_t channel);

/* Room to read LENGTH (<= mux_channel_space(), else -EINVAL) bytes into; mux_channel_commit() hands
 * over what was filled, with no other call on the session in between.  Returns the number of parts,
 * or -ENOMEM, -EPIPE. */
int mux_channel_reserve(struct mux_session *session, uint32_t channel, size_t length,
                        struct iovec iov[2]);
void mux_channel_commit(struct mux_session *session, uint32_t channel, size_t length);

/* Copies up to mux_channel_space() bytes of DATA.  Returns how many, or -ENOMEM, -EPIPE. */
int64_t mux_channel_write(struct mux_session *session, uint32_t channel, const void *data,
                          size_t length);

/* This side's half ends behind what was handed over.  Harmless when said twice.  Channel 0 has no
 * end but the session's. */
void mux_channel_end(struct mux_session *session, uint32_t channel);

/* Gives the channel up in both directions.  CODE is BS_RESET_* other than BS_RESET_CLOSED.  No
 * callback but forgotten() follows for it.  Harmless for a channel that is gone, and for channel 0.
 */
void mux_channel_reset(struct mux_session *session, uint32_t channel, uint64_t code,
                       const char *text);

/* What came and was not taken yet.  Returns the number of parts, 0 for nothing.  Channel 0's can be
 * had also after the end. */
int mux_channel_peek(const struct mux_session *session, uint32_t channel, struct iovec iov[2]);
/* LENGTH bytes of it have been taken.  May bring eof(). */
void mux_channel_consume(struct mux_session *session, uint32_t channel, size_t length);
/* The end of the peer's half has been passed on to the local socket. */
void mux_channel_eof_taken(struct mux_session *session, uint32_t channel);

struct mux_channel_stats {
    uint64_t sent;     /* bytes handed over here that have gone to the link */
    uint64_t acked;    /* of them, received by the peer */
    uint64_t received; /* bytes that came */
    uint64_t taken;    /* of them, taken by the local socket */
    bool end_acked;    /* this side's half has ended, and the peer's socket has taken all of it */
};
/* Returns 0, or -ENOENT for a channel that is gone. */
int mux_channel_get_stats(const struct mux_session *session, uint32_t channel,
                          struct mux_channel_stats *ret);

#endif
