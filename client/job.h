/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * What the files of bistream job share:
 *
 *     job.c        the command line
 *     job_list.c   list
 *     job_info.c   info
 *     job_act.c    abort, set, resolve
 */
#ifndef CLIENT_JOB_H
#define CLIENT_JOB_H

#include "client/command.h"

#include <stdbool.h>
#include <stdint.h>

struct job_options {
    char *name; /* of the guest; "" where none was given */
    bool completed;
    bool keep, give_up; /* for resolve exactly one of them */
    uint64_t bandwidth; /* bytes per second; 0: no cap */
};

enum command_exit job_list(const struct client *client, const struct job_options *options);
enum command_exit job_info(const struct client *client, const struct job_options *options);
enum command_exit job_abort(const struct client *client, const struct job_options *options);
enum command_exit job_set(const struct client *client, const struct job_options *options);
enum command_exit job_resolve(const struct client *client, const struct job_options *options);

#endif
