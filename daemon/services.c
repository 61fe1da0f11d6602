/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The table of everything that can be called: see services.h. */
#include "config.h"

#include "daemon/services.h"
#include "daemon/forward.h"
#include "daemon/host.h"
#include "daemon/peer.h"
#include "daemon/probe.h"
#include "rpc/protocol.h"

#define ARGS(type) (xdrproc_t) xdr_##type, sizeof(type)
#define RET(type) (xdrproc_t) xdr_##type, sizeof(type)
#define NONE NULL, 0

static const struct rpc_procedure procedures[] = {
    /* first, so that it can be left out */
    {BS_PROC_BISTREAM_OPEN, "BISTREAM_OPEN", RPC_CALLER_LINK, ARGS(bs_bistream_open_args),
     RET(bs_bistream_open_ret), peer_handle_open},

    {BS_PROC_HOST_INFO, "HOST_INFO", RPC_CALLER_LINK, NONE, RET(bs_host_info_ret),
     host_handle_info},

    {BS_PROC_PROBE, "PROBE", RPC_CALLER_LOCAL, ARGS(bs_probe_args), RET(bs_probe_ret),
     probe_handle},
    {BS_PROC_FORWARD_START, "FORWARD_START", RPC_CALLER_LOCAL, ARGS(bs_forward_start_args),
     RET(bs_forward_start_ret), forward_handle_start},
    {BS_PROC_FORWARD_LIST, "FORWARD_LIST", RPC_CALLER_LOCAL, NONE, RET(bs_forward_list_ret),
     forward_handle_list},
    {BS_PROC_FORWARD_STOP, "FORWARD_STOP", RPC_CALLER_LOCAL, ARGS(bs_forward_stop_args), NONE,
     forward_handle_stop},
};

enum { COUNT = sizeof procedures / sizeof procedures[0] };

const struct rpc_program *services_program(const struct config *config)
{
    static const struct rpc_program all = {procedures, COUNT};
    static const struct rpc_program old = {procedures + 1, COUNT - 1};

    return config->offer_bistream ? &all : &old;
}
