/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * daemon/domain.h as migrations use it: guests that come in, that don't arrive, that move away and
 * come back.  No guest is really moved here.
 */
#include "config.h"

#include "tests/daemon/house.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define UUID "6d1c2f0e-5b1d-4f0a-9c39-0d1f5f3a2b11"
#define OTHER_UUID "00000000-0000-4000-8000-000000000001"
#define WITH_UUID "\"uuid\": \"" UUID "\""
#define RUN_FILE(suffix) "run/" UUID "." suffix

#define DISK ", \"disks\": [{\"target\": \"vda\", \"file\": \"web.qcow2\", \"size\": \"1M\"}]"

static struct domain *come_in(struct house *house, const char *name, const char *more,
                              struct error *err)
{
    struct definition *definition = house_define(name, more);
    struct domain *domain = domain_new_incoming(house->domains, definition, err);

    definition_free(definition);
    return domain;
}

static void come_in_fails(struct house *house, const char *name, const char *more,
                          const char *sentence)
{
    struct error err = ERROR_INIT;

    assert_null(come_in(house, name, more, &err));
    assert_int_equal(err.code, EEXIST);
    assert_string_equal(err.text, sentence);
}

static int start_incoming(struct domain *domain, struct error *err)
{
    struct qmp_wait wait = qmp_wait_ms(30000);

    return domain_start_incoming(domain, &wait, err);
}

static struct domain *move_away(struct house *house, const char *name, const char *more)
{
    struct domain *domain = house_start(house, name, more);
    struct error err = ERROR_INIT;

    assert_ok(domain_begin_job(domain, "migrating", &err), &err);
    assert_ok(domain_mark_moved(domain, "there", &err), &err);
    domain_end_job(domain);
    return domain;
}

static void test_discard(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain *domain =
        come_in(house, "web",
                WITH_UUID ", \"disks\": [{\"target\": \"vda\", \"file\": \"web.qcow2\"}]", &err);
    char path[HOUSE_PATH];
    struct qmp_wait wait = qmp_wait_ms(10000);
    struct guest_info info;

    assert_non_null(domain);
    snprintf(path, sizeof path, "%s/pool/web.qcow2", house->folder);
    assert_false(domain_left_image(domain, path)); /* it was never here */
    assert_state(domain, "incoming");
    assert_int_equal(domain_begin_job(domain, "migrating", &err), -EBUSY);
    assert_string_equal(err.text, "domain web is coming in; try again when that has ended");
    come_in_fails(house, "web", "", "a domain named web exists already");
    come_in_fails(house, "db", WITH_UUID,
                  "a domain with the UUID " UUID " exists already, named web");

    snprintf(path, sizeof path, "%s/web.qcow2", house->pool_dir);
    assert_ok(image_create(path, "qcow2", 8 << 20, NULL, NULL, &err), &err);
    assert_ok(start_incoming(domain, &err), &err);
    assert_ok(guest_query(domain_qmp(domain, &err), &info, &wait, &err), &err);
    assert_string_equal(info.run_state, "inmigrate");
    assert_false(house_has(house, "state/domains/web.json"));
    assert_ok(domain_discard_incoming(domain, &err), &err);
    assert_state(domain, "gone");
    domain_unref(domain);
    assert_unknown(house, "web");
    assert_false(house_has(house, RUN_FILE("qmp")));
    assert_false(house_has(house, RUN_FILE("admin.qmp")));
    assert_true(house_has(house, "pool/web.qcow2")); /* its caller's to delete */
}

/* At any step something may go wrong. */
static void test_discard_early(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain *domain = come_in(house, "web", "", &err);

    assert_ok(domain_discard_incoming(domain, &err), &err);
    domain_unref(domain);
    assert_unknown(house, "web");

    domain = come_in(house, "web", "\"machine\": \"none-such\"", &err);
    assert_true(start_incoming(domain, &err) < 0);
    assert_string_equal(err.text, "can't start web: QEMU (" QEMU_BINARY ") ended at its start: Use "
                                  "-machine help to list supported machines");
    assert_ok(domain_discard_incoming(domain, &err), &err);
    domain_unref(domain);
    assert_unknown(house, "web");

    domain = come_in(house, "web", "", &err);
    assert_ok(start_incoming(domain, &err), &err);
    house->others[house->other_count++] = dup(qmp_pidfd(domain_qmp(domain, &err)));
    assert_ok(launch_kill(house->others[0], 10000, &err), &err);
    assert_state(domain, "incoming"); /* until its job says what becomes of it */
    assert_ok(domain_discard_incoming(domain, &err), &err);
    domain_unref(domain);
    assert_unknown(house, "web");
}

static void test_finish(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain *domain = come_in(house, "web", WITH_UUID, &err);

    assert_ok(start_incoming(domain, &err), &err);
    assert_ok(domain_finish_incoming(domain, true, true, &err), &err);
    assert_state(domain, "running");
    assert_true(house_has(house, "state/domains/web.json"));
    assert_ok(domain_destroy(domain, &err), &err);
    assert_state(domain, "shut off"); /* and no longer a destination */
    assert_ok(domain_start(house->domains, "web", NULL, false, &err), &err);
    assert_state(domain, "running");
    domain_unref(domain);
}

static void test_moved(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain *domain = move_away(house, "web", WITH_UUID);
    static const char sentence[] =
        "domain web was moved to there and lives there; started here as well, both would go on by "
        "themselves.  If it is lost there, use --force";

    assert_state(domain, "moved to there");
    assert_int_equal(domain_pid(domain), 0);
    assert_false(house_has(house, RUN_FILE("qmp")));
    domain_unref(domain);
    house_close(house);
    house_open(house);
    domain = domains_find(house->domains, "web", &err);
    assert_state(domain, "moved to there");
    house_start_fails(house, "web", WITH_UUID, sentence);
    assert_true(domain_start(house->domains, "web", NULL, false, &err) < 0);
    assert_string_equal(err.text, sentence);
    assert_state(domain, "moved to there");
    assert_ok(domain_start(house->domains, "web", NULL, true, &err), &err);
    assert_state(domain, "running");
    assert_ok(domain_destroy(domain, &err), &err);
    assert_state(domain, "shut off");
    domain_unref(domain);
}

/* Its QEMU died at the source after the destination had taken it over. */
static void test_moved_after_death(void **state)
{
    struct house *house = *state;
    struct domain *domain = house_start(house, "web", WITH_UUID);
    struct error err = ERROR_INIT;

    assert_ok(domain_begin_job(domain, "migrating", &err), &err);
    assert_int_equal(kill(domain_pid(domain), SIGKILL), 0);
    house_wait_state(domain, "shut off");
    assert_ok(domain_mark_moved(domain, "there", &err), &err);
    domain_end_job(domain);
    assert_state(domain, "moved to there");
    assert_true(domain_start(house->domains, "web", NULL, false, &err) < 0);
    domain_unref(domain);
}

/* A start by force that fails leaves it moved. */
static void test_moved_failed_start(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain *domain = move_away(house, "web", WITH_UUID);
    struct definition *definition = house_define("web", "\"machine\": \"none-such\"");

    assert_true(domain_start(house->domains, "web", definition, true, &err) < 0);
    assert_state(domain, "moved to there");
    definition_free(definition);
    domain_unref(domain);
}

static void assert_vcpus(struct domain *domain, int vcpus)
{
    json_t *info = domain_info(domain);

    assert_int_equal(json_integer_value(json_object_get(info, "vcpus")), vcpus);
    json_decref(info);
}

static void test_comes_back(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain *moved = move_away(house, "web", WITH_UUID DISK), *domain;
    char path[HOUSE_PATH];

    come_in_fails(house, "web", "\"uuid\": \"" OTHER_UUID "\"",
                  "a domain named web exists already");
    come_in_fails(house, "db", WITH_UUID,
                  "a domain with the UUID " UUID " exists already, named web");

    domain = come_in(house, "web", WITH_UUID DISK ", \"vcpus\": 2", &err);
    assert_ptr_equal(domain, moved);
    snprintf(path, sizeof path, "%s/pool/web.qcow2", house->folder);
    assert_true(domain_left_image(domain, path));
    snprintf(path, sizeof path, "%s/pool/db.qcow2", house->folder);
    assert_false(domain_left_image(domain, path)); /* another guest's, say */
    assert_ok(start_incoming(domain, &err), &err);
    assert_ok(domain_discard_incoming(domain, &err), &err);
    assert_state(moved, "moved to there");
    assert_vcpus(moved, 1); /* as it left */
    domain_unref(domain);

    domain = come_in(house, "web", WITH_UUID ", \"vcpus\": 2", &err);
    assert_ok(start_incoming(domain, &err), &err);
    assert_ok(domain_finish_incoming(domain, false, true, &err), &err);
    assert_state(moved, "paused");
    assert_vcpus(moved, 2);
    assert_ok(domain_destroy(moved, &err), &err);
    assert_state(moved, "shut off");
    domain_unref(domain);
    domain_unref(moved);
}

static int run(void)
{
#define WITH_HOUSE(test) cmocka_unit_test_setup_teardown(test, house_setup, house_teardown)
    const struct CMUnitTest tests[] = {
        WITH_HOUSE(test_discard),
        WITH_HOUSE(test_discard_early),
        WITH_HOUSE(test_finish),
        WITH_HOUSE(test_moved),
        WITH_HOUSE(test_moved_after_death),
        WITH_HOUSE(test_moved_failed_start),
        WITH_HOUSE(test_comes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
