/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The certificates in direct_pki_dir, which QEMU itself uses in mode direct (qemu/tls.h): are they
 * there and of use, and who does this host's QEMU say that it is?
 */
#ifndef DAEMON_DIRECT_PKI_H
#define DAEMON_DIRECT_PKI_H

#include "common/error.h"

enum { DIRECT_PKI_SUBJECT_MAX = 512 };

/* Looks at all files in DIR, which may be NULL: not configured.  Returns 0 and in RET_SUBJECT (may be
 * NULL) the subject of client-cert.pem in the form that qemu_tls_server() wants it in, or a negative
 * errno with ERR: the first thing that is missing or wrong. */
int direct_pki_check(const char *dir, char ret_subject[DIRECT_PKI_SUBJECT_MAX], struct error *err);

#endif
