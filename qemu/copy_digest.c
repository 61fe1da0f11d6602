/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The SHA-256 of a range: see copy.h.
 *
 * Pieces are asked for ahead, in a ring, and hashed in order; what reads as zeroes is hashed without
 * being read.
 */
#include "config.h"

#include "qemu/copy_link.h"
#include "common/checked.h"
#include "common/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <string.h>

struct slot {
    struct copy_piece piece;
    bool done;
    int code; /* why it could not be read */
    uint8_t *buffer;
};

struct digest {
    struct copy_link *link;
    struct copy_map map;
    uint64_t pos; /* of what is to be asked for next */
    EVP_MD_CTX *context;
    struct slot slots[COPY_IN_FLIGHT];
    size_t first, used; /* a ring */
    uint8_t *buffers;
};

static const uint8_t zeroes[64 << 10];

static void close_digest(struct digest *digest)
{
    EVP_MD_CTX_free(digest->context);
    free(digest->map.bits);
    free(digest->buffers);
}

static int on_read(void *opaque, int *code)
{
    struct slot *slot = opaque;

    slot->done = true;
    slot->code = *code;
    return 1;
}

/* Asks for as many pieces as the ring takes. */
static int ask_ahead(struct digest *digest, struct error *err)
{
    while (digest->used < COPY_IN_FLIGHT) {
        size_t number = (digest->first + digest->used) % COPY_IN_FLIGHT;
        struct slot *slot = &digest->slots[number];

        *slot = (struct slot){.buffer = digest->buffers + number * COPY_PIECE};
        if (!copy_map_next(&digest->map, &digest->pos, COPY_DATA, &slot->piece))
            break;
        slot->done = !slot->piece.bits;
        digest->used++;
        if (slot->piece.bits &&
            nbd_aio_pread(digest->link->nbd, slot->buffer, slot->piece.length, slot->piece.offset,
                          (nbd_completion_callback){.callback = on_read, .user_data = slot}, 0) < 0)
            return copy_link_error(digest->link, "be read", err);
    }
    return 0;
}

static bool hash(struct digest *digest, const struct slot *slot)
{
    uint64_t left = slot->piece.length;
    bool ok = true;

    if (slot->piece.bits)
        return EVP_DigestUpdate(digest->context, slot->buffer, left) == 1;
    for (; ok && left > 0; left -= min_u64(left, sizeof zeroes))
        ok = EVP_DigestUpdate(digest->context, zeroes, min_u64(left, sizeof zeroes)) == 1;
    return ok;
}

/* Those that have come, in order. */
static int hash_first(struct digest *digest, struct error *err)
{
    while (digest->used && digest->slots[digest->first].done) {
        struct slot *slot = &digest->slots[digest->first];

        if (slot->code)
            return copy_link_failed(digest->link, "be read", slot->code, err);
        if (!hash(digest, slot))
            return error_set(err, EIO, "disk %s: OpenSSL can't compute a SHA-256",
                             digest->link->target);
        digest->first = (digest->first + 1) % COPY_IN_FLIGHT;
        digest->used--;
    }
    return 0;
}

static int digest_all(struct digest *digest, struct error *err)
{
    for (;;) {
        int r = ask_ahead(digest, err);

        if (r == 0)
            r = hash_first(digest, err);
        if (r < 0 || (!digest->used && digest->pos == digest->map.offset + digest->map.length))
            return r;
        if (digest->used && !digest->slots[digest->first].done)
            r = copy_links_wait(&digest->link, 1, err);
        if (r < 0)
            return r;
    }
}

int copy_link_digest(struct copy_link *link, uint64_t offset, uint64_t length,
                     uint8_t ret[COPY_DIGEST_SIZE], struct error *err)
{
    uint64_t blocks = (length + COPY_BLOCK - 1) / COPY_BLOCK;
    CLEANUP(close_digest)
    struct digest digest = {
        .link = link,
        .map = {.offset = offset, .length = length, .block = COPY_BLOCK, .bits = calloc(blocks, 1)},
        .pos = offset,
        .context = EVP_MD_CTX_new(),
        .buffers = malloc(COPY_IN_FLIGHT * COPY_PIECE)};
    int r;

    if (!digest.map.bits || !digest.context || !digest.buffers ||
        EVP_DigestInit_ex(digest.context, EVP_sha256(), NULL) != 1)
        return error_set(err, ENOMEM, "no memory to compare disk %s", link->target);
    r = copy_link_map(link, &digest.map, err);
    for (uint64_t i = 0; i < blocks; i++)
        digest.map.bits[i] &= COPY_DATA; /* layers don't matter to what is read */
    if (r == 0)
        r = digest_all(&digest, err);
    if (r == 0 && EVP_DigestFinal_ex(digest.context, ret, NULL) != 1)
        r = error_set(err, EIO, "disk %s: OpenSSL can't compute a SHA-256", link->target);
    if (r < 0) /* requests that are under way would write into buffers that are going */
        copy_link_close(link);
    return r;
}

int copy_digest(const char *socket_path, const char *target, uint64_t offset, uint64_t length,
                copy_check *check, void *opaque, uint8_t ret[COPY_DIGEST_SIZE], struct error *err)
{
    struct copy_link link = {.target = target, .side = "", .check = check, .opaque = opaque};
    int64_t size;
    int r = copy_link_open(&link, socket_path, err);

    if (r < 0)
        return r;
    size = nbd_get_size(link.nbd);
    if (size < 0 || length == 0 || offset > (uint64_t)size || length > (uint64_t)size - offset)
        r = error_set(err, EINVAL,
                      "disk %s has no range of %" PRIu64 " bytes at %" PRIu64 " to compare", target,
                      length, offset);
    else
        r = copy_link_digest(&link, offset, length, ret, err);
    copy_link_close(&link);
    return r;
}
