/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/* What is at the other end: see probe.h; link.c finds it out. */
#include "config.h"

#include "daemon/control.h"
#include "daemon/link.h"
#include "daemon/probe.h"

int probe_handle(void *opaque, const void *args_, void *ret, struct error *err)
{
    const struct control_connection *connection = opaque;
    const struct bs_probe_args *args = args_;

    return link_probe(connection->daemon, args->destination, -1, ret, err);
}
