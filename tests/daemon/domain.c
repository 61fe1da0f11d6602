/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * daemon/domain.h with real QEMUs: starting and ending guests, what is told of them, and daemons
 * that come and go while the guests run.
 */
#include "config.h"

#include "tests/daemon/house.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define UUID "6d1c2f0e-5b1d-4f0a-9c39-0d1f5f3a2b11"
#define RUN_FILE(suffix) "run/" UUID "." suffix

/* Ends the machine by ACPI's S5, at the port that SeaBIOS puts it at. */
static const uint8_t power_off[1 << 20] = {0xba, 0x04, 0x06, 0xb8,         0x00,
                                           0x20, 0xef, 0xf4, [510] = 0x55, 0xaa};

static void test_start_and_destroy(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain *domain = house_start(
        house, "web",
        "\"uuid\": \"" UUID "\", \"serial\": {\"log\": \"serial.log\"}, \"display\": \"vnc\", "
        "\"disks\": [{\"target\": \"vda\", \"file\": \"web.qcow2\", \"size\": \"8M\"},"
        "{\"target\": \"vdb\", \"file\": \"web.raw\", \"format\": \"raw\", \"size\": \"4M\"}]");

    assert_state(domain, "running");
    assert_true(domain_pid(domain) > 0);
    assert_true(house_has(house, "pool/web.qcow2"));
    assert_true(house_has(house, "pool/web.raw"));
    assert_true(house_has(house, "state/domains/web.json"));
    assert_true(house_has(house, "state/log/web/serial.log"));
    assert_true(house_has(house, RUN_FILE("qmp")));
    assert_true(house_has(house, RUN_FILE("admin.qmp")));
    assert_true(house_has(house, RUN_FILE("vnc")));

    assert_true(domain_undefine(domain, &err) < 0);
    assert_string_equal(err.text, "domain web is running; shut it down or destroy it first");
    assert_ok(domain_destroy(domain, &err), &err);
    assert_state(domain, "shut off");
    assert_int_equal(domain_pid(domain), 0);
    assert_false(house_has(house, RUN_FILE("qmp")));
    assert_false(house_has(house, RUN_FILE("admin.qmp")));
    assert_false(house_has(house, RUN_FILE("vnc")));
    assert_true(domain_destroy(domain, &err) < 0);
    assert_string_equal(err.text, "domain web is not running");

    assert_ok(domain_start(house->domains, "web", NULL, false, &err), &err);
    assert_state(domain, "running");
    assert_ok(domain_destroy(domain, &err), &err);
    assert_ok(domain_undefine(domain, &err), &err);
    assert_unknown(house, "web");
    assert_true(house_has(house, "pool/web.qcow2"));
    domain_unref(domain);
}

static void test_info(void **state)
{
    struct house *house = *state;
    struct domain *domain = house_start(
        house, "web",
        "\"uuid\": \"" UUID "\", \"machine\": \"pc\", \"vcpus\": 2, \"disks\": [{\"target\": "
        "\"vda\", \"file\": \"web.qcow2\", \"size\": \"8M\"}, {\"target\": \"vdb\", \"readonly\": "
        "true}]");
    json_t *info = domain_info(domain), *disk = json_array_get(json_object_get(info, "disks"), 0);
    char path[HOUSE_PATH];

    assert_string_equal(json_string_value(json_object_get(info, "name")), "web");
    assert_string_equal(json_string_value(json_object_get(info, "uuid")), UUID);
    assert_string_equal(json_string_value(json_object_get(info, "state")), "running");
    assert_int_equal(json_integer_value(json_object_get(info, "pid")), domain_pid(domain));
    assert_false(json_is_true(json_object_get(info, "attached")));
    /* the machine that the alias stands for, so that it stays the same */
    assert_memory_equal(json_string_value(json_object_get(info, "machine")), "pc-i440fx-", 10);
    assert_int_equal(json_integer_value(json_object_get(info, "vcpus")), 2);
    assert_int_equal(json_integer_value(json_object_get(info, "memory")), 16 << 20);
    snprintf(path, sizeof path, "%s/" UUID ".admin.qmp", house->run_dir);
    assert_string_equal(json_string_value(json_object_get(info, "qmp")), path);
    assert_true(json_is_null(json_object_get(info, "moved_to")));
    assert_true(json_is_null(json_object_get(info, "job")));
    snprintf(path, sizeof path, "%s/web.qcow2", house->pool_dir);
    assert_string_equal(json_string_value(json_object_get(disk, "file")), path);
    assert_int_equal(json_integer_value(json_object_get(disk, "size")), 8 << 20);
    disk = json_array_get(json_object_get(info, "disks"), 1);
    assert_true(json_is_null(json_object_get(disk, "file")));
    assert_true(json_is_true(json_object_get(disk, "empty")));
    json_decref(info);
    domain_unref(domain);
}

/* As QEMU has them, in the definition's order, with an empty drive and a backing file. */
static void test_disks(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain_disk *disks;
    struct domain *domain;
    char base[HOUSE_PATH], overlay[HOUSE_PATH];
    size_t count;

    snprintf(base, sizeof base, "%s/base", house->pool_dir);
    snprintf(overlay, sizeof overlay, "%s/overlay", house->pool_dir);
    assert_ok(image_create(base, "raw", 4 << 20, NULL, NULL, &err), &err);
    assert_ok(image_create(overlay, "qcow2", 8 << 20, base, "raw", &err), &err);
    domain = house_start(
        house, "web",
        "\"disks\": [{\"target\": \"vdc\", \"file\": \"overlay\"}, {\"target\": \"vda\", "
        "\"readonly\": true}, {\"target\": \"vdb\", \"file\": \"base2\", \"format\": \"raw\", "
        "\"size\": \"1M\"}]");
    assert_ok(domain_begin_job(domain, "migrating", &err), &err);
    assert_ok(domain_disks(domain, &disks, &count, &err), &err);
    assert_int_equal(count, 3);
    assert_string_equal(disks[0].target, "vdc");
    assert_string_equal(disks[0].device, "vdc");
    assert_string_equal(disks[0].path, overlay);
    assert_string_equal(disks[0].format, "qcow2");
    assert_int_equal(disks[0].size, 8 << 20);
    assert_string_equal(disks[0].backing, base);
    assert_string_equal(disks[0].backing_format, "raw");
    assert_int_equal(disks[0].backing_size, 4 << 20);
    assert_string_equal(disks[1].target, "vda");
    assert_true(disks[1].empty);
    assert_null(disks[1].path);
    assert_string_equal(disks[2].target, "vdb");
    assert_string_equal(disks[2].format, "raw");
    assert_false(disks[2].readonly);
    assert_null(disks[2].backing);
    domain_disks_free(disks, count);
    domain_end_job(domain);
    domain_unref(domain);
}

/* ---- starts that fail ------------------------------------------------------------------------ */

static void test_refused_starts_leave_nothing(void **state)
{
    struct house *house = *state;
    char sentence[512];

    snprintf(sentence, sizeof sentence,
             "disk vda: there is no image %s/none; to have it made, say its \"size\" in the "
             "definition",
             house->pool_dir);
    house_start_fails(house, "web", "\"disks\": [{\"target\": \"vda\", \"file\": \"none\"}]",
                      sentence);
    assert_unknown(house, "web");

    snprintf(sentence, sizeof sentence,
             "disk vda: there is no image %s/none, and one that is only read is not made",
             house->pool_dir);
    house_start_fails(house, "web",
                      "\"disks\": [{\"target\": \"vda\", \"file\": \"none\", \"size\": \"1M\", "
                      "\"readonly\": true}]",
                      sentence);
    assert_unknown(house, "web");

    house_write(house, "pool/small", power_off, 512);
    snprintf(sentence, sizeof sentence,
             "disk vda: the image %s/small has 512 bytes, but the definition says 1048576; leave "
             "out \"size\" to take it as it is",
             house->pool_dir);
    house_start_fails(house, "web",
                      "\"disks\": [{\"target\": \"vda\", \"file\": \"small\", \"format\": \"raw\", "
                      "\"size\": \"1M\"}]",
                      sentence);
    assert_unknown(house, "web");

    house->config.qemu_binary = (char *)(uintptr_t) "/nonexistent/qemu";
    house_start_fails(house, "web", "",
                      "can't start web: QEMU (/nonexistent/qemu) can't be run: No such file or "
                      "directory");
    assert_unknown(house, "web");
}

/* A domain that exists is as it was before. */
static void test_failed_start_keeps_domain(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain *domain = house_start(house, "web", "\"vcpus\": 2");
    json_t *info;

    assert_ok(domain_destroy(domain, &err), &err);
    house_start_fails(house, "web", "\"vcpus\": 3, \"machine\": \"none-such\"",
                      "can't start web: QEMU (" QEMU_BINARY
                      ") ended at its start: Use -machine help "
                      "to list supported machines");
    assert_state(domain, "shut off");
    info = domain_info(domain);
    assert_int_equal(json_integer_value(json_object_get(info, "vcpus")), 2);
    json_decref(info);
    assert_ok(domain_start(house->domains, "web", NULL, false, &err), &err);
    domain_unref(domain);
}

static void test_names_and_uuids(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain *domain = house_start(house, "web", "\"uuid\": \"" UUID "\"");

    house_start_fails(house, "web", "", "domain web is running already");
    house_start_fails(house, "db", "\"uuid\": \"" UUID "\"",
                      "a domain with the UUID " UUID " exists already, named web");
    assert_ok(domain_destroy(domain, &err), &err);
    house_start_fails(house, "web", "\"uuid\": \"00000000-0000-4000-8000-000000000001\"",
                      "a domain named web exists already, with the UUID " UUID
                      "; undefine that first");
    domain_unref(domain);
    domain = house_start(house, "web", ""); /* no UUID: the one that it has */
    domain_unref(domain_ref(domain));
    domain_unref(domain);
    assert_true(domain_start(house->domains, "none", NULL, false, &err) < 0);
    assert_string_equal(err.text,
                        "no domain named none here; \"bistream list --all\" shows what is");
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static void test_one_job(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain *domain = house_start(house, "web", "");
    static const char sentence[] = "domain web is migrating; try again when that has ended";

    assert_ok(domain_begin_job(domain, "migrating", &err), &err);
    assert_int_equal(domain_begin_job(domain, "migrating", &err), -EBUSY);
    assert_string_equal(err.text, sentence);
    assert_int_equal(domain_destroy(domain, &err), -EBUSY);
    assert_string_equal(err.text, sentence);
    assert_int_equal(domain_shutdown(domain, &err), -EBUSY);
    assert_int_equal(domain_undefine(domain, &err), -EBUSY);
    domain_end_job(domain);
    assert_ok(domain_destroy(domain, &err), &err);
    domain_unref(domain);
}

/* The holder of the job may be in the middle of a QMP command. */
static void test_qemu_dies_under_job(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain *domain = house_start(house, "web", "");
    struct qmp_wait wait = qmp_wait_ms(10000);
    struct qmp *qmp;

    assert_ok(domain_begin_job(domain, "migrating", &err), &err);
    qmp = domain_qmp(domain, &err);
    assert_non_null(qmp);
    assert_int_equal(kill(domain_pid(domain), SIGKILL), 0);
    house_wait_state(domain, "shut off");
    assert_int_equal(guest_stop(qmp, &wait, &err), -ENOTCONN);
    assert_null(domain_qmp(domain, &err));
    assert_string_equal(err.text, "domain web is not running");
    domain_end_job(domain);
    assert_ok(domain_start(house->domains, "web", NULL, false, &err), &err);
    domain_unref(domain);
}

/* ---- QEMU's own doings ----------------------------------------------------------------------- */

static void test_killed_from_outside(void **state)
{
    struct house *house = *state;
    struct domain *domain = house_start(house, "web", "\"uuid\": \"" UUID "\"");

    assert_int_equal(kill(domain_pid(domain), SIGKILL), 0);
    house_wait_state(domain, "shut off");
    assert_int_equal(domain_pid(domain), 0);
    assert_false(house_has(house, RUN_FILE("qmp")));
    domain_unref(domain);
}

static void test_guest_powers_off(void **state)
{
    struct house *house = *state;
    struct domain *domain;

    house_write(house, "pool/off", power_off, sizeof power_off);
    domain = house_start(house, "web",
                         "\"disks\": [{\"target\": \"vda\", \"file\": \"off\", \"format\": "
                         "\"raw\"}]");
    house_wait_state(domain, "shut off");
    domain_unref(domain);
}

static void test_pause_is_seen(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain *domain = house_start(house, "web", "");
    struct qmp_wait wait = qmp_wait_ms(10000);

    assert_ok(domain_begin_job(domain, "migrating", &err), &err);
    assert_ok(guest_stop(domain_qmp(domain, &err), &wait, &err), &err);
    house_wait_state(domain, "paused");
    domain_end_job(domain);
    assert_true(domain_shutdown(domain, &err) < 0);
    assert_string_equal(err.text, "domain web is paused, so its guest can't be asked to shut down; "
                                  "destroy ends it");
    assert_ok(domain_begin_job(domain, "migrating", &err), &err);
    assert_ok(guest_cont(domain_qmp(domain, &err), &wait, &err), &err);
    house_wait_state(domain, "running");
    domain_end_job(domain);
    assert_ok(domain_shutdown(domain, &err), &err);
    domain_unref(domain);
}

/* ---- a daemon that comes back ---------------------------------------------------------------- */

static void test_restart(void **state)
{
    struct house *house = *state;
    struct error err = ERROR_INIT;
    struct domain *running = house_start(house, "running", "");
    struct domain *paused = house_start(house, "paused", "");
    struct domain *killed = house_start(house, "killed", "");
    struct domain *off = house_start(house, "off", "");
    struct qmp_wait wait = qmp_wait_ms(10000);
    pid_t pid = domain_pid(running), victim = domain_pid(killed);

    assert_ok(domain_destroy(off, &err), &err);
    assert_ok(domain_begin_job(paused, "migrating", &err), &err);
    assert_ok(guest_stop(domain_qmp(paused, &err), &wait, &err), &err);
    domain_end_job(paused);
    domain_unref(running);
    domain_unref(paused);
    domain_unref(killed);
    domain_unref(off);
    house_close(house);
    assert_int_equal(kill(victim, SIGKILL), 0);
    house_open(house);

    running = domains_find(house->domains, "running", &err);
    paused = domains_find(house->domains, "paused", &err);
    killed = domains_find(house->domains, "killed", &err);
    off = domains_find(house->domains, "off", &err);
    assert_state(running, "running");
    assert_int_equal(domain_pid(running), pid);
    assert_state(paused, "paused");
    house_wait_state(killed, "shut off"); /* the kernel may take a moment */
    assert_state(off, "shut off");
    assert_ok(domain_begin_job(running, "migrating", &err), &err);
    assert_ok(guest_stop(domain_qmp(running, &err), &wait, &err), &err);
    domain_end_job(running);
    house_wait_state(running, "paused");
    assert_int_equal(kill(pid, SIGKILL), 0); /* and it is watched */
    house_wait_state(running, "shut off");
    domain_unref(running);
    domain_unref(paused);
    domain_unref(killed);
    domain_unref(off);
}

static void test_bad_file_is_left_alone(void **state)
{
    struct house *house = *state;
    struct domain *domain = house_start(house, "web", "");
    struct error err = ERROR_INIT;

    domain_unref(domain);
    house_close(house);
    house_write(house, "state/domains/bad.json", "{", 1);
    house_write(house, "state/domains/web2.json", "{}", 2);
    house_open(house);
    assert_true(house_has(house, "state/domains/bad.json"));
    assert_true(house_has(house, "state/domains/web2.json"));
    assert_null(domains_find(house->domains, "bad", &err));
    domain = domains_find(house->domains, "web", &err);
    assert_state(domain, "running");
    domain_unref(domain);
}

static int run(void)
{
#define WITH_HOUSE(test) cmocka_unit_test_setup_teardown(test, house_setup, house_teardown)
    const struct CMUnitTest tests[] = {
        WITH_HOUSE(test_start_and_destroy),
        WITH_HOUSE(test_info),
        WITH_HOUSE(test_disks),
        WITH_HOUSE(test_refused_starts_leave_nothing),
        WITH_HOUSE(test_failed_start_keeps_domain),
        WITH_HOUSE(test_names_and_uuids),
        WITH_HOUSE(test_one_job),
        WITH_HOUSE(test_qemu_dies_under_job),
        WITH_HOUSE(test_killed_from_outside),
        WITH_HOUSE(test_guest_powers_off),
        WITH_HOUSE(test_pause_is_seen),
        WITH_HOUSE(test_restart),
        WITH_HOUSE(test_bad_file_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
