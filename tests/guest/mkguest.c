/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */

/* mkguest: makes the images of a guest of guest.S.
 *
 * On every disk the write window begins at WINDOW.  Behind it vda has incompressible data in one
 * piece; the other disks are holes but for a few pieces of data far from each other, so that
 * neither a skipped hole nor a skipped piece goes unseen.  The data comes from a generator with a
 * fixed seed: what is made is the same every time.  A qcow2 image is written raw first and then
 * converted. */

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/pattern.h"

#define MIB (UINT64_C(1) << 20)
#define WINDOW MIB
#define PIECES UINT64_C(8) /* of data, on the disks other than vda */
#define PIECE (64 << 10)

extern char **environ;

static const char usage[] =
    "mkguest --dir DIR [OPTION...]\n"
    "    --disks N          number of disks (default 2)\n"
    "    --format F[,F...]  qcow2 or raw, disk by disk and then from the first again (default\n"
    "                       qcow2,raw)\n"
    "    --size SIZE        of every disk (default 1G)\n"
    "    --vda-data SIZE    incompressible data on vda (default 256M)\n"
    "    --slots N          blocks of 4 KiB in each write window (default 1024)\n"
    "    --ram SIZE         RAM that the guest writes (default 4M); it needs 16M more than that\n"
    "    --pause USEC       time between two writes (default 0)\n"
    "    --program FILE     the guest, instead of the one that was built with mkguest\n"
    "Makes DIR/vda.FORMAT, DIR/vdb.FORMAT, ... and prints a line about each.  SIZEs may end in K, "
    "M\n"
    "or G.  The guest counts from 1 whenever it boots: make new images for each start.\n";

struct plan {
    const char *dir, *formats, *program;
    uint64_t size, data;
    struct guest_params params;
};

static void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("mkguest: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

/* A number with an optional K, M or G, at most MAX. */
static uint64_t parse_size(const char *name, const char *text, uint64_t max)
{
    static const char units[] = "KMG";
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    const int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if (errno || end == text || *text == '-' || (*end && (!unit || end[1])) ||
        value > max >> shift) {
        die("%s wants a size of at most %" PRIu64 ", not \"%s\"", name, max, text);
    }
    return value << shift;
}

static struct plan parse_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"dir", required_argument, NULL, 'd'},
        {"disks", required_argument, NULL, 'n'},
        {"format", required_argument, NULL, 'f'},
        {"size", required_argument, NULL, 's'},
        {"vda-data", required_argument, NULL, 'a'},
        {"slots", required_argument, NULL, 'w'},
        {"ram", required_argument, NULL, 'r'},
        {"pause", required_argument, NULL, 'p'},
        {"program", required_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct plan plan = {
        .formats = "qcow2,raw",
        .program = GUEST_PROGRAM,
        .size = 1024 * MIB,
        .data = 256 * MIB,
        .params = {.disks = 2, .window = WINDOW / GUEST_SECTOR, .slots = 1024, .ram_pages = 1024},
    };
    const uint64_t disk_max = (uint64_t)GUEST_SECTOR << 32;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'd':
            plan.dir = optarg;
            break;
        case 'n':
            plan.params.disks = (uint32_t)parse_size("--disks", optarg, GUEST_DISKS_MAX);
            break;
        case 'f':
            plan.formats = optarg;
            break;
        case 's':
            plan.size = parse_size("--size", optarg, disk_max);
            break;
        case 'a':
            plan.data = parse_size("--vda-data", optarg, disk_max);
            break;
        case 'w':
            plan.params.slots = (uint32_t)parse_size("--slots", optarg, 1 << 24);
            break;
        case 'r':
            plan.params.ram_pages =
                (uint32_t)(parse_size("--ram", optarg, 1024 * MIB) / GUEST_BLOCK);
            break;
        case 'p':
            plan.params.pause = (uint32_t)parse_size("--pause", optarg, 10000000);
            break;
        case 'b':
            plan.program = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            exit(2);
        }
    }
    if (!plan.dir || optind != argc || plan.params.disks == 0 || plan.params.slots == 0 ||
        plan.params.ram_pages == 0) {
        fputs(usage, stderr);
        exit(2);
    }
    return plan;
}

static void must_write(int fd, const void *data, size_t size, uint64_t offset, const char *path)
{
    while (size > 0) {
        ssize_t n = pwrite(fd, data, size, (off_t)offset);
        if (n <= 0) {
            die("cannot write %s: %s", path, n < 0 ? strerror(errno) : "nothing was written");
        }
        data = (const char *)data + n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
}

/* SIZE bytes of data that no compressor can shorten, seeded by where they go (splitmix64). */
static void write_data(int fd, uint64_t size, uint64_t offset, uint32_t disk, const char *path)
{
    static uint64_t buffer[MIB / 8];
    uint64_t state = ((uint64_t)disk << 48) + offset;
    while (size > 0) {
        size_t n = size < sizeof buffer ? (size_t)size : sizeof buffer;
        for (size_t i = 0; i < (n + 7) / 8; i++) {
            uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
            z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
            z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
            buffer[i] = z ^ z >> 31;
        }
        must_write(fd, buffer, n, offset, path);
        offset += n;
        size -= n;
    }
}

static void write_program(int fd, const struct plan *plan, const char *path)
{
    uint8_t program[GUEST_PROGRAM_SIZE];
    struct guest_params built;
    int in = open(plan->program, O_RDONLY | O_CLOEXEC);
    if (in < 0 || read(in, program, sizeof program) != (ssize_t)sizeof program) {
        die("cannot read the guest's program %s: %s", plan->program,
            in < 0 ? strerror(errno) : "it is too short");
    }
    close(in);
    if (!params_decode(program + PARAMS_OFFSET, &built)) {
        die("%s is not the guest's program", plan->program);
    }
    params_encode(&plan->params, program + PARAMS_OFFSET);
    must_write(fd, program, sizeof program, 0, path);
}

/* Returns the number of bytes of data. */
static uint64_t write_disk_image(const struct plan *plan, uint32_t disk, const char *path)
{
    const uint64_t data_start = WINDOW + (uint64_t)plan->params.slots * GUEST_BLOCK;
    const uint64_t data = disk == 0 ? plan->data : PIECES * PIECE;
    if (plan->size < data_start + data) {
        die("%" PRIu64 " bytes are too few for disk %" PRIu32 ", it needs %" PRIu64, plan->size,
            disk, data_start + data);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)plan->size) < 0) {
        die("cannot make %s: %s", path, strerror(errno));
    }
    if (disk == 0) {
        write_program(fd, plan, path);
        write_data(fd, data, data_start, disk, path);
    } else {
        const uint64_t distance = (plan->size - data_start) / PIECES / GUEST_BLOCK * GUEST_BLOCK;
        for (uint64_t i = 0; i < PIECES; i++) {
            write_data(fd, PIECE, data_start + i * distance, disk, path);
        }
    }
    if (close(fd) < 0) {
        die("cannot write %s: %s", path, strerror(errno));
    }
    return data;
}

static void convert_to_qcow2(char *raw, char *qcow2)
{
    char program[] = "qemu-img", convert[] = "convert", f[] = "-f", from[] = "raw", o[] = "-O",
         to[] = "qcow2";
    char *args[] = {program, convert, f, from, o, to, raw, qcow2, NULL};
    pid_t pid;
    int status;
    int error = posix_spawnp(&pid, program, NULL, NULL, args, environ);
    if (error) {
        die("cannot run qemu-img (install qemu-utils): %s", strerror(error));
    }
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        die("qemu-img could not make %s", qcow2);
    }
    unlink(raw);
}

/* The format of disk DISK, from the list that begins anew when it ends. */
static bool is_qcow2(const char *formats, uint32_t disk)
{
    const char *p = formats;
    for (;; disk--) {
        size_t n = strcspn(p, ",");
        bool qcow2 = n == 5 && strncmp(p, "qcow2", n) == 0;
        if (!qcow2 && !(n == 3 && strncmp(p, "raw", n) == 0)) {
            die("--format wants qcow2 or raw, not \"%.*s\"", (int)n, p);
        }
        if (disk == 0) {
            return qcow2;
        }
        p = p[n] ? p + n + 1 : formats;
    }
}

static void make_disk(const struct plan *plan, uint32_t disk)
{
    char *raw = NULL, *path = NULL;
    const bool qcow2 = is_qcow2(plan->formats, disk);
    const char letter = (char)('a' + disk);
    struct stat st;
    if (asprintf(&raw, "%s/vd%c.raw", plan->dir, letter) < 0 ||
        asprintf(&path, "%s/vd%c.%s", plan->dir, letter, qcow2 ? "qcow2" : "raw") < 0) {
        die("out of memory");
    }
    uint64_t data = write_disk_image(plan, disk, raw);
    if (qcow2) {
        convert_to_qcow2(raw, path);
    }
    if (stat(path, &st) < 0) {
        die("cannot find %s: %s", path, strerror(errno));
    }
    printf("image=%s size=%" PRIu64 " data=%" PRIu64 " allocated=%" PRIu64 "\n", path, plan->size,
           data, (uint64_t)st.st_blocks * 512);
    free(raw);
    free(path);
}

int main(int argc, char **argv)
{
    struct plan plan = parse_options(argc, argv);
    for (uint32_t disk = 0; disk < plan.params.disks; disk++) {
        make_disk(&plan, disk);
    }
    return 0;
}
