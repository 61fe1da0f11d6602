/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* Which mode a migration gets: the table of docs/modes.md, row by row. */
#include "config.h"

#include "daemon/migrate_mode.h"
#include "rpc/protocol.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

/* QEMU 7.2, QEMU 10, and one without NBD. */
#define Q7 (BS_FEATURE_QEMU_NBD | BS_FEATURE_QEMU_BLOCK)
#define Q10 BS_FEATURE_QEMU_NBD
#define QOLD BS_FEATURE_QEMU_BLOCK

#define NEW (BS_FEATURE_BISTREAM | BS_FEATURE_TUNNEL)
#define OLD BS_FEATURE_TUNNEL
#define PORTS BS_FEATURE_DIRECT
#define PAIR BS_FEATURE_DIRECT_TLS

#define ALL BS_MIGRATE_COPY_STORAGE_ALL
#define DIRECT BS_MIGRATE_DIRECT
#define NO_TLS BS_MIGRATE_NO_TLS
#define SYNC BS_MIGRATE_SYNCHRONOUS_WRITES
#define ONLY BS_MIGRATE_NO_FALLBACK
#define OFFLINE BS_MIGRATE_OFFLINE

/* What is copied. */
enum disks { NONE, EACH, SOME, MIXED };

static const struct row {
    const char *what;
    uint64_t flags, here, there;
    enum disks disks;
    /* Either what comes out ... */
    enum migrate_mode mode;
    enum migrate_carrier carrier;
    bool tls;
    const char *fallback; /* a part of the reason; NULL: none */
    /* ... or a part of the refusal. */
    const char *refusal;
} rows[] = {
    {"the default, no disks", 0, NEW | Q7, NEW | Q7, NONE, MODE_BISTREAM, CARRIER_NONE, false, NULL,
     NULL},
    {"the default, with disks", ALL, NEW | Q7, NEW | Q10, EACH, MODE_BISTREAM, CARRIER_NBD, false,
     NULL, NULL},
    {"synchronous writes", ALL | SYNC, NEW | Q10, NEW | Q10, EACH, MODE_BISTREAM, CARRIER_NBD,
     false, NULL, NULL},
    {"some disks, mixed tops", ALL, NEW | Q7, NEW | Q7, MIXED, MODE_BISTREAM, CARRIER_NBD, false,
     NULL, NULL},
    {"--no-fallback where none is needed", ALL | ONLY, NEW | Q7, NEW | Q7, EACH, MODE_BISTREAM,
     CARRIER_NBD, false, NULL, NULL},
    {"a QEMU without NBD", ALL, NEW | Q7, NEW | QOLD, EACH, MODE_BISTREAM, CARRIER_BLOCK, false,
     "no NBD server", NULL},
    {"a QEMU without NBD, the other without block", ALL, NEW | Q10, NEW | QOLD, EACH, MODES,
     CARRIER_NONE, false, NULL, "missing on this host"},
    {"a QEMU without NBD, nothing to copy", 0, NEW | Q10, NEW | QOLD, NONE, MODE_BISTREAM,
     CARRIER_NONE, false, NULL, NULL},

    {"an old peer, no disks", 0, NEW | Q10, OLD | Q10, NONE, MODE_TUNNEL, CARRIER_NONE, false,
     "does not offer BiStream", NULL},
    {"an old peer, disks, block on both", ALL, NEW | Q7, OLD | Q7, EACH, MODE_TUNNEL, CARRIER_BLOCK,
     false, "does not offer BiStream", NULL},
    {"an old peer without block", ALL, NEW | Q7, OLD | Q10, EACH, MODES, CARRIER_NONE, false, NULL,
     "missing at the destination"},
    {"block is missing here", ALL, NEW | Q10, OLD | Q7, EACH, MODES, CARRIER_NONE, false, NULL,
     "missing on this host"},
    {"an old peer, some disks", ALL, NEW | Q7, OLD | Q7, SOME, MODES, CARRIER_NONE, false, NULL,
     "--migrate-disks has to name every one"},
    {"an old peer, tops and wholes", ALL, NEW | Q7, OLD | Q7, MIXED, MODES, CARRIER_NONE, false,
     NULL, "a backing file under every disk"},
    {"an old peer, synchronous writes", ALL | SYNC, NEW | Q7, OLD | Q7, EACH, MODES, CARRIER_NONE,
     false, NULL, "--copy-storage-synchronous-writes can't be had in mode tunnel"},
    {"an old peer, --no-fallback", ONLY, NEW | Q7, OLD | Q7, NONE, MODES, CARRIER_NONE, false, NULL,
     "--no-fallback was given; without it mode tunnel would do"},
    {"a peer that has neither", 0, NEW | Q7, Q7, NONE, MODES, CARRIER_NONE, false, NULL,
     "neither BiStream nor a tunnel"},

    {"this host behaves as an old one", ALL, OLD | Q7, NEW | Q7, EACH, MODE_TUNNEL, CARRIER_BLOCK,
     false, "offer_bistream is false", NULL},
    {"both are old", 0, OLD | Q7, OLD | Q7, NONE, MODE_TUNNEL, CARRIER_NONE, false,
     "offer_bistream is false", NULL},

    {"direct", ALL | DIRECT, NEW | PAIR | Q7, NEW | PORTS | PAIR | Q10, EACH, MODE_DIRECT,
     CARRIER_NBD, true, NULL, NULL},
    {"direct, without NBD", ALL | DIRECT, NEW | PAIR | Q7, NEW | PORTS | PAIR | QOLD, EACH,
     MODE_DIRECT, CARRIER_BLOCK, true, "no NBD server", NULL},
    {"direct, without NBD and block", ALL | DIRECT, NEW | PAIR | Q10, NEW | PORTS | PAIR | QOLD,
     EACH, MODES, CARRIER_NONE, false, NULL, "missing on this host"},
    {"direct, no pair here", ALL | DIRECT, NEW | Q7, NEW | PORTS | PAIR | Q7, EACH, MODES,
     CARRIER_NONE, false, NULL, "this host has no key pair"},
    {"direct, no pair there", ALL | DIRECT, NEW | PAIR | Q7, NEW | PORTS | Q7, EACH, MODES,
     CARRIER_NONE, false, NULL, "the destination has no key pair"},
    {"direct, unencrypted", ALL | DIRECT | NO_TLS, NEW | Q7, NEW | PORTS | Q7, EACH, MODE_DIRECT,
     CARRIER_NBD, false, NULL, NULL},
    {"direct, unencrypted though there are pairs", ALL | DIRECT | NO_TLS, NEW | PAIR | Q7,
     NEW | PORTS | PAIR | Q7, EACH, MODE_DIRECT, CARRIER_NBD, false, NULL, NULL},
    {"direct, no ports there", ALL | DIRECT, NEW | PAIR | Q7, NEW | Q7, EACH, MODE_BISTREAM,
     CARRIER_NBD, false, "no ports", NULL},
    {"direct, no ports there, --no-fallback", ALL | DIRECT | ONLY, NEW | PAIR | Q7, NEW | Q7, EACH,
     MODES, CARRIER_NONE, false, NULL, "--no-fallback"},
    {"direct, an old peer", ALL | DIRECT, NEW | PAIR | Q7, OLD | Q7, EACH, MODE_TUNNEL,
     CARRIER_BLOCK, false, "before direct", NULL},
    {"direct from an old one", ALL | DIRECT, OLD | PAIR | Q7, NEW | PORTS | PAIR | Q7, EACH,
     MODE_TUNNEL, CARRIER_BLOCK, false, "offer_bistream is false", NULL},

    {"offline", OFFLINE, NEW | Q7, NEW | QOLD, EACH, MODE_OFFLINE, CARRIER_NBD, false, NULL, NULL},
    {"offline, an old peer", OFFLINE, NEW | Q7, OLD | Q7, EACH, MODES, CARRIER_NONE, false, NULL,
     "--offline wants"},
    {"offline from an old one", OFFLINE, OLD | Q7, NEW | Q7, EACH, MODES, CARRIER_NONE, false, NULL,
     "--offline wants"},
};

static struct migrate_question question_of(const struct row *row)
{
    return (struct migrate_question){
        .flags = row->flags,
        .here = row->here,
        .there = row->there,
        .copies = row->disks != NONE,
        .some_stay = row->disks == SOME,
        .some_tops = row->disks == MIXED,
        .some_wholes = row->disks != NONE,
    };
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i];
        const struct migrate_question question = question_of(row);
        struct migrate_choice choice = {.mode = MODES};
        struct error err = ERROR_INIT;
        int r = migrate_choose(&question, &choice, &err);

        print_message("%s\n", row->what);
        if (row->refusal) {
            assert_int_equal(r, -ENOTSUP);
            assert_non_null(strstr(err.text, row->refusal));
            assert_int_equal(choice.mode, MODES);
            continue;
        }
        assert_int_equal(r, 0);
        assert_int_equal(choice.mode, row->mode);
        assert_int_equal(choice.carrier, row->carrier);
        assert_int_equal(choice.tls, row->tls);
        if (row->fallback)
            assert_non_null(
                choice.fallback && strstr(choice.fallback, row->fallback) ? choice.fallback : NULL);
        else
            assert_null(choice.fallback);
    }
}

/* Whatever both sides are: a fall back is always told, --no-fallback allows none, disks go over an
 * unencrypted port only when that was said, and never by what a QEMU lacks. */
static void test_all(void **state)
{
    const uint64_t flags_max = BS_MIGRATE_NO_FALLBACK * 2, features_max = 64;

    (void)state;
    for (uint64_t flags = 0; flags < flags_max; flags++) {
        if (flags & ~(uint64_t)(DIRECT | NO_TLS | SYNC | ONLY | OFFLINE))
            continue;
        for (uint64_t sides = 0; sides < features_max * features_max * 16; sides++) {
            const struct migrate_question question = {.flags = flags,
                                                      .here = sides % features_max,
                                                      .there = sides / features_max % features_max,
                                                      .copies = sides >> 12 & 1,
                                                      .some_stay = sides >> 13 & 1,
                                                      .some_tops = sides >> 14 & 1,
                                                      .some_wholes = sides >> 15 & 1};
            struct migrate_choice choice;
            struct error err = ERROR_INIT;
            enum migrate_mode asked;

            if (migrate_choose(&question, &choice, &err) < 0)
                continue;
            asked = flags & OFFLINE ? MODE_OFFLINE : flags & DIRECT ? MODE_DIRECT : MODE_BISTREAM;
            assert_true(choice.mode == asked || choice.fallback);
            assert_false(choice.fallback && flags & ONLY);
            assert_true(choice.mode != MODE_DIRECT || choice.tls || flags & NO_TLS);
            assert_int_equal(choice.carrier != CARRIER_NONE, question.copies);
            if (choice.carrier == CARRIER_BLOCK)
                assert_true(question.here & question.there & BS_FEATURE_QEMU_BLOCK);
            if (choice.carrier == CARRIER_NBD)
                assert_true(choice.mode != MODE_TUNNEL);
        }
    }
}

static void test_names(void **state)
{
    (void)state;
    for (enum migrate_mode mode = MODE_BISTREAM; mode < MODES; mode++)
        assert_int_equal(migrate_mode_by_name(migrate_mode_name(mode)), mode);
    assert_int_equal(migrate_mode_by_name("carrier pigeon"), MODES);
    assert_int_equal(migrate_mode_by_name(NULL), MODES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
