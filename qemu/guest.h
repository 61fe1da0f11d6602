/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * The guest as a whole: what it is called, whether it runs, and its power button.  All functions
 * return 0, or a negative errno with ERR set, among them those of qmp_execute().
 */
#ifndef QEMU_GUEST_H
#define QEMU_GUEST_H

#include "qemu/qmp.h"

struct guest_info {
    char name[256];     /* "" when QEMU was given none */
    char uuid[37];      /* "" when QEMU was given none */
    char run_state[32]; /* QEMU's RunState: "running", "paused", "inmigrate", "postmigrate", ... */
    bool running;
    uint64_t memory;  /* bytes at boot */
    char machine[64]; /* "pc-i440fx-7.2-machine", QEMU's type name; "" when not known */
};

/* query-name, query-uuid, query-status, query-memory-size-summary. */
int guest_query(struct qmp *qmp, struct guest_info *ret, const struct qmp_wait *wait,
                struct error *err);
/* Only query-status; CAPACITY of RUN_STATE as above. */
int guest_run_state(struct qmp *qmp, char ret[32], bool *ret_running, const struct qmp_wait *wait,
                    struct error *err);

/* Presses the power button; the guest decides. */
int guest_powerdown(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);
/* Ends QEMU in good order: images are closed, the process ends.  Returns once the command was
 * taken; wait for the pidfd afterwards. */
int guest_quit(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);
/* Stops and starts the guest's processors; during a migration only migration_pause_guest() may. */
int guest_stop(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);
int guest_cont(struct qmp *qmp, const struct qmp_wait *wait, struct error *err);

#endif
