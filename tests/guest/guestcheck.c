/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */

/* guestcheck: did the guest of guest.S lose anything?
 *
 * The guest counts its writes, and every sector and page that it writes says which write it was.
 * So from the last counter, which is in the guest's RAM, follows the whole content of its write
 * windows and pages, and this program compares.  It says what it found in one line and exits 0, or
 * names the first thing that is wrong and exits 1.  2 is kept for checks that could not be made, so
 * that a test can't take a missing image for a lost write, or the other way round. */

#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/guest/guestcheck.h"

static const char usage[] =
    "guestcheck ram --qmp SOCKET [--above N] [--timeout SECONDS]\n"
    "guestcheck ram --dump FILE\n"
    "    Prints the guest's counter, read from its RAM, and checks the RAM that it writes if it\n"
    "    is stopped.  --above waits until the counter is above N, for 30 seconds if not told\n"
    "    otherwise.  SOCKET is a QMP socket that no one else uses; FILE was made by pmemsave, "
    "from\n"
    "    address 0 on.\n"
    "guestcheck images [--counter N] IMAGE...\n"
    "    Checks that each of the last writes up to N is on its disk, whole and in its place.\n"
    "    Where no RAM is left to know N from, the highest number on the disks is taken for it.\n"
    "guestcheck diff --after N SOURCE-IMAGE... -- DESTINATION-IMAGE...\n"
    "    Checks that every sector in which they differ was written after write N.\n"
    "guestcheck sparse IMAGE...\n"
    "    Prints the size of each image, how much of it is data, and what its file takes up.\n"
    "guestcheck qmp SOCKET COMMAND...\n"
    "    Executes QMP commands: names, or JSON objects, and prints what each returns.\n"
    "\n"
    "IMAGEs are files (qcow2 or raw) or nbd+unix:// URIs, in the order of the guest's disks.  The\n"
    "guest must not be running, except for sparse and qmp.\n"
    "Exit codes: 0 all is well, 1 something is lost, 2 the check could not be made.\n";

static void say(const char *format, va_list args)
{
    fflush(stdout);
    fputs("guestcheck: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void lost(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    exit(EXIT_LOST);
}

void unchecked(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    exit(EXIT_UNCHECKED);
}

uint64_t parse_number(const char *name, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-') {
        unchecked("%s wants a number, not \"%s\"", name, text);
    }
    return value;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {
        {"ram", check_ram},       {"images", check_images}, {"diff", check_diff},
        {"sparse", check_sparse}, {"qmp", run_qmp},
    };
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return EXIT_GOOD;
    }
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    fputs(usage, stderr);
    return EXIT_UNCHECKED;
}
