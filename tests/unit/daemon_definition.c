/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Definitions of guests: what an operator and what a peer may write, which field each complaint
 * names, and that what is written out is read in again.
 */
#include "config.h"

#include "tests/unit/unit.h"

#include "daemon/definition.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINIMAL "\"name\": \"web\", \"memory\": \"64M\""
#define UUID "6d1c2f0e-5b1d-4f0a-9c39-0d1f5f3a2b11"

static struct definition *parse(const char *text, enum definition_party writer, struct error *err)
{
    return definition_parse(text, strlen(text), writer, err);
}

static void assert_refused(const char *text, enum definition_party writer, const char *sentence)
{
    struct error err = ERROR_INIT;
    struct definition *definition = parse(text, writer, &err);

    if (definition || strcmp(err.text, sentence) != 0)
        fail_msg("%s\n gives: %s\n  not: %s", text, definition ? "a definition" : err.text,
                 sentence);
    assert_int_not_equal(err.code, 0);
}

/* ---- what is taken ----------------------------------------------------------------------------
 */

static void test_defaults(void **state)
{
    struct error err = ERROR_INIT;
    struct definition *definition;

    (void)state;
    definition = parse("{" MINIMAL ", \"disks\": [{\"target\": \"vda\", \"file\": \"web.qcow2\"}]}",
                       DEFINITION_PEER, &err);
    assert_non_null(definition);
    assert_string_equal(definition->name, "web");
    assert_true(definition->uuid_made);
    assert_string_equal(definition->machine, "q35");
    assert_null(definition->accel);
    assert_int_equal(definition->vcpus, 1);
    assert_true(definition->memory == 64u << 20);
    assert_string_equal(definition->display, "none");
    assert_int_equal(definition->disk_count, 1);
    assert_string_equal(definition->disks[0].format, "qcow2");
    assert_string_equal(definition->disks[0].cache, "writeback");
    assert_true(definition->disks[0].discard);
    assert_false(definition->disks[0].readonly);
    assert_true(definition->disks[0].size == 0);
    definition_free(definition);
}

static void test_made_uuids_differ(void **state)
{
    struct error err = ERROR_INIT;
    struct definition *one = parse("{" MINIMAL "}", DEFINITION_OPERATOR, &err);
    struct definition *other = parse("{" MINIMAL "}", DEFINITION_OPERATOR, &err);

    (void)state;
    assert_memory_not_equal(one->uuid, other->uuid, UUID_SIZE);
    assert_int_equal(one->uuid[6] >> 4, 4);
    definition_free(one);
    definition_free(other);
}

static const char everything[] =
    "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"machine\":\"pc-q35-7.2\",\"accel\":\"tcg\","
    "\"cpu\":\"qemu64,+ssse3\",\"vcpus\":2,\"memory\":268435456,\"firmware\":\"bios.bin\","
    "\"disks\":[{\"target\":\"vda\",\"file\":\"web.qcow2\",\"readonly\":false,"
    "\"discard\":\"ignore\",\"cache\":\"none\",\"format\":\"qcow2\",\"size\":1073741824},"
    "{\"target\":\"vdab\",\"file\":\"data.raw\",\"readonly\":true,\"discard\":\"unmap\","
    "\"cache\":\"writeback\",\"format\":\"raw\"},"
    "{\"target\":\"vdc\",\"readonly\":true,\"discard\":\"unmap\",\"cache\":\"writeback\"}],"
    "\"nics\":[{\"type\":\"tap\",\"model\":\"e1000\",\"mac\":\"52:54:00:12:34:56\","
    "\"ifname\":\"tap0\"},{\"type\":\"none\",\"model\":\"virtio-net-pci\"}],"
    "\"display\":\"vnc\",\"serial\":{\"log\":\"serial.log\"}}";

static void assert_written(const struct definition *definition, enum definition_party reader,
                           const char *expected)
{
    char *text = definition_to_text(definition, reader);

    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
}

static void test_round_trip(void **state)
{
    struct error err = ERROR_INIT;
    struct definition *definition = parse(everything, DEFINITION_PEER, &err);
    struct definition *copy;

    (void)state;
    assert_string_equal(err.text, "");
    assert_non_null(definition);
    assert_false(definition->uuid_made);
    assert_written(definition, DEFINITION_OPERATOR, everything);
    assert_written(definition, DEFINITION_PEER, everything);
    copy = definition_copy(definition);
    assert_written(copy, DEFINITION_OPERATOR, everything);
    definition_free(copy);
    definition_free(definition);
}

/* An operator's paths stay here; a peer gets names that it will take. */
static void test_paths_are_not_sent(void **state)
{
    static const char local[] =
        "{" MINIMAL ", \"firmware\": \"/usr/share/fw/bios.bin\", \"serial\": {\"log\": "
        "\"/var/log/web.log\"}, \"disks\": [{\"target\": \"vda\", \"file\": "
        "\"/srv/images/web.qcow2\"}]}";
    struct error err = ERROR_INIT;
    struct definition *definition = parse(local, DEFINITION_OPERATOR, &err);
    struct definition *sent;
    char *text;

    (void)state;
    assert_non_null(definition);
    text = definition_to_text(definition, DEFINITION_PEER);
    assert_null(strchr(text, '/'));
    sent = parse(text, DEFINITION_PEER, &err);
    assert_non_null(sent);
    assert_string_equal(sent->disks[0].file, "web.qcow2");
    assert_string_equal(sent->firmware, "bios.bin");
    assert_string_equal(sent->serial_log, "web.log");
    free(text);
    text = definition_disk_path(&definition->disks[0], "/pool");
    assert_string_equal(text, "/srv/images/web.qcow2");
    free(text);
    text = definition_disk_path(&sent->disks[0], "/pool");
    assert_string_equal(text, "/pool/web.qcow2");
    free(text);
    definition_free(sent);
    definition_free(definition);
}

static void test_sizes(void **state)
{
    static const struct {
        const char *text;
        uint64_t size;
    } sizes[] = {
        {"512", 512},
        {"\"512\"", 512},
        {"\"1K\"", 1024},
        {"\"3M\"", UINT64_C(3) << 20},
        {"\"2G\"", UINT64_C(2) << 30},
        {"\"8388607T\"", UINT64_C(8388607) << 40},
    };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct error err = ERROR_INIT;
        struct definition *definition;
        char text[256];

        snprintf(text, sizeof text,
                 "{" MINIMAL ", \"disks\": [{\"target\": \"vda\", \"file\": \"a\", \"size\": %s}]}",
                 sizes[i].text);
        definition = parse(text, DEFINITION_PEER, &err);
        assert_string_equal(err.text, "");
        assert_true(definition->disks[0].size == sizes[i].size);
        definition_free(definition);
    }
}

/* ---- what is refused, by whomever it was written ----------------------------------------------
 */

static const struct {
    const char *text; /* within the braces */
    const char *sentence;
} refused[] = {
    {"", "name: is missing"},
    {"\"name\": \"web\"", "memory: is missing; say for example \"256M\""},
    {"\"name\": 7", "name: must be a string"},
    {"\"name\": null", "name: must be a string"},
    {"\"name\": \"\"", "name: is empty; leave it out instead"},
    {"\"name\": \"../web\"", "name: a guest's name may not begin with a dot or a dash"},
    {"\"name\": \"-web\"", "name: a guest's name may not begin with a dot or a dash"},
    {"\"name\": \"a/b\"", "name: a guest's name may have no '/'"},
    {"\"name\": \"a b\"", "name: a guest's name may only have the characters A-Z a-z 0-9 and ._+-"},
    {"\"name\": \"a,b\"", "name: a guest's name may only have the characters A-Z a-z 0-9 and ._+-"},
    {"\"name\": \"caf\\u00e9\"",
     "name: a guest's name may only have the characters A-Z a-z 0-9 and ._+-"},
    {MINIMAL ", \"colour\": \"red\"", "colour: a definition has no such field"},
    {MINIMAL ", \"qemu_args\": [\"-S\"]", "qemu_args: a definition has no such field"},
    {MINIMAL ", \"uuid\": \"1234\"", "uuid: must look like 6d1c2f0e-5b1d-4f0a-9c39-0d1f5f3a2b11"},
    {MINIMAL ", \"uuid\": \"6d1c2f0e-5b1d-4f0a-9c39-0d1f5f3a2b1g\"",
     "uuid: must look like 6d1c2f0e-5b1d-4f0a-9c39-0d1f5f3a2b11"},
    {MINIMAL ", \"uuid\": \"00000000-0000-0000-0000-000000000000\"",
     "uuid: must look like 6d1c2f0e-5b1d-4f0a-9c39-0d1f5f3a2b11"},
    {MINIMAL ", \"machine\": \"pc,kernel=/boot/vmlinuz\"",
     "machine: may only have the characters A-Z a-z 0-9 and ._-"},
    {MINIMAL ", \"accel\": \"xen\"", "accel: must be one of \"kvm\", \"tcg\""},
    {MINIMAL ", \"cpu\": \"host;\"", "cpu: may only have the characters A-Z a-z 0-9 and ._+-,="},
    {MINIMAL ", \"vcpus\": 0", "vcpus: is 0, but must be a whole number from 1 to 255"},
    {MINIMAL ", \"vcpus\": 256", "vcpus: is 256, but must be a whole number from 1 to 255"},
    {MINIMAL ", \"vcpus\": 1.5", "vcpus: must be a whole number from 1 to 255"},
    {MINIMAL ", \"vcpus\": \"2\"", "vcpus: must be a whole number from 1 to 255"},
    {"\"name\": \"web\", \"memory\": true",
     "memory: must be a number of bytes, or a string such as \"256M\""},
    {"\"name\": \"web\", \"memory\": \"64Q\"",
     "memory: must be a number of bytes, or a string such as \"256M\""},
    {"\"name\": \"web\", \"memory\": \"64MB\"",
     "memory: must be a number of bytes, or a string such as \"256M\""},
    {"\"name\": \"web\", \"memory\": \"99999999999999999999\"",
     "memory: must be a number of bytes, or a string such as \"256M\""},
    {"\"name\": \"web\", \"memory\": \"99999999T\"",
     "memory: must be a number of bytes, or a string such as \"256M\""},
    {"\"name\": \"web\", \"memory\": -1",
     "memory: must be a number of bytes, or a string such as \"256M\""},
    {"\"name\": \"web\", \"memory\": 1048577",
     "memory: is 1048577 bytes, but must be between 1048576 and 17592186044416 and a multiple of "
     "1048576"},
    {MINIMAL ", \"disks\": {}", "disks: must be an array"},
    {MINIMAL ", \"disks\": [7]", "disks[0]: must be an object"},
    {MINIMAL ", \"disks\": [{}]", "disks[0].target: is missing; the first disk is \"vda\""},
    {MINIMAL ", \"disks\": [{\"target\": \"sda\", \"file\": \"a\"}]",
     "disks[0].target: must be vda, vdb, ... or vdaa, vdab, ..."},
    {MINIMAL ", \"disks\": [{\"target\": \"vd\", \"file\": \"a\"}]",
     "disks[0].target: must be vda, vdb, ... or vdaa, vdab, ..."},
    {MINIMAL ", \"disks\": [{\"target\": \"vda,x\", \"file\": \"a\"}]",
     "disks[0].target: must be vda, vdb, ... or vdaa, vdab, ..."},
    {MINIMAL ", \"disks\": [{\"target\": \"vda\", \"file\": \"a\"}, {\"target\": \"vda\", "
             "\"file\": \"b\"}]",
     "disks[1].target: vda is the target of disks[0] already"},
    {MINIMAL ", \"disks\": [{\"target\": \"vda\", \"file\": \"a\"}, {\"target\": \"vdb\", "
             "\"file\": \"a\"}]",
     "disks[1].file: a is the file of disks[0] already"},
    {MINIMAL ", \"disks\": [{\"target\": \"vda\"}]",
     "disks[0].file: is missing; only a drive with \"readonly\": true may be empty"},
    {MINIMAL ", \"disks\": [{\"target\": \"vda\", \"readonly\": true, \"size\": 512}]",
     "disks[0].size: makes no sense for a drive without a file"},
    {MINIMAL ", \"disks\": [{\"target\": \"vda\", \"file\": \"a\", \"format\": \"vmdk\"}]",
     "disks[0].format: must be one of \"qcow2\", \"raw\""},
    {MINIMAL ", \"disks\": [{\"target\": \"vda\", \"file\": \"a\", \"size\": 513}]",
     "disks[0].size: is 513 bytes, but must be between 512 and 9223372036854775807 and a multiple "
     "of 512"},
    {MINIMAL ", \"disks\": [{\"target\": \"vda\", \"file\": \"a\", \"readonly\": \"yes\"}]",
     "disks[0].readonly: must be true or false"},
    {MINIMAL ", \"disks\": [{\"target\": \"vda\", \"file\": \"a\", \"discard\": \"on\"}]",
     "disks[0].discard: must be one of \"unmap\", \"ignore\""},
    {MINIMAL ", \"disks\": [{\"target\": \"vda\", \"file\": \"a\", \"cache\": \"some\"}]",
     "disks[0].cache: must be one of \"writeback\", \"none\", \"writethrough\", \"directsync\", "
     "\"unsafe\""},
    {MINIMAL ", \"disks\": [{\"target\": \"vda\", \"file\": \"a\", \"serial\": \"x\"}]",
     "disks[0].serial: a definition has no such field"},
    {MINIMAL ", \"nics\": 1", "nics: must be an array"},
    {MINIMAL ", \"nics\": [{\"type\": \"bridge\"}]",
     "nics[0].type: must be one of \"user\", \"tap\", \"none\""},
    {MINIMAL ", \"nics\": [{\"model\": \"virtio-9p-pci\"}]",
     "nics[0].model: must be one of \"virtio-net-pci\", \"e1000\", \"e1000e\", \"rtl8139\""},
    {MINIMAL ", \"nics\": [{\"mac\": \"52:54:00:12:34\"}]",
     "nics[0].mac: must look like 52:54:00:12:34:56"},
    {MINIMAL ", \"nics\": [{\"mac\": \"01:54:00:12:34:56\"}]",
     "nics[0].mac: must look like 52:54:00:12:34:56"},
    {MINIMAL ", \"nics\": [{\"type\": \"tap\"}]",
     "nics[0].ifname: is needed for the type \"tap\", and only there"},
    {MINIMAL ", \"nics\": [{\"ifname\": \"tap0\"}]",
     "nics[0].ifname: is needed for the type \"tap\", and only there"},
    {MINIMAL ", \"nics\": [{\"type\": \"tap\", \"ifname\": \"tap0,script=x\"}]",
     "nics[0].ifname: may only have the characters A-Z a-z 0-9 and ._+-"},
    {MINIMAL ", \"nics\": [{\"type\": \"tap\", \"ifname\": \"a234567890123456\"}]",
     "nics[0].ifname: has 16 bytes, more than the 15 that it may have"},
    {MINIMAL ", \"serial\": \"x\"", "serial: must be an object such as {\"log\": \"serial.log\"}"},
    {MINIMAL ", \"serial\": {}", "serial.log: is missing"},
    {MINIMAL ", \"serial\": {\"log\": \"a\", \"port\": 1}",
     "serial.port: a definition has no such field"},
    {MINIMAL ", \"serial\": {\"log\": \"qemu.log\"}",
     "serial.log: qemu.log is where QEMU's own messages go"},
    {MINIMAL ", \"display\": \"gtk\"", "display: must be one of \"none\", \"vnc\""},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char text[512];

        snprintf(text, sizeof text, "{%s}", refused[i].text);
        assert_refused(text, DEFINITION_OPERATOR, refused[i].sentence);
        assert_refused(text, DEFINITION_PEER, refused[i].sentence);
    }
}

static void test_no_json(void **state)
{
    (void)state;
    assert_refused("{", DEFINITION_PEER,
                   "the definition is no valid JSON: line 1, column 1: string or '}' expected "
                   "near end of file");
    assert_refused("[]", DEFINITION_PEER, "a definition must be a JSON object");
    assert_refused("{\"name\": \"a\", \"name\": \"b\"}", DEFINITION_PEER,
                   "the definition is no valid JSON: line 1, column 20: duplicate object key near "
                   "'\"name\"'");
}

/* ---- paths are an operator's only -------------------------------------------------------------
 */

static void test_paths_of_peers(void **state)
{
    struct error err = ERROR_INIT;
    struct definition *definition;
    static const char *const fields[][2] = {
        {"\"disks\": [{\"target\": \"vda\", \"file\": \"%s\"}]", "disks[0].file"},
        {"\"firmware\": \"%s\"", "firmware"},
        {"\"serial\": {\"log\": \"%s\"}", "serial.log"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        char format[256], text[512], sentence[256];

        snprintf(format, sizeof format, "{" MINIMAL ", %s}", fields[i][0]);
        snprintf(sentence, sizeof sentence, "%s: the file's name may have no '/'", fields[i][1]);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof text, format, "/etc/passwd");
        assert_refused(text, DEFINITION_PEER, sentence);
        definition = parse(text, DEFINITION_OPERATOR, &err);
        assert_non_null(definition);
        definition_free(definition);
        snprintf(text, sizeof text, format, "images/a");
        assert_refused(text, DEFINITION_PEER, sentence);
        strcat(sentence, " unless it is an absolute path");
        assert_refused(text, DEFINITION_OPERATOR, sentence);
        snprintf(text, sizeof text, format, "../a");
#pragma GCC diagnostic pop
        snprintf(sentence, sizeof sentence,
                 "%s: the file's name may not begin with a dot or a dash", fields[i][1]);
        assert_refused(text, DEFINITION_PEER, sentence);
        strcat(sentence, " unless it is an absolute path");
        assert_refused(text, DEFINITION_OPERATOR, sentence);
    }
}

/* Two images that are one name at the peer's. */
static void test_same_name_in_two_folders(void **state)
{
    struct error err = ERROR_INIT;
    struct definition *definition =
        parse("{" MINIMAL ", \"disks\": [{\"target\": \"vda\", \"file\": \"/a/disk\"},"
              "{\"target\": \"vdb\", \"file\": \"/b/disk\"}]}",
              DEFINITION_OPERATOR, &err);
    char *text = definition_to_text(definition, DEFINITION_PEER);

    (void)state;
    assert_refused(text, DEFINITION_PEER, "disks[1].file: disk is the file of disks[0] already");
    free(text);
    definition_free(definition);
}

/* ---- too much ----------------------------------------------------------------------------------
 */

static void test_ten_thousand_disks(void **state)
{
    enum { DISKS = 10000 };
    static char text[BS_DEFINITION_MAX];
    size_t used = (size_t)snprintf(text, sizeof text, "{" MINIMAL ", \"disks\": [");

    (void)state;
    for (size_t i = 0; i < DISKS; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s{\"target\":\"vda\"}",
                                 i ? "," : "");
    snprintf(text + used, sizeof text - used, "]}");
    assert_refused(text, DEFINITION_PEER, "disks: has 10000 entries, but a guest may have 64");
}

static void test_too_long(void **state)
{
    static char text[BS_DEFINITION_MAX + 2];
    static char name[DEFINITION_NAME_MAX + 2], definition[1024];

    (void)state;
    memset(text, ' ', sizeof text - 1);
    assert_refused(text, DEFINITION_PEER,
                   "a definition of 262145 bytes is longer than the 262144 that it may have");

    memset(name, 'a', sizeof name - 1);
    snprintf(definition, sizeof definition, "{\"name\": \"%s\", \"memory\": \"64M\"}", name);
    assert_refused(definition, DEFINITION_PEER, "name: a guest's name is too long");

    name[DEFINITION_FILE_MAX + 1] = '\0';
    snprintf(definition, sizeof definition,
             "{" MINIMAL ", \"disks\": [{\"target\": \"vda\", \"file\": \"%s\"}]}", name);
    assert_refused(definition, DEFINITION_PEER, "disks[0].file: the file's name is too long");
}

/* Nesting is the parser's to refuse, before the stack ends. */
static void test_deep(void **state)
{
    static char text[BS_DEFINITION_MAX];
    struct error err = ERROR_INIT;

    (void)state;
    memset(text, '[', sizeof text - 1);
    assert_null(parse(text, DEFINITION_PEER, &err));
    assert_non_null(strstr(err.text, "maximum parsing depth reached"));
}

static void test_rename(void **state)
{
    struct error err = ERROR_INIT;
    struct definition *definition = parse("{" MINIMAL "}", DEFINITION_OPERATOR, &err);

    (void)state;
    assert_int_equal(definition_rename(definition, "db", &err), 0);
    assert_string_equal(definition->name, "db");
    assert_true(definition_rename(definition, "../db", &err) < 0);
    assert_string_equal(err.text, "a guest's name may not begin with a dot or a dash");
    assert_string_equal(definition->name, "db");
    definition_free(definition);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_made_uuids_differ),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_paths_are_not_sent),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_json),
        cmocka_unit_test(test_paths_of_peers),
        cmocka_unit_test(test_same_name_in_two_folders),
        cmocka_unit_test(test_ten_thousand_disks),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_deep),
        cmocka_unit_test(test_rename),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
