/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * RAM and disks from QEMU to QEMU through TCP ports, with QEMU's own TLS: the one certificate that is
 * to be let in is, another one of the same CA isn't, on either port, and disturbs nothing.  The
 * connection for RAM is dialled here and handed to QEMU; one that never answers disturbs nothing
 * either, and can be ended from here.  The same connection, received here and handed to the QEMU at the
 * destination, doesn't hold that up either.
 */
#include "config.h"

#include "tests/qemu/migrating.h"
#include "tests/unit/test_pki.h"
#include "common/loop.h"
#include "qemu/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SILENCE_MS = 500, SOON_MS = 2000 };

#define SILENCE (&(struct qmp_wait){.deadline = loop_clock() + SILENCE_MS * LOOP_MS})
#define SOON (&(struct qmp_wait){.deadline = loop_clock() + SOON_MS * LOOP_MS})
#define SUBJECT "O=Two Hosts Ltd.,CN=source"

/* Two hosts with certificates of one CA, and a third one's. */
struct hosts {
    struct migrating pair;
    struct test_ca *ca;
    char *source_dir, *destination_dir, *other_dir;
    struct qemu_address ram, nbd;
    int listener; /* where that for RAM is received; -1: the destination's QEMU does it itself */
    int fd;       /* of the source's connection for RAM */
};

/* Bound to a port that nobody listens on at this moment. */
static int bind_port(unsigned *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static unsigned free_port(void)
{
    unsigned port;

    close(bind_port(&port));
    return port;
}

static int dial(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* As the daemon does it, which keeps the connection for as long as the migration takes. */
static void start_migration(struct hosts *hosts)
{
    struct error err = ERROR_INIT;

    hosts->fd = dial(hosts->ram.port);
    assert_ok(migration_start_fd(hosts->pair.source->qmp, hosts->fd, WAIT, &err), &err);
}

static char *make_dir(struct test_ca *ca, const char *cn, const char *san)
{
    const struct test_certificate certificate = {.o = "Two Hosts Ltd.", .cn = cn, .san = san};
    char *dir = test_pki_dir(ca, &certificate);

    test_pki_for_qemu(dir);
    return dir;
}

static void start_destination(struct hosts *hosts)
{
    const struct migration_setup setup = {.tls_creds = QEMU_TLS_CREDS, .tls_authz = QEMU_TLS_AUTHZ};
    struct vm *vm = hosts->pair.destination;
    struct error err = ERROR_INIT;

    vm_make_disks(vm);
    vm->launch.incoming = true;
    vm_start(vm, hosts->pair.bench);
    hosts->nbd = (struct qemu_address){.host = "127.0.0.1", .port = free_port()};
    hosts->ram.host = "127.0.0.1";
    if (hosts->listener < 0)
        hosts->ram.port = free_port();
    assert_ok(qemu_tls_server(vm->qmp, hosts->destination_dir, SUBJECT, WAIT, &err), &err);
    assert_ok(migration_prepare(vm->qmp, &setup, WAIT, &err), &err);
    assert_ok(block_exports_start(vm->qmp, &hosts->nbd, QEMU_TLS_CREDS, QEMU_TLS_AUTHZ, WAIT, &err),
              &err);
    for (size_t i = 0; i < VM_DISKS; i++)
        assert_ok(block_export_add(vm->qmp, vm->disks[i].target, vm->disks[i].target, WAIT, &err),
                  &err);
    if (hosts->listener < 0)
        assert_ok(migration_incoming(vm->qmp, &hosts->ram, WAIT, &err), &err);
}

/* SAN of the destination's certificate; the source has none set up yet. */
static struct hosts start_hosts(struct bench *bench, const char *san, bool receives)
{
    struct hosts hosts = {.ca = test_ca_new("a CA"),
                          .listener = -1,
                          .pair = {.bench = bench,
                                   .source = vm_new(bench, "source"),
                                   .destination = vm_new(bench, "destination")}};

    hosts.source_dir = make_dir(hosts.ca, "source", NULL);
    hosts.destination_dir = make_dir(hosts.ca, "destination", san);
    hosts.other_dir = make_dir(hosts.ca, "other", NULL);
    vm_make_guest(hosts.pair.source);
    vm_start(hosts.pair.source, bench);
    vm_check_writes(hosts.pair.source);
    if (receives) {
        hosts.listener = bind_port(&hosts.ram.port);
        assert_int_equal(listen(hosts.listener, 1), 0);
    }
    start_destination(&hosts);
    return hosts;
}

static void remove_files(struct hosts *hosts)
{
    test_pki_remove(hosts->source_dir);
    test_pki_remove(hosts->destination_dir);
    test_pki_remove(hosts->other_dir);
    test_ca_free(hosts->ca);
}

static void set_source(struct hosts *hosts, const char *dir, const char *hostname)
{
    const struct migration_setup setup = {.source = true,
                                          .return_path = true,
                                          .tls_creds = QEMU_TLS_CREDS,
                                          .tls_hostname = hostname ? hostname : "127.0.0.1"};
    struct qmp *qmp = hosts->pair.source->qmp;
    struct error err = ERROR_INIT;

    assert_ok(qemu_tls_client(qmp, dir, WAIT, &err), &err);
    assert_ok(migration_prepare(qmp, &setup, WAIT, &err), &err);
    vm_describe_mirrors(hosts->pair.destination, hosts->pair.mirrors);
    for (size_t i = 0; i < VM_DISKS; i++) {
        hosts->pair.mirrors[i].address = hosts->nbd;
        hosts->pair.mirrors[i].tls_creds = QEMU_TLS_CREDS;
        hosts->pair.mirrors[i].tls_hostname = hostname;
    }
}

static void expect_no_mirror(struct hosts *hosts, const char *words)
{
    struct qmp *qmp = hosts->pair.source->qmp;
    struct error err = ERROR_INIT;

    assert_int_equal(block_mirror_start(qmp, &hosts->pair.mirrors[0], WAIT, &err), -EREMOTEIO);
    if (!strstr(err.text, words))
        fail_msg("%s", err.text);
    assert_ok(block_mirrors_remove(qmp, WAIT, &err), &err);
}

/* The source may have written all of RAM into its socket before it hears of the refusal. */
static void expect_no_migration(struct hosts *hosts)
{
    struct qmp *qmp = hosts->pair.source->qmp;
    struct migration_info info;
    struct error err = ERROR_INIT;
    int r;

    start_migration(hosts);
    r = migration_wait(qmp, MIGRATION_PRE_SWITCHOVER, NULL, WAIT, &err);
    if (r == 0) {
        assert_ok(migration_continue(qmp, WAIT, &err), &err);
        r = migration_wait(qmp, MIGRATION_COMPLETED, NULL, WAIT, &err);
    }
    assert_int_equal(r, -EIO);
    assert_ok(migration_query(hosts->pair.destination->qmp, &info, WAIT, &err), &err);
    assert_true(info.state == MIGRATION_NONE || info.state == MIGRATION_SETUP); /* it still waits */
    assert_ok(migration_cancel(qmp, WAIT, &err), &err);
    assert_ok(migration_resume_source(qmp, WAIT, &err), &err);
    close(hosts->fd);
}

static void expect_success(struct hosts *hosts)
{
    struct migrating *pair = &hosts->pair;
    struct qmp *qmp = pair->source->qmp;
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < VM_DISKS; i++)
        assert_ok(block_mirror_start(qmp, &pair->mirrors[i], WAIT, &err), &err);
    assert_ok(block_mirrors_wait_ready(qmp, pair->mirrors, VM_DISKS, WAIT, &err), &err);
    start_migration(hosts);
    assert_ok(migration_wait(qmp, MIGRATION_PRE_SWITCHOVER, NULL, WAIT, &err), &err);
    migrating_until_completed(pair->source, pair->destination, pair->mirrors);
    close(hosts->fd);
    assert_ok(migration_forget(qmp, WAIT, &err), &err);
    assert_ok(qemu_tls_remove(qmp, WAIT, &err), &err);
    migrating_finish(pair->source, pair->destination);
}

static void test_only_one_is_let_in(void **state)
{
    struct hosts hosts = start_hosts(*state, NULL, false);

    set_source(&hosts, hosts.other_dir, NULL);
    expect_no_mirror(&hosts, "");
    expect_no_migration(&hosts);
    vm_check_writes(hosts.pair.source);
    set_source(&hosts, hosts.source_dir, NULL);
    expect_success(&hosts);
    remove_files(&hosts);
}

/* What is checked against the certificate need not be what is dialled.  (A source that turns away
 * after its own certificate was let in ends the destination, so only the mirror tries.) */
static void test_hostname(void **state)
{
    struct hosts hosts = start_hosts(*state, "DNS:b.example.org", false);

    set_source(&hosts, hosts.source_dir, NULL);
    expect_no_mirror(&hosts, "Certificate does not match the hostname 127.0.0.1");
    set_source(&hosts, hosts.source_dir, "b.example.org");
    expect_success(&hosts);
    remove_files(&hosts);
}

/* Until the test ends the connection, nothing of it is to be seen. */
static void expect_silence(struct hosts *hosts)
{
    struct qmp *qmp = hosts->pair.source->qmp;
    struct migration_info info;
    struct error err = ERROR_INIT;

    assert_int_equal(migration_wait(qmp, MIGRATION_ACTIVE, &info, SILENCE, &err), -ETIMEDOUT);
    assert_int_equal(info.state, MIGRATION_SETUP);
    vm_check_writes(hosts->pair.source);
}

/* What becomes of a migration whose connection has been shut down. */
static void expect_end(struct hosts *hosts)
{
    struct qmp *qmp = hosts->pair.source->qmp;
    struct error err = ERROR_INIT;

    assert_ok(migration_cancel(qmp, SOON, &err), &err);
    assert_ok(migration_resume_source(qmp, SOON, &err), &err);
    assert_ok(migration_forget(qmp, SOON, &err), &err);
    vm_check_writes(hosts->pair.source);
}

/* A QEMU that waits in its main loop, as for a blocking socket, hears the end nonetheless. */
static void expect_shutdown_to_wake(struct hosts *hosts)
{
    struct qmp *qmp = hosts->pair.source->qmp;
    struct error err = ERROR_INIT;

    hosts->fd = dial(hosts->ram.port);
    assert_ok(qmp_execute_fd(qmp, "getfd", json_pack("{s:s}", "fdname", "ram"), hosts->fd, WAIT,
                             NULL, &err),
              &err);
    assert_int_equal(
        qmp_execute(qmp, "migrate", json_pack("{s:s}", "uri", "fd:ram"), SILENCE, NULL, &err),
        -ETIMEDOUT);
    assert_int_equal(qmp_execute(qmp, "query-status", json_object(), SILENCE, NULL, &err),
                     -ETIMEDOUT);
    assert_int_equal(shutdown(hosts->fd, SHUT_RDWR), 0);
    expect_end(hosts);
    close(hosts->fd);
}

/* Connections are taken by the kernel, and no byte ever comes back. */
static void test_silent_handshake(void **state)
{
    struct hosts hosts = start_hosts(*state, NULL, false);
    const struct qemu_address real = hosts.ram;
    int mute = bind_port(&hosts.ram.port);

    assert_int_equal(listen(mute, 8), 0);
    set_source(&hosts, hosts.source_dir, NULL);
    expect_shutdown_to_wake(&hosts);

    set_source(&hosts, hosts.source_dir, NULL);
    start_migration(&hosts);
    expect_silence(&hosts);
    assert_int_equal(shutdown(hosts.fd, SHUT_RDWR), 0);
    expect_end(&hosts);
    close(hosts.fd);

    close(mute);
    hosts.ram = real;
    set_source(&hosts, hosts.source_dir, NULL);
    expect_success(&hosts);
    remove_files(&hosts);
}

static void expect_read(int fd)
{
    const uint64_t deadline = loop_clock() + SOON_MS * LOOP_MS;
    int left;

    do {
        assert_true(loop_clock() < deadline);
        assert_int_equal(ioctl(fd, FIONREAD, &left), 0);
    } while (left > 0);
}

/* The destination's QEMU waits for the rest of it, and not in its main loop. */
static void test_half_a_handshake(void **state)
{
    struct hosts hosts = start_hosts(*state, NULL, true);
    struct qmp *qmp = hosts.pair.destination->qmp;
    struct error err = ERROR_INIT;
    struct migration_info info;
    int fd;

    hosts.fd = dial(hosts.ram.port);
    fd = accept(hosts.listener, NULL, NULL);
    assert_true(fd >= 0);
    assert_ok(migration_incoming_fd(qmp, fd, WAIT, &err), &err);
    assert_int_equal(send(hosts.fd, "\x16", 1, 0), 1); /* a record of the handshake begins so */
    expect_read(fd);
    assert_ok(migration_query(qmp, &info, SOON, &err), &err);
    set_source(&hosts, hosts.source_dir, NULL);
    assert_ok(block_mirror_start(hosts.pair.source->qmp, &hosts.pair.mirrors[0], SOON, &err), &err);
    close(hosts.fd);
    close(fd);
    close(hosts.listener);
    remove_files(&hosts);
}

static void test_no_certificate(void **state)
{
    struct bench *bench = *state;
    struct vm *vm = vm_new(bench, "a");
    struct error err = ERROR_INIT;

    vm_make_disks(vm);
    vm_start(vm, bench);
    assert_int_equal(qemu_tls_client(vm->qmp, vm->folder, WAIT, &err), -EREMOTEIO);
    assert_non_null(strstr(err.text, vm->folder));
    assert_ok(qemu_tls_remove(vm->qmp, WAIT, &err), &err);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        QEMU_TEST(test_only_one_is_let_in), QEMU_TEST(test_hostname),
        QEMU_TEST(test_silent_handshake),   QEMU_TEST(test_half_a_handshake),
        QEMU_TEST(test_no_certificate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return run_with_qemu(run);
}
