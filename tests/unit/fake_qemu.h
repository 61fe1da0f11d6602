/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A QMP server that says what a test wants: it listens on a socket in a folder of its own, takes
 * one client, and runs the test's script in a thread.
 */
#ifndef TESTS_UNIT_FAKE_QEMU_H
#define TESTS_UNIT_FAKE_QEMU_H

#include <jansson.h>

struct fake_qemu;

#define FAKE_GREETING                                                                  \
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, " \
    "\"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n"

/* SCRIPT runs once a client has connected; when it returns, the connection is closed. */
struct fake_qemu *fake_qemu_new(void (*script)(struct fake_qemu *fake));
/* Waits for the end of the script. */
void fake_qemu_free(struct fake_qemu *fake);
const char *fake_qemu_path(const struct fake_qemu *fake);

/* For scripts. */
void fake_send(struct fake_qemu *fake, const char *text);
/* The next command, whose name must be COMMAND; the caller's. */
json_t *fake_expect(struct fake_qemu *fake, const char *command);
/* The same with a descriptor that came along with it, in RET_FD, the caller's; -1: none did. */
json_t *fake_expect_fd(struct fake_qemu *fake, const char *command, int *ret_fd);
/* {"return": VALUE, "id": that of COMMAND}; frees COMMAND. */
void fake_return(struct fake_qemu *fake, json_t *command, const char *value);
void fake_error(struct fake_qemu *fake, json_t *command, const char *class, const char *words);
/* Greeting and qmp_capabilities. */
void fake_negotiate(struct fake_qemu *fake);
/* Waits until the client has hung up. */
void fake_wait_end(struct fake_qemu *fake);
/* Waits until something has come, and doesn't read it. */
void fake_wait_input(struct fake_qemu *fake);
/* Let the script wait for the test: fake_wait() returns once per fake_go(). */
void fake_wait(struct fake_qemu *fake);
void fake_go(struct fake_qemu *fake);

#endif
