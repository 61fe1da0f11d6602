/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The values behind golden.txt: see rpc_golden_values.h. */
#include "config.h"

#include "tests/unit/rpc_golden_values.h"
#include "tests/unit/unit.h"

/* XDR's strings aren't const. */
#define TEXT(string) ((char[]){string})

#define MESSAGE(what, number, kind, type, ...)                                         \
    {                                                                                  \
        what, {BS_PROGRAM, BS_VERSION, number, kind, kind == BS_EVENT ? 0 : 7, BS_OK}, \
            (xdrproc_t)xdr_##type, sizeof(struct type), &(const struct type)           \
        {                                                                              \
            __VA_ARGS__                                                                \
        }                                                                              \
    }
#define BARE(what, number, kind)                                              \
    {                                                                         \
        what, {BS_PROGRAM, BS_VERSION, number, kind, 7, BS_OK}, NULL, 0, NULL \
    }
#define CALL(name, type, ...) MESSAGE(#name " call", BS_PROC_##name, BS_CALL, type, __VA_ARGS__)
#define REPLY(name, type, ...) MESSAGE(#name " reply", BS_PROC_##name, BS_REPLY, type, __VA_ARGS__)
#define EVENT(name, type, ...) MESSAGE(#name " event", BS_PROC_##name, BS_EVENT, type, __VA_ARGS__)
#define BARE_CALL(name) BARE(#name " call", BS_PROC_##name, BS_CALL)
#define BARE_REPLY(name) BARE(#name " reply", BS_PROC_##name, BS_REPLY)

#define ID                                                                                        \
    {                                                                                             \
        0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, \
            0x1f                                                                                  \
    }
#define UUID                                                                                      \
    {                                                                                             \
        0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e, \
            0x2f                                                                                  \
    }
#define SECRET                                                                                    \
    {                                                                                             \
        0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, \
            0x3f, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4c,   \
            0x4d, 0x4e, 0x4f                                                                      \
    }

#define PREPARE                                             \
    {                                                       \
        ID, UUID, TEXT("web"), TEXT("{\"name\": \"web\"}"), \
        {                                                   \
            {2, cookie_disks}, BS_COOKIE_RUNNING            \
        }                                                   \
    }

static struct bs_cookie_disk cookie_disks[] = {
    {
        .target = TEXT("vda"),
        .size = 0x0102030405060708,
        .allocated = 0x1112131415161718,
        .format = BS_FORMAT_QCOW2,
        .flags = BS_DISK_COPY | BS_DISK_INCREMENTAL,
        .backing = TEXT("base.qcow2"),
        .backing_format = BS_FORMAT_RAW,
        .backing_size = 0x2122232425262728,
    },
    {.target = TEXT("vdb"), .size = 512, .format = BS_FORMAT_RAW, .backing = TEXT("")},
};
static struct bs_cookie_endpoint endpoints[] = {
    {TEXT("vda"), TEXT("nbd/vda")},
    {TEXT("vdb"), TEXT("nbd/vdb")},
};
static struct bs_resume_channel resume_channels[] = {
    {0, 0x2122232425262728, 0x3132333435363738, 0},
    {7, 4096, 20480, BS_RESUME_RESET},
};
static struct bs_job jobs[] = {
    {ID, TEXT("web"), TEXT("bistream://hostb"), TEXT("mirror"), TEXT("")},
    {ID, TEXT("db"), TEXT("bistream://hostc"), TEXT("unresolved"), TEXT("no answer")},
};
static struct bs_domain domains[] = {
    {TEXT("web"), UUID, TEXT("running"), 4242, 1, 0},
    {TEXT("db"), ID, TEXT("shut off"), 0, 0, 1},
};
static bs_target targets[] = {TEXT("vda"), TEXT("vdb")};
static struct bs_progress progress[] = {
    {TEXT(""), 1, 2, 3, 4},
    {TEXT("vda"), UINT64_MAX, 0x0102030405060708, 5, 6},
};
static struct bs_disk_bytes disk_bytes[] = {{TEXT("vda"), 81}, {TEXT("vdb"), 82}};
static struct bs_forward_pair pairs[] = {
    {TEXT("/run/l1.sock"), TEXT("/run/r1.sock")},
    {TEXT("/run/l2.sock"), TEXT("/run/r2.sock")},
};
static struct bs_forward forwards[] = {{
    .id = 61,
    .destination = TEXT("bistream://b.example.org"),
    .pairs = {2, pairs},
    .channels = 62,
    .sent = 63,
    .received = 64,
}};
static struct bs_job_info job_infos[] = {{
    .id = ID,
    .name = TEXT("web"),
    .destination = TEXT("bistream://hostb"),
    .phase = TEXT("memory"),
    .mode = TEXT("tunnel"),
    .fallback = TEXT("hostb does not offer BiStream"),
    .outcome = BS_OUTCOME_FAILED,
    .error = TEXT("aborted"),
    .started = 101,
    .elapsed_ms = 102,
    .downtime_ms = 103,
    .parts = {2, progress},
    .dirty_rate = 104,
    .bandwidth = 105,
    .round_trip_us = 106,
    .link_losses = 107,
    .stall_ms = 108,
}};
static bs_error_text sentence = TEXT("no such domain: web"), format = TEXT("%s");

const struct golden golden_messages[] = {
    BARE_CALL(HOST_INFO),
    REPLY(HOST_INFO, bs_host_info_ret, TEXT("0.1.0"), TEXT("a.example.org"), TEXT("7.2.22"),
          BS_FEATURE_BISTREAM),
    CALL(BISTREAM_OPEN, bs_bistream_open_args, 1, 2, BS_PURPOSE_MIGRATION, {262144, 4096}, 30000),
    REPLY(BISTREAM_OPEN, bs_bistream_open_ret, 1, ID, SECRET, {131072, 1024}),

    CALL(BISTREAM_RESUME, bs_bistream_resume_args, ID, 3, SECRET, {5, {2, resume_channels}}),
    REPLY(BISTREAM_RESUME, bs_bistream_resume_ret, BS_RESUME_GOES_ON, SECRET, 0,
          {2, {1, resume_channels}}),
    CALL(MIGRATE_PREPARE, bs_migrate_prepare_args, ID, UUID, TEXT("web"),
         TEXT("{\"name\": \"web\"}"), {{2, cookie_disks}, 1}),
    REPLY(MIGRATE_PREPARE, bs_migrate_prepare_ret, {TEXT("migration"), {2, endpoints}}),
    CALL(MIGRATE_PREPARE_TUNNEL, bs_migrate_prepare_tunnel_args, PREPARE),
    BARE_REPLY(MIGRATE_PREPARE_TUNNEL),
    CALL(MIGRATE_PREPARE_DIRECT, bs_migrate_prepare_direct_args, PREPARE, BS_DIRECT_TLS,
         TEXT("192.0.2.7"), TEXT("CN=hosta")),
    REPLY(MIGRATE_PREPARE_DIRECT, bs_migrate_prepare_direct_ret, 49152, 49153),
    CALL(MIGRATE_PREPARE_OFFLINE, bs_migrate_prepare_args, ID, UUID, TEXT("web"),
         TEXT("{\"name\": \"web\"}"), {{2, cookie_disks}, BS_COOKIE_PERSISTENT}),
    REPLY(MIGRATE_PREPARE_OFFLINE, bs_migrate_prepare_ret, {TEXT(""), {2, endpoints}}),
    CALL(VOLUME_DIGEST, bs_volume_digest_args, ID, TEXT("vda"), 0x5152535455565758, 65536),
    REPLY(VOLUME_DIGEST, bs_volume_digest_ret, SECRET),
    CALL(MIGRATE_FINISH, bs_migrate_finish_args, ID, 9876),
    REPLY(MIGRATE_FINISH, bs_migrate_finish_ret, BS_OWNER_LOST, TEXT("QEMU died"), 5678),
    CALL(MIGRATE_STATUS, bs_migrate_status_args, ID),
    REPLY(MIGRATE_STATUS, bs_migrate_finish_ret, BS_OWNER_NOT_MINE, TEXT("fenced"), 0),
    CALL(MIGRATE_SETTLE, bs_migrate_settle_args, ID, BS_SETTLE_THEIRS),
    BARE_REPLY(MIGRATE_SETTLE),

    CALL(DOMAIN_START, bs_domain_start_args, TEXT("{}"), TEXT("web"), 1),
    BARE_REPLY(DOMAIN_START),
    CALL(DOMAIN_ATTACH, bs_domain_attach_args, TEXT("web"), TEXT("/run/qmp.sock"), 1),
    BARE_REPLY(DOMAIN_ATTACH),
    CALL(DOMAIN_LIST, bs_domain_list_args, 1),
    REPLY(DOMAIN_LIST, bs_domain_list_ret, {2, domains}),
    CALL(DOMAIN_INFO, bs_domain_name_args, TEXT("web")),
    REPLY(DOMAIN_INFO, bs_domain_info_ret, TEXT("{\"name\": \"web\"}")),
    CALL(DOMAIN_SHUTDOWN, bs_domain_name_args, TEXT("web")),
    BARE_REPLY(DOMAIN_SHUTDOWN),
    CALL(DOMAIN_DESTROY, bs_domain_name_args, TEXT("web")),
    BARE_REPLY(DOMAIN_DESTROY),
    CALL(DOMAIN_UNDEFINE, bs_domain_name_args, TEXT("web")),
    BARE_REPLY(DOMAIN_UNDEFINE),

    CALL(MIGRATE, bs_migrate_args, TEXT("web"), TEXT("bistream://b.example.org:16520"),
         BS_MIGRATE_LIVE | BS_MIGRATE_COPY_STORAGE_ALL | BS_MIGRATE_COPY_STORAGE_INC, {2, targets},
         TEXT("web2"), 0x4142434445464748, 91, 92, 93, TEXT("192.0.2.7")),
    REPLY(MIGRATE, bs_migrate_ret, ID),
    CALL(MIGRATE_ABORT, bs_migrate_abort_args, ID),
    BARE_REPLY(MIGRATE_ABORT),
    BARE_CALL(JOB_LIST),
    REPLY(JOB_LIST, bs_job_list_ret, {2, jobs}),
    CALL(JOB_INFO, bs_job_info_args, TEXT("web"), 1),
    REPLY(JOB_INFO, bs_job_info_ret, {1, job_infos}),
    CALL(JOB_SET, bs_job_set_args, TEXT("web"), 111),
    BARE_REPLY(JOB_SET),
    CALL(JOB_ABORT, bs_job_name_args, TEXT("web")),
    BARE_REPLY(JOB_ABORT),
    CALL(JOB_RESOLVE, bs_job_resolve_args, TEXT("web"), BS_RESOLVE_KEEP),
    BARE_REPLY(JOB_RESOLVE),
    EVENT(EVENT_MIGRATE_PROGRESS, bs_migrate_progress, ID, TEXT("mirror"), {2, progress}, 74),
    EVENT(EVENT_MIGRATE_RESULT, bs_migrate_result, ID, BS_OUTCOME_UNRESOLVED, TEXT("bistream"), 71,
          72, 73, {2, disk_bytes}, TEXT("no answer to Finish")),
    EVENT(EVENT_MIGRATE_NOTICE, bs_migrate_notice, ID, TEXT("vdc is read-only: not copied")),

    CALL(PROBE, bs_probe_args, TEXT("bistream://b.example.org")),
    REPLY(PROBE, bs_probe_ret, BS_PEER_LIBVIRT, {TEXT("0.1.0"), TEXT("b"), TEXT(""), 3}, 1,
          TEXT("CN=b.example.org"), 250),
    CALL(FORWARD_START, bs_forward_start_args, TEXT("bistream://b.example.org"), {2, pairs},
         TEXT("qemu"), 0660, 1),
    REPLY(FORWARD_START, bs_forward_start_ret, 61),
    BARE_CALL(FORWARD_LIST),
    REPLY(FORWARD_LIST, bs_forward_list_ret, {1, forwards}),
    CALL(FORWARD_STOP, bs_forward_stop_args, 61),
    BARE_REPLY(FORWARD_STOP),
    EVENT(EVENT_FORWARD_ENDED, bs_forward_ended, 61, TEXT("session lost")),

    {
        "error",
        {BS_PROGRAM, BS_VERSION, BS_PROC_DOMAIN_INFO, BS_REPLY, 7, BS_ERROR},
        (xdrproc_t)xdr_bs_error,
        sizeof(struct bs_error),
        &(struct bs_error){
            .code = 42,
            .domain = 10,
            .message = &sentence,
            .level = 2,
            .dom = &(struct bs_error_domain){TEXT("web"), UUID, 51},
            .str1 = &format,
            .str2 = &sentence,
            .str3 = &format,
            .int1 = 52,
            .int2 = 53,
            .net = &(struct bs_error_network){TEXT("default"), ID},
        },
    },
    {
        "error of libvirt's shape",
        {BS_PROGRAM, BS_VERSION, 9999, BS_REPLY, 7, BS_ERROR},
        (xdrproc_t)xdr_bs_error,
        sizeof(struct bs_error),
        &(struct bs_error){39, 7, &sentence, 2, NULL, &format, &sentence, NULL, -1, -1, NULL},
    },
    {
        "keepalive ping",
        {BS_KEEPALIVE_PROGRAM, BS_KEEPALIVE_VERSION, BS_KEEPALIVE_PING, BS_EVENT, 0, BS_OK},
        NULL,
        0,
        NULL,
    },
    {
        "keepalive pong",
        {BS_KEEPALIVE_PROGRAM, BS_KEEPALIVE_VERSION, BS_KEEPALIVE_PONG, BS_EVENT, 0, BS_OK},
        NULL,
        0,
        NULL,
    },
};
const size_t golden_message_count = ARRAY_LENGTH(golden_messages);

const struct golden_frame golden_frames[] = {
    {"frame OPEN", {BS_FRAME_OPEN, 1, 0, 0}, "nbd/vda"},
    {"frame DATA", {BS_FRAME_DATA, 2, 0x0102030405060708, 0}, "odd: 5"},
    {"frame LIMIT", {BS_FRAME_LIMIT, 3, 0x1112131415161718, 0x2122232425262728}, ""},
    {"frame EOF", {BS_FRAME_EOF, 4, 0x3132333435363738, 0}, ""},
    {"frame RESET", {BS_FRAME_RESET, 5, 0, BS_RESET_REFUSED}, "connection refused"},
    {"frame PING", {BS_FRAME_PING, 0, 0x4142434445464748, 0}, ""},
    {"frame PONG", {BS_FRAME_PONG, 0, 0x4142434445464748, 0}, ""},
    {"frame CLOSE", {BS_FRAME_CLOSE, 0, 0, BS_CLOSE_TIMEOUT}, "silent for 30 s"},
};
const size_t golden_frame_count = ARRAY_LENGTH(golden_frames);
