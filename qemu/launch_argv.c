/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The command line of a QEMU: see launch_argv() in launch.h.
 *
 * An option is put together from a head ("if=none") and key=value pairs; commas in values are
 * doubled, as QEMU's option parser wants them.  Running out of memory is noted and looked at once,
 * at the end.
 *
 * Disks are -drive with if=none and a node name, never -blockdev: QEMU's own disk migration, on
 * which mode tunnel falls back, knows disks by their drive's id alone.
 */
#include "config.h"

#include "qemu/launch.h"
#include "common/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
    DISKS_ALONE = 16, /* more of them share places */
    FIRST_SHARED_PLACE = 0x10,
};

struct args {
    char **list; /* NULL-terminated */
    size_t count;
    bool failed;
};

/* Takes TEXT, NULL when there was no memory for it. */
static void take(struct args *args, char *text)
{
    char **list = text ? realloc(args->list, (args->count + 2) * sizeof *list) : NULL;

    if (!list) {
        args->failed = true;
        free(text);
        return;
    }
    list[args->count++] = text;
    list[args->count] = NULL;
    args->list = list;
}

static void add(struct args *args, const char *text)
{
    take(args, strdup(text));
}

static void __attribute__((format(printf, 3, 4)))
add_option(struct args *args, const char *option, const char *format, ...)
{
    char *head;
    va_list ap;
    int r;

    add(args, option);
    va_start(ap, format);
    r = vasprintf(&head, format, ap);
    va_end(ap);
    take(args, r < 0 ? NULL : head);
}

/* Puts VALUE at TO with its commas doubled. */
static void copy_doubling_commas(char *to, const char *value)
{
    for (; *value; value++) {
        if (*value == ',')
            *to++ = ',';
        *to++ = *value;
    }
    *to = '\0';
}

/* Appends ",KEY=VALUE" to the option that was added last. */
static void __attribute__((format(printf, 3, 4)))
add_key(struct args *args, const char *key, const char *format, ...)
{
    CLEANUP_FREE char *value = NULL;
    char **last, *longer;
    size_t before, used;
    va_list ap;
    int r;

    if (args->failed)
        return;
    va_start(ap, format);
    r = vasprintf(&value, format, ap);
    va_end(ap);
    last = &args->list[args->count - 1];
    before = strlen(*last);
    used = before + strlen(key) + 2; /* with the comma and the equals sign */
    longer = r < 0 ? NULL : realloc(*last, used + 2 * strlen(value) + 1);
    if (!longer) {
        args->failed = true;
        return;
    }
    snprintf(longer + before, used - before + 1, ",%s=", key);
    copy_doubling_commas(longer + used, value);
    *last = longer;
}

static void add_machine(struct args *args, const struct launch *launch)
{
    if (launch->machine)
        add_option(args, "-machine", "%s", launch->machine);
    if (launch->accel) {
        add_option(args, "-accel", "%s", launch->accel);
    } else { /* the first one that works */
        add_option(args, "-accel", "kvm");
        add_option(args, "-accel", "tcg");
    }
    if (launch->cpu)
        add_option(args, "-cpu", "%s", launch->cpu);
    add_option(args, "-smp", "%u", launch->vcpus);
    add_option(args, "-m", "%" PRIu64 "M", launch->memory >> 20);
    if (launch->firmware)
        add_option(args, "-bios", "%s", launch->firmware);
}

/* It has no node, so the drive's alias is all that it is called by. */
static void add_empty_drive(struct args *args, const struct launch_disk *disk)
{
    add_option(args, "-drive", "if=none,media=cdrom");
    add_key(args, "id", "drive-%s", disk->target);
    add_option(args, "-device", "ide-cd");
    add_key(args, "drive", "drive-%s", disk->target);
    add_key(args, "id", "disk-%s", disk->target);
}

/* Where the image's bytes are; QEMU has a driver for each and insists on the right one. */
static const char *protocol_of(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISBLK(status.st_mode) ? "host_device" : "file";
}

/* A PCI bus has 32 places.  Where the disks might not find one each, eight share one, and they
 * stand where nothing else does. */
static void add_place(struct args *args, size_t number)
{
    add_key(args, "addr", "%zx.%zx", FIRST_SHARED_PLACE + number / 8, number % 8);
    add_key(args, "multifunction", "on");
}

static void add_disk(struct args *args, const struct launch *launch, size_t number)
{
    const struct launch_disk *disk = &launch->disks[number];
    bool unmap = !disk->readonly && (disk->discard || launch->incoming);
    const char *discard = unmap ? "unmap" : "ignore";

    add_option(args, "-drive", "if=none");
    add_key(args, "id", "drive-%s", disk->target);
    add_key(args, "node-name", "%s", disk->target);
    add_key(args, "driver", "%s", disk->format);
    add_key(args, "discard", "%s", discard);
    add_key(args, "file.driver", "%s", protocol_of(disk->path));
    add_key(args, "file.node-name", "%s-file", disk->target);
    add_key(args, "file.filename", "%s", disk->path);
    add_key(args, "file.discard", "%s", discard);
    if (disk->backing)
        add_key(args, "backing.node-name", "%s-backing", disk->target);
    if (disk->readonly)
        add_key(args, "read-only", "on");
    if (disk->cache)
        add_key(args, "cache", "%s", disk->cache);
    add_option(args, "-device", "virtio-blk-pci");
    add_key(args, "drive", "drive-%s", disk->target);
    add_key(args, "id", "disk-%s", disk->target);
    if (launch->n_disks > DISKS_ALONE)
        add_place(args, number);
    if (number == 0)
        add_key(args, "bootindex", "1");
}

static void add_nic(struct args *args, const struct launch_nic *nic, size_t number)
{
    bool connected = strcmp(nic->type, "none") != 0;

    if (connected) {
        add_option(args, "-netdev", "%s", nic->type);
        add_key(args, "id", "net%zu", number);
    }
    if (connected && nic->ifname) {
        add_key(args, "ifname", "%s", nic->ifname);
        add_key(args, "script", "no");
        add_key(args, "downscript", "no");
    }
    add_option(args, "-device", "%s", nic->model ? nic->model : "virtio-net-pci");
    add_key(args, "id", "nic%zu", number);
    if (connected)
        add_key(args, "netdev", "net%zu", number);
    if (nic->mac)
        add_key(args, "mac", "%s", nic->mac);
}

static void add_monitor(struct args *args, const char *id, int fd)
{
    add_option(args, "-chardev", "socket,id=%s,fd=%d,server=on,wait=off", id, fd);
    add_option(args, "-mon", "chardev=%s,mode=control", id);
}

static void add_consoles(struct args *args, const struct launch *launch)
{
    const char *display = launch->display ? launch->display : "none";

    if (launch->serial_log) {
        add_option(args, "-chardev", "file,id=serial0");
        add_key(args, "path", "%s", launch->serial_log);
        add_key(args, "append", "on");
        add_option(args, "-serial", "chardev:serial0");
    }
    add_option(args, "-display", "%s", display);
    if (strcmp(display, "none") != 0)
        add_option(args, "-vga", "std");
}

/* What QEMU would take for something else. */
static int check(const struct launch *launch, struct error *err)
{
    if (launch->memory == 0 || launch->memory % (1 << 20) != 0)
        return error_set(err, EINVAL,
                         "a guest's memory must be a multiple of 1 MiB, not %" PRIu64 " bytes",
                         launch->memory);
    for (size_t i = 0; i < launch->n_disks; i++) {
        if (launch->disks[i].path && launch->disks[i].path[0] != '/')
            return error_set(err, EINVAL, "the path of disk %s must be absolute, not \"%s\"",
                             launch->disks[i].target, launch->disks[i].path);
    }
    return 0;
}

char **launch_argv(const struct launch *launch, int qmp_fd, int admin_fd, struct error *err)
{
    struct args args = {.list = NULL};

    if (check(launch, err) < 0)
        return NULL;
    add(&args, launch->binary);
    add(&args, "-no-user-config");
    add(&args, "-nodefaults");
    add_option(&args, "-name", "%s", "bistream");
    add_key(&args, "guest", "%s", launch->name);
    if (launch->uuid)
        add_option(&args, "-uuid", "%s", launch->uuid);
    add_machine(&args, launch);
    for (size_t i = 0; i < launch->n_disks; i++) {
        if (launch->disks[i].path)
            add_disk(&args, launch, i);
        else
            add_empty_drive(&args, &launch->disks[i]);
    }
    for (size_t i = 0; i < launch->n_nics; i++)
        add_nic(&args, &launch->nics[i], i);
    add_consoles(&args, launch);
    add_monitor(&args, "qmp", qmp_fd);
    if (admin_fd >= 0)
        add_monitor(&args, "qmp-admin", admin_fd);
    add_option(&args, "-pidfile", "%s", launch->pidfile);
    if (launch->incoming || launch->paused)
        add(&args, "-S");
    if (launch->incoming)
        add_option(&args, "-incoming", "defer");
    for (const char *const *extra = launch->extra; extra && *extra; extra++)
        add(&args, *extra);
    if (!args.failed)
        return args.list;
    error_set(err, ENOMEM, "can't make QEMU's command line: out of memory");
    launch_free_argv(args.list);
    return NULL;
}

void launch_free_argv(char **argv)
{
    for (char **arg = argv; arg && *arg; arg++)
        free(*arg);
    free(argv);
}
