/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copyright (C) 2026 The bistream authors */
/*
 * A path between two QEMUs that can fall silent, as a network does: connections to one socket are
 * carried on to another one, until it is told to stop reading, and then to close.
 */
#ifndef TESTS_QEMU_RELAY_H
#define TESTS_QEMU_RELAY_H

struct relay;

/* Listens on FROM and connects to TO for each connection. */
struct relay *relay_new(const char *from, const char *to);
/* The same, but what comes back from TO gets lost. */
struct relay *relay_new_one_way(const char *from, const char *to);
/* From now on nothing is read or written; connections stay. */
void relay_silence(struct relay *relay);
/* Closes all connections and ends. */
void relay_free(struct relay *relay);

#endif
