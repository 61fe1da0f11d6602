/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* qemu/copy.h between two real qemu-storage-daemons of qemu/storage.h. */
#include "config.h"

#include "tests/qemu/relay.h"
#include "tests/qemu/vm.h"
#include "common/cleanup.h"
#include "common/loop.h"
#include "qemu/child.h"
#include "qemu/copy.h"
#include "qemu/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIB = 1 << 20, DISK = 96 * MIB, DATA = 40 * MIB + 8192 };

/* One side of a copy: a storage daemon with one or two disks. */
struct side {
    char socket[VM_PATH], pidfile[VM_PATH];
    struct storage_disk disks[2];
    struct storage storage;
};

struct pair {
    struct side source, destination;
    struct copy_disk disks[2];
    struct copy_handlers handlers;
    atomic_uint digests;
    unsigned give_up_at; /* digests; 0: never */
    unsigned kill_at;    /* likewise, the destination's server */
    unsigned spoil_at;   /* likewise, one answer */
    uint64_t deadline;   /* of the check; 0: none */
};

/* ---- images ---------------------------------------------------------------------------------- */

static void run(const char *command, ...)
{
    char *argv[16];
    struct error err = ERROR_INIT;
    va_list args;
    size_t n = 0;

    va_start(args, command);
    for (argv[n] = (char *)command; argv[n]; argv[n] = va_arg(args, char *))
        n++;
    va_end(args);
    assert_ok(child_run(argv, WAIT_MS, NULL, &err), &err);
}

static char *path_in(struct bench *bench, const char *name)
{
    char *path;

    assert_true(asprintf(&path, "%s/%s", bench->folder, name) > 0);
    return path;
}

static void fill(int fd, off_t offset, size_t length, unsigned seed)
{
    CLEANUP_FREE uint32_t *words = malloc(length);

    assert_non_null(words);
    for (size_t i = 0; i < length / sizeof *words; i++)
        words[i] = seed = seed * 1664525u + 1013904223u;
    assert_int_equal(pwrite(fd, words, length, offset), length);
}

/* DATA bytes of data and as many zeroes that were written, the rest holes. */
static void make_raw(const char *path, unsigned seed)
{
    CLEANUP_FREE char *zeroes = calloc(1, 8 * MIB);
    CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, DISK), 0);
    fill(fd, 0, 40 * MIB, seed);
    fill(fd, DISK - 8192, 8192, seed + 1);
    assert_int_equal(pwrite(fd, zeroes, 8 * MIB, 48 * MIB), 8 * MIB);
}

static void make_source(struct bench *bench, const char *path, const char *format, unsigned seed)
{
    CLEANUP_FREE char *raw = path_in(bench, "content");

    make_raw(raw, seed);
    if (strcmp(format, "raw") == 0)
        assert_int_equal(rename(raw, path), 0);
    else
        run("qemu-img", "convert", "-q", "-S", "0", "-O", format, raw, path, NULL);
    unlink(raw);
}

static uint64_t disk_usage(const char *path)
{
    struct stat status;

    assert_int_equal(stat(path, &status), 0);
    return (uint64_t)status.st_blocks * 512;
}

/* ---- sides ----------------------------------------------------------------------------------- */

static void describe_side(struct bench *bench, const char *name, bool writable, struct side *ret)
{
    snprintf(ret->socket, VM_PATH, "%s/%s,nbd", bench->folder, name);
    snprintf(ret->pidfile, VM_PATH, "%s/%s.pid", bench->folder, name);
    ret->storage = (struct storage){.socket_path = ret->socket,
                                    .pidfile = ret->pidfile,
                                    .writable = writable,
                                    .disks = ret->disks};
}

static void start_side(struct side *side)
{
    struct error err = ERROR_INIT;

    unlink(side->socket);
    assert_ok(storage_start(&side->storage, &err), &err);
}

static void stop_side(struct side *side)
{
    struct error err = ERROR_INIT;

    assert_ok(storage_stop(side->pidfile, &err), &err);
}

static void kill_side(struct side *side)
{
    pid_t holder = launch_lock_holder(side->pidfile);

    assert_true(holder > 0);
    assert_int_equal(kill(holder, SIGKILL), 0);
}

static int check(void *opaque, struct error *err)
{
    struct pair *pair = opaque;
    unsigned digests = atomic_load(&pair->digests);

    if (pair->give_up_at && digests >= pair->give_up_at)
        return error_set(err, ECANCELED, "given up");
    if (pair->deadline && loop_clock() > pair->deadline)
        return error_set(err, ECANCELED, "too slow");
    return 0;
}

static int digest(void *opaque, const char *target, uint64_t offset, uint64_t length,
                  uint8_t ret[COPY_DIGEST_SIZE], struct error *err)
{
    struct pair *pair = opaque;
    unsigned number;
    int r = copy_digest(pair->destination.socket, target, offset, length, NULL, NULL, ret, err);

    number = atomic_fetch_add(&pair->digests, 1) + 1;
    if (number == pair->spoil_at)
        ret[0] ^= 1;
    if (number == pair->kill_at)
        kill_side(&pair->destination);
    return r;
}

/* The disk NUMBER of both sides; a new image at the destination. */
static void add_disk(struct bench *bench, struct pair *pair, const char *format)
{
    static const char *const targets[] = {"vda", "vdb"};
    size_t number = pair->source.storage.n_disks;
    struct error err = ERROR_INIT;
    char name[32];

    for (size_t i = 0; i < 2; i++) {
        struct side *side = i ? &pair->destination : &pair->source;

        snprintf(name, sizeof name, "%s-%s", i ? "copy" : "original", targets[number]);
        side->disks[number] = (struct storage_disk){
            .target = targets[number], .path = path_in(bench, name), .format = format};
        side->storage.n_disks++;
    }
    make_source(bench, pair->source.disks[number].path, format, (unsigned)number);
    assert_ok(image_create(pair->destination.disks[number].path, format, DISK, NULL, NULL, &err),
              &err);
    pair->disks[number] = (struct copy_disk){.target = targets[number],
                                             .source_socket = pair->source.socket,
                                             .destination_socket = pair->destination.socket,
                                             .size = DISK};
}

static struct pair *current; /* of the test that runs */

static struct pair *pair_new(struct bench *bench)
{
    struct pair *pair = calloc(1, sizeof *pair);

    assert_non_null(pair);
    describe_side(bench, "source", false, &pair->source);
    describe_side(bench, "destination", true, &pair->destination);
    pair->handlers = (struct copy_handlers){.check = check, .digest = digest, .opaque = pair};
    current = pair;
    return pair;
}

static void start_both(struct pair *pair)
{
    start_side(&pair->source);
    start_side(&pair->destination);
}

/* Also after a test that failed. */
static int teardown(void **state)
{
    struct pair *pair = current;

    stop_side(&pair->source);
    stop_side(&pair->destination);
    for (size_t i = 0; i < pair->source.storage.n_disks; i++) {
        free((char *)pair->source.disks[i].path);
        free((char *)pair->destination.disks[i].path);
    }
    free(pair);
    return bench_teardown(state);
}

static int copy(struct pair *pair, struct error *err)
{
    error_clear(err);
    atomic_store(&pair->digests, 0);
    return copy_disks(pair->disks, pair->source.storage.n_disks, &pair->handlers, err);
}

/* Ends the servers and compares with another program. */
static void assert_alike(struct pair *pair)
{
    stop_side(&pair->source);
    stop_side(&pair->destination);
    for (size_t i = 0; i < pair->source.storage.n_disks; i++) {
        run("qemu-img", "compare", "-q", pair->source.disks[i].path,
            pair->destination.disks[i].path, NULL);
        if (strcmp(pair->destination.disks[i].format, "qcow2") == 0)
            run("qemu-img", "check", "-q", pair->destination.disks[i].path, NULL);
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_holes_are_kept(void **state)
{
    struct pair *pair = pair_new(*state);
    struct error err = ERROR_INIT;

    add_disk(*state, pair, "qcow2");
    add_disk(*state, pair, "raw");
    start_both(pair);
    assert_ok(copy(pair, &err), &err);
    for (size_t i = 0; i < 2; i++) {
        assert_true(pair->disks[i].total >= DATA);
        assert_int_equal(pair->disks[i].done, pair->disks[i].total);
        assert_true(pair->disks[i].carried >= DATA && pair->disks[i].carried < DATA + MIB);
    }
    assert_alike(pair);
    for (size_t i = 0; i < 2; i++)
        assert_true(disk_usage(pair->destination.disks[i].path) < DATA + MIB);
}

/* A base with data everywhere, hidden in one place by a zeroed cluster of the overlay. */
static void test_only_the_top_layer(void **state)
{
    struct pair *pair = pair_new(*state);
    CLEANUP_FREE char *base = path_in(*state, "base");
    struct error err = ERROR_INIT;

    make_raw(base, 7);
    add_disk(*state, pair, "qcow2");
    pair->disks[0].top = true;
    for (size_t i = 0; i < 2; i++) {
        const char *path = (i ? &pair->destination : &pair->source)->disks[0].path;

        assert_int_equal(unlink(path), 0);
        assert_ok(image_create(path, "qcow2", DISK, base, "raw", &err), &err);
    }
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 20M 1M", "-c", "write -z 4M 128k",
        pair->source.disks[0].path, NULL);
    start_both(pair);
    assert_ok(copy(pair, &err), &err);
    assert_true(pair->disks[0].carried >= MIB && pair->disks[0].carried < 2 * MIB);
    assert_int_equal(pair->disks[0].done, pair->disks[0].total);
    assert_alike(pair);
    assert_true(disk_usage(pair->destination.disks[0].path) < 3 * MIB);
}

static void test_sizes_must_be_equal(void **state)
{
    struct pair *pair = pair_new(*state);
    struct error err = ERROR_INIT;

    add_disk(*state, pair, "raw");
    assert_int_equal(truncate(pair->destination.disks[0].path, DISK + MIB), 0);
    start_both(pair);
    assert_int_equal(copy(pair, &err), -EINVAL);
    assert_non_null(strstr(err.text, "disk vda has 101711872 bytes at the destination"));
    assert_int_equal(pair->disks[0].carried, 0);
}

/* What is there already is not carried again; what should not be there is made to go. */
static void test_goes_on_where_it_was(void **state)
{
    struct pair *pair = pair_new(*state);
    struct error err = ERROR_INIT;
    uint64_t before;

    add_disk(*state, pair, "qcow2");
    start_both(pair);
    pair->give_up_at = 3; /* of five ranges, of which three hold DATA */
    assert_int_equal(copy(pair, &err), -ECANCELED);
    assert_string_equal(err.text, "given up");
    before = pair->disks[0].carried;
    assert_true(before >= 8 * MIB);
    stop_side(&pair->destination);
    run("qemu-io", "-f", "qcow2", "-c", "write -P 9 70M 1M", pair->destination.disks[0].path, NULL);
    start_side(&pair->destination);
    pair->give_up_at = 0;
    assert_ok(copy(pair, &err), &err);
    assert_true(pair->disks[0].carried < DATA - before + 8 * MIB);
    assert_int_equal(pair->disks[0].done, pair->disks[0].total);
    assert_ok(copy(pair, &err), &err);
    assert_int_equal(pair->disks[0].carried, 0);
    assert_alike(pair);
    assert_true(disk_usage(pair->destination.disks[0].path) < DATA + MIB);
}

static void test_server_dies(void **state)
{
    struct pair *pair = pair_new(*state);
    struct error err = ERROR_INIT;

    add_disk(*state, pair, "raw");
    start_both(pair);
    pair->kill_at = 1;
    assert_true(copy(pair, &err) < 0);
    assert_non_null(strstr(err.text, "disk vda can't be"));
    pair->kill_at = 0;
    start_side(&pair->destination);
    assert_ok(copy(pair, &err), &err);
    assert_true(pair->disks[0].carried < DATA);
    assert_alike(pair);
}

static void test_silent_path_is_left(void **state)
{
    struct pair *pair = pair_new(*state);
    CLEANUP_FREE char *path = path_in(*state, "path");
    struct error err = ERROR_INIT;
    struct relay *relay;
    uint64_t before;

    add_disk(*state, pair, "raw");
    start_both(pair);
    relay = relay_new(path, pair->destination.socket);
    relay_silence(relay);
    pair->disks[0].destination_socket = path;
    before = loop_clock();
    pair->deadline = before + 500 * LOOP_MS;
    assert_int_equal(copy(pair, &err), -ECANCELED);
    assert_true(loop_clock() - before < 2 * LOOP_SECOND);
    relay_free(relay);
}

static void test_bad_copy_is_found(void **state)
{
    struct pair *pair = pair_new(*state);
    struct error err = ERROR_INIT;

    add_disk(*state, pair, "raw");
    start_both(pair);
    pair->spoil_at = 1;
    assert_int_equal(copy(pair, &err), -EILSEQ);
    assert_non_null(strstr(err.text, "disk vda: the 16777216 bytes at "));
}

static void test_digest_of_no_range(void **state)
{
    struct pair *pair = pair_new(*state);
    uint8_t ret[COPY_DIGEST_SIZE];
    struct error err = ERROR_INIT;
    const char *socket = pair->source.socket;

    add_disk(*state, pair, "raw");
    start_side(&pair->source);
    assert_int_equal(copy_digest(socket, "vda", 0, 0, NULL, NULL, ret, &err), -EINVAL);
    assert_int_equal(copy_digest(socket, "vda", DISK, 1, NULL, NULL, ret, &err), -EINVAL);
    assert_int_equal(copy_digest(socket, "vda", 1, UINT64_MAX, NULL, NULL, ret, &err), -EINVAL);
    assert_ok(copy_digest(socket, "vda", DISK - 1, 1, NULL, NULL, ret, &err), &err);
    assert_true(copy_digest(socket, "vdz", 0, 1, NULL, NULL, ret, &err) < 0);
}

/* What qemu-storage-daemon says is passed on, and nothing is left of it. */
static void test_image_is_missing(void **state)
{
    struct pair *pair = pair_new(*state);
    struct error err = ERROR_INIT;

    add_disk(*state, pair, "raw");
    unlink(pair->source.disks[0].path);
    assert_true(storage_start(&pair->source.storage, &err) < 0);
    assert_non_null(strstr(err.text, "original-vda"));
    assert_int_equal(launch_lock_holder(pair->source.pidfile), 0);
}

#define COPY_TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        COPY_TEST(test_holes_are_kept),      COPY_TEST(test_only_the_top_layer),
        COPY_TEST(test_sizes_must_be_equal), COPY_TEST(test_goes_on_where_it_was),
        COPY_TEST(test_server_dies),         COPY_TEST(test_silent_path_is_left),
        COPY_TEST(test_bad_copy_is_found),   COPY_TEST(test_digest_of_no_range),
        COPY_TEST(test_image_is_missing),
    };
    char *const argv[] = {(char *)"qemu-storage-daemon", (char *)"--version", NULL};

    if (child_run(argv, WAIT_MS, NULL, NULL) < 0) {
        puts("skipped: qemu-storage-daemon is missing");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
