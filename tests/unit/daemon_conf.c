/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* The daemon's configuration: what is read, and what the operator is told of a mistake. */
#include "config.h"

#include "tests/unit/unit.h"

#include "common/cleanup.h"
#include "daemon/conf.h"

#include <errno.h>
#include <string.h>

static char path[] = "/tmp/bistream-conf-XXXXXX";

static int make_file(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static struct config *load(const char *text, struct error *err)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return config_load(path, err);
}

static void test_defaults(void **state)
{
    struct error err = ERROR_INIT;
    struct config *config = load("", &err);

    (void)state;
    assert_non_null(config);
    assert_int_equal(err.code, 0);
    assert_string_equal(config->listen, "[::]:16520");
    assert_string_equal(config->control_socket, "/run/bistream/bistreamd.sock");
    assert_string_equal(config->pki_dir, "/etc/pki/bistream");
    assert_string_equal(config->run_dir, "/run/bistream");
    assert_string_equal(config->state_dir, "/var/lib/bistream");
    assert_string_equal(config->pool_dir, "/var/lib/bistream/images");
    assert_null(config->allowed_peers[0]);
    assert_null(config->forward_allow[0]);
    assert_true(config->offer_bistream);
    assert_int_equal(config->session_memory, 64 << 20);
    assert_int_equal(config->ping_ms, 5000);
    assert_int_equal(config->grace_ms, 300000);
    assert_int_equal(config->stall_ms, 10000);
    assert_int_equal(config->direct_first, 49152);
    assert_int_equal(config->direct_last, 49215);
    assert_null(config->direct_pki_dir);
    assert_string_equal(config->qemu_binary, "qemu-system-x86_64");
    assert_null(config->qemu_args[0]);
    config_free(config);
}

static void test_all_keys(void **state)
{
    struct error err = ERROR_INIT;
    struct config *config = load("# a comment\n"
                                 "listen = \"127.0.0.1:0\"\n"
                                 "control_socket = \"/tmp/x/control\"\n"
                                 "control_group = \"\"\n"
                                 "pki_dir = \"/tmp/x/pki\"\n"
                                 "run_dir = \"/tmp/x/run\"\n"
                                 "state_dir = \"/tmp/x/state\"\n"
                                 "pool_dir = \"/tmp/x/pool\"\n"
                                 "allowed_peers = {\"*.vm.example.org\", \"b\"}\n"
                                 "forward_allow = {\"/run/vm/*.sock\"}\n"
                                 "tap_allow = {\"vm-*\"}\n"
                                 "offer_bistream = false\n"
                                 "session_memory = \"1G\"\n"
                                 "ping = \"250ms\"\n"
                                 "grace = \"2m\"\n"
                                 "stall_timeout = \"3s\"\n"
                                 "direct_ports = \"1-65535\"\n"
                                 "direct_pki_dir = \"/tmp/x/direct\"\n"
                                 "qemu_binary = \"/opt/qemu\"\n"
                                 "qemu_args = {\"-cpu\", \"max\"}\n",
                                 &err);

    (void)state;
    assert_non_null(config);
    assert_string_equal(config->listen, "127.0.0.1:0");
    assert_null(config->control_group);
    assert_string_equal(config->allowed_peers[0], "*.vm.example.org");
    assert_string_equal(config->allowed_peers[1], "b");
    assert_null(config->allowed_peers[2]);
    assert_string_equal(config->forward_allow[0], "/run/vm/*.sock");
    assert_string_equal(config->tap_allow[0], "vm-*");
    assert_false(config->offer_bistream);
    assert_int_equal(config->session_memory, 1 << 30);
    assert_int_equal(config->ping_ms, 250);
    assert_int_equal(config->grace_ms, 120000);
    assert_int_equal(config->stall_ms, 3000);
    assert_int_equal(config->direct_first, 1);
    assert_int_equal(config->direct_last, 65535);
    assert_string_equal(config->direct_pki_dir, "/tmp/x/direct");
    assert_string_equal(config->qemu_args[1], "max");
    assert_null(config->qemu_args[2]);
    config_free(config);
}

static void test_no_ports(void **state)
{
    struct error err = ERROR_INIT;
    struct config *config = load("direct_ports = \"\"\n", &err);

    (void)state;
    assert_non_null(config);
    assert_int_equal(config->direct_first, 0);
    config_free(config);
}

/* Each mistake with what has to stand in the sentence; all of them stand in line 2. */
static const struct {
    const char *line, *says;
} mistakes[] = {
    {"grace = \"11m\"", "grace = \"11m\": a time up to 10m is wanted"},
    {"grace = \"soon\"", "grace"},
    {"direct_ports = \"49152\"", "direct_ports = \"49152\": the first and the last of some ports"},
    {"direct_ports = \"0-9\"", "direct_ports"},
    {"direct_ports = \"9-8\"", "direct_ports"},
    {"direct_ports = \"1-65536\"", "direct_ports"},
    {"direct_ports = \"1-2,4\"", "direct_ports"},
    {"direct_ports = \" 1-2\"", "direct_ports"},
    {"direct_ports = \"-1-2\"", "direct_ports"},
    {"direct_ports = \"1--2\"", "direct_ports"},
    {"direct_pki_dir = \"direct\"", "direct_pki_dir"},
    {"stall_timeout = \"0s\"", "stall_timeout"},
    {"nonsense", "nonsense"},
    {"listen = \"somewhere\"", "listen"},
    {"listen = \"[::]:99999\"", "listen"},
    {"run_dir = \"run\"", "run_dir = \"run\": a path from the root (/...) is wanted"},
    {"pki_dir = \"\"", "pki_dir"},
    {"control_group = \"no-such-group-here\"", "groupadd --system no-such-group-here"},
    {"offer_bistream = perhaps", "offer_bistream"},
    {"session_memory = \"64Q\"", "session_memory = \"64Q\": a size from 4M to 16G is wanted"},
    {"session_memory = \"1M\"", "a size from 4M to 16G"},
    {"session_memory = \"99999999999999G\"", "a size from 4M to 16G"},
    {"session_memory = \"-5M\"", "a size from 4M to 16G"},
    {"ping = \"5\"", "ping = \"5\": a time from 100ms to 10m is wanted"},
    {"ping = \"1h\"", "a time from 100ms"},
    {"ping = \"0s\"", "a time from 100ms"},
    {"allowed_peers = {\"a\", \"\"}", "allowed_peers: an empty pattern"},
    {"forward_allow = {\"*.sock\"}", "forward_allow: \"*.sock\" matches nothing"},
    {"tap_allow = {\"\"}", "tap_allow: an empty pattern"},
    {"qemu_binary = \"\"", "qemu_binary is empty"},
};

static void test_mistakes_name_file_and_line(void **state)
{
    char where[64];

    (void)state;
    snprintf(where, sizeof where, "%s:2: ", path);
    for (size_t i = 0; i < ARRAY_LENGTH(mistakes); i++) {
        struct error err = ERROR_INIT;
        char text[256];

        snprintf(text, sizeof text, "# first\n%s\n# third\n", mistakes[i].line);
        assert_null(load(text, &err));
        assert_int_equal(err.code, EINVAL);
        if (!strstr(err.text, where) || !strstr(err.text, mistakes[i].says))
            fail_msg("%s: \"%s\" does not name %s and \"%s\"", mistakes[i].line, err.text, where,
                     mistakes[i].says);
    }
}

/* libconfuse miscounts lines behind comments; whoever looks for a mistake must not notice. */
static void test_lines_are_counted_behind_comments(void **state)
{
    struct error err = ERROR_INIT;
    char where[64];

    (void)state;
    snprintf(where, sizeof where, "%s:8: ", path);
    assert_null(load("# one # two\n"
                     "run_dir = \"/#://\\\"#\" # not a comment, but this\n"
                     "// another\n"
                     "/* # two\n"
                     "   lines */ allowed_peers = {'#a', # b\n"
                     "\"c\"}\n"
                     "\n"
                     "nonsense = 1\n",
                     &err));
    assert_non_null(strstr(err.text, where));
}

static void test_long_socket_path(void **state)
{
    struct error err = ERROR_INIT;
    char text[256];

    (void)state;
    snprintf(text, sizeof text, "control_socket = \"/%0110d\"\n", 0);
    assert_null(load(text, &err));
    assert_non_null(strstr(err.text, "a socket's path has at most 107 bytes"));
}

static void test_no_file(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_null(config_load("/nowhere/bistreamd.conf", &err));
    assert_int_equal(err.code, ENOENT);
    assert_non_null(strstr(err.text, "can't read the configuration /nowhere/bistreamd.conf"));
    assert_non_null(strstr(err.text, "--config"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all_keys),
        cmocka_unit_test(test_no_ports),
        cmocka_unit_test(test_mistakes_name_file_and_line),
        cmocka_unit_test(test_lines_are_counted_behind_comments),
        cmocka_unit_test(test_long_socket_path),
        cmocka_unit_test(test_no_file),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
