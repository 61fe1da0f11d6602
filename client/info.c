/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * bistream info: what the daemon knows of one domain.  The daemon answers with a JSON object,
 * which is what --json prints; the text shows its fields under virsh dominfo's names.
 */
#include "config.h"

#include "client/command.h"
#include "client/connection.h"
#include "client/output.h"
#include "client/progress.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *field, *label;
    bool is_size; /* bytes */
} fields[] = {
    {"name", "Name", false},       {"uuid", "UUID", false},
    {"state", "State", false},     {"moved_to", "Moved to", false},
    {"job", "Job", false},         {"pid", "PID", false},
    {"machine", "Machine", false}, {"vcpus", "CPU(s)", false},
    {"memory", "Memory", true},    {"qmp", "QMP socket", false},
    {"log", "QEMU's log", false},  {"serial_log", "Serial log", false},
    {"vnc", "VNC socket", false},
};

static void print_field(const char *label, const json_t *value, bool is_size)
{
    char size[PROGRESS_TEXT_MAX];

    if (!json_is_string(value) && !json_is_integer(value))
        return;
    printf("%-15s ", label);
    if (json_is_string(value))
        output_text(json_string_value(value));
    else if (is_size)
        fputs(progress_size((uint64_t)json_integer_value(value), size), stdout);
    else
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    putchar('\n');
}

/* ", TEXT" for a field that is there. */
static void print_part(const json_t *object, const char *field)
{
    const char *text = json_string_value(json_object_get(object, field));

    if (!text)
        return;
    fputs(", ", stdout);
    output_text(text);
}

/* "vda, qcow2, 1.0 GiB, /var/lib/bistream/images/web.qcow2". */
static void print_disk(const json_t *disk)
{
    const char *target = json_string_value(json_object_get(disk, "target"));
    json_int_t size = json_integer_value(json_object_get(disk, "size"));
    char text[PROGRESS_TEXT_MAX];

    printf("%-15s ", "Disk:");
    output_text(target ? target : "?");
    print_part(disk, "format");
    if (size > 0)
        printf(", %s", progress_size((uint64_t)size, text));
    if (json_is_true(json_object_get(disk, "readonly")))
        fputs(", read-only", stdout);
    if (json_is_true(json_object_get(disk, "empty")))
        fputs(", empty", stdout);
    print_part(disk, "file");
    putchar('\n');
}

static void print_text(const json_t *info)
{
    const json_t *disk;
    size_t i;

    for (i = 0; i < sizeof fields / sizeof *fields; i++) {
        char label[16];

        snprintf(label, sizeof label, "%s:", fields[i].label);
        print_field(label, json_object_get(info, fields[i].field), fields[i].is_size);
    }
    if (json_is_boolean(json_object_get(info, "persistent")))
        printf("%-15s %s\n",
               "Persistent:", json_is_true(json_object_get(info, "persistent")) ? "yes" : "no");
    if (json_is_true(json_object_get(info, "attached")))
        printf("%-15s yes: its QEMU was started by someone else\n", "Attached:");
    json_array_foreach (json_object_get(info, "disks"), i, disk)
        print_disk(disk);
}

static int show(const struct client *client, const char *text, struct error *err)
{
    json_t *info = json_loads(text, 0, NULL);

    if (!json_is_object(info)) {
        json_decref(info);
        return error_set(err, EPROTO, "bistreamd's answer is no JSON object");
    }
    if (client->json) {
        output_json(info);
        return 0;
    }
    print_text(info);
    json_decref(info);
    return 0;
}

static enum command_exit run(struct client *client, const struct command *command, int argc,
                             char **argv)
{
    CLEANUP_CONNECTION struct connection *connection = NULL;
    struct bs_domain_name_args args;
    struct bs_domain_info_ret ret = {0};
    struct error err = ERROR_INIT;

    if (!command_arguments(client, command, argc, argv, 1))
        return client->exit_code;
    args.name = argv[optind];
    connection = connection_open(client->uri, &err);
    if (connection &&
        connection_call(connection, BS_PROC_DOMAIN_INFO, (xdrproc_t)xdr_bs_domain_name_args, &args,
                        (xdrproc_t)xdr_bs_domain_info_ret, &ret, &err) == 0) {
        show(client, ret.json, &err);
        xdr_free((xdrproc_t)xdr_bs_domain_info_ret, (char *)&ret);
    }
    return err.code ? command_fail(&err) : COMMAND_DONE;
}

const struct command command_info = {
    .name = "info",
    .synopsis = "NAME",
    .summary = "show what is known of a guest",
    .help =
        "Shows the domain NAME.\n"
        "\n"
        "With --json: an object {\"name\", \"uuid\", \"state\", \"pid\", \"attached\", "
        "\"persistent\", "
        "\"machine\",\n"
        "\"vcpus\", \"memory\" (bytes), \"disks\": [{\"target\", \"file\", \"format\", \"size\",\n"
        "\"readonly\", \"empty\"}], \"qmp\", \"log\", \"serial_log\", \"vnc\", \"moved_to\", "
        "\"job\"};\n"
        "what there is none of is null.\n",
    .run = run,
};
