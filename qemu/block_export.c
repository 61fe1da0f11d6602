/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * NBD exports of the destination: see block.h.
 *
 * QEMU's word about a size isn't taken: the server itself is asked, by the protocol that the
 * source's mirrors will speak.
 */
#include "config.h"

#include "qemu/block.h"
#include "common/cleanup.h"
#include "common/loop.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <limits.h>
#include <string.h>

int block_exports_start(struct qmp *qmp, const struct qemu_address *address, const char *tls_creds,
                        const char *tls_authz, const struct qmp_wait *wait, struct error *err)
{
    json_t *args = json_pack("{s:o}", "addr", qemu_address_json_legacy(address));

    if (args && tls_creds)
        json_object_set_new(args, "tls-creds", json_string(tls_creds));
    if (args && tls_authz)
        json_object_set_new(args, "tls-authz", json_string(tls_authz));
    return qmp_execute(qmp, "nbd-server-start", args, wait, NULL, err);
}

int block_export_add(struct qmp *qmp, const char *node, const char *name,
                     const struct qmp_wait *wait, struct error *err)
{
    CLEANUP_FREE char *id = NULL;

    if (asprintf(&id, "bistream-export-%s", name) < 0)
        return error_set(err, ENOMEM, "can't export disk %s: out of memory", name);
    for (char *c = id; *c; c++) { /* an id may hold less than a name: "#block123" */
        if (!isalnum((unsigned char)*c) && !strchr("-._", *c))
            *c = '_';
    }
    return qmp_execute(qmp, "block-export-add",
                       json_pack("{s:s,s:s,s:s,s:s,s:b}", "type", "nbd", "id", id, "node-name",
                                 node, "name", name, "writable", true),
                       wait, NULL, err);
}

/* 1: none is left; 0: some are. */
static int exports_gone(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    json_t *answer;
    int r = qmp_execute(qmp, "query-block-exports", json_object(), wait, &answer, err);

    if (r != 0)
        return r;
    r = json_array_size(answer) == 0;
    json_decref(answer);
    return r;
}

int block_exports_stop(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    uint64_t seen = qmp_bell(qmp);
    struct error refused = ERROR_INIT;
    int stopped, r;

    stopped = qmp_execute(qmp, "nbd-server-stop", json_object(), wait, NULL, &refused);
    if (stopped != 0 && stopped != -EREMOTEIO)
        return error_set(err, -stopped, "%s", refused.text);
    for (;;) {
        r = exports_gone(qmp, wait, err);
        if (r != 0)
            return r == 1 ? 0 : r;
        if (stopped == -EREMOTEIO) /* harmless only where no server was running */
            return error_set(err, EREMOTEIO, "%s", refused.text);
        r = qmp_wait_bell(qmp, &seen, wait, err);
        if (r != 0)
            return r;
    }
}

/* --- the server's own word --- */

static void close_nbd(struct nbd_handle **nbd)
{
    nbd_close(*nbd);
}

static int nbd_failed(const char *name, const char *socket_path, struct error *err)
{
    const char *words = nbd_get_error();
    int code = nbd_get_errno();

    return error_set(err, code > 0 ? code : EIO, "can't look at NBD export %s at %s: %s", name,
                     socket_path, words ? words : "?");
}

/* Connects and negotiates; the time-out is ours, libnbd's blocking calls have none. */
static int connect_export(struct nbd_handle *nbd, const char *socket_path, const char *name,
                          unsigned timeout_ms, struct error *err)
{
    uint64_t deadline = loop_clock() + timeout_ms * LOOP_MS;

    if (nbd_set_export_name(nbd, name) < 0 || nbd_aio_connect_unix(nbd, socket_path) < 0)
        return nbd_failed(name, socket_path, err);
    while (nbd_aio_is_connecting(nbd) > 0) {
        uint64_t now = loop_clock();

        if (now >= deadline)
            return error_set(err, ETIMEDOUT, "NBD export %s at %s doesn't answer", name,
                             socket_path);
        if (nbd_poll(nbd, (int)((deadline - now + LOOP_MS - 1) / LOOP_MS)) < 0)
            return nbd_failed(name, socket_path, err);
    }
    return nbd_aio_is_ready(nbd) > 0 ? 0 : nbd_failed(name, socket_path, err);
}

int block_export_check(const char *socket_path, const char *name, uint64_t size,
                       unsigned timeout_ms, struct error *err)
{
    __attribute__((cleanup(close_nbd))) struct nbd_handle *nbd = nbd_create();
    int64_t actual;
    int r;

    if (!nbd)
        return nbd_failed(name, socket_path, err);
    r = connect_export(nbd, socket_path, name, timeout_ms, err);
    if (r < 0)
        return r;
    actual = nbd_get_size(nbd);
    if (actual < 0)
        return nbd_failed(name, socket_path, err);
    if ((uint64_t)actual != size)
        return error_set(err, EINVAL,
                         "disk %s has %" PRIu64 " bytes at the source, but its export at the "
                         "destination has %" PRId64 ": both must be equal",
                         name, size, actual);
    if (nbd_is_read_only(nbd) != 0)
        return error_set(err, EINVAL, "the export of disk %s can't be written to", name);
    nbd_aio_disconnect(nbd, 0);
    return 0;
}
