/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Certificates for tests: CAs in memory and pki_dirs in temporary folders, made in milliseconds.
 * Every function ends the program when it fails.
 */
#ifndef TESTS_UNIT_TEST_PKI_H
#define TESTS_UNIT_TEST_PKI_H

#include <stdbool.h>

struct test_ca;

struct test_ca *test_ca_new(const char *name);
void test_ca_free(struct test_ca *ca);

struct test_certificate {
    const char *cn;         /* NULL: "host" */
    const char *o;          /* an organisation before it in the subject; NULL: none */
    const char *san;        /* NULL: "DNS:localhost,IP:127.0.0.1,IP:::1" */
    bool expired;           /* yesterday */
    bool not_yet;           /* tomorrow */
    long serial;            /* 0: 1 */
    long revoke;            /* the serial that this folder's crl.pem lists; 0: no crl.pem */
    struct test_ca *trusts; /* whose cacert.pem it holds; NULL: the one that signs */
};

/* Makes a folder with cacert.pem, hostcert.pem, hostkey.pem and perhaps crl.pem, signed by CA.
 * Returns its path, malloc'ed; CERTIFICATE NULL: all as by default. */
char *test_pki_dir(struct test_ca *ca, const struct test_certificate *certificate);
/* Gives the files of that folder the names that QEMU's own TLS wants, too, for both of its sides. */
void test_pki_for_qemu(const char *dir);
/* Removes the folder and frees the path. */
void test_pki_remove(char *dir);

#endif
