/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * daemon/domain.h with QEMUs that somebody else started: attached, let go of, found again, killed.
 */
#include "config.h"

#include "tests/daemon/house.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define UUID "6d1c2f0e-5b1d-4f0a-9c39-0d1f5f3a2b11"

static struct domain *attach(struct house *house, const char *name, const char *socket,
                             bool incoming)
{
    struct error err = ERROR_INIT;
    struct domain *domain;

    assert_ok(domain_attach(house->domains, name, socket, incoming, &err), &err);
    domain = domains_find(house->domains, name, &err);
    assert_non_null(domain);
    return domain;
}

static void attach_fails(struct house *house, const char *name, const char *socket, bool incoming,
                         const char *sentence)
{
    struct error err = ERROR_INIT;

    assert_true(domain_attach(house->domains, name, socket, incoming, &err) < 0);
    assert_string_equal(err.text, sentence);
}

static void test_attach(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    char socket[HOUSE_PATH];
    int pidfd = house_other_qemu(house, "one", UUID, false, socket);
    struct domain *domain = attach(house, "web", socket, false);
    uint8_t uuid[UUID_SIZE], expected[UUID_SIZE];
    json_t *info = domain_info(domain);

    assert_state(domain, "running");
    assert_true(domain_attached(domain));
    assert_null(domain_definition(domain));
    domain_uuid(domain, uuid);
    assert_int_equal(uuid_from_text(UUID, expected), 0);
    assert_memory_equal(uuid, expected, UUID_SIZE);
    assert_true(json_is_true(json_object_get(info, "attached")));
    assert_int_equal(json_integer_value(json_object_get(info, "memory")), 16 << 20);
    assert_true(json_is_null(json_object_get(info, "qmp")));
    json_decref(info);
    assert_true(domain_start(house->domains, "web", NULL, false, &err) < 0);
    assert_string_equal(err.text, "web was attached, so how to start it is not known here");

    assert_ok(domain_undefine(domain, &err), &err); /* lets go of it */
    domain_unref(domain);
    assert_unknown(house, "web");
    assert_false(launch_ended(pidfd));
    domain = attach(house, "web2", socket, false);
    assert_ok(domain_destroy(domain, &err), &err);
    assert_true(launch_ended(pidfd));
    assert_unknown(house, "web2"); /* it can't be started again */
    domain_unref(domain);
}

static void test_refused(void **state)
{
    struct house *house = *state;
    char socket[HOUSE_PATH], waiting[HOUSE_PATH], sentence[512];
    struct domain *domain, *own;

    house_other_qemu(house, "one", UUID, false, socket);
    house_other_qemu(house, "two", UUID, true, waiting);
    attach_fails(house, "../web", socket, false,
                 "a guest's name may not begin with a dot or a dash");
    attach_fails(house, "web", "one.sock", false,
                 "the QMP socket must be an absolute path, not one.sock");
    snprintf(sentence, sizeof sentence,
             "can't attach web: the QEMU at %s does not wait for a migration, it is running; start "
             "it with -incoming defer",
             socket);
    attach_fails(house, "web", socket, true, sentence);
    snprintf(sentence, sizeof sentence,
             "can't attach web: the QEMU at %s waits for a migration; attach it with --incoming",
             waiting);
    attach_fails(house, "web", waiting, false, sentence);
    own = house_start(house, "own", "");
    attach_fails(house, "own", socket, false,
                 "can't attach own: a domain named own exists already");
    domain = attach(house, "web", socket, false);
    attach_fails(house, "web2", waiting, true,
                 "can't attach web2: a domain with the UUID " UUID " exists already, named web");
    domain_unref(domain);
    domain_unref(own);
}

static void test_restart(void **state)
{
    struct house *house = *state;
    char socket[HOUSE_PATH], waiting[HOUSE_PATH], dying[HOUSE_PATH];
    struct error err = ERROR_INIT;
    struct domain *domain;
    int victim;

    house_other_qemu(house, "one", UUID, false, socket);
    house_other_qemu(house, "two", NULL, true, waiting);
    victim = house_other_qemu(house, "three", NULL, false, dying);
    domain_unref(attach(house, "one", socket, false));
    domain_unref(attach(house, "two", waiting, true));
    domain_unref(attach(house, "three", dying, false));
    house_close(house);
    assert_ok(launch_kill(victim, 10000, &err), &err);
    house_open(house);
    domain = domains_find(house->domains, "one", &err);
    assert_state(domain, "running");
    assert_true(domain_attached(domain));
    domain_unref(domain);
    domain = domains_find(house->domains, "two", &err);
    assert_state(domain, "incoming");
    domain_unref(domain);
    assert_unknown(house, "three");
}

static void test_ends_by_itself(void **state)
{
    struct house *house = *state;
    char socket[HOUSE_PATH];
    struct error err = ERROR_INIT;
    int pidfd = house_other_qemu(house, "one", UUID, false, socket);
    struct domain *domain = attach(house, "web", socket, false);

    assert_ok(launch_kill(pidfd, 10000, &err), &err);
    house_wait_state(domain, "gone");
    domain_unref(domain);
}

/* The destination's side of attach --incoming. */
static void test_incoming(void **state)
{
    struct house *house = *state;
    char socket[HOUSE_PATH];
    struct error err = ERROR_INIT;
    int pidfd = house_other_qemu(house, "one", UUID, true, socket);
    struct domain *waiting = attach(house, "web", socket, true), *domain;
    uint8_t uuid[UUID_SIZE] = {1};

    assert_state(waiting, "incoming");
    assert_null(domain_take_incoming(house->domains, "web", uuid, &err));
    assert_int_equal(err.code, ENOENT);
    domain_uuid(waiting, uuid);
    domain = domain_take_incoming(house->domains, "web", uuid, &err);
    assert_non_null(domain);
    assert_null(domain_take_incoming(house->domains, "web", uuid, &err));
    assert_int_equal(err.code, EBUSY);
    assert_non_null(domain_qmp(domain, &err));
    assert_ok(domain_discard_incoming(domain, &err), &err);
    assert_true(launch_ended(pidfd));
    assert_state(waiting, "gone");
    assert_unknown(house, "web");
    domain_unref(domain);
    domain_unref(waiting);
}

/* The source's side: an attached guest that left is still to be seen. */
static void test_moved(void **state)
{
    struct house *house = *state;
    char socket[HOUSE_PATH];
    struct error err = ERROR_INIT;
    int pidfd = house_other_qemu(house, "one", UUID, false, socket);
    struct domain *domain = attach(house, "web", socket, false);

    assert_ok(domain_begin_job(domain, "migrating", &err), &err);
    assert_ok(domain_mark_moved(domain, "there", &err), &err);
    domain_end_job(domain);
    assert_true(launch_ended(pidfd));
    assert_state(domain, "moved to there");
    domain_unref(domain);
    house_close(house);
    house_open(house);
    domain = domains_find(house->domains, "web", &err);
    assert_state(domain, "moved to there");
    assert_ok(domain_undefine(domain, &err), &err);
    domain_unref(domain);
    assert_unknown(house, "web");
}

static int run(void)
{
#define WITH_HOUSE(test) cmocka_unit_test_setup_teardown(test, house_setup, house_teardown)
    const struct CMUnitTest tests[] = {
        WITH_HOUSE(test_attach),         WITH_HOUSE(test_refused),  WITH_HOUSE(test_restart),
        WITH_HOUSE(test_ends_by_itself), WITH_HOUSE(test_incoming), WITH_HOUSE(test_moved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
