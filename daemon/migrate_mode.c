/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Choosing: see migrate_mode.h.
 *
 * First the mode, by a table that is read from the top: the first row for what was asked whose needs
 * both sides meet.  A row that isn't its group's first is a fall back and has its reason.  Then the
 * carrier of the disks: NBD where mode and both QEMUs have it, else QEMU's own `block` migration, a
 * fall back too but for mode `tunnel`, which has nothing else.  What is chosen then has to be able
 * to carry each flag.
 */
#include "config.h"

#include "daemon/migrate_mode.h"
#include "rpc/protocol.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

static const char *const names[] = {
    [MODE_BISTREAM] = "bistream",
    [MODE_TUNNEL] = "tunnel",
    [MODE_DIRECT] = "direct",
    [MODE_OFFLINE] = "offline",
};
static_assert(sizeof names / sizeof names[0] == MODES, "a name for each mode");

/* ---- the mode -------------------------------------------------------------------------------- */

static const struct row {
    enum migrate_mode asked, mode;
    uint64_t here, there; /* features that each side must have */
    uint64_t lacking;     /* there: the features whose want makes this row apply; 0: any */
    const char *fallback;
} rows[] = {
    {MODE_BISTREAM, MODE_BISTREAM, BS_FEATURE_BISTREAM, BS_FEATURE_BISTREAM, 0, NULL},
    {MODE_BISTREAM, MODE_TUNNEL, BS_FEATURE_BISTREAM, BS_FEATURE_TUNNEL, BS_FEATURE_BISTREAM,
     "the destination's bistreamd does not offer BiStream"},
    {MODE_BISTREAM, MODE_TUNNEL, 0, BS_FEATURE_TUNNEL, 0,
     "offer_bistream is false in this host's configuration"},

    {MODE_DIRECT, MODE_DIRECT, BS_FEATURE_BISTREAM, BS_FEATURE_BISTREAM | BS_FEATURE_DIRECT, 0,
     NULL},
    {MODE_DIRECT, MODE_BISTREAM, BS_FEATURE_BISTREAM, BS_FEATURE_BISTREAM, BS_FEATURE_DIRECT,
     "the destination has no ports for direct migrations"},
    {MODE_DIRECT, MODE_TUNNEL, BS_FEATURE_BISTREAM, BS_FEATURE_TUNNEL, BS_FEATURE_BISTREAM,
     "the destination's bistreamd is from before direct migrations"},
    {MODE_DIRECT, MODE_TUNNEL, 0, BS_FEATURE_TUNNEL, 0,
     "offer_bistream is false in this host's configuration"},

    {MODE_OFFLINE, MODE_OFFLINE, BS_FEATURE_BISTREAM, BS_FEATURE_BISTREAM, 0, NULL},
};

static bool applies(const struct row *row, enum migrate_mode asked,
                    const struct migrate_question *question)
{
    return row->asked == asked && (question->here & row->here) == row->here &&
           (question->there & row->there) == row->there &&
           (!row->lacking || !(question->there & row->lacking));
}

static int choose_mode(const struct migrate_question *question, enum migrate_mode asked,
                       struct migrate_choice *ret, struct error *err)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!applies(&rows[i], asked, question))
            continue;
        ret->mode = rows[i].mode;
        ret->fallback = rows[i].fallback;
        return 0;
    }
    if (asked == MODE_OFFLINE)
        return error_set(err, ENOTSUP,
                         "--offline wants a bistreamd that offers BiStream on both hosts; see "
                         "'bistream probe'");
    return error_set(err, ENOTSUP,
                     "the destination's bistreamd offers neither BiStream nor a tunnel; update it, "
                     "or set offer_bistream = true there");
}

static int choose_tls(const struct migrate_question *question, struct migrate_choice *ret,
                      struct error *err)
{
    if (ret->mode != MODE_DIRECT || question->flags & BS_MIGRATE_NO_TLS)
        return 0;
    ret->tls = true;
    if (!(question->here & BS_FEATURE_DIRECT_TLS))
        return error_set(err, ENOTSUP,
                         "--direct uses QEMU's own TLS, and this host has no key pair for it: make "
                         "one with 'bistream pki direct' and name its folder as direct_pki_dir, or "
                         "go without encryption by --no-tls");
    if (!(question->there & BS_FEATURE_DIRECT_TLS))
        return error_set(err, ENOTSUP,
                         "--direct uses QEMU's own TLS, and the destination has no key pair for "
                         "it: make one with 'bistream pki direct' and name its folder as "
                         "direct_pki_dir there, or go without encryption by --no-tls");
    return 0;
}

/* ---- the carrier ----------------------------------------------------------------------------- */

/* QEMU's `block` migration takes every disk that the guest writes to, all of them alike. */
static int check_block(const struct migrate_question *question, const struct migrate_choice *choice,
                       struct error *err)
{
    const char *mode = names[choice->mode];

    if (!(question->here & question->there & BS_FEATURE_QEMU_BLOCK))
        return error_set(
            err, ENOTSUP,
            "mode %s can't carry the disks: QEMU's own block migration is missing %s; "
            "use shared storage, or a peer that offers BiStream",
            mode, question->here & BS_FEATURE_QEMU_BLOCK ? "at the destination" : "on this host");
    if (question->flags & BS_MIGRATE_SYNCHRONOUS_WRITES)
        return error_set(err, ENOTSUP,
                         "--copy-storage-synchronous-writes can't be had in mode %s, where QEMU's "
                         "own block migration carries the disks",
                         mode);
    if (question->some_stay)
        return error_set(err, ENOTSUP,
                         "in mode %s QEMU's own block migration carries the disks: all that the "
                         "guest writes to, so --migrate-disks has to name every one of them",
                         mode);
    if (question->some_tops && question->some_wholes)
        return error_set(err, ENOTSUP,
                         "--copy-storage-inc in mode %s wants a backing file under every disk: "
                         "QEMU's own block migration carries the disks, all alike",
                         mode);
    return 0;
}

static int choose_carrier(const struct migrate_question *question, struct migrate_choice *ret,
                          struct error *err)
{
    const uint64_t both = question->here & question->there;

    ret->carrier = CARRIER_NONE;
    if (!question->copies)
        return 0;
    ret->carrier = CARRIER_NBD;
    if (ret->mode == MODE_OFFLINE || (ret->mode != MODE_TUNNEL && both & BS_FEATURE_QEMU_NBD))
        return 0;
    ret->carrier = CARRIER_BLOCK;
    if (ret->mode != MODE_TUNNEL)
        ret->fallback = "one side's QEMU has no NBD server or no mirrors, so the disks go along in "
                        "QEMU's own block migration";
    return check_block(question, ret, err);
}

/* ---- both ------------------------------------------------------------------------------------ */

int migrate_choose(const struct migrate_question *question, struct migrate_choice *ret,
                   struct error *err)
{
    const enum migrate_mode asked = question->flags & BS_MIGRATE_OFFLINE  ? MODE_OFFLINE
                                    : question->flags & BS_MIGRATE_DIRECT ? MODE_DIRECT
                                                                          : MODE_BISTREAM;
    struct migrate_choice choice = {.fallback = NULL};
    int r = choose_mode(question, asked, &choice, err);

    if (r == 0)
        r = choose_tls(question, &choice, err);
    if (r == 0)
        r = choose_carrier(question, &choice, err);
    if (r == 0 && choice.fallback && question->flags & BS_MIGRATE_NO_FALLBACK)
        r = error_set(err, ENOTSUP, "%s, and --no-fallback was given; without it mode %s would do",
                      choice.fallback, names[choice.mode]);
    if (r == 0)
        *ret = choice;
    return r;
}

const char *migrate_mode_name(enum migrate_mode mode)
{
    return names[mode];
}

enum migrate_mode migrate_mode_by_name(const char *name)
{
    enum migrate_mode mode = MODE_BISTREAM;

    while (mode < MODES && (!name || strcmp(names[mode], name) != 0))
        mode++;
    return mode;
}
