/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * QEMU's own TLS, for RAM and NBD that go from QEMU to QEMU: the objects that the other commands
 * name by their ids.
 *
 * Both sides show a certificate, and each checks the other's against the CA: the source also that it
 * is made out for the host that it dialled, and the destination that it is the one and only subject
 * which is to be let in.
 *
 * All functions return 0, or a negative errno with ERR set, among them those of qmp_execute().
 */
#ifndef QEMU_TLS_H
#define QEMU_TLS_H

#include "qemu/qmp.h"

#include <stdbool.h>

#define QEMU_TLS_CREDS "bistream-tls"   /* for tls_creds: of struct migration_setup, ... */
#define QEMU_TLS_AUTHZ "bistream-authz" /* for tls_authz */

/* Source: makes QEMU_TLS_CREDS from ca-cert.pem, client-cert.pem and client-key.pem in DIR, which
 * QEMU has to be able to read. */
int qemu_tls_client(struct qmp *qmp, const char *dir, const struct qmp_wait *wait,
                    struct error *err);
/* Destination: makes QEMU_TLS_CREDS from ca-cert.pem, server-cert.pem and server-key.pem in DIR, and
 * QEMU_TLS_AUTHZ, which lets in a certificate of exactly SUBJECT and no other one.  SUBJECT is in
 * GnuTLS's form: the parts in the certificate's own order, "C=DE,O=Example,CN=host". */
int qemu_tls_server(struct qmp *qmp, const char *dir, const char *subject,
                    const struct qmp_wait *wait, struct error *err);
/* Takes both away again, after migration and mirrors have ended.  Fine when there are none. */
int qemu_tls_remove(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);

#endif
