/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * evil-peer PKI_DIR URI NAME COOKIE_DISKS <DEFINITION: a peer with a good certificate and bad
 * manners.  It opens a session for a migration as a daemon would, and sends a MIGRATE_PREPARE with
 * the definition that stands on its standard input, unread and unchecked, and a cookie of that many
 * disks to be copied, or of one disk TARGET:FLAGS:BACKING (flags as BS_DISK_*; the backing file may
 * be empty).  The other side's sentence goes to standard output; the exit code is 1 when it refused.
 *
 * protocol.x's limits don't hold the encoder here: what is sent is encoded without them.
 */
#include "config.h"

#include "common/cleanup.h"
#include "daemon/conf.h"
#include "daemon/daemon.h"
#include "daemon/link.h"
#include "daemon/uuid.h"
#include "io/pump.h"
#include "io/tls.h"
#include "rpc/protocol.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/eventfd.h>

enum { CALL_TIMEOUT_MS = 60000, DEFINITION_MAX = 1 << 20 };

struct evil_args {
    bs_id id, uuid;
    char *name, *definition;
    u_int disk_count;
    struct bs_cookie_disk one; /* instead of that many; no target: none */
    int running;
};

static bool_t put_text(XDR *xdrs, const char *text)
{
    char *copy = (char *)text;

    return xdr_string(xdrs, &copy, ~0u);
}

static bool_t put_disk(XDR *xdrs, const struct evil_args *args, u_int number)
{
    struct bs_cookie_disk disk = {.size = 1 << 20, .format = BS_FORMAT_RAW, .flags = BS_DISK_COPY};
    char target[32], none[] = "";

    if (args->one.target) {
        disk = args->one;
        return xdr_bs_cookie_disk(xdrs, &disk);
    }
    snprintf(target, sizeof target, "d%u", number);
    disk.target = target;
    disk.backing = none;
    return xdr_bs_cookie_disk(xdrs, &disk);
}

/* struct bs_migrate_prepare_args, as long as one likes. */
static bool_t xdr_evil_args(XDR *xdrs, struct evil_args *args)
{
    u_int count = args->disk_count;

    if (!xdr_bs_id(xdrs, args->id) || !xdr_bs_id(xdrs, args->uuid) || !put_text(xdrs, args->name) ||
        !put_text(xdrs, args->definition) || !xdr_u_int(xdrs, &count))
        return FALSE;
    for (u_int i = 0; i < args->disk_count; i++)
        if (!put_disk(xdrs, args, i))
            return FALSE;
    return xdr_int(xdrs, &args->running);
}

/* What COOKIE_DISKS says; the strings in ARGS are TEXT's. */
static void read_disks(char *text, struct evil_args *args)
{
    struct bs_cookie_disk *one = &args->one;

    if (!strchr(text, ':')) {
        args->disk_count = (u_int)strtoul(text, NULL, 10);
        return;
    }
    args->disk_count = 1;
    one->target = strsep(&text, ":");
    one->flags = (u_int)strtoul(strsep(&text, ":"), NULL, 10);
    one->backing = text ? text : one->target + strlen(one->target);
    one->size = one->backing_size = 1 << 20;
    one->format = one->flags & BS_DISK_INCREMENTAL ? BS_FORMAT_QCOW2 : BS_FORMAT_RAW;
    one->backing_format = BS_FORMAT_RAW;
}

/* The UUID in the definition's text, so that it is not the reason for a refusal. */
static void find_uuid(const char *definition, bs_id ret)
{
    const char *at = strstr(definition, "\"uuid\"");
    char text[37] = "";

    if (at && sscanf(at, "\"uuid\" : \"%36[^\"]", text) == 1)
        uuid_from_text(text, (uint8_t *)ret);
}

static void ended(void *opaque, const struct error *why)
{
    (void)opaque;
    (void)why;
}

static int prepare(struct daemon *daemon, const char *uri, struct evil_args *args,
                   struct error *err)
{
    const struct pump_handlers handlers = {.ended = ended};
    struct bs_migrate_prepare_ret ret = {.cookie.migration = NULL};
    struct pump *pump = link_open_session(daemon, uri, BS_PURPOSE_MIGRATION, &handlers, -1, err);
    int r;

    if (!pump)
        return -err->code;
    r = pump_call(pump, BS_PROC_MIGRATE_PREPARE, (xdrproc_t)xdr_evil_args, args,
                  (xdrproc_t)xdr_bs_migrate_prepare_ret, &ret, CALL_TIMEOUT_MS, err);
    xdr_free((xdrproc_t)xdr_bs_migrate_prepare_ret, (char *)&ret);
    pump_free(pump);
    return r;
}

int main(int argc, char **argv)
{
    struct config config = {.session_memory = 64 << 20, .ping_ms = 5000};
    struct daemon daemon = {.config = &config};
    struct evil_args args = {.running = 1};
    CLEANUP_FREE char *definition = calloc(1, DEFINITION_MAX + 1);
    struct error err = ERROR_INIT;
    int r = -1;

    if (argc != 5 || !definition) {
        fputs("usage: evil-peer PKI_DIR URI NAME COOKIE_DISKS <DEFINITION\n", stderr);
        return 2;
    }
    if (fread(definition, 1, DEFINITION_MAX, stdin) == 0)
        return 2;
    args.name = argv[3];
    args.definition = definition;
    read_disks(argv[4], &args);
    find_uuid(definition, args.uuid);
    if (getrandom(args.id, sizeof args.id, 0) != sizeof args.id)
        return 1;
    daemon.stop_fd = eventfd(0, EFD_CLOEXEC);
    daemon.tls = tls_context_new(argv[1], &err);
    if (daemon.tls)
        r = prepare(&daemon, argv[2], &args, &err);
    puts(r < 0 ? err.text : "it was taken");
    tls_context_free(daemon.tls);
    return r < 0 ? 1 : 0;
}
