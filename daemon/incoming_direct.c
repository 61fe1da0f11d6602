/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Mode `direct` at the destination: two TCP ports of this host, one for the migration stream and one for
 * NBD.  Under TLS QEMU lets in one certificate alone, the one whose subject the source has named over
 * its authenticated session.
 *
 * QEMU listens at the one for NBD.  At the other one we do, and QEMU gets the source's connection when it
 * has come (memory_port.h says why).  A source that is older doesn't tell us which one is its own; there
 * QEMU listens at both.
 *
 * The ports come from `direct_ports`, and go back when the guest is here or has been fenced.
 */
#include "config.h"

#include "daemon/direct_pki.h"
#include "daemon/incoming_private.h"
#include "daemon/memory_port.h"
#include "daemon/ports.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "qemu/block.h"
#include "qemu/migration.h"
#include "qemu/tls.h"

#include <errno.h>
#include <string.h>

enum { QMP_TIMEOUT_MS = 30000 };

static int check(const struct bs_migrate_prepare_direct_args *args, struct error *err)
{
    if (args->flags & ~(unsigned)(BS_DIRECT_TLS | BS_DIRECT_ID))
        return error_set(err, EINVAL, "the ports are to be used in a way not known here");
    if (args->flags & BS_DIRECT_TLS && !*args->subject)
        return error_set(err, EINVAL, "TLS is wanted, and no certificate is named to be let in");
    return 0;
}

static int take_ports(struct incoming *in, const char *address, bool nbd, struct error *err)
{
    int port = ports_take(in->daemon->ports, address, err);

    if (port < 0)
        return port;
    in->migration_port = (unsigned)port;
    if (!nbd)
        return 0;
    port = ports_take(in->daemon->ports, address, err);
    if (port < 0)
        return port;
    in->nbd_port = (unsigned)port;
    return 0;
}

void incoming_direct_release(struct incoming *in)
{
    if (in->migration_port)
        ports_give_back(in->daemon->ports, (int)in->migration_port);
    if (in->nbd_port)
        ports_give_back(in->daemon->ports, (int)in->nbd_port);
    in->migration_port = in->nbd_port = 0;
}

static int set_up(struct incoming *in, struct qmp *qmp,
                  const struct bs_migrate_prepare_direct_args *args, const char *address,
                  struct error *err)
{
    const bool block = in->cookie->flags & BS_COOKIE_BLOCK;
    const char *creds = in->tls ? QEMU_TLS_CREDS : NULL, *authz = in->tls ? QEMU_TLS_AUTHZ : NULL;
    const struct migration_setup setup = {
        .block = block, .zero_blocks = block, .tls_creds = creds, .tls_authz = authz};
    const struct qemu_address nbd = {.host = address, .port = in->nbd_port};
    struct qmp_wait wait = incoming_wait(in, QMP_TIMEOUT_MS);
    int r = 0;

    if (in->tls)
        r = qemu_tls_server(qmp, in->daemon->config->direct_pki_dir, args->subject, &wait, err);
    if (r == 0)
        r = migration_prepare(qmp, &setup, &wait, err);
    if (r == 0 && in->nbd_port)
        r = block_exports_start(qmp, &nbd, creds, authz, &wait, err);
    return r;
}

/* ---- the port for memory --------------------------------------------------------------------- */

static int check_open(void *opaque, struct error *err)
{
    struct incoming *in = opaque;

    if (atomic_load(&in->shut) || atomic_load(&in->closing))
        return error_set(err, ECANCELED, "the migration has ended");
    return 0;
}

/* In the port's thread, with nothing locked; the domain stays until the port is shut. */
static void admit(void *opaque, int fd)
{
    struct incoming *in = opaque;
    struct qmp_wait wait = incoming_wait(in, QMP_TIMEOUT_MS);
    struct error err = ERROR_INIT;
    struct qmp *qmp = domain_qmp(in->domain, &err);

    wait.check = check_open;
    if (!qmp || migration_incoming_fd(qmp, fd, &wait, &err) < 0)
        log_error("migration %s (%s) in: QEMU doesn't take the connection for memory: %s", in->hex,
                  in->name, err.text);
}

static int listen_for_memory(struct incoming *in, struct qmp *qmp, const char *address, bool id,
                             struct error *err)
{
    const struct qemu_address ram = {.host = address, .port = in->migration_port};
    struct qmp_wait wait = incoming_wait(in, QMP_TIMEOUT_MS);

    if (!id)
        return migration_incoming(qmp, &ram, &wait, err);
    in->memory_port = memory_port_open(address, in->migration_port, in->id, admit, in, err);
    return in->memory_port ? 0 : -err->code;
}

void incoming_direct_shut(struct incoming *in)
{
    atomic_store(&in->shut, true);
    memory_port_close(in->memory_port);
    in->memory_port = NULL;
}

/* ---- both ------------------------------------------------------------------------------------ */

static bool copies_by_nbd(const struct incoming *in)
{
    for (u_int i = 0; i < in->cookie->disks.disks_len; i++)
        if (in->cookie->disks.disks_val[i].flags & BS_DISK_COPY)
            return !(in->cookie->flags & BS_COOKIE_BLOCK);
    return false;
}

int incoming_direct_listen(struct incoming *in, struct qmp *qmp,
                           const struct bs_migrate_prepare_direct_args *args,
                           int (*offer)(struct incoming *in, struct qmp *qmp, struct error *err),
                           struct error *err)
{
    /* Where the session came to, unless the operator has named another address of this host. */
    const char *address = *args->listen_address ? args->listen_address : in->local_address;
    int r = check(args, err);

    in->tls = args->flags & BS_DIRECT_TLS;
    if (r == 0)
        r = take_ports(in, address, copies_by_nbd(in), err);
    if (r == 0)
        r = set_up(in, qmp, args, address, err);
    if (r == 0)
        r = offer(in, qmp, err);
    if (r == 0)
        r = listen_for_memory(in, qmp, address, args->flags & BS_DIRECT_ID, err);
    return r;
}

void incoming_direct_end(struct incoming *in)
{
    struct qmp_wait wait = qmp_wait_ms(QMP_TIMEOUT_MS);
    struct error err = ERROR_INIT;
    struct qmp *qmp = in->tls ? domain_qmp(in->domain, &err) : NULL;

    incoming_direct_shut(in);
    if (in->tls && (!qmp || qemu_tls_remove(qmp, &wait, &err) < 0))
        log_warning("migration %s in: %s", in->hex, err.text);
    incoming_direct_release(in);
}
