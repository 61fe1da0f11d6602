/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream pki check DEST: shakes hands with the server there, as this host's daemon would, and
 * goes on to the first answer.  With TLS 1.3 a server judges our certificate only after our side of
 * the handshake is done, and a bistreamd that doesn't list us in allowed_peers says so when it is
 * called; so a HOST_INFO that is answered is what proves that each accepts the other.
 */
#include "config.h"

#include "client/pki.h"

#include "client/output.h"
#include "client/pki_file.h"
#include "io/tls.h"
#include "rpc/error.h"
#include "rpc/inbox.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { TIMEOUT_MS = 10000 };

struct peer {
    struct tls *tls;
    struct bs_host_info_ret info;
};

static int shake_hands(struct peer *peer, const char *pki_dir, const struct net_address *address,
                       struct error *err)
{
    struct tls_context *context = tls_context_new(pki_dir, err);
    int fd = context ? net_dial(address, TIMEOUT_MS, -1, err) : -1;

    if (fd >= 0)
        peer->tls = tls_new_client(context, fd, address->host, err);
    tls_context_free(context);
    if (!peer->tls)
        return -err->code;
    return tls_handshake_wait(peer->tls, TIMEOUT_MS, -1, err);
}

/* The byte 1, which a server sends once it has accepted our certificate. */
static int await_greeting(struct peer *peer, struct error *err)
{
    uint8_t greeting;
    ssize_t n = tls_receive_wait(peer->tls, &greeting, 1, TIMEOUT_MS, -1, err);

    if (n < 0)
        return (int)n;
    if (greeting != 1)
        return error_set(err, EPROTO, "what listens there speaks TLS but is no bistreamd");
    return 0;
}

/* Waits for a reply in INBOX. */
static int await_reply(struct peer *peer, struct rpc_inbox *inbox, struct error *err)
{
    uint8_t buffer[4096];
    size_t used;
    int result = 0;

    while (result == 0) {
        ssize_t n = tls_receive_wait(peer->tls, buffer, sizeof buffer, TIMEOUT_MS, -1, err);

        if (n < 0)
            return (int)n;
        result = rpc_inbox_feed(inbox, buffer, (size_t)n, &used);
    }
    if (result < 0 || inbox->message.header.type != BS_REPLY)
        return error_set(err, EPROTO, "what listens there speaks TLS but is no bistreamd");
    return 0;
}

static int take_reply(struct peer *peer, const struct rpc_message *reply, struct error *err)
{
    int result;

    if (reply->header.status != BS_OK) {
        result = rpc_error_decode(reply->payload, reply->length, err);
        if (result == -ENOSYS)
            return error_set(err, ENOSYS, "a libvirt RPC server listens there, no bistreamd");
        return result;
    }
    result = rpc_payload_decode(reply->payload, reply->length, (xdrproc_t)xdr_bs_host_info_ret,
                                &peer->info);
    if (result < 0)
        return error_set(err, -result, "the answer of the bistreamd there can't be decoded");
    return 0;
}

static int call_host_info(struct peer *peer, struct error *err)
{
    struct bs_header header = {.prog = BS_PROGRAM,
                               .vers = BS_VERSION,
                               .procedure = BS_PROC_HOST_INFO,
                               .type = BS_CALL,
                               .serial = 1};
    struct rpc_inbox inbox = {.filled = 0};
    CLEANUP_FREE uint8_t *call = NULL;
    size_t length;
    int result = rpc_message_encode(&header, NULL, NULL, &call, &length);

    if (result < 0)
        return error_set_errno(err, -result, "can't encode the call");
    result = tls_send_wait(peer->tls, call, length, TIMEOUT_MS, -1, err);
    if (result == 0)
        result = await_reply(peer, &inbox, err);
    if (result == 0)
        result = take_reply(peer, &inbox.message, err);
    rpc_inbox_clear(&inbox);
    return result;
}

static json_t *describe(const struct tls *tls)
{
    const char *const *names = tls_peer_names(tls);
    json_t *list = json_array();

    /* The common name comes first, and most often again as an alternative name. */
    for (size_t i = 0; names[i]; i++) {
        if (i == 0 || strcmp(names[i], names[0]) != 0)
            json_array_append_new(list, output_json_string(names[i]));
    }
    return pki_describe(tls_peer_subject(tls), list, tls_peer_expires(tls));
}

enum command_exit pki_check_peer(const struct client *client, const struct pki_options *options,
                                 const struct net_address *address)
{
    struct pki_findings findings = {.problems = json_array(), .warnings = json_array()};
    struct peer peer = {.tls = NULL};
    struct error err = ERROR_INIT;
    enum command_exit exit_code;
    json_t *facts =
        json_pack("{ss ss ss}", "type", "check", "host", address->host, "port", address->port);
    bool shaken = shake_hands(&peer, options->dir, address, &err) == 0;

    if (shaken) {
        json_object_set_new(facts, "certificate", describe(peer.tls));
        pki_check_expiry(&findings, "the certificate there", tls_peer_expires(peer.tls));
        if (!client->json)
            pki_print_description("Certificate:", json_object_get(facts, "certificate"));
    }
    if (shaken && await_greeting(&peer, &err) == 0 && call_host_info(&peer, &err) == 0) {
        json_object_set_new(facts, "version", output_json_string(peer.info.vers));
        if (!client->json)
            printf("The bistreamd %s there accepts this host's certificate.\n",
                   output_clean(peer.info.vers));
    }
    if (err.code)
        pki_finding(findings.problems, "%s", err.text);
    exit_code = pki_report(client, facts, &findings);
    xdr_free((xdrproc_t)xdr_bs_host_info_ret, (char *)&peer.info);
    tls_free(peer.tls);
    return exit_code;
}
