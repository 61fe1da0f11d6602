/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Errors on the wire: see error.h.
 *
 * The numbers are libvirt's (virErrorNumber, libvirt/virterror.h), so that virsh shows a category
 * that it knows.  The table is read in both directions: each errno and each number stands in it
 * once.  An errno without a number of its own travels as OPERATION_FAILED; its sentence says what
 * happened in any case, the code is only what a program may decide by.
 *
 * Code 39 with domain 7 means "not known here" and nothing else: it is what ENOSYS stands for, and
 * no other errno gets there.
 */
#include "config.h"

#include "rpc/error.h"
#include "rpc/message.h"

#include <errno.h>
#include <string.h>

enum { VIR_FROM_QEMU = 10, VIR_ERR_OPERATION_FAILED = 9, VIR_ERR_LEVEL_ERROR = 2 };

static const struct {
    int code;   /* errno */
    int number; /* virErrorNumber */
} numbers[] = {
    {EPROTO, 1},                           /* INTERNAL_ERROR */
    {ENOMEM, 2},                           /* NO_MEMORY */
    {EHOSTUNREACH, 4},                     /* UNKNOWN_HOST */
    {ECONNREFUSED, 5},                     /* NO_CONNECT */
    {EINVAL, 8},                           /* INVALID_ARG */
    {EREMOTEIO, VIR_ERR_OPERATION_FAILED}, /* and what isn't in this table */
    {EEXIST, 28},                          /* DOM_EXIST */
    {EPERM, 29},                           /* OPERATION_DENIED */
    {EBADMSG, 32},                         /* PARSE_FAILED */
    {EIO, 38},                             /* SYSTEM_ERROR */
    {ENOENT, 42},                          /* NO_DOMAIN */
    {EKEYREJECTED, 45},                    /* AUTH_FAILED */
    {EBUSY, 55},                           /* OPERATION_INVALID */
    {ETIMEDOUT, 68},                       /* OPERATION_TIMEOUT */
    {ECANCELED, 78},                       /* OPERATION_ABORTED */
    {EOVERFLOW, 82},                       /* OVERFLOW */
    {EOPNOTSUPP, 84},                      /* OPERATION_UNSUPPORTED */
    {EACCES, 88},                          /* ACCESS_DENIED */
};

static int number_of(int code)
{
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i].code == code)
            return numbers[i].number;
    return VIR_ERR_OPERATION_FAILED;
}

static int code_of(int number)
{
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i].number == number)
            return numbers[i].code;
    return EREMOTEIO;
}

static int encode(const struct bs_header *call, int type, const struct error *err,
                  uint8_t **ret_data, size_t *ret_length)
{
    struct bs_header header = *call;
    char format[] = "%s", text[ERROR_TEXT_MAX];
    bs_error_text message = text, str1 = format;
    struct bs_error body = {
        .code = err->code == ENOSYS ? RPC_ERR_RPC : number_of(err->code),
        .domain = err->code == ENOSYS ? RPC_FROM_RPC : VIR_FROM_QEMU,
        .message = &message,
        .level = VIR_ERR_LEVEL_ERROR,
        .str1 = &str1,
        .str2 = &message,
        .int1 = -1,
        .int2 = -1,
    };

    memcpy(text, err->text, sizeof text);
    header.type = type;
    header.status = BS_ERROR;
    return rpc_message_encode(&header, (xdrproc_t)xdr_bs_error, &body, ret_data, ret_length);
}

int rpc_error_encode(const struct bs_header *call, const struct error *err, uint8_t **ret_data,
                     size_t *ret_length)
{
    return encode(call, BS_REPLY, err, ret_data, ret_length);
}

int rpc_error_encode_stream(const struct bs_header *call, const struct error *err,
                            uint8_t **ret_data, size_t *ret_length)
{
    return encode(call, BS_STREAM, err, ret_data, ret_length);
}

/* A peer's text must neither forge lines nor steer a terminal. */
static void replace_controls(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c < 0x20 || *c == 0x7f)
            *c = ' ';
        else if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f) /* U+0080 to U+009F in UTF-8 */
            c[0] = c[1] = ' ';
    }
}

int rpc_error_decode(const uint8_t *payload, size_t length, struct error *ret)
{
    struct bs_error body = {0};
    int code, r;

    r = rpc_payload_decode(payload, length, (xdrproc_t)xdr_bs_error, &body);
    if (r == -ENOMEM)
        return error_set(ret, ENOMEM, "no memory for the error that the peer reported");
    if (r < 0)
        return error_set(ret, EBADMSG, "the peer reported an error that can't be decoded");
    if (body.code == RPC_ERR_RPC)
        code = body.domain == RPC_FROM_RPC ? ENOSYS : EREMOTEIO;
    else
        code = code_of(body.code);
    if (body.message && **body.message)
        error_set(ret, code, "%s", *body.message);
    else
        error_set(ret, code, "the peer reported error %d of domain %d without a word", body.code,
                  body.domain);
    replace_controls(ret->text);
    xdr_free((xdrproc_t)xdr_bs_error, (char *)&body);
    return -ret->code;
}
