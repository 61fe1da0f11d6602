/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* AES-128-GCM with the processor's wide instructions, where OpenSSL doesn't use them. */
#ifndef IO_TLS_GCM_H
#define IO_TLS_GCM_H

/* Makes the cipher known to OpenSSL, once for the process.  Returns the property query by which
 * SSL_CTX_new_ex() prefers it (OpenSSL's own stay for everything else); NULL when this processor, this
 * build or this OpenSSL has no use for it. */
const char *tls_gcm_properties(void);

#endif
