/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Reading a guest's definition: see definition.h.
 *
 * Each JSON object is read in the same way: first its field names are compared with those that it
 * may have, then field after field is taken over and checked.  fail() puts the path of the field
 * before each sentence.  Values that QEMU takes apart at commas or equal signs have a character
 * set without them; everything else that reaches a command line or a path has one as well.
 */
#include "config.h"

#include "daemon/definition.h"
#include "common/checked.h"
#include "common/cleanup.h"

#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"
#define NAME_CHARACTERS LETTERS DIGITS "._+-"

#define MIB (UINT64_C(1) << 20)
#define MEMORY_MAX (UINT64_C(16) << 40)
#define SECTOR 512
#define VCPUS_MAX 255
#define FIELD_SHOWN 64 /* bytes of an unknown field's name that a sentence repeats */

/* One JSON object, and what is needed to complain about it. */
struct object {
    const json_t *json;
    char path[32]; /* "", "disks[3]." */
    enum definition_party writer;
    struct error *err;
};

static int fail(const struct object *object, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(const struct object *object, const char *field, const char *format, ...)
{
    char sentence[ERROR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return error_set(object->err, EINVAL, "%s%s: %s", object->path, field, sentence);
}

static int no_memory(const struct object *object)
{
    return error_set(object->err, ENOMEM, "no memory for a guest's definition");
}

/* ---- values ---------------------------------------------------------------------------------- */

static int check_fields(const struct object *object, const char *const *known)
{
    char shown[FIELD_SHOWN];
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)object->json, key, value) {
        size_t i = 0;

        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (known[i])
            continue;
        snprintf(shown, sizeof shown, "%s", key);
        return fail(object, shown, "a definition has no such field");
    }
    return 0;
}

/* *RET is NULL when the field is absent; it lives as long as the JSON. */
static int get_string(const struct object *object, const char *field, size_t max, const char **ret)
{
    const json_t *value = json_object_get(object->json, field);

    *ret = NULL;
    if (!value)
        return 0;
    if (!json_is_string(value))
        return fail(object, field, "must be a string");
    if (json_string_length(value) == 0)
        return fail(object, field, "is empty; leave it out instead");
    if (json_string_length(value) > max)
        return fail(object, field, "has %zu bytes, more than the %zu that it may have",
                    json_string_length(value), max);
    *ret = json_string_value(value);
    return 0;
}

/* A string of CHARACTERS only, copied; *RET keeps its value (a default) when the field is absent.
 */
static int get_word(const struct object *object, const char *field, size_t max,
                    const char *characters, char **ret)
{
    const char *text;
    char *copy;
    int r;

    r = get_string(object, field, max, &text);
    if (r < 0 || !text)
        return r;
    if (text[strspn(text, characters)] != '\0')
        return fail(object, field, "may only have the characters A-Z a-z 0-9 and %s",
                    characters + strlen(LETTERS DIGITS));
    copy = strdup(text);
    if (!copy)
        return no_memory(object);
    free(*ret);
    *ret = copy;
    return 0;
}

static int get_choice(const struct object *object, const char *field, const char *const *choices,
                      const char **ret)
{
    char list[128] = "";
    const char *text;
    int r;

    r = get_string(object, field, 64, &text);
    if (r < 0 || !text)
        return r;
    for (size_t i = 0; choices[i]; i++) {
        size_t used = strlen(list);

        if (strcmp(choices[i], text) == 0) {
            *ret = choices[i];
            return 0;
        }
        snprintf(list + used, sizeof list - used, "%s\"%s\"", used ? ", " : "", choices[i]);
    }
    return fail(object, field, "must be one of %s", list);
}

static int get_bool(const struct object *object, const char *field, bool *ret)
{
    const json_t *value = json_object_get(object->json, field);

    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return fail(object, field, "must be true or false");
    *ret = json_is_true(value);
    return 0;
}

/* "256M" */
static bool parse_size(const char *text, uint64_t *ret)
{
    static const char units[] = "KMGT";
    uint64_t number = 0, unit = 1;
    const char *at = text;

    for (; *at >= '0' && *at <= '9'; at++)
        if (!checked_mul_u64(number, 10, &number) ||
            !checked_add_u64(number, (uint64_t)(*at - '0'), &number))
            return false;
    if (at == text)
        return false;
    if (*at != '\0') {
        const char *found = strchr(units, *at);

        if (!found || at[1] != '\0')
            return false;
        unit = UINT64_C(1) << (10 * (found - units + 1));
    }
    return checked_mul_u64(number, unit, ret);
}

/* A number, or a string with a unit; *RET keeps its value when the field is absent. */
static int get_size(const struct object *object, const char *field, uint64_t min, uint64_t max,
                    uint64_t multiple, uint64_t *ret)
{
    const json_t *value = json_object_get(object->json, field);
    uint64_t size;

    if (!value)
        return 0;
    if (json_is_integer(value) && json_integer_value(value) >= 0)
        size = (uint64_t)json_integer_value(value);
    else if (!json_is_string(value) || !parse_size(json_string_value(value), &size))
        return fail(object, field, "must be a number of bytes, or a string such as \"256M\"");
    if (size < min || size > max || size % multiple != 0)
        return fail(object, field,
                    "is %llu bytes, but must be between %llu and %llu and a multiple of %llu",
                    (unsigned long long)size, (unsigned long long)min, (unsigned long long)max,
                    (unsigned long long)multiple);
    *ret = size;
    return 0;
}

static int get_vcpus(const struct object *object, unsigned *ret)
{
    const json_t *value = json_object_get(object->json, "vcpus");
    json_int_t count = json_integer_value(value);

    if (!value)
        return 0;
    if (!json_is_integer(value))
        return fail(object, "vcpus", "must be a whole number from 1 to %d", VCPUS_MAX);
    if (count < 1 || count > VCPUS_MAX)
        return fail(object, "vcpus", "is %lld, but must be a whole number from 1 to %d",
                    (long long)count, VCPUS_MAX);
    *ret = (unsigned)count;
    return 0;
}

/* ---- names and paths ------------------------------------------------------------------------- */

/* Why NAME can't stand alone in a folder or on a command line; NULL: it can. */
static const char *name_flaw(const char *name, size_t max)
{
    if (name[0] == '\0')
        return "is empty";
    if (strlen(name) > max)
        return "is too long";
    if (name[0] == '.' || name[0] == '-')
        return "may not begin with a dot or a dash";
    if (strchr(name, '/'))
        return "may have no '/'";
    if (name[strspn(name, NAME_CHARACTERS)] != '\0')
        return "may only have the characters A-Z a-z 0-9 and ._+-";
    return NULL;
}

/* Whether NAME ends like the files that migrations lay beside an image for a while (volume.h):
 * ".new-ID" and so on.  A peer who names one would have made it by itself. */
static bool is_reserved(const char *name)
{
    static const char *const marks[] = {".new-", ".before-", ".shared-"};
    const char *dash = strrchr(name, '-');

    if (!dash || strlen(dash + 1) != 2 * UUID_SIZE ||
        strspn(dash + 1, DIGITS "abcdef") != 2 * UUID_SIZE)
        return false;
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        size_t length = strlen(marks[i]);

        if ((size_t)(dash + 1 - name) >= length &&
            strncmp(dash + 1 - length, marks[i], length) == 0)
            return true;
    }
    return false;
}

/* A plain name, or an operator's absolute path. */
static int get_file(const struct object *object, const char *field, char **ret)
{
    const char *text, *flaw;
    int r;

    r = get_string(object, field, PATH_MAX - 1, &text);
    if (r < 0 || !text)
        return r;
    if (text[0] == '/' && object->writer == DEFINITION_OPERATOR) {
        for (const char *c = text; *c; c++)
            if ((unsigned char)*c < 0x20)
                return fail(object, field, "has a control character in its path");
        if (text[strlen(text) - 1] == '/')
            return fail(object, field, "is a folder's path");
    } else {
        flaw = name_flaw(text, DEFINITION_FILE_MAX);
        if (!flaw && object->writer == DEFINITION_PEER && is_reserved(text))
            flaw = "ends like a file that a migration makes for itself";
        if (flaw)
            return fail(object, field, "the file's name %s%s", flaw,
                        object->writer == DEFINITION_PEER || !strchr(text, '/')
                            ? ""
                            : " unless it is an absolute path");
    }
    *ret = strdup(text);
    return *ret ? 0 : no_memory(object);
}

int definition_check_name(const char *name, struct error *err)
{
    const char *flaw = name_flaw(name, DEFINITION_NAME_MAX);

    return flaw ? error_set(err, EINVAL, "a guest's name %s", flaw) : 0;
}

/* vda ... vdz, vdaa ... vdzz */
static bool is_target(const char *target)
{
    size_t letters;

    if (strncmp(target, "vd", 2) != 0)
        return false;
    letters = strspn(target + 2, "abcdefghijklmnopqrstuvwxyz");
    return target[2 + letters] == '\0' && (letters == 1 || letters == 2);
}

/* ---- the parts of a definition --------------------------------------------------------------- */

static const char *const disk_fields[] = {
    "target", "file", "format", "size", "readonly", "discard", "cache", NULL,
};
static const char *const formats[] = {"qcow2", "raw", NULL};
static const char *const discards[] = {"unmap", "ignore", NULL};
static const char *const caches[] = {
    "writeback", "none", "writethrough", "directsync", "unsafe", NULL,
};

static int read_disk(const struct object *object, struct definition_disk *disk)
{
    const char *target, *discard = discards[0];
    int r;

    disk->format = formats[0];
    disk->cache = caches[0];
    if ((r = check_fields(object, disk_fields)) < 0 ||
        (r = get_string(object, "target", BS_TARGET_MAX, &target)) < 0 ||
        (r = get_file(object, "file", &disk->file)) < 0 ||
        (r = get_choice(object, "format", formats, &disk->format)) < 0 ||
        (r = get_size(object, "size", SECTOR, INT64_MAX, SECTOR, &disk->size)) < 0 ||
        (r = get_bool(object, "readonly", &disk->readonly)) < 0 ||
        (r = get_choice(object, "discard", discards, &discard)) < 0 ||
        (r = get_choice(object, "cache", caches, &disk->cache)) < 0)
        return r;
    disk->discard = discard == discards[0];
    if (!target)
        return fail(object, "target", "is missing; the first disk is \"vda\"");
    if (!is_target(target))
        return fail(object, "target", "must be vda, vdb, ... or vdaa, vdab, ...");
    if (!disk->file && !disk->readonly)
        return fail(object, "file",
                    "is missing; only a drive with \"readonly\": true may be empty");
    if (!disk->file && disk->size)
        return fail(object, "size", "makes no sense for a drive without a file");
    disk->target = strdup(target);
    return disk->target ? 0 : no_memory(object);
}

/* DISKS[LAST] must have nothing in common with those before it. */
static int check_disk_unique(const struct object *object, const struct definition_disk *disks,
                             size_t last)
{
    for (size_t i = 0; i < last; i++) {
        if (strcmp(disks[i].target, disks[last].target) == 0)
            return fail(object, "target", "%s is the target of disks[%zu] already",
                        disks[last].target, i);
        if (disks[i].file && disks[last].file && strcmp(disks[i].file, disks[last].file) == 0)
            return fail(object, "file", "%s is the file of disks[%zu] already", disks[last].file,
                        i);
    }
    return 0;
}

static const char *const nic_fields[] = {"type", "model", "mac", "ifname", NULL};
static const char *const nic_types[] = {"user", "tap", "none", NULL};
static const char *const nic_models[] = {"virtio-net-pci", "e1000", "e1000e", "rtl8139", NULL};

/* Six pairs of hexadecimal digits, not a group's address. */
static bool is_mac(const char *text)
{
    for (size_t i = 0; i < 17; i++)
        if (i % 3 == 2 ? text[i] != ':'
                       : text[i] == '\0' || !strchr(DIGITS "abcdefABCDEF", text[i]))
            return false;
    return text[17] == '\0' && strchr("02468aceACE", text[1]);
}

static int read_nic(const struct object *object, struct definition_nic *nic)
{
    int r;

    nic->type = nic_types[0];
    nic->model = nic_models[0];
    if ((r = check_fields(object, nic_fields)) < 0 ||
        (r = get_choice(object, "type", nic_types, &nic->type)) < 0 ||
        (r = get_choice(object, "model", nic_models, &nic->model)) < 0 ||
        (r = get_word(object, "mac", 17, LETTERS DIGITS ":", &nic->mac)) < 0 ||
        (r = get_word(object, "ifname", IF_NAMESIZE - 1, NAME_CHARACTERS, &nic->ifname)) < 0)
        return r;
    if (nic->mac && !is_mac(nic->mac))
        return fail(object, "mac", "must look like 52:54:00:12:34:56");
    if (!nic->ifname != (strcmp(nic->type, "tap") != 0))
        return fail(object, "ifname", "is needed for the type \"tap\", and only there");
    return 0;
}

/* The array FIELD of ROOT, with at most MAX objects; *RET is NULL when absent. */
static int get_array(const struct object *root, const char *field, size_t max, const json_t **ret)
{
    *ret = json_object_get(root->json, field);
    if (!*ret)
        return 0;
    if (!json_is_array(*ret))
        return fail(root, field, "must be an array");
    if (json_array_size(*ret) > max)
        return fail(root, field, "has %zu entries, but a guest may have %zu", json_array_size(*ret),
                    max);
    return 0;
}

/* The entry INDEX of ARRAY, which is the field FIELD of ROOT. */
static int get_entry(const struct object *root, const char *field, const json_t *array,
                     size_t index, struct object *ret)
{
    *ret = *root;
    ret->json = json_array_get(array, index);
    snprintf(ret->path, sizeof ret->path, "%s[%zu]", field, index);
    if (!json_is_object(ret->json))
        return fail(ret, "", "must be an object");
    snprintf(ret->path, sizeof ret->path, "%s[%zu].", field, index);
    return 0;
}

static int read_disks(const struct object *root, struct definition *definition)
{
    struct object entry;
    const json_t *array;
    int r;

    r = get_array(root, "disks", BS_DISKS_MAX, &array);
    if (r < 0 || !array)
        return r;
    definition->disks = calloc(json_array_size(array) + 1, sizeof *definition->disks);
    if (!definition->disks)
        return no_memory(root);
    for (size_t i = 0; i < json_array_size(array); i++) {
        definition->disk_count++;
        if ((r = get_entry(root, "disks", array, i, &entry)) < 0 ||
            (r = read_disk(&entry, &definition->disks[i])) < 0 ||
            (r = check_disk_unique(&entry, definition->disks, i)) < 0)
            return r;
    }
    return 0;
}

static int read_nics(const struct object *root, struct definition *definition)
{
    struct object entry;
    const json_t *array;
    int r;

    r = get_array(root, "nics", DEFINITION_NICS_MAX, &array);
    if (r < 0 || !array)
        return r;
    definition->nics = calloc(json_array_size(array) + 1, sizeof *definition->nics);
    if (!definition->nics)
        return no_memory(root);
    for (size_t i = 0; i < json_array_size(array); i++) {
        definition->nic_count++;
        if ((r = get_entry(root, "nics", array, i, &entry)) < 0 ||
            (r = read_nic(&entry, &definition->nics[i])) < 0)
            return r;
    }
    return 0;
}

static int read_serial(const struct object *root, struct definition *definition)
{
    static const char *const fields[] = {"log", NULL};
    struct object serial = *root;
    int r;

    serial.json = json_object_get(root->json, "serial");
    if (!serial.json)
        return 0;
    if (!json_is_object(serial.json))
        return fail(root, "serial", "must be an object such as {\"log\": \"serial.log\"}");
    snprintf(serial.path, sizeof serial.path, "serial.");
    if ((r = check_fields(&serial, fields)) < 0 ||
        (r = get_file(&serial, "log", &definition->serial_log)) < 0)
        return r;
    if (!definition->serial_log)
        return fail(&serial, "log", "is missing");
    if (strcmp(definition->serial_log, DEFINITION_QEMU_LOG) == 0)
        return fail(&serial, "log", "%s is where QEMU's own messages go", DEFINITION_QEMU_LOG);
    return 0;
}

static int read_identity(const struct object *root, struct definition *definition)
{
    static const uint8_t none[UUID_SIZE];
    const char *name, *uuid;
    int r;

    if ((r = get_string(root, "name", BS_NAME_MAX, &name)) < 0 ||
        (r = get_string(root, "uuid", UUID_TEXT_SIZE, &uuid)) < 0)
        return r;
    if (!name)
        return fail(root, "name", "is missing");
    r = definition_rename(definition, name, root->err);
    if (r < 0) {
        error_prefix(root->err, "name");
        return r;
    }
    definition->uuid_made = !uuid;
    if (!uuid && (r = uuid_make(definition->uuid)) < 0)
        return error_set_errno(root->err, -r, "can't make a UUID for %s", name);
    if (uuid && (uuid_from_text(uuid, definition->uuid) < 0 ||
                 memcmp(definition->uuid, none, UUID_SIZE) == 0))
        return fail(root, "uuid", "must look like 6d1c2f0e-5b1d-4f0a-9c39-0d1f5f3a2b11");
    return 0;
}

static const char *const root_fields[] = {
    "name",     "uuid",  "machine", "accel",  "cpu",     "vcpus", "memory",
    "firmware", "disks", "nics",    "serial", "display", NULL,
};
static const char *const accels[] = {"kvm", "tcg", NULL};
static const char *const displays[] = {"none", "vnc", NULL};

static int read_root(const struct object *root, struct definition *definition)
{
    int r;

    definition->vcpus = 1;
    definition->display = displays[0];
    if ((r = check_fields(root, root_fields)) < 0 || (r = read_identity(root, definition)) < 0 ||
        (r = get_word(root, "machine", 64, LETTERS DIGITS "._-", &definition->machine)) < 0 ||
        (r = get_choice(root, "accel", accels, &definition->accel)) < 0 ||
        (r = get_word(root, "cpu", 1024, LETTERS DIGITS "._+-,=", &definition->cpu)) < 0 ||
        (r = get_vcpus(root, &definition->vcpus)) < 0 ||
        (r = get_size(root, "memory", MIB, MEMORY_MAX, MIB, &definition->memory)) < 0 ||
        (r = get_file(root, "firmware", &definition->firmware)) < 0 ||
        (r = read_disks(root, definition)) < 0 || (r = read_nics(root, definition)) < 0 ||
        (r = read_serial(root, definition)) < 0 ||
        (r = get_choice(root, "display", displays, &definition->display)) < 0)
        return r;
    if (!definition->memory)
        return fail(root, "memory", "is missing; say for example \"256M\"");
    if (!definition->machine)
        definition->machine = strdup("q35");
    return definition->machine ? 0 : no_memory(root);
}

/* ---- whole definitions ----------------------------------------------------------------------- */

struct definition *definition_from_json(const json_t *json, enum definition_party writer,
                                        struct error *err)
{
    struct object root = {.json = json, .writer = writer, .err = err};
    struct definition *definition;

    if (!json_is_object(json)) {
        error_set(err, EINVAL, "a definition must be a JSON object");
        return NULL;
    }
    definition = calloc(1, sizeof *definition);
    if (!definition) {
        no_memory(&root);
        return NULL;
    }
    if (read_root(&root, definition) < 0) {
        definition_free(definition);
        return NULL;
    }
    return definition;
}

struct definition *definition_parse(const char *text, size_t length, enum definition_party writer,
                                    struct error *err)
{
    struct definition *definition;
    json_error_t where;
    json_t *json;

    if (length > BS_DEFINITION_MAX) {
        error_set(err, E2BIG, "a definition of %zu bytes is longer than the %d that it may have",
                  length, BS_DEFINITION_MAX);
        return NULL;
    }
    json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    if (!json) {
        error_set(err, EINVAL, "the definition is no valid JSON: line %d, column %d: %s",
                  where.line, where.column, where.text);
        return NULL;
    }
    definition = definition_from_json(json, writer, err);
    json_decref(json);
    return definition;
}
