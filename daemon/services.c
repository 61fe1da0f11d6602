/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The table of everything that can be called: see services.h. */
#include "config.h"

#include "daemon/services.h"
#include "daemon/domain_service.h"
#include "daemon/forward.h"
#include "daemon/host.h"
#include "daemon/incoming.h"
#include "daemon/migrate.h"
#include "daemon/peer.h"
#include "daemon/probe.h"
#include "rpc/protocol.h"

#define ARGS(type) (xdrproc_t) xdr_##type, sizeof(type)
#define RET(type) (xdrproc_t) xdr_##type, sizeof(type)
#define NONE NULL, 0
#define SESSION_OR_TUNNEL (RPC_CALLER_SESSION | RPC_CALLER_TUNNEL)

static const struct rpc_procedure procedures[] = {
    /* first, so that they can be left out */
    {BS_PROC_BISTREAM_OPEN, "BISTREAM_OPEN", RPC_CALLER_LINK, ARGS(bs_bistream_open_args),
     RET(bs_bistream_open_ret), peer_handle_open},
    {BS_PROC_BISTREAM_RESUME, "BISTREAM_RESUME", RPC_CALLER_LINK, ARGS(bs_bistream_resume_args),
     RET(bs_bistream_resume_ret), peer_handle_resume},

    {BS_PROC_HOST_INFO, "HOST_INFO", RPC_CALLER_LINK, NONE, RET(bs_host_info_ret),
     host_handle_info},
    {BS_PROC_HOST_INFO, "HOST_INFO", SESSION_OR_TUNNEL, NONE, RET(bs_host_info_ret),
     host_handle_info_in_session},

    {BS_PROC_MIGRATE_PREPARE_TUNNEL, "MIGRATE_PREPARE_TUNNEL", RPC_CALLER_TUNNEL,
     ARGS(bs_migrate_prepare_tunnel_args), NONE, incoming_handle_prepare_tunnel},
    {BS_PROC_MIGRATE_PREPARE, "MIGRATE_PREPARE", RPC_CALLER_SESSION, ARGS(bs_migrate_prepare_args),
     RET(bs_migrate_prepare_ret), incoming_handle_prepare},
    {BS_PROC_MIGRATE_PREPARE_DIRECT, "MIGRATE_PREPARE_DIRECT", RPC_CALLER_SESSION,
     ARGS(bs_migrate_prepare_direct_args), RET(bs_migrate_prepare_direct_ret),
     incoming_handle_prepare_direct},
    {BS_PROC_MIGRATE_PREPARE_OFFLINE, "MIGRATE_PREPARE_OFFLINE", RPC_CALLER_SESSION,
     ARGS(bs_migrate_prepare_args), RET(bs_migrate_prepare_ret), incoming_handle_prepare_offline},
    {BS_PROC_VOLUME_DIGEST, "VOLUME_DIGEST", RPC_CALLER_SESSION, ARGS(bs_volume_digest_args),
     RET(bs_volume_digest_ret), incoming_handle_volume_digest},
    {BS_PROC_MIGRATE_FINISH, "MIGRATE_FINISH", SESSION_OR_TUNNEL, ARGS(bs_migrate_finish_args),
     RET(bs_migrate_finish_ret), incoming_handle_finish},
    {BS_PROC_MIGRATE_STATUS, "MIGRATE_STATUS", SESSION_OR_TUNNEL, ARGS(bs_migrate_status_args),
     RET(bs_migrate_finish_ret), incoming_handle_status},
    {BS_PROC_MIGRATE_SETTLE, "MIGRATE_SETTLE", SESSION_OR_TUNNEL, ARGS(bs_migrate_settle_args),
     NONE, incoming_handle_settle},

    {BS_PROC_DOMAIN_START, "DOMAIN_START", RPC_CALLER_LOCAL, ARGS(bs_domain_start_args), NONE,
     domain_handle_start},
    {BS_PROC_DOMAIN_ATTACH, "DOMAIN_ATTACH", RPC_CALLER_LOCAL, ARGS(bs_domain_attach_args), NONE,
     domain_handle_attach},
    {BS_PROC_DOMAIN_LIST, "DOMAIN_LIST", RPC_CALLER_LOCAL, ARGS(bs_domain_list_args),
     RET(bs_domain_list_ret), domain_handle_list},
    {BS_PROC_DOMAIN_INFO, "DOMAIN_INFO", RPC_CALLER_LOCAL, ARGS(bs_domain_name_args),
     RET(bs_domain_info_ret), domain_handle_info},
    {BS_PROC_DOMAIN_SHUTDOWN, "DOMAIN_SHUTDOWN", RPC_CALLER_LOCAL, ARGS(bs_domain_name_args), NONE,
     domain_handle_shutdown},
    {BS_PROC_DOMAIN_DESTROY, "DOMAIN_DESTROY", RPC_CALLER_LOCAL, ARGS(bs_domain_name_args), NONE,
     domain_handle_destroy},
    {BS_PROC_DOMAIN_UNDEFINE, "DOMAIN_UNDEFINE", RPC_CALLER_LOCAL, ARGS(bs_domain_name_args), NONE,
     domain_handle_undefine},
    {BS_PROC_MIGRATE, "MIGRATE", RPC_CALLER_LOCAL, ARGS(bs_migrate_args), RET(bs_migrate_ret),
     migrate_handle_migrate},
    {BS_PROC_MIGRATE_ABORT, "MIGRATE_ABORT", RPC_CALLER_LOCAL, ARGS(bs_migrate_abort_args), NONE,
     migrate_handle_abort},

    {BS_PROC_JOB_LIST, "JOB_LIST", RPC_CALLER_LOCAL, NONE, RET(bs_job_list_ret),
     migrate_handle_job_list},
    {BS_PROC_JOB_INFO, "JOB_INFO", RPC_CALLER_LOCAL, ARGS(bs_job_info_args), RET(bs_job_info_ret),
     migrate_handle_job_info},
    {BS_PROC_JOB_SET, "JOB_SET", RPC_CALLER_LOCAL, ARGS(bs_job_set_args), NONE,
     migrate_handle_job_set},
    {BS_PROC_JOB_ABORT, "JOB_ABORT", RPC_CALLER_LOCAL, ARGS(bs_job_name_args), NONE,
     migrate_handle_job_abort},
    {BS_PROC_JOB_RESOLVE, "JOB_RESOLVE", RPC_CALLER_LOCAL, ARGS(bs_job_resolve_args), NONE,
     migrate_handle_job_resolve},

    {BS_PROC_PROBE, "PROBE", RPC_CALLER_LOCAL, ARGS(bs_probe_args), RET(bs_probe_ret),
     probe_handle},
    {BS_PROC_FORWARD_START, "FORWARD_START", RPC_CALLER_LOCAL, ARGS(bs_forward_start_args),
     RET(bs_forward_start_ret), forward_handle_start},
    {BS_PROC_FORWARD_LIST, "FORWARD_LIST", RPC_CALLER_LOCAL, NONE, RET(bs_forward_list_ret),
     forward_handle_list},
    {BS_PROC_FORWARD_STOP, "FORWARD_STOP", RPC_CALLER_LOCAL, ARGS(bs_forward_stop_args), NONE,
     forward_handle_stop},
};

enum { COUNT = sizeof procedures / sizeof procedures[0], OF_SESSIONS = 2 };

const struct rpc_program *services_program(const struct config *config)
{
    static const struct rpc_program all = {procedures, COUNT};
    static const struct rpc_program old = {procedures + OF_SESSIONS, COUNT - OF_SESSIONS};

    return config->offer_bistream ? &all : &old;
}
