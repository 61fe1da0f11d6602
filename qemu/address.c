/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * Addresses in QEMU's forms: see address.h.
 *
 * In a URI QEMU takes everything behind "unix:" for the path, and behind "tcp:" everything up to the
 * colon (or, behind a bracket, up to the other one) for the host; options come after the port.  So
 * there is nothing to escape.
 */
#include "config.h"

#include "qemu/address.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

char *qemu_address_uri(const struct qemu_address *address)
{
    bool brackets = !address->path && strchr(address->host, ':');
    char *uri;
    int r;

    if (address->path)
        r = asprintf(&uri, "unix:%s", address->path);
    else
        r = asprintf(&uri, "tcp:%s%s%s:%u", brackets ? "[" : "", address->host, brackets ? "]" : "",
                     address->port);
    return r < 0 ? NULL : uri;
}

/* {"path"} or {"host", "port"}; the port is a string, QEMU takes names of services too. */
static json_t *where(const struct qemu_address *address)
{
    char port[16];

    if (address->path)
        return json_pack("{s:s}", "path", address->path);
    snprintf(port, sizeof port, "%u", address->port);
    return json_pack("{s:s,s:s}", "host", address->host, "port", port);
}

static const char *type(const struct qemu_address *address)
{
    return address->path ? "unix" : "inet";
}

json_t *qemu_address_json(const struct qemu_address *address)
{
    json_t *object = where(address);

    if (object)
        json_object_set_new(object, "type", json_string(type(address)));
    return object;
}

json_t *qemu_address_json_legacy(const struct qemu_address *address)
{
    return json_pack("{s:s,s:o}", "type", type(address), "data", where(address));
}
