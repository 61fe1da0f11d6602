/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A guest's definition: what its QEMU is started with, as JSON from an operator or from a peer.
 *
 * It is data, never trusted: a fixed set of fields, each one checked, an unknown one refused, and
 * every complaint names the field ("disks[3].file: ...").  A peer's definition names no path of any
 * host: its files are plain names within this host's own folders.
 *
 *   name      required; letters, digits and . _ + -, not beginning with a dot or a dash
 *   uuid      made up when absent
 *   machine   QEMU's -machine type; default "q35"
 *   accel     "kvm" or "tcg"; default: kvm where this host has it
 *   cpu       QEMU's -cpu; default: QEMU's own
 *   vcpus     1 to 255; default 1
 *   memory    required; bytes, or "256M"
 *   firmware  a file that QEMU knows by that name, or (operator) an absolute path
 *   disks     [{target, file, format, size, readonly, discard, cache}], see below
 *   nics      [{type, model, mac, ifname}]
 *   serial    {log}: a file in this host's log folder, or (operator) an absolute path
 *   display   "none" (default) or "vnc", on a UNIX socket in run_dir
 */
#ifndef DAEMON_DEFINITION_H
#define DAEMON_DEFINITION_H

#include "common/error.h"
#include "daemon/uuid.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DEFINITION_NAME_MAX = 240, /* of a guest: with ".json.new" behind it, it is a file's name */
    DEFINITION_FILE_MAX = 200, /* of an image in the pool: migrations put ".before-ID" behind it */
    DEFINITION_NICS_MAX = 16,
};

/* QEMU's own output stands in this file beside a guest's serial log, whose name it can't be. */
#define DEFINITION_QEMU_LOG "qemu.log"

/* Who wrote a definition, or who will read it. */
enum definition_party {
    DEFINITION_OPERATOR, /* of this host: absolute paths are fine */
    DEFINITION_PEER,     /* another host: no paths, only names */
};

struct definition_disk {
    char *target;       /* "vda" */
    char *file;         /* a name within pool_dir, or an absolute path; NULL: an empty CD drive */
    const char *format; /* "qcow2" (default) or "raw"; static */
    uint64_t size;      /* bytes; 0: not said, then the image must be there */
    bool readonly;      /* an empty drive always is */
    bool discard;       /* "unmap" (default) or "ignore" */
    const char
        *cache; /* "writeback" (default), "none", "writethrough", "directsync", "unsafe"; static */
};

struct definition_nic {
    const char *type;  /* "user" (default), "tap", or "none" (a card without a cable); static */
    const char *model; /* "virtio-net-pci" (default), "e1000", "e1000e", "rtl8139"; static */
    char *mac;         /* NULL: QEMU's choice */
    char *ifname;      /* the tap device, else NULL */
};

struct definition {
    char *name;
    uint8_t uuid[UUID_SIZE];
    bool uuid_made; /* here, because the text had none */
    char *machine;
    const char *accel; /* "kvm", "tcg"; static; NULL: what this host has */
    char *cpu;         /* NULL: QEMU's own default */
    unsigned vcpus;
    uint64_t memory; /* bytes, whole MiB */
    char *firmware;  /* NULL: QEMU's own */
    struct definition_disk *disks;
    size_t disk_count;
    struct definition_nic *nics;
    size_t nic_count;
    char *serial_log;    /* NULL: none */
    const char *display; /* "none", "vnc"; static */
};

/* Reads JSON TEXT of LENGTH bytes that WRITER wrote.  Returns NULL with ERR naming the field. */
struct definition *definition_parse(const char *text, size_t length, enum definition_party writer,
                                    struct error *err);
/* The same from JSON that was parsed already. */
struct definition *definition_from_json(const json_t *json, enum definition_party writer,
                                        struct error *err);

/* JSON for READER, every field written out; for a peer an absolute path becomes its last part.
 * Returns a new reference, NULL without memory. */
json_t *definition_to_json(const struct definition *definition, enum definition_party reader);
/* The same as compact text, malloc'ed. */
char *definition_to_text(const struct definition *definition, enum definition_party reader);

struct definition *definition_copy(const struct definition *definition);
void definition_free(struct definition *definition);

/* Gives the guest another name (--dname).  Returns 0, or a negative errno with ERR. */
int definition_rename(struct definition *definition, const char *name, struct error *err);

/* Where DISK's image stands on this host: malloc'ed; NULL for an empty drive or without memory. */
char *definition_disk_path(const struct definition_disk *disk, const char *pool_dir);

/* Returns 0, or -EINVAL with ERR for a name that a guest can't have. */
int definition_check_name(const char *name, struct error *err);

#endif
