/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The BIO between OpenSSL and the socket.
 *
 * OpenSSL writes one record at a time and would make a send(2) of each, and of two recv(2) per
 * record.  Here it writes records behind each other into one flat buffer, which goes out in one
 * piece, and reads out of another, which was filled in one piece; OpenSSL itself never makes a
 * system call.  A buffer wants no more memory than its traffic needs: it starts small, doubles
 * when it was filled, and halves when a quarter of it has sufficed for a while.
 */
#include "config.h"

#include "io/tls_internal.h"
#include "common/checked.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    FLAT_MIN = 16 * 1024,
    FLAT_IN_MAX = 256 * 1024, /* per recv(2) */
    FLAT_QUIET = 64,          /* rounds of little traffic before memory is given back */
};

/* ---- flat buffers ---------------------------------------------------------------------------- */

void flat_release(struct flat *flat)
{
    free(flat->data);
    *flat = (struct flat){.data = NULL};
}

static int flat_resize(struct flat *flat, size_t capacity)
{
    uint8_t *data = malloc(capacity);
    size_t size = flat_size(flat);

    if (!data)
        return -ENOMEM;
    if (size)
        memcpy(data, flat->data + flat->start, size);
    free(flat->data);
    flat->data = data;
    flat->capacity = capacity;
    flat->start = 0;
    flat->end = size;
    return 0;
}

/* Makes room for LENGTH bytes behind the end. */
static int flat_reserve(struct flat *flat, size_t length)
{
    size_t size = flat_size(flat), capacity = flat->capacity ? flat->capacity : FLAT_MIN;

    if (flat->capacity - flat->end >= length)
        return 0;
    if (size + length <= flat->capacity && flat->start >= size) {
        /* As much was sent since the last move as is moved now: cheap on the whole. */
        memcpy(flat->data, flat->data + flat->start, size);
        flat->start = 0;
        flat->end = size;
        return 0;
    }
    while (capacity - size < length)
        capacity *= 2;
    return flat_resize(flat, capacity);
}

/* After the buffer was emptied, having held USED bytes at once. */
static void flat_empty(struct flat *flat, size_t used)
{
    flat->start = flat->end = 0;
    if (used > flat->capacity / 4) {
        flat->quiet = 0;
    } else if (++flat->quiet >= FLAT_QUIET && flat->capacity > FLAT_MIN) {
        flat->quiet = 0;
        flat_resize(flat, flat->capacity / 2); /* when it fails, the larger one does as well */
    }
}

/* ---- the BIO --------------------------------------------------------------------------------- */

static int bio_write(BIO *bio, const char *data, size_t length, size_t *ret_written)
{
    struct flat *out = &((struct tls *)BIO_get_data(bio))->out;

    BIO_clear_retry_flags(bio);
    if (flat_reserve(out, length) < 0)
        return 0;
    memcpy(out->data + out->end, data, length);
    out->end += length;
    *ret_written = length;
    return 1;
}

static int bio_read(BIO *bio, char *data, size_t length, size_t *ret_read)
{
    struct flat *in = &((struct tls *)BIO_get_data(bio))->in;
    size_t size = min_size(length, flat_size(in));

    BIO_clear_retry_flags(bio);
    if (size == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(data, in->data + in->start, size);
    in->start += size;
    *ret_read = size;
    return 1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH; /* tls_flush() is the user's business */
}

static BIO_METHOD *method;
static pthread_once_t method_once = PTHREAD_ONCE_INIT;

static void free_method(void)
{
    BIO_meth_free(method);
}

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bistream");
    if (!method)
        return;
    BIO_meth_set_write_ex(method, bio_write);
    BIO_meth_set_read_ex(method, bio_read);
    BIO_meth_set_ctrl(method, bio_control);
    OPENSSL_atexit(free_method);
}

BIO *tls_bio_new(struct tls *tls)
{
    BIO *bio;

    pthread_once(&method_once, make_method);
    bio = method ? BIO_new(method) : NULL;
    if (!bio)
        return NULL;
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    return bio;
}

/* ---- the socket ------------------------------------------------------------------------------ */

ssize_t tls_bio_fill(struct tls *tls)
{
    struct flat *in = &tls->in;
    bool was_full = in->capacity && in->end == in->capacity;
    size_t used = in->end;
    ssize_t n;

    if (flat_size(in) > 0)
        return (ssize_t)flat_size(in);
    flat_empty(in, used);
    if (!in->data && flat_resize(in, FLAT_MIN) < 0)
        return -ENOMEM;
    if (was_full && in->capacity < FLAT_IN_MAX)
        flat_resize(in, in->capacity * 2); /* when it fails, the smaller one does as well */
    do
        n = recv(tls->fd, in->data, in->capacity, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    in->end = (size_t)n;
    return n;
}

int tls_bio_drain(struct tls *tls)
{
    struct flat *out = &tls->out;
    size_t used = out->end;

    if (flat_size(out) == 0)
        return 0;
    while (flat_size(out) > 0) {
        ssize_t n = send(tls->fd, out->data + out->start, flat_size(out), MSG_NOSIGNAL);

        if (n > 0)
            out->start += (size_t)n;
        else if (n < 0 && errno != EINTR)
            return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
    flat_empty(out, used);
    return 0;
}
