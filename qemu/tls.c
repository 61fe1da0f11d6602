/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * QEMU's own TLS: see tls.h.
 *
 * QEMU reads the files when the object is made, so it is made anew for each migration: what an
 * earlier attempt has left behind goes first.
 */
#include "config.h"

#include "qemu/tls.h"

#include <errno.h>

/* A refusal means that there is no such object. */
static int remove_object(struct qmp *qmp, const char *id, const struct qmp_wait *wait,
                         struct error *err)
{
    int r = qmp_execute(qmp, "object-del", json_pack("{s:s}", "id", id), wait, NULL, err);

    return r == -EREMOTEIO ? 0 : r;
}

int qemu_tls_remove(struct qmp *qmp, const struct qmp_wait *wait, struct error *err)
{
    int r = remove_object(qmp, QEMU_TLS_CREDS, wait, err);

    return r == 0 ? remove_object(qmp, QEMU_TLS_AUTHZ, wait, err) : r;
}

static int add_creds(struct qmp *qmp, const char *dir, const char *endpoint,
                     const struct qmp_wait *wait, struct error *err)
{
    int r = qemu_tls_remove(qmp, wait, err);

    if (r == 0)
        r = qmp_execute(qmp, "object-add",
                        json_pack("{s:s,s:s,s:s,s:s,s:b}", "qom-type", "tls-creds-x509", "id",
                                  QEMU_TLS_CREDS, "dir", dir, "endpoint", endpoint, "verify-peer",
                                  true),
                        wait, NULL, err);
    if (r == -EREMOTEIO)
        error_prefix(err, "QEMU can't use the certificates in %s", dir);
    return r;
}

int qemu_tls_client(struct qmp *qmp, const char *dir, const struct qmp_wait *wait,
                    struct error *err)
{
    return add_creds(qmp, dir, "client", wait, err);
}

int qemu_tls_server(struct qmp *qmp, const char *dir, const char *subject,
                    const struct qmp_wait *wait, struct error *err)
{
    int r = add_creds(qmp, dir, "server", wait, err);

    if (r == 0)
        r = qmp_execute(qmp, "object-add",
                        json_pack("{s:s,s:s,s:s}", "qom-type", "authz-simple", "id", QEMU_TLS_AUTHZ,
                                  "identity", subject),
                        wait, NULL, err);
    return r;
}
