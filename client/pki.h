/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream pki: what its actions share.
 */
#ifndef CLIENT_PKI_H
#define CLIENT_PKI_H

#include "client/command.h"
#include "client/pki_cert.h"
#include "io/net.h"

#include <jansson.h>

struct pki_options {
    const char *dir; /* --pki-dir */
    const char *out; /* --out; NULL: DIR/NAME, or DIR/NAME/direct */
    unsigned days;   /* --days; 0: not given */
    bool force;
    struct pki_names extra; /* --dns and --ip */
};

enum command_exit pki_make_ca(const struct client *client, const struct pki_options *options);
enum command_exit pki_make_host(const struct client *client, const struct pki_options *options,
                                const char *name);
enum command_exit pki_make_direct(const struct client *client, const struct pki_options *options,
                                  const char *name);

/* ---- check ------------------------------------------------------------------------------------
 */

/* What a check found, in sentences; any problem makes it fail. */
struct pki_findings {
    json_t *problems;
    json_t *warnings;
};

/* Adds a sentence to one of the two. */
void pki_finding(json_t *list, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What is to be said of a certificate, which WHAT names, that ends at EXPIRES. */
void pki_check_expiry(struct pki_findings *findings, const char *what, time_t expires);

/* {"subject", "names", "expires"}, a new reference. */
json_t *pki_describe(const char *subject, json_t *names, time_t expires);
/* LABEL and the same on one line. */
void pki_print_description(const char *label, const json_t *description);

/* Prints what was found: as JSON an object with FACTS (taken over), else the findings alone, on
 * standard error.  Frees what FINDINGS holds. */
enum command_exit pki_report(const struct client *client, json_t *facts,
                             struct pki_findings *findings);

/* This host's own files. */
enum command_exit pki_check_files(const struct client *client, const struct pki_options *options);
/* The server at ADDRESS, with this host's files. */
enum command_exit pki_check_peer(const struct client *client, const struct pki_options *options,
                                 const struct net_address *address);

#endif
