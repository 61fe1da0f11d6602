/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream pki: what its three actions share.
 */
#ifndef CLIENT_PKI_H
#define CLIENT_PKI_H

#include "client/command.h"
#include "client/pki_cert.h"

struct pki_options {
    const char *dir; /* --pki-dir */
    const char *out; /* --out; NULL: DIR/NAME */
    unsigned days;   /* --days; 0: not given */
    bool force;
    struct pki_names extra; /* --dns and --ip */
};

enum command_exit pki_make_ca(const struct client *client, const struct pki_options *options);
enum command_exit pki_make_host(const struct client *client, const struct pki_options *options,
                                const char *name);
enum command_exit pki_check_files(const struct client *client, const struct pki_options *options);

#endif
