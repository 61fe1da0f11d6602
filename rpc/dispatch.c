/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The dispatch table: see dispatch.h.
 *
 * Every CALL gets exactly one reply.  Program, version and procedure are looked up in libvirt's
 * order and refused in its words; a procedure that this kind of caller may not call does not exist
 * for it.  ENOSYS is what those refusals travel as, so a handler's own ENOSYS (some system call's)
 * is turned into EOPNOTSUPP: a caller that falls back to an older protocol must not be misled.
 */
#include "config.h"

#include "rpc/dispatch.h"
#include "rpc/error.h"
#include "common/cleanup.h"

#include <errno.h>
#include <stdlib.h>

/* Finds what CALL asks for.  Returns NULL with ERR. */
static const struct rpc_procedure *find_procedure(const struct rpc_program *program,
                                                  enum rpc_caller caller,
                                                  const struct bs_header *call, struct error *err)
{
    if (call->prog != BS_PROGRAM || call->vers != BS_VERSION) {
        error_set(err, ENOSYS, "Cannot find program %u version %u", call->prog, call->vers);
        return NULL;
    }
    for (size_t i = 0; i < program->count; i++) {
        const struct rpc_procedure *procedure = &program->procedures[i];

        if (procedure->number == call->procedure && (procedure->callers & caller))
            return procedure;
    }
    error_set(err, ENOSYS, "unknown procedure: %d", call->procedure);
    return NULL;
}

bool rpc_program_has(const struct rpc_program *program, enum rpc_caller caller,
                     const struct bs_header *header)
{
    struct error unused = ERROR_INIT;

    return find_procedure(program, caller, header, &unused) != NULL;
}

static int decode_args(const struct rpc_procedure *procedure, const struct rpc_message *call,
                       void *args, struct error *err)
{
    int r = 0;

    if (procedure->args_proc)
        r = rpc_payload_decode(call->payload, call->length, procedure->args_proc, args);
    else if (call->length > 0)
        r = -EBADMSG;
    if (r == -ENOMEM)
        return error_set(err, ENOMEM, "no memory for the arguments of %s", procedure->name);
    if (r < 0)
        return error_set(err, EBADMSG,
                         "the arguments of %s can't be decoded: %zu bytes came that are not in "
                         "the form that version %d of the protocol gives them",
                         procedure->name, call->length, BS_VERSION);
    return 0;
}

static int run_handler(const struct rpc_procedure *procedure, void *opaque, const void *args,
                       void *ret, struct error *err)
{
    int r = procedure->handler(opaque, args, ret, err);

    if (r >= 0)
        return 0;
    if (err->code == 0)
        error_set_errno(err, -r, "%s failed", procedure->name);
    if (err->code == ENOSYS)
        err->code = EOPNOTSUPP;
    return -err->code;
}

static int encode_results(const struct rpc_procedure *procedure, const struct bs_header *call,
                          const void *ret, struct error *err, uint8_t **ret_data,
                          size_t *ret_length)
{
    struct bs_header header = *call;
    int r;

    header.type = BS_REPLY;
    header.status = BS_OK;
    r = rpc_message_encode(&header, procedure->ret_proc, ret, ret_data, ret_length);
    if (r == -ENOMEM)
        return error_set(err, ENOMEM, "no memory for the results of %s", procedure->name);
    if (r == -E2BIG)
        return error_set(err, E2BIG,
                         "the results of %s are longer than a message may be (%d bytes)",
                         procedure->name, BS_MESSAGE_MAX);
    if (r < 0)
        return error_set(err, EPROTO,
                         "the results of %s can't be encoded, which is a bug of this bistreamd",
                         procedure->name);
    return 0;
}

/* Decodes, runs and encodes; what the decoder and the handler allocated is freed. */
static int run(const struct rpc_procedure *procedure, void *opaque, const struct rpc_message *call,
               struct error *err, uint8_t **ret_data, size_t *ret_length)
{
    /* one byte more: calloc() of nothing may return NULL */
    CLEANUP_FREE void *args = calloc(1, procedure->args_size + 1);
    CLEANUP_FREE void *ret = calloc(1, procedure->ret_size + 1);
    int r;

    if (!args || !ret)
        return error_set(err, ENOMEM, "no memory to run %s", procedure->name);
    r = decode_args(procedure, call, args, err);
    if (r < 0)
        return r;
    r = run_handler(procedure, opaque, args, ret, err);
    if (r == 0)
        r = encode_results(procedure, &call->header, ret, err, ret_data, ret_length);
    if (procedure->args_proc)
        xdr_free(procedure->args_proc, args);
    if (procedure->ret_proc)
        xdr_free(procedure->ret_proc, ret);
    return r;
}

int rpc_dispatch(const struct rpc_program *program, enum rpc_caller caller, void *opaque,
                 const struct rpc_message *call, uint8_t **ret_data, size_t *ret_length)
{
    const struct rpc_procedure *procedure;
    struct error err = ERROR_INIT;
    int r = -ENOSYS;

    if (call->header.type != BS_CALL)
        return -EPROTO;
    procedure = find_procedure(program, caller, &call->header, &err);
    if (procedure)
        r = run(procedure, opaque, call, &err, ret_data, ret_length);
    if (r == 0)
        return 0;
    return rpc_error_encode(&call->header, &err, ret_data, ret_length);
}
