#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Two guests at once, in opposite directions between the same two daemons.
. "${srcdir:-.}/migrate-functions.sh"

start_daemon a
start_daemon b
new_guest a east 2 qcow2,raw
new_guest b west 2 raw,qcow2

for _ in 1 2; do
    at a migrate east "$(uri_of b)" --copy-storage-all >"$tmp/east.out" 2>&1 &
    first=$!
    at b migrate west "$(uri_of a)" --copy-storage-all >"$tmp/west.out" 2>&1 &
    second=$!
    wait $first || fail "east: $(cat "$tmp/east.out")"
    wait $second || fail "west: $(cat "$tmp/west.out")"
    arrived a b east
    arrived b a west
    must_migrate b a east --copy-storage-all
    must_migrate a b west --copy-storage-all
    arrived b a east
    arrived a b west
done
