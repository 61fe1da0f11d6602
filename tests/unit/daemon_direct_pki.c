/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * daemon/direct_pki.h: what is wrong with QEMU's certificates, and the subject in the form that QEMU
 * compares, of which tests/qemu/direct.c proves that it does.
 */
#include "config.h"

#include "tests/unit/unit.h"

#include "daemon/direct_pki.h"
#include "tests/unit/test_pki.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct test_ca *ca;

static int make_ca(void **state)
{
    (void)state;
    ca = test_ca_new("a CA");
    return 0;
}

static int free_ca(void **state)
{
    (void)state;
    test_ca_free(ca);
    return 0;
}

static char *make_dir(const struct test_certificate *certificate)
{
    char *dir = test_pki_dir(ca, certificate);

    test_pki_for_qemu(dir);
    return dir;
}

static void check_subject(const char *o, const char *cn, const char *subject)
{
    const struct test_certificate certificate = {.o = o, .cn = cn};
    char *dir = make_dir(&certificate);
    char found[DIRECT_PKI_SUBJECT_MAX];
    struct error err = ERROR_INIT;
    int r = direct_pki_check(dir, found, &err);

    if (subject) {
        assert_int_equal(r, 0);
        assert_string_equal(found, subject);
    } else {
        assert_int_equal(r, -EINVAL);
        assert_non_null(strstr(err.text, "client-cert.pem can't be told to another host"));
    }
    test_pki_remove(dir);
}

static void test_subject(void **state)
{
    (void)state;
    check_subject(NULL, "a.vm.example.org", "CN=a.vm.example.org");
    check_subject("Two Hosts Ltd.", "source", "O=Two Hosts Ltd.,CN=source");
    check_subject(NULL, "2001:db8::1", "CN=2001:db8::1");
    check_subject("Us, and Them", "a", NULL);
    check_subject("O=x", "a", NULL);
    check_subject(" Us", "a", NULL);
    check_subject("Us ", "a", NULL);
    check_subject("#1", "a", NULL);
    check_subject("a\\b", "a", NULL);
    check_subject("M\xc3\xbcller", "a", NULL);
}

static void expect(const char *dir, int code, const char *words)
{
    struct error err = ERROR_INIT;

    assert_int_equal(direct_pki_check(dir, NULL, &err), -code);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void test_not_configured(void **state)
{
    (void)state;
    expect(NULL, ENOENT, "direct_pki_dir is not configured");
}

static void test_missing_files(void **state)
{
    static const char *const files[] = {"ca-cert.pem", "server-cert.pem", "server-key.pem",
                                        "client-cert.pem", "client-key.pem"};
    char path[256], elsewhere[256], *dir = make_dir(NULL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LENGTH(files); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        snprintf(elsewhere, sizeof elsewhere, "%s.away", path);
        assert_int_equal(rename(path, elsewhere), 0);
        expect(dir, ENOENT, path);
        assert_int_equal(rename(elsewhere, path), 0);
    }
    assert_int_equal(direct_pki_check(dir, NULL, NULL), 0);
    test_pki_remove(dir);
}

/* Puts the file of that name in OTHER in the place of DIR's. */
static void take_from(const char *dir, const char *other, const char *file)
{
    char from[256], to[256];

    snprintf(from, sizeof from, "%s/%s", other, file);
    snprintf(to, sizeof to, "%s/%s", dir, file);
    assert_int_equal(unlink(to), 0);
    assert_int_equal(symlink(from, to), 0);
}

static void check_foreign(const char *file, const char *words)
{
    struct test_ca *foreign = test_ca_new("another CA");
    char *dir = make_dir(NULL), *other = test_pki_dir(foreign, NULL);

    test_pki_for_qemu(other);
    take_from(dir, other, file);
    expect(dir, EINVAL, words);
    test_pki_remove(other);
    test_pki_remove(dir);
    test_ca_free(foreign);
}

static void test_what_does_not_fit(void **state)
{
    (void)state;
    check_foreign("ca-cert.pem", "server-cert.pem is no good as a server with ca-cert.pem");
    check_foreign("server-key.pem", "server-key.pem is not the key of server-cert.pem");
    check_foreign("client-key.pem", "client-key.pem is not the key of client-cert.pem");
}

static void test_expired(void **state)
{
    const struct test_certificate expired = {.expired = true};
    char *dir = make_dir(&expired);

    (void)state;
    expect(dir, EINVAL, "certificate has expired");
    test_pki_remove(dir);
}

static void test_nonsense(void **state)
{
    char path[256], *dir = make_dir(NULL);
    FILE *file;

    (void)state;
    snprintf(path, sizeof path, "%s/client-cert.pem", dir);
    assert_int_equal(unlink(path), 0);
    file = fopen(path, "w");
    fputs("nonsense\n", file);
    fclose(file);
    expect(dir, EINVAL, "client-cert.pem holds no certificate in PEM format");
    test_pki_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subject),       cmocka_unit_test(test_not_configured),
        cmocka_unit_test(test_missing_files), cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_expired),       cmocka_unit_test(test_nonsense),
    };

    return cmocka_run_group_tests(tests, make_ca, free_ca);
}
