#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Two guests at once, in opposite directions between the same two daemons; each has one job.  ROUNDS=N:
# so often as fast as they can (default 1).
. "${srcdir:-.}/migrate-functions.sh"

start_daemon a
start_daemon b
new_guest a east 2 qcow2,raw
new_guest b west 2 raw,qcow2

# tells HOST NAME DESTINATION: the list and the description of HOST's only job
tells()
{
    at "$1" --json job list | jq -e --arg name "$2" --arg to "$3" \
        'length == 1 and .[0].name == $name and .[0].destination == $to' >/dev/null ||
        fail "jobs of $1: $(at "$1" --json job list)"
    at "$1" --json job info "$2" | jq -e --arg name "$2" --arg to "$3" \
        '.name == $name and .destination == $to and .status == "running" and
         (.disks | map(.target)) == ["vda", "vdb"]' >/dev/null ||
        fail "$2 at $1: $(at "$1" --json job info "$2")"
}

echo "== both at once, and both can be seen"
at a migrate east "$(uri_of b)" --copy-storage-all --bandwidth 300K >"$tmp/east.out" 2>&1 &
first=$!
at b migrate west "$(uri_of a)" --copy-storage-all --bandwidth 300K >"$tmp/west.out" 2>&1 &
second=$!
copying a east
copying b west
tells a east "$(uri_of b)"
tells b west "$(uri_of a)"
must_fail "domain east is migrating; try again when that has ended" a b east --copy-storage-all
must_fail "domain west is migrating; try again when that has ended" b a west --copy-storage-all
tells a east "$(uri_of b)"
expect_failure "no migration of a guest named west runs here" at a job info west
at a job set east --bandwidth 0 >/dev/null
at b job set west --bandwidth 0 >/dev/null
wait $first || fail "east: $(cat "$tmp/east.out")"
wait $second || fail "west: $(cat "$tmp/west.out")"
arrived a b east
arrived b a west
at a --json job info --completed | jq -e 'map([.name, .status]) == [["east", "completed"]]' >/dev/null ||
    fail "ended at a: $(at a --json job info --completed)"
must_migrate b a east --copy-storage-all
must_migrate a b west --copy-storage-all

echo "== and again, as fast as they can"
for _ in $(seq "${ROUNDS:-1}"); do
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
echo "two guests in opposite directions, $((4 * ${ROUNDS:-1} + 4)) migrations"
