/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The caller's side of a link: see link.h.
 *
 * A link serves one thread.  It waits in poll(2) for its socket or for one descriptor that ends the
 * waiting; since there are two reasons to end it (the caller's own, and the daemon stops), an epoll
 * descriptor holds both and becomes readable with either of them.
 *
 * What is at the other end is decided by code and domain of an error (39/7, which arrives here as
 * ENOSYS), never by its text.  39/7 to BISTREAM_OPEN has several meanings, so HOST_INFO decides,
 * which every bistreamd ever made answers.
 */
#include "config.h"

#include "daemon/link.h"
#include "rpc/inbox.h"
#include "daemon/session_limits.h"
#include "common/cleanup.h"
#include "io/net.h"
#include "io/proof.h"
#include "rpc/error.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/epoll.h>

enum {
    PATIENCE_MS = 10000,
    READ_SIZE = 16384,
    PING_TIMEOUTS = 3, /* PINGs without an answer after which the link is dead */
};

struct link {
    struct daemon *daemon;
    struct net_address address;
    int patience_ms; /* with each answer */
    struct tls *tls;
    int abort; /* epoll of the caller's descriptor and the daemon's */
    uint32_t serial;
    struct rpc_inbox inbox;
    uint8_t buffer[READ_SIZE]; /* what came and was not used yet: start up to end */
    size_t start, end;
};

/* ---- dialling ------------------------------------------------------------------------------- */

static int make_abort(int abort_fd, int stop_fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    CLEANUP_CLOSE int fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, stop_fd, &event) < 0)
        return -errno;
    if (abort_fd >= 0 && epoll_ctl(fd, EPOLL_CTL_ADD, abort_fd, &event) < 0)
        return -errno;
    return take_fd(&fd);
}

/* Waits for the byte 1.  Its absence is what tells something else that speaks TLS from us, and a
 * refused certificate shows here too: TLS 1.3's server judges it when the client is done. */
static int await_greeting(struct link *link, struct error *err)
{
    uint8_t greeting;
    ssize_t n = tls_receive_wait(link->tls, &greeting, 1, link->patience_ms, link->abort, err);

    if (n == -ETIMEDOUT)
        return error_set(err, ETIMEDOUT,
                         "what listens there speaks TLS but did not greet within %d s; is it "
                         "a bistreamd?",
                         link->patience_ms / 1000);
    if (n < 0)
        return (int)n;
    if (greeting != 1)
        return error_set(err, EPROTO,
                         "what listens there speaks TLS but is no bistreamd (it greets with %u)",
                         greeting);
    return 0;
}

static int dial(struct link *link, int abort_fd, struct error *err)
{
    CLEANUP_CLOSE int fd = -1;
    int r;

    link->abort = make_abort(abort_fd, link->daemon->stop_fd);
    if (link->abort < 0)
        return error_set_errno(err, -link->abort, "can't wait for the connection");
    fd = net_dial(&link->address, link->patience_ms, link->abort, err);
    if (fd < 0)
        return fd;
    link->tls = tls_new_client(link->daemon->tls, take_fd(&fd), link->address.host, err);
    if (!link->tls)
        return -err->code;
    r = tls_handshake_wait(link->tls, link->patience_ms, link->abort, err);
    if (r == 0)
        r = await_greeting(link, err);
    return r < 0 ? error_prefix(err, "%s port %s", link->address.host, link->address.port) : 0;
}

static struct link *link_dial_address(struct daemon *daemon, const struct net_address *address,
                                      int patience_ms, int abort_fd, struct error *err)
{
    struct link *link = calloc(1, sizeof *link);

    if (!link) {
        error_set(err, ENOMEM, "can't dial %s: memory is short", address->host);
        return NULL;
    }
    link->daemon = daemon;
    link->address = *address;
    link->patience_ms = patience_ms;
    link->abort = -1;
    if (dial(link, abort_fd, err) == 0)
        return link;
    link_free(link);
    return NULL;
}

struct link *link_dial(struct daemon *daemon, const char *uri, int abort_fd, struct error *err)
{
    struct net_address address;

    if (net_parse_uri(uri, &address, err) < 0)
        return NULL;
    return link_dial_address(daemon, &address, PATIENCE_MS, abort_fd, err);
}

void link_free(struct link *link)
{
    if (!link)
        return;
    tls_free(link->tls);
    cleanup_close(&link->abort);
    rpc_inbox_clear(&link->inbox);
    free(link);
}

const char *link_peer_subject(const struct link *link)
{
    return tls_peer_subject(link->tls);
}

/* ---- calling -------------------------------------------------------------------------------- */

static int time_left(uint64_t deadline)
{
    uint64_t now = loop_clock();

    return now >= deadline ? 0 : (int)((deadline - now) / LOOP_MS) + 1;
}

/* Waits for the next message.  Returns 0, or a negative errno with ERR. */
static int receive_message(struct link *link, uint64_t deadline, struct error *err)
{
    for (;;) {
        size_t used = 0;
        ssize_t n;
        int r;

        r = rpc_inbox_feed(&link->inbox, link->buffer + link->start, link->end - link->start,
                           &used);
        link->start += used;
        if (r > 0)
            return 0;
        if (r < 0)
            return error_set(err, -r, "what came is no message of this protocol");
        if (time_left(deadline) == 0) /* however much comes that is no answer */
            return error_set(err, ETIMEDOUT, "no answer came in time");
        n = tls_receive_wait(link->tls, link->buffer, sizeof link->buffer, time_left(deadline),
                             link->abort, err);
        if (n < 0)
            return (int)n;
        link->start = 0;
        link->end = (size_t)n;
    }
}

/* Waits for the reply to the call with HEADER, answering keepalive meanwhile. */
static int receive_reply(struct link *link, const struct bs_header *header, uint64_t deadline,
                         struct error *err)
{
    const struct rpc_message *message = &link->inbox.message;

    for (;;) {
        CLEANUP_FREE uint8_t *answer = NULL;
        size_t length;
        int r = receive_message(link, deadline, err);

        if (r < 0)
            return r;
        if (rpc_inbox_is_keepalive(message, &answer, &length)) {
            r = answer ? tls_send_wait(link->tls, answer, length, time_left(deadline), link->abort,
                                       err)
                       : 0;
            if (r < 0)
                return r;
            continue;
        }
        if (message->header.type == BS_REPLY && message->header.serial == header->serial &&
            message->header.prog == header->prog && message->header.procedure == header->procedure)
            return 0;
        return error_set(err, EPROTO, "what came is no answer to the call");
    }
}

static int exchange(struct link *link, const struct bs_header *header, xdrproc_t args_proc,
                    const void *args, struct error *err)
{
    const uint64_t deadline = loop_clock() + (uint64_t)link->patience_ms * LOOP_MS;
    CLEANUP_FREE uint8_t *data = NULL;
    size_t length;
    int r;

    r = rpc_message_encode(header, args_proc, args, &data, &length);
    if (r < 0)
        return error_set_errno(err, -r, "the call can't be put into a message");
    r = tls_send_wait(link->tls, data, length, link->patience_ms, link->abort, err);
    if (r == 0)
        r = receive_reply(link, header, deadline, err);
    if (r == -ETIMEDOUT)
        return error_set(err, ETIMEDOUT, "no answer within %d s", link->patience_ms / 1000);
    return r;
}

int link_call(struct link *link, int procedure, xdrproc_t args_proc, const void *args,
              xdrproc_t ret_proc, void *ret, struct error *err)
{
    const struct bs_header header = {.prog = BS_PROGRAM,
                                     .vers = BS_VERSION,
                                     .procedure = procedure,
                                     .type = BS_CALL,
                                     .serial = ++link->serial};
    const struct rpc_message *reply = &link->inbox.message;
    int r;

    r = exchange(link, &header, args_proc, args, err);
    if (r == 0 && reply->header.status != BS_OK)
        r = rpc_error_decode(reply->payload, reply->length, err);
    else if (r == 0 && rpc_payload_decode(reply->payload, reply->length, ret_proc, ret) < 0)
        r = error_set(err, EPROTO, "the answer can't be decoded");
    return r < 0 ? error_prefix(err, "%s port %s", link->address.host, link->address.port) : 0;
}

/* ---- what is there -------------------------------------------------------------------------- */

static int call_host_info(struct link *link, struct bs_host_info_ret *ret, struct error *err)
{
    return link_call(link, BS_PROC_HOST_INFO, NULL, NULL, (xdrproc_t)xdr_bs_host_info_ret, ret,
                     err);
}

/* BISTREAM_OPEN.  *RET_SERIAL is the call's, which the session's frames carry. */
static int call_open(struct link *link, unsigned purpose, struct bs_bistream_open_ret *ret,
                     struct error *err)
{
    const struct mux_limits local =
        session_limits_local(link->daemon->config->session_memory, true);
    const struct bs_bistream_open_args args = {
        .vers_min = BS_BISTREAM_VERSION,
        .vers_max = BS_BISTREAM_VERSION,
        .purpose = purpose,
        .limits = {.first_window = local.first_window, .channels = local.channels},
        .grace_ms = purpose == BS_PURPOSE_PROBE ? 0 : link->daemon->config->grace_ms,
    };
    int r;

    r = link_call(link, BS_PROC_BISTREAM_OPEN, (xdrproc_t)xdr_bs_bistream_open_args, &args,
                  (xdrproc_t)xdr_bs_bistream_open_ret, ret, err);
    if (r == 0 && ret->vers != BS_BISTREAM_VERSION)
        r = error_set(err, EPROTO, "%s port %s chose BiStream version %u, which was not offered",
                      link->address.host, link->address.port, ret->vers);
    return r;
}

static int fill_probe(struct link *link, struct bs_probe_ret *ret, struct error *err)
{
    struct bs_bistream_open_ret open = {0};
    uint64_t begun = loop_clock();
    int r;

    ret->certificate = strdup(link_peer_subject(link));
    if (!ret->certificate)
        return error_set(err, ENOMEM, "memory is short");
    r = call_host_info(link, &ret->info, err);
    ret->round_trip_us = (loop_clock() - begun) / 1000;
    if (r == -ENOSYS) {
        ret->kind = BS_PEER_LIBVIRT;
        ret->info.vers = strdup("");
        ret->info.hostname = strdup("");
        ret->info.qemu_version = strdup("");
        return ret->info.vers && ret->info.hostname && ret->info.qemu_version
                   ? 0
                   : error_set(err, ENOMEM, "memory is short");
    }
    if (r < 0)
        return r;
    r = call_open(link, BS_PURPOSE_PROBE, &open, err);
    if (r < 0 && r != -ENOSYS)
        return r;
    ret->kind = r == 0 ? BS_PEER_BISTREAM : BS_PEER_OLD;
    ret->vers = open.vers;
    return 0;
}

int link_probe(struct daemon *daemon, const char *uri, int abort_fd, struct bs_probe_ret *ret,
               struct error *err)
{
    struct link *link = link_dial(daemon, uri, abort_fd, err);
    int r;

    if (!link)
        return -err->code;
    r = fill_probe(link, ret, err);
    link_free(link); /* a session without a frame ends with its link */
    return r;
}

/* ---- a session ------------------------------------------------------------------------------ */

/* Not even HOST_INFO is known there. */
static int explain_libvirt(const struct link *link, struct error *err)
{
    return error_set(err, ENOPROTOOPT,
                     "%s port %s: libvirt RPC server, no bistreamd: start bistreamd there, or name "
                     "its port",
                     link->address.host, link->address.port);
}

/* BISTREAM_OPEN is not known there: says who is. */
static int explain_refusal(struct link *link, struct error *err)
{
    struct bs_host_info_ret info = {0};
    int r = call_host_info(link, &info, err);

    if (r == 0)
        r = error_set(err, EPROTONOSUPPORT,
                      "%s port %s: bistreamd %s there does not offer BiStream: it is from before "
                      "it, or has offer_bistream = false in its configuration",
                      link->address.host, link->address.port, info.vers);
    else if (r == -ENOSYS)
        r = explain_libvirt(link, err);
    xdr_free((xdrproc_t)xdr_bs_host_info_ret, (char *)&info);
    return r;
}

/* ---- another link for a session ------------------------------------------------------------- */

struct redial {
    struct daemon *daemon;
    struct net_address address;
    uint8_t id[BS_ID_SIZE];
    uint8_t secret[BS_SECRET_SIZE];
    uint8_t fingerprint[TLS_FINGERPRINT_SIZE];
};

static void redial_free(void *opaque)
{
    OPENSSL_cleanse(opaque, sizeof(struct redial));
    free(opaque);
}

static struct redial *redial_new(const struct link *link, const struct bs_bistream_open_ret *reply)
{
    struct redial *redial = calloc(1, sizeof *redial);

    if (!redial)
        return NULL;
    redial->daemon = link->daemon;
    redial->address = link->address;
    memcpy(redial->id, reply->session, sizeof redial->id);
    memcpy(redial->secret, reply->secret, sizeof redial->secret);
    if (tls_peer_fingerprint(link->tls, redial->fingerprint) == 0)
        return redial;
    redial_free(redial);
    return NULL;
}

static int check_fingerprint(const struct redial *redial, const struct link *link,
                             struct error *err)
{
    uint8_t fingerprint[TLS_FINGERPRINT_SIZE];

    if (tls_peer_fingerprint(link->tls, fingerprint) == 0 &&
        memcmp(fingerprint, redial->fingerprint, sizeof fingerprint) == 0)
        return 0;
    return error_set(err, EACCES,
                     "%s port %s: its certificate is another one than when the session was opened",
                     link->address.host, link->address.port);
}

static int check_answer(const struct redial *redial, const struct link *link, uint32_t attempt,
                        const struct bs_bistream_resume_ret *reply, struct error *err)
{
    uint8_t proof[BS_PROOF_SIZE];

    if (proof_make(link->tls, PROOF_REPLY, redial->secret, redial->id, attempt, proof, err) < 0)
        return -err->code;
    if (proof_equal(proof, reply->proof) &&
        (reply->outcome == BS_RESUME_GOES_ON || reply->outcome == BS_RESUME_CLOSED))
        return 0;
    return error_set(err, EKEYREJECTED, "%s port %s: the answer doesn't prove that it is the same",
                     link->address.host, link->address.port);
}

/* What the peer won't answer otherwise the next time. */
static bool is_final(int r)
{
    return r == -ENOENT || r == -EACCES || r == -EKEYREJECTED || r == -ENOSYS || r == -EPERM;
}

/* BISTREAM_RESUME on LINK. */
static int call_resume(const struct redial *redial, struct link *link, uint32_t attempt,
                       const struct bs_resume_state *state, struct bs_bistream_resume_ret *ret,
                       struct error *err)
{
    struct bs_bistream_resume_args args = {.attempt = attempt, .state = *state};
    int r;

    memcpy(args.session, redial->id, sizeof redial->id);
    r = proof_make(link->tls, PROOF_CALL, redial->secret, redial->id, attempt,
                   (uint8_t *)args.proof, err);
    if (r == 0)
        r = link_call(link, BS_PROC_BISTREAM_RESUME, (xdrproc_t)xdr_bs_bistream_resume_args, &args,
                      (xdrproc_t)xdr_bs_bistream_resume_ret, ret, err);
    return r < 0 ? r : check_answer(redial, link, attempt, ret, err);
}

static int take_early(struct link *link, struct pump_resumed *ret, struct error *err)
{
    ret->early_length = link->end - link->start;
    ret->early = malloc(ret->early_length + 1);
    if (!ret->early)
        return error_set(err, ENOMEM, "memory is short");
    memcpy(ret->early, link->buffer + link->start, ret->early_length);
    return 0;
}

/* struct pump_redial's. */
static int redial(void *opaque, uint32_t attempt, const struct bs_resume_state *state,
                  int patience_ms, int abort_fd, struct pump_resumed *ret, bool *ret_final,
                  struct error *err)
{
    const struct redial *redial = opaque;
    struct link *link =
        link_dial_address(redial->daemon, &redial->address, patience_ms, abort_fd, err);
    int r;

    if (!link)
        return -err->code;
    r = check_fingerprint(redial, link, err);
    if (r == 0) {
        r = call_resume(redial, link, attempt, state, &ret->reply, err);
        *ret_final = is_final(r);
    } /* else it is somebody else, whose word doesn't count */
    if (r == 0)
        r = take_early(link, ret, err);
    if (r == 0) {
        ret->serial = link->serial;
        ret->link = take_ptr(link->tls);
    }
    link_free(link);
    return r;
}

/* Lets the session of CONFIG outlive LINK, if this host's configuration says so. */
static int set_up_redial(const struct link *link, const struct bs_bistream_open_ret *reply,
                         struct pump_config *config, struct error *err)
{
    if (link->daemon->config->grace_ms == 0)
        return 0;
    config->redial = (struct pump_redial){
        .resume = redial, .free = redial_free, .opaque = redial_new(link, reply)};
    config->grace = link->daemon->config->grace_ms * LOOP_MS;
    return config->redial.opaque ? 0 : error_set(err, ENOMEM, "memory is short");
}

/* ---- a session's pump ----------------------------------------------------------------------- */

/* Turns LINK into a running pump.  REPLY is to the BISTREAM_OPEN that came last on it; NULL: there was
 * none, and the link goes on carrying plain calls. */
static struct pump *start_pump(struct link *link, const struct bs_bistream_open_ret *reply,
                               const struct pump_handlers *handlers, struct error *err)
{
    const struct config *config = link->daemon->config;
    const uint64_t ping = config->ping_ms * LOOP_MS;
    char name[8] = "plain";
    struct pump_config pump_config = {
        .name = name,
        .opener = true,
        .tunnel = !reply,
        .serial = link->serial,
        .local = session_limits_local(config->session_memory, true),
        .memory = config->session_memory,
        .ping_interval = ping,
        .ping_timeout = PING_TIMEOUTS * ping,
        .early = link->buffer + link->start,
        .early_length = link->end - link->start,
    };

    if (reply)
        snprintf(name, sizeof name, "%02x%02x%02x", (uint8_t)reply->session[0],
                 (uint8_t)reply->session[1], (uint8_t)reply->session[2]);
    if (reply && session_limits_remote(&reply->limits, config->session_memory, true,
                                       &pump_config.remote, err) < 0) {
        error_prefix(err, "%s port %s", link->address.host, link->address.port);
        return NULL;
    }
    if (reply && set_up_redial(link, reply, &pump_config, err) < 0)
        return NULL;
    return pump_start(take_ptr(link->tls), &pump_config, handlers, err);
}

struct pump *link_open_session(struct daemon *daemon, const char *uri, unsigned purpose,
                               const struct pump_handlers *handlers, int abort_fd,
                               struct error *err)
{
    struct link *link = link_dial(daemon, uri, abort_fd, err);
    struct bs_bistream_open_ret reply = {0};
    struct pump *pump = NULL;
    int r;

    if (!link)
        return NULL;
    r = call_open(link, purpose, &reply, err);
    if (r == 0)
        pump = start_pump(link, &reply, handlers, err);
    else if (r == -ENOSYS)
        explain_refusal(link, err);
    link_free(link);
    return pump;
}

/* BISTREAM_OPEN, unless this host is not to know it; else, as everything from before it answers:
 * HOST_INFO. */
static struct pump *open_either(struct link *link, const struct pump_handlers *handlers,
                                struct bs_host_info_ret *ret, struct error *err)
{
    struct bs_bistream_open_ret reply = {0};
    int r = link->daemon->config->offer_bistream
                ? call_open(link, BS_PURPOSE_MIGRATION, &reply, err)
                : -ENOSYS;

    if (r == 0)
        return start_pump(link, &reply, handlers, err);
    if (r != -ENOSYS)
        return NULL;
    error_clear(err);
    r = call_host_info(link, ret, err);
    ret->features &= ~(uint64_t)BS_FEATURE_BISTREAM; /* not by this pump */
    if (r == -ENOSYS)
        explain_libvirt(link, err);
    return r < 0 ? NULL : start_pump(link, NULL, handlers, err);
}

static int ask_in_session(struct pump *pump, struct bs_host_info_ret *ret, struct error *err)
{
    return pump_call(pump, BS_PROC_HOST_INFO, NULL, NULL, (xdrproc_t)xdr_bs_host_info_ret, ret,
                     PATIENCE_MS, err);
}

struct pump *link_open_migration(struct daemon *daemon, const char *uri,
                                 const struct pump_handlers *handlers, int abort_fd,
                                 struct bs_host_info_ret *ret, struct error *err)
{
    struct link *link = link_dial(daemon, uri, abort_fd, err);
    struct bs_host_info_ret info = {0};
    struct pump *pump;

    if (!link)
        return NULL;
    pump = open_either(link, handlers, &info, err);
    if (pump && ret && !info.vers && ask_in_session(pump, &info, err) < 0) {
        pump_free(pump);
        pump = NULL;
    }
    link_free(link);
    if (ret)
        *ret = info;
    else
        xdr_free((xdrproc_t)xdr_bs_host_info_ret, (char *)&info);
    return pump;
}
