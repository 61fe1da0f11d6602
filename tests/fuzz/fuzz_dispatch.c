/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The dispatch table and all that XDR decodes for it.  The input is a message; it is dispatched to
 * a table with every type of protocol.x: the arguments of the procedures under their own numbers,
 * then, from 1000 on, what a caller has to decode.  What a handler gets must encode to the very
 * bytes that came, and each reply must be one that we understand.
 */
#include "config.h"

#include "rpc/dispatch.h"
#include "rpc/error.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static int on_call(void *opaque, const void *args, void *ret, struct error *err);

#define TYPE(number, type)                                                                    \
    {                                                                                         \
        number, #type, RPC_CALLER_LOCAL, (xdrproc_t)xdr_##type, sizeof(struct type), NULL, 0, \
            on_call                                                                           \
    }

static const struct rpc_procedure procedures[] = {
    {BS_PROC_HOST_INFO, "HOST_INFO", RPC_CALLER_LOCAL, NULL, 0, NULL, 0, on_call},
    TYPE(BS_PROC_BISTREAM_OPEN, bs_bistream_open_args),
    TYPE(BS_PROC_BISTREAM_RESUME, bs_bistream_resume_args),
    TYPE(BS_PROC_MIGRATE_PREPARE, bs_migrate_prepare_args),
    TYPE(BS_PROC_MIGRATE_PREPARE_TUNNEL, bs_migrate_prepare_tunnel_args),
    TYPE(BS_PROC_MIGRATE_PREPARE_DIRECT, bs_migrate_prepare_direct_args),
    TYPE(BS_PROC_VOLUME_DIGEST, bs_volume_digest_args),
    TYPE(BS_PROC_MIGRATE_FINISH, bs_migrate_finish_args),
    TYPE(BS_PROC_MIGRATE_SETTLE, bs_migrate_settle_args),
    TYPE(BS_PROC_DOMAIN_START, bs_domain_start_args),
    TYPE(BS_PROC_DOMAIN_ATTACH, bs_domain_attach_args),
    TYPE(BS_PROC_DOMAIN_LIST, bs_domain_list_args),
    TYPE(BS_PROC_DOMAIN_INFO, bs_domain_name_args),
    TYPE(BS_PROC_MIGRATE, bs_migrate_args),
    TYPE(BS_PROC_MIGRATE_ABORT, bs_migrate_abort_args),
    TYPE(BS_PROC_JOB_INFO, bs_job_info_args),
    TYPE(BS_PROC_JOB_SET, bs_job_set_args),
    TYPE(BS_PROC_JOB_ABORT, bs_job_name_args),
    TYPE(BS_PROC_JOB_RESOLVE, bs_job_resolve_args),
    TYPE(BS_PROC_PROBE, bs_probe_args),
    TYPE(BS_PROC_FORWARD_START, bs_forward_start_args),
    TYPE(BS_PROC_FORWARD_STOP, bs_forward_stop_args),
    TYPE(1000, bs_error),
    TYPE(1001, bs_host_info_ret),
    TYPE(1002, bs_bistream_open_ret),
    TYPE(1017, bs_bistream_resume_ret),
    TYPE(1003, bs_migrate_prepare_ret),
    TYPE(1004, bs_migrate_finish_ret),
    TYPE(1005, bs_domain_list_ret),
    TYPE(1006, bs_domain_info_ret),
    TYPE(1007, bs_migrate_progress),
    TYPE(1008, bs_migrate_result),
    TYPE(1009, bs_migrate_notice),
    TYPE(1010, bs_probe_ret),
    TYPE(1011, bs_forward_list_ret),
    TYPE(1012, bs_forward_ended),
    TYPE(1013, bs_job_list_ret),
    TYPE(1014, bs_job_info_ret),
    TYPE(1015, bs_migrate_prepare_direct_ret),
    TYPE(1016, bs_volume_digest_ret),
};

static const struct rpc_program program = {procedures, sizeof procedures / sizeof procedures[0]};

static int on_call(void *opaque, const void *args, void *ret, struct error *err)
{
    const struct rpc_message *call = opaque;
    uint8_t *again;
    size_t length;

    (void)ret;
    for (size_t i = 0; i < program.count; i++) {
        if (procedures[i].number != call->header.procedure)
            continue;
        MUST(rpc_message_encode(&call->header, procedures[i].args_proc, args, &again, &length) ==
             0);
        MUST(length == BS_LENGTH_SIZE + BS_HEADER_SIZE + call->length);
        MUST(call->length == 0 ||
             memcmp(again + BS_LENGTH_SIZE + BS_HEADER_SIZE, call->payload, call->length) == 0);
        free(again);
    }
    if (call->header.serial % 2 == 0)
        return 0;
    return error_set(err, (int)(call->header.serial % 200), "refused: %u", call->header.serial);
}

/* Gathers one message. */
static int on_begin(void *opaque, const struct bs_header *header, size_t length)
{
    struct rpc_message *message = opaque;

    message->header = *header;
    message->payload = malloc(length + 1);
    return message->payload ? 0 : -ENOMEM;
}

static int on_payload(void *opaque, const uint8_t *data, size_t length)
{
    struct rpc_message *message = opaque;

    memcpy(message->payload + message->length, data, length);
    message->length += length;
    return 0;
}

static int on_end(void *opaque)
{
    (void)opaque;
    return -ECANCELED; /* tells a whole message from a part of one */
}

static bool gather(const uint8_t *data, size_t length, struct rpc_message *ret)
{
    static const struct rpc_decoder_callbacks callbacks = {on_begin, on_payload, on_end};
    struct rpc_decoder decoder = {.callbacks = &callbacks, .opaque = ret};
    size_t used;

    return rpc_decoder_feed(&decoder, data, length, &used) == -ECANCELED;
}

static void check_reply(const struct bs_header *call, const uint8_t *data, size_t length)
{
    struct rpc_message reply = {0};
    struct error err = ERROR_INIT;

    MUST(gather(data, length, &reply));
    MUST(length == BS_LENGTH_SIZE + BS_HEADER_SIZE + reply.length);
    MUST(reply.header.type == BS_REPLY && reply.header.serial == call->serial);
    MUST(reply.header.prog == call->prog && reply.header.procedure == call->procedure);
    if (reply.header.status == BS_ERROR) {
        MUST(rpc_error_decode(reply.payload, reply.length, &err) == -err.code);
        MUST(err.code > 0 && err.text[0] != '\0');
    }
    rpc_message_clear(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct rpc_message call = {0};
    struct error err;
    uint8_t *reply;
    size_t reply_length;

    if (gather(data, length, &call)) {
        int r = rpc_dispatch(&program, RPC_CALLER_LOCAL, &call, &call, &reply, &reply_length);

        MUST(r == (call.header.type == BS_CALL ? 0 : -EPROTO));
        if (r == 0) {
            check_reply(&call.header, reply, reply_length);
            free(reply);
        }
        rpc_error_decode(call.payload, call.length, &err);
    }
    rpc_message_clear(&call);
    return 0;
}
