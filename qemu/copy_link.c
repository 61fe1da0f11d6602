/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* A connection to an NBD export, and the maps of its disk: see copy_link.h. */
#include "config.h"

#include "qemu/copy_link.h"
#include "common/checked.h"
#include "common/loop.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#define TOP_CONTEXT "qemu:allocation-depth"

enum {
    TICK_MS = 100,
    CONNECT_MS = 30000,
    ANSWER_MS = 120000, /* a busy disk; the line's own troubles end the session sooner or later */
    FLUSH_MS = 300000,  /* a full page cache on a slow disk */
    MAP_MAX = 1 << 30,  /* bytes that are asked for at a time: a length has 32 bits */
    STATUS_ZERO = 2,    /* NBD_STATE_ZERO, of base:allocation */
};

/* ---- sentences ------------------------------------------------------------------------------- */

int copy_link_failed(const struct copy_link *link, const char *what, int code, struct error *err)
{
    return error_set_errno(err, code > 0 ? code : EIO, "disk %s can't %s%s%s", link->target, what,
                           *link->side ? " " : "", link->side);
}

int copy_link_error(const struct copy_link *link, const char *what, struct error *err)
{
    const char *words = nbd_get_error();
    int code = nbd_get_errno();

    return error_set(err, code > 0 ? code : EIO, "disk %s can't %s%s%s: %s", link->target, what,
                     *link->side ? " " : "", link->side, words ? words : "libnbd gives no reason");
}

/* ---- waiting --------------------------------------------------------------------------------- */

static int check(const struct copy_link *link, struct error *err)
{
    return link->check ? link->check(link->opaque, err) : 0;
}

static short poll_events(unsigned direction)
{
    return (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                   (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
}

static int notify(struct copy_link *link, short events, struct error *err)
{
    unsigned direction = nbd_aio_get_direction(link->nbd);
    int r = 0;

    if ((direction & LIBNBD_AIO_DIRECTION_READ) && (events & (POLLIN | POLLHUP | POLLERR)))
        r = nbd_aio_notify_read(link->nbd);
    else if ((direction & LIBNBD_AIO_DIRECTION_WRITE) && (events & (POLLOUT | POLLHUP | POLLERR)))
        r = nbd_aio_notify_write(link->nbd);
    return r < 0 ? copy_link_error(link, "be reached", err) : 0;
}

int copy_links_wait(struct copy_link *const links[], size_t count, struct error *err)
{
    struct pollfd fds[2];
    int r = 0;

    for (size_t i = 0; i < count; i++)
        fds[i] = (struct pollfd){.fd = nbd_aio_get_fd(links[i]->nbd),
                                 .events = poll_events(nbd_aio_get_direction(links[i]->nbd))};
    if (poll(fds, count, TICK_MS) < 0 && errno != EINTR)
        return error_set_errno(err, errno, "can't wait for disk %s", links[0]->target);
    r = check(links[0], err);
    for (size_t i = 0; r == 0 && i < count; i++) {
        if (fds[i].revents)
            r = notify(links[i], fds[i].revents, err);
        if (r == 0 && (nbd_aio_is_dead(links[i]->nbd) || nbd_aio_is_closed(links[i]->nbd)))
            r = copy_link_failed(links[i], "be reached", ECONNRESET, err);
    }
    return r;
}

/* Until *DONE, which a callback sets. */
static int wait_for(struct copy_link *link, const bool *done, unsigned timeout_ms, const char *what,
                    struct error *err)
{
    uint64_t deadline = loop_clock() + timeout_ms * LOOP_MS;
    int r = 0;

    while (r == 0 && !*done) {
        r = copy_links_wait(&link, 1, err);
        if (r == 0 && !*done && loop_clock() >= deadline)
            r = copy_link_failed(link, what, ETIMEDOUT, err);
    }
    return r;
}

/* ---- the connection -------------------------------------------------------------------------- */

int copy_link_open(struct copy_link *link, const char *socket_path, struct error *err)
{
    uint64_t deadline = loop_clock() + CONNECT_MS * LOOP_MS;
    int r = 0;

    link->nbd = nbd_create();
    if (!link->nbd || nbd_set_export_name(link->nbd, link->target) < 0 ||
        nbd_add_meta_context(link->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
        nbd_add_meta_context(link->nbd, TOP_CONTEXT) < 0 ||
        nbd_aio_connect_unix(link->nbd, socket_path) < 0)
        r = copy_link_error(link, "be reached", err);
    while (r == 0 && nbd_aio_is_connecting(link->nbd) > 0) {
        r = copy_links_wait(&link, 1, err);
        if (r == 0 && loop_clock() >= deadline)
            r = copy_link_failed(link, "be reached", ETIMEDOUT, err);
    }
    if (r == 0 && (nbd_can_meta_context(link->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) <= 0 ||
                   nbd_can_meta_context(link->nbd, TOP_CONTEXT) <= 0))
        r = error_set(err, ENOTSUP, "the NBD server of disk %s %s does not tell what is allocated",
                      link->target, link->side);
    if (r < 0)
        copy_link_close(link);
    return r;
}

void copy_link_close(struct copy_link *link)
{
    nbd_close(link->nbd); /* requests that are under way are forgotten: no callback comes */
    link->nbd = NULL;
}

int copy_link_check_size(const struct copy_link *link, uint64_t size, struct error *err)
{
    int64_t actual = nbd_get_size(link->nbd);

    if (actual < 0)
        return copy_link_error(link, "be measured", err);
    if ((uint64_t)actual == size)
        return 0;
    return error_set(err, EINVAL, "disk %s has %" PRId64 " bytes %s instead of %" PRIu64,
                     link->target, actual, link->side, size);
}

struct answer {
    bool done;
    int code;
};

static int on_answer(void *opaque, int *code)
{
    struct answer *answer = opaque;

    answer->done = true;
    answer->code = *code;
    return 1;
}

int copy_link_flush(struct copy_link *link, struct error *err)
{
    struct answer answer = {.done = false};
    int r = 0;

    if (nbd_aio_flush(link->nbd,
                      (nbd_completion_callback){.callback = on_answer, .user_data = &answer},
                      0) < 0)
        return copy_link_error(link, "be flushed", err);
    r = wait_for(link, &answer.done, FLUSH_MS, "be flushed", err);
    if (r < 0) /* ANSWER must not be written to any more */
        copy_link_close(link);
    return r == 0 && answer.code ? copy_link_failed(link, "be flushed", answer.code, err) : r;
}

/* ---- maps ------------------------------------------------------------------------------------ */

struct map_question {
    struct copy_map *map;
    uint64_t base_end, top_end; /* how far each context's answers reach */
    struct answer answer;
};

static void mark(struct copy_map *map, uint64_t from, uint64_t to, uint8_t bit)
{
    uint64_t *sum = bit == COPY_DATA ? &map->data : &map->top;

    if (from >= to)
        return;
    *sum += to - from;
    for (uint64_t i = (from - map->offset) / map->block; i <= (to - 1 - map->offset) / map->block;
         i++)
        map->bits[i] |= bit;
}

static int on_extents(void *opaque, const char *context, uint64_t offset, uint32_t *entries,
                      size_t count, int *code)
{
    struct map_question *question = opaque;
    struct copy_map *map = question->map;
    bool base = strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0;
    uint64_t *known = base ? &question->base_end : &question->top_end;

    if (*code)
        return 0;
    for (size_t i = 0; i + 1 < count; i += 2) {
        uint64_t end = min_u64(offset + entries[i], map->offset + map->length);

        if (base && !(entries[i + 1] & STATUS_ZERO))
            mark(map, max_u64(offset, *known), end, COPY_DATA);
        else if (!base && entries[i + 1] == 1) /* the depth */
            mark(map, max_u64(offset, *known), end, COPY_TOP);
        offset = end;
    }
    *known = max_u64(offset, *known);
    return 0;
}

/* From *POS on, as far as the server answers for both contexts; *POS gets there. */
static int ask(struct copy_link *link, struct map_question *question, uint64_t *pos,
               struct error *err)
{
    uint64_t length = min_u64(question->map->offset + question->map->length - *pos, MAP_MAX);
    uint64_t end;
    int r;

    question->answer = (struct answer){.done = false};
    if (nbd_aio_block_status(
            link->nbd, length, *pos,
            (nbd_extent_callback){.callback = on_extents, .user_data = question},
            (nbd_completion_callback){.callback = on_answer, .user_data = &question->answer},
            0) < 0)
        return copy_link_error(link, "be looked at", err);
    r = wait_for(link, &question->answer.done, ANSWER_MS, "be looked at", err);
    if (r < 0) { /* QUESTION must not be written to any more */
        copy_link_close(link);
        return r;
    }
    end = min_u64(question->base_end, question->top_end);
    if (question->answer.code || end <= *pos)
        return copy_link_failed(link, "be looked at",
                                question->answer.code ? question->answer.code : EPROTO, err);
    *pos = end;
    return 0;
}

int copy_link_map(struct copy_link *link, struct copy_map *map, struct error *err)
{
    struct map_question question = {.map = map, .base_end = map->offset, .top_end = map->offset};
    uint64_t pos = map->offset;
    int r = 0;

    while (r == 0 && pos < map->offset + map->length)
        r = ask(link, &question, &pos, err);
    return r;
}

bool copy_map_next(const struct copy_map *map, uint64_t *pos, uint8_t limited,
                   struct copy_piece *ret)
{
    uint64_t end = map->offset + map->length;
    uint64_t block = (*pos - map->offset) / map->block, next = *pos;
    uint8_t bits;

    if (*pos >= end)
        return false;
    bits = map->bits[block];
    while (next < end && map->bits[(next - map->offset) / map->block] == bits &&
           (!(bits & limited) || next - *pos < COPY_PIECE))
        next = min_u64(next + map->block, end);
    *ret = (struct copy_piece){.offset = *pos, .length = next - *pos, .bits = bits};
    *pos = next;
    return true;
}
