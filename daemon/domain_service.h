/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The calls of the control socket that are about domains (rpc/dispatch.h's handlers; OPAQUE is the
 * struct control_connection).  All but list and info may take seconds: not for the main loop.
 */
#ifndef DAEMON_DOMAIN_SERVICE_H
#define DAEMON_DOMAIN_SERVICE_H

#include "common/error.h"

int domain_handle_start(void *opaque, const void *args, void *ret, struct error *err);
int domain_handle_attach(void *opaque, const void *args, void *ret, struct error *err);
int domain_handle_list(void *opaque, const void *args, void *ret, struct error *err);
int domain_handle_info(void *opaque, const void *args, void *ret, struct error *err);
int domain_handle_shutdown(void *opaque, const void *args, void *ret, struct error *err);
int domain_handle_destroy(void *opaque, const void *args, void *ret, struct error *err);
int domain_handle_undefine(void *opaque, const void *args, void *ret, struct error *err);

#endif
