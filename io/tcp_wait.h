/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * For how long TCP connections have waited for an answer, as the kernel knows it: those of any process
 * of this network namespace, which needs no privilege, or the one of a descriptor.
 *
 * A connection waits while bytes that it was given are not acknowledged, or while the last data that
 * went was ours.  Whatever comes, data or an acknowledgement, begins the wait anew.  So this is for
 * protocols of questions and answers; a stream that goes one way waits for acknowledgements only in
 * truth, and seems to wait all the time.
 *
 * The kernel's times count jiffies, of which one may hold the last question and the last answer: such
 * a connection is not said to wait.  For whoever knows more, `still` says for how long nothing has
 * moved at all.
 *
 * What was seen at the first look began then, so a time is too short by up to the time between two
 * looks.
 */
#ifndef IO_TCP_WAIT_H
#define IO_TCP_WAIT_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

/* Of several connections, the longest times of any. */
struct tcp_waiting {
    size_t connections; /* that were seen */
    uint64_t waiting;   /* ns; 0: all are answered */
    uint64_t still;     /* ns */
    uint64_t quiet;     /* ns for which nothing has moved in any; the shortest `still` */
};

/* What is remembered of a connection between two looks; zeroed at first. */
struct tcp_track {
    uint64_t cookie; /* the kernel's name for it; 0 for that of a descriptor */
    uint64_t bytes;  /* that had come or been acknowledged */
    uint64_t moved;  /* loop_clock() when that changed; 0: never looked at */
    uint64_t asked;  /* since when it waits; 0: it doesn't */
};

/* Looks at FD.  Returns 0, or a negative errno. */
int tcp_wait_look_fd(int fd, struct tcp_track *track, struct tcp_waiting *ret);

struct tcp_wait;

/* For the connections from here to PORT of HOST, at any of the addresses that its name has now; of more
 * than MOST some are not seen.  Returns NULL with ERR. */
struct tcp_wait *tcp_wait_new(const char *host, unsigned port, size_t most, struct error *err);
/* NULL is fine. */
void tcp_wait_free(struct tcp_wait *wait);
/* Looks at all of them.  Returns 0, or a negative errno where the kernel doesn't tell. */
int tcp_wait_look(struct tcp_wait *wait, struct tcp_waiting *ret);

#endif
