/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * One TLS 1.3 connection over a non-blocking TCP socket, with certificates on both sides always.
 * Records are gathered into large writes and read in large pieces through a BIO of our own over
 * two flat buffers; OpenSSL never makes a system call.
 */
#ifndef IO_TLS_H
#define IO_TLS_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct tls_context;
struct tls;

/* Reads cacert.pem, hostcert.pem, hostkey.pem and, if there, crl.pem from PKI_DIR.  The context
 * serves both roles and may be shared by threads.  Returns NULL with ERR naming the file. */
struct tls_context *tls_context_new(const char *pki_dir, struct error *err);
void tls_context_free(struct tls_context *context); /* reference counted: connections hold it */
/* Releases what OpenSSL keeps for the calling thread (its random numbers, its errors).  OpenSSL does
 * so by itself when a thread has ended; but one that nobody joins says that it is done a moment
 * before, and the process may end in between. */
void tls_thread_end(void);
/* Records after which the key is updated; for tests (default 2^24, AES-GCM's limit). */
void tls_context_set_key_update(struct tls_context *context, uint64_t records);

/* Takes over FD (connected, made non-blocking here, TCP_NODELAY set); it is closed also on failure.
 * As a client HOSTNAME is required and checked against the peer's SAN (names and addresses). */
struct tls *tls_new_client(struct tls_context *context, int fd, const char *hostname,
                           struct error *err);
struct tls *tls_new_server(struct tls_context *context, int fd, struct error *err);
/* Sends close_notify if it can be sent at once, and closes the socket.  NULL is fine. */
void tls_free(struct tls *tls);

int tls_fd(const struct tls *tls);
/* The peer as sentences call it: the host that was dialled, or the address it came from. */
const char *tls_peer(const struct tls *tls);
/* EPOLLIN and EPOLLOUT: what the connection waits for, beside what its user wants to read. */
uint32_t tls_events(const struct tls *tls);

/* One step of the handshake.  Returns 1 when done, 0 when it waits for tls_events(), or a negative
 * errno with a sentence for the operator (expired, unknown CA, name does not match, ...). */
int tls_handshake(struct tls *tls, struct error *err);

/* The names of the peer's certificate: subject CN first, then SAN DNS names and addresses.
 * The array ends with NULL and belongs to TLS. */
const char *const *tls_peer_names(const struct tls *tls);
/* Subject in one line (RFC 2253), belongs to TLS. */
const char *tls_peer_subject(const struct tls *tls);
/* SHA-256 of the peer's certificate.  Returns 0 or -EIO. */
enum { TLS_FINGERPRINT_SIZE = 32 };
int tls_peer_fingerprint(const struct tls *tls, uint8_t ret[TLS_FINGERPRINT_SIZE]);
/* A key that only the two ends of this connection know (RFC 8446, 7.5), no context.  Returns 0 or
 * -EIO. */
int tls_export(const struct tls *tls, const char *label, uint8_t *ret, size_t size);
/* After how long the kernel gives up sending what the peer doesn't acknowledge (TCP_USER_TIMEOUT). */
void tls_set_patience(const struct tls *tls, unsigned ms);
/* No more than LENGTH bytes are to wait unsent in the kernel (TCP_NOTSENT_LOWAT): what is sent when there
 * are more comes back from tls_flush() as -EAGAIN.  0: as many as it likes. */
void tls_set_unsent_max(struct tls *tls, unsigned length);
/* When the peer's certificate ends; 0 when it can't be told. */
time_t tls_peer_expires(const struct tls *tls);

/* Decrypted bytes into BUFFER.  Returns their number; 0 at the peer's close_notify; -EAGAIN;
 * another negative errno with ERR. */
ssize_t tls_read(struct tls *tls, void *buffer, size_t size, struct error *err);
/* True while bytes that were already read from the socket wait for tls_read(): ask before sleeping.
 */
bool tls_pending(const struct tls *tls);

/* Encrypts LENGTH bytes (one record per 16384) into the gather buffer; nothing is sent.
 * Returns LENGTH always, or a negative errno with ERR.  The caller keeps tls_unsent() bounded. */
ssize_t tls_write(struct tls *tls, const void *data, size_t length, struct error *err);
/* Encrypted bytes waiting for the socket. */
size_t tls_unsent(const struct tls *tls);
/* Sends what waits.  Returns 0 when all is gone, -EAGAIN when the socket is full, another negative
 * errno with ERR. */
int tls_flush(struct tls *tls, struct error *err);

/* Waits (poll(2)) with a bound: for job threads before a session exists.  TIMEOUT_MS counts for the
 * whole call; -ECANCELED as soon as ABORT_FD (-1: none) becomes readable.  Return 0, or a negative
 * errno with ERR. */
int tls_handshake_wait(struct tls *tls, int timeout_ms, int abort_fd, struct error *err);
int tls_send_wait(struct tls *tls, const void *data, size_t length, int timeout_ms, int abort_fd,
                  struct error *err);
/* At least one byte.  Returns the number, or a negative errno (-ECONNRESET at the peer's end). */
ssize_t tls_receive_wait(struct tls *tls, void *buffer, size_t size, int timeout_ms, int abort_fd,
                         struct error *err);

#endif
