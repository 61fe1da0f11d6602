/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What the files of mux/ share; nothing outside includes this.
 *
 *  session.c   the session from its making to its end
 *  receive.c   frames from the link: checked, then passed to the files below
 *  channel.c   channels: their numbers, their states, and when they are forgotten
 *  stream.c    the bytes of a channel, to and from its local socket
 *  credit.c    the two pools, windows, and when a LIMIT is due
 *  schedule.c  who is next
 *  bandwidth.c and whether it may be now
 *  send.c      frames for the link, built in that order
 *  resume.c    a link that is lost, and another one
 *  timer.c     PING, the round trip, and what becomes of quiet channels
 *  tunnel.c    the old protocol: messages from and for the link where there are no frames
 *
 * Everything that a frame from the peer brings about is noted in flags (say_* of the session, say
 * of the channel), which send.c turns into frames later.  So reading never waits for writing and
 * needs no queue of answers.
 */
#ifndef MUX_INTERNAL_H
#define MUX_INTERNAL_H

#include "common/checked.h"
#include "common/ring.h"
#include "mux/session.h"
#include "rpc/message.h"

#include <sys/queue.h>

/* ---- tuning --------------------------------------------------------------------------------- */

enum {
    MUX_QUANTUM = BS_FRAME_MESSAGE_MAX - RPC_FRAME_OVERHEAD, /* bytes in one turn: one message */
    MUX_SMALL = 2048,         /* a message of no more, and nothing behind it, wants low latency */
    MUX_GATHER = 1024 * 1024, /* at the most, of messages for one write(2) */
    MUX_UNSENT_MAX = MUX_GATHER,     /* taken from a local socket ahead of the link */
    MUX_GATHER_SMALL = 32 * 1024,    /* for MUX_SMALL_TIME after a small message */
    MUX_TURN = 64 * 1024,            /* bytes in one turn where nobody waits for small messages */
    MUX_AHEAD_MAX = 4 * 1024 * 1024, /* taken ahead by all channels, before each takes little ... */
    MUX_AHEAD_LITTLE = MUX_TURN,     /* ... and that is how much: it shall stay in the cache */
    MUX_FLIGHT_MIN = 48 * 1024,      /* that may be under way beside small messages, at the least */
    MUX_FLIGHT_FAR_MIN = 256 * 1024, /* the same where a round trip takes MUX_FLIGHT_NEAR */
    MUX_FLIGHT_STEP = 32 * 1024,     /* of it is measured */
    MUX_TUNNEL_BUFFER =
        1024 * 1024, /* that a tunnel holds of its stream before the link isn't read any more */
};

#define MUX_MILLISECOND UINT64_C(1000000)
#define MUX_SMALL_TIME (100 * MUX_MILLISECOND)
#define MUX_FLIGHT_NEAR MUX_MILLISECOND
#define MUX_FLIGHT_DELAY (MUX_MILLISECOND / 20)   /* that a queue may always make */
#define MUX_BURST_TIME (50 * MUX_MILLISECOND)     /* of a capped rate: sent at once */
#define MUX_QUIET_TIME (50 * MUX_MILLISECOND)     /* between two looks for quiet channels */
#define MUX_MEASURE_TIME (10 * MUX_MILLISECOND)   /* between two PINGs that measure */
#define MUX_ROUND_TRIP_MIN (1 * MUX_MILLISECOND)  /* the loops at both ends take as long */
#define MUX_SILENCE_TIME (1000 * MUX_MILLISECOND) /* shorter ones don't count as such */
#define MUX_RATE_MAX (UINT64_C(1) << 38)   /* a cap above it is none: keeps products in 64 bits */
#define MUX_MEMORY_MAX (UINT64_C(1) << 48) /* of a pool: keeps sums far from overflow */

/* ---- channels ------------------------------------------------------------------------------- */

/* This side's half of a channel. */
enum mux_send_state {
    MUX_SEND_OPEN,   /* bytes may be handed over */
    MUX_SEND_ENDING, /* no more will be; EOF goes out behind the last of them */
    MUX_SEND_ENDED,  /* EOF has been sent, on this link or one before it */
    MUX_SEND_DONE,   /* and acknowledged */
};

/* The peer's half. */
enum mux_receive_state {
    MUX_RECEIVE_OPEN,  /* DATA may come */
    MUX_RECEIVE_ENDED, /* EOF came, but not every byte before it has been taken */
    MUX_RECEIVE_TOLD,  /* every byte has, and the eof() callback was made */
    MUX_RECEIVE_TAKEN, /* the local socket took the end; the LIMIT that says so is due */
    MUX_RECEIVE_DONE,  /* that LIMIT has been sent */
};

/* Both directions at once.  What has both sent and received RESET is forgotten. */
enum mux_reset_state {
    MUX_RESET_NONE,
    MUX_RESET_OURS,   /* this side gave the channel up: its RESET is due or sent, the peer's awaited
                       */
    MUX_RESET_THEIRS, /* the peer's came: ours, which answers it, is due */
};

/* Frames that a channel has due, DATA aside. */
enum {
    MUX_SAY_OPEN = 1 << 0,
    MUX_SAY_LIMIT = 1 << 1,
    MUX_SAY_EOF = 1 << 2,
    MUX_SAY_RESET = 1 << 3,
};

/* Where a channel stands for its turn to send DATA. */
enum mux_queue { MUX_QUEUE_NONE, MUX_QUEUE_FRESH, MUX_QUEUE_BULK };

/* Directions in which something moved since the last look for quiet channels. */
enum { MUX_MOVED_IN = 1 << 0, MUX_MOVED_OUT = 1 << 1 };

struct mux_channel {
    struct mux_session *session;
    struct mux_channel *next; /* in its bucket of the session's table */
    uint32_t number;

    enum mux_send_state send;
    enum mux_receive_state receive;
    enum mux_reset_state reset;
    unsigned say; /* MUX_SAY_*; not 0: in session->control */
    TAILQ_ENTRY(mux_channel) control_link;
    char *endpoint; /* of a channel opened here: what OPEN says */
    uint64_t reset_code;
    char *reset_text; /* NULL: none */
    bool heard;       /* a frame for it came, so the peer knows it */
    bool given_up;   /* mux_channel_reset() came too late for a RESET; nothing more is told of it */
    bool taken_said; /* the last mux_session_resume_state() acknowledged the peer's EOF */

    /* Our half, positions from the start of the stream: acked <= sent <= queued <= send_limit.
     * OUT holds what lies between acked and queued. */
    struct ring out;
    uint64_t acked, sent, queued, send_limit;
    uint64_t send_charge; /* what the send pool counts for it */
    enum mux_queue queue;
    TAILQ_ENTRY(mux_channel) data_link;
    bool fresh;       /* what is unsent came when nothing was, and is no more than MUX_SMALL */
    uint64_t bulk_at; /* when more than that was queued at once */
    bool blocked;     /* mux_channel_space() was 0 when last looked at: owes writable() */

    /* The peer's half: taken <= received <= receive_limit.  IN holds what lies between taken and
     * received. */
    struct ring in;
    uint64_t taken, received, receive_limit;
    uint64_t said_received; /* in the last LIMIT */
    uint64_t receive_charge;
    uint64_t window; /* how far the limit shall stand ahead of what was taken, if the pool allows */
    uint64_t measured_at, measured_taken; /* begin of the time over which the rate is measured */

    unsigned moved; /* MUX_MOVED_* */
    bool active;    /* in session->active */
    TAILQ_ENTRY(mux_channel) active_link;
};

TAILQ_HEAD(mux_channels, mux_channel);

/* ---- the session ---------------------------------------------------------------------------- */

/* Memory of one kind, shared by the channels: the first window of every possible channel is set
 * aside for good, what goes beyond it comes from the rest. */
struct mux_pool {
    uint64_t first;  /* set aside for each channel */
    uint64_t growth; /* the rest of the cap */
    uint64_t grown;  /* of the rest, in use */
    uint64_t used;   /* in use altogether */
};

enum mux_session_state {
    MUX_OPEN,
    MUX_CLOSING, /* this side began the end; nothing counts any more but the peer's CLOSE */
    MUX_CLOSED,  /* closed() has been called; at most our CLOSE is still to go out */
};

/* The frame that is being received, in whatever pieces the link delivers it. */
struct mux_input {
    struct rpc_decoder decoder;
    uint8_t head[BS_FRAME_HEADER_SIZE];
    size_t head_used;
    struct bs_frame frame;
    size_t data_length;          /* behind the frame's header */
    bool keepalive;              /* no frame at all but a message of the keepalive program */
    struct mux_channel *channel; /* that it is for; NULL: none, or forgotten */
    char text[BS_TEXT_MAX + 1];  /* of OPEN, RESET, CLOSE */
    size_t text_used;
};

/* DATA that came and hasn't been offered to its socket yet: see stream.c. */
struct mux_gather {
    struct mux_piece {
        struct mux_channel *channel; /* NULL: offered */
        const uint8_t *data;         /* in the input of mux_session_receive() */
        size_t length;
    } pieces[MUX_PIECES_MAX];
    unsigned count;
};

/* The cap on what is sent: see bandwidth.c. */
struct mux_bandwidth {
    uint64_t rate;  /* bytes per second; 0: no cap */
    uint64_t burst; /* bytes in MUX_BURST_TIME */
    uint64_t used_until;
    uint64_t again; /* what is unsent waits until then; UINT64_MAX: it doesn't wait */
};

/* How much bulk is under way: see flight.c.  All in bytes but SHORTEST. */
struct mux_flight {
    uint64_t sent;     /* of DATA, on this link */
    uint64_t pinged;   /* before the last PING */
    uint64_t arrived;  /* before the last PING whose PONG came */
    uint64_t most;     /* that may be under way beside small messages */
    uint64_t shortest; /* round trip on this link, ns; 0: not known */
    bool held;         /* since the last PONG */
};

/* What a message that comes through a tunnel is. */
enum mux_tunnel_message {
    MUX_TUNNEL_NOTHING, /* keepalive, or skipped */
    MUX_TUNNEL_CALLS,   /* for channel 0 */
    MUX_TUNNEL_DATA,
    MUX_TUNNEL_END,
    MUX_TUNNEL_ERROR,
};

struct mux_tunnel {
    bool known;                      /* the call that begins the stream has been seen */
    uint32_t serial;                 /* its, and the stream's */
    bool begun;                      /* there is or was a stream: there is no other */
    bool broken_off;                 /* it was alive when the session ended: an ERROR says so */
    bool held_back;                  /* the link wasn't read for a while because of the stream */
    uint64_t pongs;                  /* that came: they have no tokens, but come in order */
    size_t call_left;                /* of the message on channel 0 that is going out */
    enum mux_tunnel_message message; /* that is coming in */
    uint8_t *error;                  /* its payload, when that is an error */
    size_t error_used;
};

struct mux_session {
    struct mux_config config;
    enum mux_session_state state;
    bool deaf;       /* nothing from the link is looked at any more */
    bool heard;      /* a frame came, on any link */
    bool away;       /* the link is lost */
    bool last_words; /* the peer resumed only to say CLOSE: it listens to nothing else */
    uint64_t now;    /* as the caller last said */

    struct mux_channel **buckets; /* every channel, by number */
    uint32_t bucket_mask;
    struct mux_channel *zero;
    uint32_t next_number;  /* for the next channel opened here */
    uint32_t opened_sent;  /* highest number that an OPEN of ours said, which may have arrived */
    uint32_t opened_seen;  /* highest number that an OPEN of the peer's said */
    uint32_t ours, theirs; /* channels not forgotten, by who opened them; 0 not counted */

    struct mux_pool send_pool, receive_pool;

    struct mux_channels control; /* frames due, oldest first, so that OPENs go out in order */
    struct mux_channels fresh;   /* turned busy just now, with no more than a quantum */
    struct mux_channels bulk;    /* the other busy ones */
    struct mux_channels active;  /* looked at every MUX_QUIET_TIME */
    uint64_t quiet_at;           /* the next look; UINT64_MAX: none due */
    uint64_t unsent;             /* bytes queued on all channels */
    uint64_t turn;               /* of them sent in the first one's turn */
    struct mux_bandwidth bandwidth;
    struct mux_flight flight;

    bool say_keepalive; /* a PONG of the keepalive program */
    bool say_pong;      /* to the newest PING */
    uint64_t pong_token;
    bool say_ping;
    bool ping_waiting;   /* for the PONG to ping_token */
    uint64_t ping_token; /* of the last PING; they count from 1 */
    uint64_t ping_at;    /* when it went out, or was found due */
    uint64_t round_trip; /* smoothed; 0: not measured */
    uint64_t received_at;
    uint64_t owed_at;      /* since when the peer owes an answer, while it does */
    uint64_t silent_total; /* long silences that are over */
    uint64_t small_at;     /* the last small message; with had_small */
    bool had_small;

    bool say_close, close_sent;
    uint64_t close_code;
    char close_text[BS_TEXT_MAX + 1];

    struct mux_input input;
    struct mux_gather gather;
    struct mux_tunnel tunnel; /* with config.tunnel */
};

/* The buffer that is being filled for the link. */
struct mux_output {
    uint8_t *data;
    size_t size, used;
    bool urgent;
    bool bulk_behind; /* a message of bulk stands behind what is urgent */
};

static inline bool mux_output_has_room(const struct mux_output *out, size_t length)
{
    return length <= out->size - out->used;
}

/* session.c */

/* Ends the session for its user, who hears CODE and TEXT.  Harmless after the end. */
void mux_session_finish(struct mux_session *session, uint64_t code, const char *text);

/* The peer broke a rule: ends the session with a CLOSE that names it.  Returns -EPROTO. */
int mux_session_violation(struct mux_session *session, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The session can't go on: ends it with a CLOSE of CODE.  Returns -EPROTO. */
int mux_session_fail(struct mux_session *session, uint64_t code, const char *text);
/* The peer said CLOSE. */
void mux_session_peer_closed(struct mux_session *session, uint64_t code, const char *text);

/* receive.c */

/* A message of the keepalive program has begun.  Returns 0 or -EPROTO. */
int mux_receive_keepalive(struct mux_session *session, const struct bs_header *header,
                          size_t length);
/* The peer's half of CHANNEL has ended, for the first time. */
void mux_receive_end(struct mux_channel *channel);

/* send.c */

/* Puts a message of the keepalive program.  Returns false when it doesn't fit. */
bool mux_send_keepalive(struct mux_output *out, int procedure);
/* Whatever else there is, the end goes first, or alone. */
bool mux_send_is_over(const struct mux_session *session);
/* LENGTH bytes of CHANNEL stand in the buffer.  Asks for the EOF behind the last of them. */
void mux_send_advance(struct mux_channel *channel, size_t length);

/* channel.c */

/* All of them, NUMBER by number; for free().  Returns how many, or -ENOMEM. */
int mux_channels_sorted(const struct mux_session *session, struct mux_channel ***ret);
struct mux_channel *mux_channel_find(const struct mux_session *session, uint32_t number);
/* Finds CHANNEL unless it was reset or the session is no longer open; NULL otherwise. */
struct mux_channel *mux_channel_find_live(const struct mux_session *session, uint32_t number);
bool mux_channel_is_ours(const struct mux_session *session, uint32_t number);
/* 1 to BS_ENDPOINT_MAX printable characters? */
bool mux_endpoint_valid(const char *name, size_t length);
/* Adds a channel of that NUMBER to the session; NULL without memory. */
struct mux_channel *mux_channel_new(struct mux_session *session, uint32_t number);
/* Takes CHANNEL out of everything and frees it. */
void mux_channel_free(struct mux_channel *channel);
/* The setters return false, changing nothing, where the tables don't allow the step. */
bool mux_channel_set_send(struct mux_channel *channel, enum mux_send_state state);
bool mux_channel_set_receive(struct mux_channel *channel, enum mux_receive_state state);
bool mux_channel_set_reset(struct mux_channel *channel, enum mux_reset_state state);
/* Gives back the memory of a channel that was reset. */
void mux_channel_drop(struct mux_channel *channel);
/* RESET came. */
void mux_channel_peer_reset(struct mux_channel *channel, uint64_t code, const char *text);
/* Forgets CHANNEL, which is gone then, if the rules say so.  Returns whether. */
bool mux_channel_forget_if_finished(struct mux_channel *channel);
/* Forgets CHANNEL. */
void mux_channel_forget(struct mux_channel *channel);

/* stream.c */

/* DATA came.  Returns 0, or -EPROTO when the session had to end for want of memory. */
int mux_stream_deliver(struct mux_channel *channel, const uint8_t *data, size_t length);
/* The same, but DATA waits, where it lies, for what may come behind it, until mux_stream_offer(). */
int mux_stream_gather(struct mux_channel *channel, const uint8_t *data, size_t length);
/* Delivers what waits.  Returns like mux_stream_deliver(). */
int mux_stream_offer(struct mux_session *session);
/* The peer has received everything before ACKED, which is not above what was sent. */
void mux_stream_acked(struct mux_channel *channel, uint64_t acked);
/* Calls eof() if the peer's half has ended and every byte of it has been taken. */
void mux_stream_tell_eof(struct mux_channel *channel);

/* credit.c */

/* Sets up POOL within CAP for CHANNELS channels with FIRST bytes each.  Returns false when they
 * don't fit. */
bool mux_pool_init(struct mux_pool *pool, uint64_t cap, uint64_t channels, uint64_t first);
/* Count anew what a channel holds; to be called after each change of it. */
void mux_credit_charge_send(struct mux_channel *channel);
void mux_credit_charge_receive(struct mux_channel *channel);
/* What may be handed over now.  Remembers when that is nothing. */
size_t mux_credit_space(struct mux_channel *channel);
/* Calls writable() if that is owed. */
void mux_credit_recheck(struct mux_channel *channel);
/* Bytes came or were taken: lets the window grow, and asks for a LIMIT when one is due. */
void mux_credit_moved(struct mux_channel *channel);
/* What a LIMIT shall say now: takes the credit that it grants from the pool. */
void mux_credit_grant(struct mux_channel *channel, uint64_t *ret_received, uint64_t *ret_limit);
/* Nothing came for a while: the window shrinks back, and what is unsaid is said. */
void mux_credit_quiet(struct mux_channel *channel);

/* schedule.c */

/* Asks for SAY frames of CHANNEL. */
void mux_schedule_say(struct mux_channel *channel, unsigned say);
/* Takes frames back that were asked for. */
void mux_schedule_unsay(struct mux_channel *channel, unsigned say);
/* ADDED bytes more are queued on CHANNEL. */
void mux_schedule_data(struct mux_channel *channel, size_t added);
/* The channel whose turn it is to send DATA; NULL: none has any, or none may until bandwidth.again. */
struct mux_channel *mux_schedule_next(struct mux_session *session);
/* CHANNEL had its turn and sent LENGTH bytes. */
void mux_schedule_turn(struct mux_channel *channel, size_t length);
/* What CHANNEL has sent behind what is acknowledged is to be sent again. */
void mux_schedule_again(struct mux_channel *channel);
/* CHANNEL has no turns any more. */
void mux_schedule_remove(struct mux_channel *channel);

/* tunnel.c */

extern const struct rpc_decoder_callbacks mux_tunnel_decoder;
/* What the stream of a tunnel, and its channel 0, have other than channels of a session. */
void mux_tunnel_set_up(struct mux_channel *channel);
/* May the stream be opened here?  Returns 0, or what mux_channel_open() says then. */
int mux_tunnel_may_open(struct mux_session *session, const char *endpoint);
/* Puts what there is to say. */
void mux_tunnel_put(struct mux_session *session, struct mux_output *out);

/* bandwidth.c */

/* How much of CHANNEL's data goes out in one turn, MOST bytes at the most. */
size_t mux_bandwidth_turn(const struct mux_channel *channel, size_t most);
/* When it may have that turn. */
uint64_t mux_bandwidth_when(const struct mux_channel *channel);
/* LENGTH bytes of it went out. */
void mux_bandwidth_sent(const struct mux_channel *channel, size_t length);

/* flight.c */

/* Are small messages about, which shouldn't have to wait? */
bool mux_flight_is_watched(const struct mux_session *session, uint64_t now);
/* Until when CHANNEL's data is held back, unless a PONG comes; 0: it isn't. */
uint64_t mux_flight_when(const struct mux_channel *channel);
/* LENGTH bytes of DATA went out. */
void mux_flight_sent(struct mux_session *session, size_t length);
/* A PING went out; its PONG came. */
void mux_flight_pinged(struct mux_session *session);
void mux_flight_ponged(struct mux_session *session, uint64_t round_trip);
/* Nothing is under way on a link that is new. */
void mux_flight_reset(struct mux_session *session);

/* timer.c */

uint64_t mux_elapsed(const struct mux_session *session, uint64_t since);
/* Something moved in CHANNEL (MUX_MOVED_*): it is not quiet. */
void mux_timer_moved(struct mux_channel *channel, unsigned moved);
/* DATA came: the round trip should be known. */
void mux_timer_measure(struct mux_session *session);
/* Something is about to be sent that the peer has to answer or to acknowledge. */
void mux_timer_owed(struct mux_session *session);
/* Something came: a silence is over. */
void mux_timer_heard(struct mux_session *session);
/* The link is lost: no PONG will come by it. */
void mux_timer_lost(struct mux_session *session);
/* There is another one. */
void mux_timer_resumed(struct mux_session *session);
/* A PING has gone out, with the token behind ping_token. */
void mux_timer_pinged(struct mux_session *session);
/* A PONG came.  Returns false for a token never sent. */
bool mux_timer_pong(struct mux_session *session, uint64_t token);

#endif
