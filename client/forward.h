/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
#ifndef CLIENT_FORWARD_H
#define CLIENT_FORWARD_H

#include "client/command.h"

/* bistream forward --list. */
enum command_exit forward_list(const struct client *client);

#endif
