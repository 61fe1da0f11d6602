/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */

/* guestcheck ram: the status block, and the pages that the guest writes.
 *
 * QEMU's pmemsave puts guest memory, from address 0 on, into a file of ours.  The status block at
 * its fixed place tells how many pages there are.  The pages are only compared while the guest is
 * stopped: only then is what pmemsave saves of one moment.  Each page but that of the write in
 * flight (FILLED + 1) must hold the last write up to FILLED that belongs there. */

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/guest/guestcheck.h"

struct memory {
    uint8_t *data;
    size_t size;
    bool stopped; /* the guest did not run while it was saved */
};

struct status {
    uint64_t started, written, filled, errors;
    uint32_t last_error;
    struct guest_params params;
};

static struct memory read_dump(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        unchecked("cannot open memory dump %s: %s", path, strerror(errno));
    }
    struct memory memory = {.size = (size_t)st.st_size, .stopped = true};
    memory.data = malloc(memory.size + 1);
    if (!memory.data || read(fd, memory.data, memory.size) != (ssize_t)memory.size) {
        unchecked("cannot read memory dump %s: %s", path, strerror(errno));
    }
    close(fd);
    return memory;
}

/* Executes COMMAND and returns what it returned, which the caller owns. */
static json_t *must_call(struct qmp *qmp, json_t *command)
{
    json_t *reply = qmp_call(qmp, command);
    json_t *result = json_object_get(reply, "return");
    if (!result) {
        json_t *error = json_object_get(reply, "error");
        unchecked("QEMU refused a command: %s", json_string_value(json_object_get(error, "desc")));
    }
    json_incref(result);
    json_decref(reply);
    return result;
}

/* The first SIZE bytes of the guest's memory. */
static struct memory save_memory(struct qmp *qmp, size_t size)
{
    char dir[] = "/tmp/guestcheck-XXXXXX";
    char path[sizeof dir + sizeof "/memory"];
    if (!mkdtemp(dir)) {
        unchecked("cannot make a folder in /tmp: %s", strerror(errno));
    }
    snprintf(path, sizeof path, "%s/memory", dir);
    json_t *result =
        must_call(qmp, json_pack("{s:s, s:{s:i, s:I, s:s}}", "execute", "pmemsave", "arguments",
                                 "val", 0, "size", (json_int_t)size, "filename", path));
    struct memory memory = read_dump(path);
    unlink(path);
    rmdir(dir);
    json_decref(result);

    json_t *run_state = must_call(qmp, json_pack("{s:s}", "execute", "query-status"));
    memory.stopped = json_is_false(json_object_get(run_state, "running"));
    json_decref(run_state);
    return memory;
}

/* False if there is no guest (yet). */
static bool decode_status(const struct memory *memory, struct status *ret_status)
{
    if (memory->size < STATUS_ADDRESS + STATUS_SIZE) {
        return false;
    }
    const uint8_t *p = memory->data + STATUS_ADDRESS;
    *ret_status = (struct status){
        .started = get_u64(p + STATUS_STARTED),
        .written = get_u64(p + STATUS_WRITTEN),
        .filled = get_u64(p + STATUS_FILLED),
        .errors = get_u64(p + STATUS_ERRORS),
        .last_error = get_u32(p + STATUS_LAST_ERROR),
    };
    return get_u32(p) == STATUS_MAGIC_LOW && get_u32(p + 4) == STATUS_MAGIC_HIGH &&
           params_decode(p + STATUS_PARAMS, &ret_status->params);
}

static size_t pages_end(const struct status *status)
{
    return RAM_ADDRESS + (size_t)status->params.ram_pages * GUEST_BLOCK;
}

static void check_page(const uint8_t *p, uint32_t page, uint64_t expected)
{
    for (uint32_t i = 0; i < GUEST_BLOCK_SECTORS; i++, p += GUEST_SECTOR) {
        struct place place = {.disk = RAM_DISK, .sector = (uint64_t)page * GUEST_BLOCK_SECTORS + i};
        uint64_t counter;
        char why[80];
        if (!sector_decode(p, place, &counter, why, sizeof why)) {
            lost("RAM page %" PRIu32 ", part %" PRIu32 ": write %" PRIu64 " expected, found %s",
                 page, i, expected, why);
        }
        if (counter != expected) {
            lost("RAM page %" PRIu32 ", part %" PRIu32 ": write %" PRIu64
                 " expected, found write %" PRIu64,
                 page, i, expected, counter);
        }
    }
}

static void check_pages(const struct memory *memory, const struct status *status)
{
    const uint32_t pages = status->params.ram_pages;
    for (uint32_t page = 0; page < pages; page++) {
        uint64_t expected = 0;
        if (status->filled >= page) {
            expected = status->filled - (status->filled - page) % pages;
        }
        if (expected > 0 && (status->filled + 1) % pages != page) {
            check_page(memory->data + RAM_ADDRESS + (size_t)page * GUEST_BLOCK, page, expected);
        }
    }
}

static int report(const struct memory *memory, const struct status *status)
{
    if (memory->stopped && memory->size >= pages_end(status)) {
        check_pages(memory, status);
    }
    printf("counter=%" PRIu64 " started=%" PRIu64 " errors=%" PRIu64 " disks=%" PRIu32 " ram=%s\n",
           status->written, status->started, status->errors, status->params.disks,
           memory->stopped && memory->size >= pages_end(status) ? "whole" : "unchecked");
    if (status->errors > 0) {
        fprintf(stderr,
                "guestcheck: the last of the guest's %" PRIu64 " failed writes was to disk %" PRIu32
                ", status 0x%02" PRIx32 "\n",
                status->errors, status->last_error >> 8, status->last_error & 0xff);
    }
    return EXIT_GOOD;
}

/* Reads the guest's memory until its counter is above ABOVE, for TIMEOUT seconds. */
static int check_live(const char *socket, uint64_t above, uint64_t timeout)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    const time_t end = time(NULL) + (time_t)timeout;
    struct status status;
    struct qmp *qmp = qmp_open(socket);
    struct memory memory = save_memory(qmp, STATUS_ADDRESS + STATUS_SIZE);
    bool running = decode_status(&memory, &status);
    while (timeout > 0 && (!running || status.written <= above)) {
        if (time(NULL) > end) {
            lost("the guest behind %s %s within %" PRIu64 " seconds", socket,
                 running ? "did not count on" : "did not start", timeout);
        }
        nanosleep(&pause, NULL);
        free(memory.data);
        memory = save_memory(qmp, STATUS_ADDRESS + STATUS_SIZE);
        running = decode_status(&memory, &status);
    }
    if (!running) {
        lost("no guest is running behind %s: its memory has no status block", socket);
    }
    if (memory.stopped) {
        free(memory.data);
        memory = save_memory(qmp, pages_end(&status));
    }
    qmp_close(qmp);
    int code = report(&memory, &status);
    free(memory.data);
    return code;
}

static int check_dump(const char *path)
{
    struct status status;
    struct memory memory = read_dump(path);
    if (!decode_status(&memory, &status)) {
        lost("no guest was running in memory dump %s: it has no status block", path);
    }
    int code = report(&memory, &status);
    free(memory.data);
    return code;
}

int check_ram(int argc, char **argv)
{
    static const struct option options[] = {
        {"qmp", required_argument, NULL, 'q'},
        {"dump", required_argument, NULL, 'd'},
        {"above", required_argument, NULL, 'a'},
        {"timeout", required_argument, NULL, 't'},
        {0},
    };
    const char *socket = NULL, *dump = NULL;
    uint64_t above = 0, timeout = 0;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'q':
            socket = optarg;
            break;
        case 'd':
            dump = optarg;
            break;
        case 'a':
            above = parse_number("--above", optarg);
            timeout = timeout ? timeout : 30;
            break;
        case 't':
            timeout = parse_number("--timeout", optarg);
            break;
        default:
            return EXIT_UNCHECKED;
        }
    }
    if (optind != argc || !socket == !dump) {
        unchecked("ram needs either --qmp or --dump, see --help");
    }
    return socket ? check_live(socket, above, timeout) : check_dump(dump);
}
