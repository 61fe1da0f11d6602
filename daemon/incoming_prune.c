/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Entries that nobody asks for any more.
 *
 * An entry that says "not mine" waits for its source, which asks for it until it has its answer and
 * then has it removed.  A source that is gone for good never does.  Such an entry guards nothing: its
 * QEMU is dead and its volumes are deleted.  A source that comes back after all hears "unknown", which
 * decides nothing: its guest stands still until the operator says where it shall run.  So the entry is
 * forgotten after a long time, or when there are very many.  By a clock that was wrong that is early,
 * and no worse.
 *
 * Every other state stays for ever: it stands for a guest that runs here, or for volumes.
 */
#include "config.h"

#include "daemon/incoming_private.h"
#include "common/log.h"

#include <time.h>

enum {
    FORGET_AFTER_DAYS = 30,
    FORGET_ABOVE = 256, /* entries: a few hundred small files at the most */
    DAY_S = 24 * 3600,
};

/* Whoever has the entry's lock at this moment is doing something about it. */
static bool is_forgettable(struct incoming *in)
{
    bool is;

    if (pthread_mutex_trylock(&in->lock) != 0)
        return false;
    is = in->state == INCOMING_NOT_MINE && in->volume_count == 0;
    pthread_mutex_unlock(&in->lock);
    return is;
}

/* The oldest of them, referenced, if they are too many or it is too old. */
static struct incoming *find_one(struct incoming_migrations *all)
{
    struct incoming *in, *oldest = NULL;
    unsigned count = 0;

    pthread_mutex_lock(&all->lock);
    LIST_FOREACH(in, &all->list, link)
    {
        if (!is_forgettable(in))
            continue;
        count++;
        if (!oldest || in->since < oldest->since)
            oldest = in;
    }
    if (oldest && count <= FORGET_ABOVE &&
        time(NULL) - oldest->since < (int64_t)FORGET_AFTER_DAYS * DAY_S)
        oldest = NULL;
    if (oldest)
        oldest->references++;
    pthread_mutex_unlock(&all->lock);
    return oldest;
}

void incoming_prune(struct incoming_migrations *all)
{
    struct error err = ERROR_INIT;
    struct incoming *in;

    while (err.code == 0 && (in = find_one(all))) {
        bool settled = false;

        pthread_mutex_lock(&in->lock);
        if (in->state == INCOMING_NOT_MINE) {
            log_info("migration %s (%s) in: forgotten; %s has not asked for it in all this time",
                     in->hex, in->name, in->peer);
            settled = incoming_settled(in, false, &err) == 0;
        }
        pthread_mutex_unlock(&in->lock);
        incoming_unref(in, settled);
    }
    if (err.code)
        log_error("%s", err.text);
}
