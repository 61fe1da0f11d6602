/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A daemon's domains without the daemon: folders, a main loop in a thread of its own, QMP's thread,
 * and the registry.  Closing and opening it is what a restart of the daemon does.  Without
 * qemu-system-x86_64 all tests are skipped (exit code 77).
 */
#ifndef TESTS_DAEMON_HOUSE_H
#define TESTS_DAEMON_HOUSE_H

#include "daemon/domain.h"
#include "qemu/guest.h"
#include "qemu/image.h"
#include "qemu/launch.h"
#include "tests/unit/unit.h"

#include <pthread.h>

enum { HOUSE_PATH = 100, HOUSE_OTHERS = 4 };

struct house {
    char folder[40];
    char run_dir[60], state_dir[60], pool_dir[60];
    struct config config;
    struct loop *loop;
    pthread_t thread;
    struct qmp_thread *qmp;
    struct domains *domains;  /* NULL: closed */
    int others[HOUSE_OTHERS]; /* pidfds of QEMUs that house_other_qemu() started */
    size_t other_count;
};

/* cmocka's set-up and tear-down of one test: *STATE is a struct house. */
int house_setup(void **state);
int house_teardown(void **state);
void house_close(struct house *house);
void house_open(struct house *house);

/* The definition of a guest NAME, its fields (after name, accel and memory) being MORE. */
struct definition *house_define(const char *name, const char *more);
/* Starts it and expects success; returns a reference. */
struct domain *house_start(struct house *house, const char *name, const char *more);
/* Expects the very sentence. */
void house_start_fails(struct house *house, const char *name, const char *more,
                       const char *sentence);
/* Starts a QEMU of no domain, the way an operator would, with QMP at SOCKET; returns its pidfd. */
int house_other_qemu(struct house *house, const char *name, const char *uuid, bool incoming,
                     char socket[HOUSE_PATH]);

/* What is in the folders, and what is said. */
bool house_has(const struct house *house, const char *path);
void house_write(const struct house *house, const char *path, const void *data, size_t length);
void assert_state(struct domain *domain, const char *text);
/* Waits, for as long as a loaded machine may need. */
void house_wait_state(struct domain *domain, const char *text);
void assert_unknown(struct house *house, const char *name);

/* Fails the test with ERR's sentence unless R is 0. */
#define assert_ok(r, err)                                  \
    do {                                                   \
        if ((r) != 0)                                      \
            fail_msg("%s (%d)", (err)->text, (err)->code); \
    } while (0)

/* main() of a test program. */
int run_with_qemu(int (*run)(void));

#endif
