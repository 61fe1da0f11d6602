/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What the files of the TLS transport share: the context, the flat buffers, the connection.
 */
#ifndef IO_TLS_INTERNAL_H
#define IO_TLS_INTERNAL_H

#include "io/tls.h"

#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdbool.h>

/* ---- the context (tls_context.c) ------------------------------------------------------------- */

struct tls_context {
    atomic_uint references;
    SSL_CTX *ssl;
    uint64_t key_update; /* records */
    char *pki_dir;       /* for sentences */
};

struct tls_context *tls_context_ref(struct tls_context *context);

/* ---- flat buffers and the BIO over them (tls_bio.c) ------------------------------------------ */

/* Bytes in one block: filled at the end, emptied at the start, never wrapped, so that one recv(2),
 * send(2) or memcpy() sees all of it. */
struct flat {
    uint8_t *data;
    size_t capacity;
    size_t start, end;
    unsigned quiet; /* times in a row that a quarter of the capacity would have done */
};

static inline size_t flat_size(const struct flat *flat)
{
    return flat->end - flat->start;
}

void flat_release(struct flat *flat);

/* The BIO that OpenSSL reads tls->in and fills tls->out by.  Returns NULL when memory is short. */
BIO *tls_bio_new(struct tls *tls);

/* One recv(2) into the empty buffer tls->in.  Returns the number of bytes; 0 at the end of the
 * stream; -EAGAIN; another negative errno. */
ssize_t tls_bio_fill(struct tls *tls);

/* send(2) of what tls->out holds until it is empty (0) or the socket is full (-EAGAIN); or another
 * negative errno. */
int tls_bio_drain(struct tls *tls);

/* ---- the connection (tls.c) ------------------------------------------------------------------ */

/* Counts tls->talk: SSL_CTX_set_msg_callback()'s callback. */
void tls_message_callback(int is_written, int version, int type, const void *data, size_t length,
                          SSL *ssl, void *opaque);

/* What the verification of the peer's certificate stumbled over, kept for the sentence. */
struct tls_refusal {
    int code;      /* X509_V_ERR_*; 0: nothing */
    int depth;     /* 0: the peer's own certificate, else a CA's */
    char *who;     /* its subject */
    char *signer;  /* its issuer */
    char *names;   /* what it is made out to */
    char date[32]; /* the end (or begin) of its time, or the next update of the list */
};

struct tls {
    struct tls_context *context;
    SSL *ssl;
    int fd;
    unsigned unsent_max; /* in the kernel; 0: any */
    bool client;
    bool established; /* the handshake is done */
    bool failed;      /* OpenSSL has given up: not even close_notify may be sent */
    char peer[300];   /* as the operator knows it: the host dialled, or the address it came from */
    struct flat in, out;
    uint64_t records; /* written with the current key */
    uint64_t key_update;
    unsigned talk; /* messages about TLS itself that came, less one for each record of data */
    char **names;
    char *subject;
    struct tls_refusal refusal;
};

/* ---- sentences (tls_error.c) ----------------------------------------------------------------- */

/* Keeps what verification refused: SSL_CTX_set_verify()'s callback. */
int tls_verify_callback(int preverify_ok, X509_STORE_CTX *store);
void tls_refusal_release(struct tls_refusal *refusal);

/* The sentence for what OpenSSL's queue and TLS->refusal tell.  Empties the queue.
 * Returns a negative errno. */
int tls_explain(struct tls *tls, struct error *err);

/* As above for files: "DOING PATH: OpenSSL's reason". */
int tls_explain_file(struct error *err, const char *doing, const char *path);

/* The CN first, then DNS names and addresses; NULL-terminated, malloc'ed (as are its strings).
 * Returns NULL when memory is short. */
char **tls_certificate_names(X509 *certificate);
void tls_names_free(char **names);
/* RFC 2253, malloc'ed; NULL when memory is short. */
char *tls_name_text(const X509_NAME *name);

#endif
