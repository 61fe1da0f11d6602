#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# The destination's daemon, or the way to it, goes away: in the middle of the copy the guest runs on
# at the source; once the destination was asked to take the guest over, nobody guesses.
. "${srcdir:-.}/migrate-functions.sh"

relay=$PWD/relay
start_daemon a 'ping = "200ms"'
start_daemon b 'ping = "200ms"' "qemu_binary = \"$(slow_qemu 1000000)\""
new_guest a guest 2 qcow2,raw

# way_to_b [DELAY DELAY]: a relay before b; delays in ms, of what goes there and what comes back
way_to_b()
{
    rm -f "$tmp/relay.port"
    in_background "$relay" "${port_of[b]}" "$tmp/relay.port" "${1:-0}" "${2:-0}"
    relay_pid=$!
    wait_for "relay" test -s "$tmp/relay.port"
    port_of[way]=$(<"$tmp/relay.port")
}

echo "== the link is cut in the middle of the copy"
remember a
remember b
way_to_b
begin a way guest --copy-storage-all
copying a guest
kill -KILL $relay_pid
ends 1 "and the guest is safe here"
goes_on a guest
nothing_left a
nothing_left b

echo "== the link falls silent in the middle of the copy"
way_to_b
begin a way guest --copy-storage-all
copying a guest
kill -STOP $relay_pid
ends 1 "and the guest is safe here"
goes_on a guest
nothing_left a
nothing_left b
kill -KILL $relay_pid

echo "== the destination's daemon is killed in the middle of the copy"
begin a b guest --copy-storage-all
copying a guest
kill -KILL "${pid_of[b]}"
wait "${pid_of[b]}" 2>/dev/null || :
unset 'pid_of[b]'
ends 1 "and the guest is safe here"
goes_on a guest
nothing_left a

# What a killed daemon had begun stays until somebody takes it away: nothing is journalled yet.
for pid in $(qemus_of b); do
    kill -KILL "$pid"
done
rm -rf "$tmp"/b/run "$tmp"/b/state "$tmp"/b/pool
forget a guest
rm "$tmp"/a/pool/*
stop_daemon a
start_daemon a
start_daemon b

# A guest that seldom writes: with one that writes more often than the line has round trips, the
# mirror is never done.
echo "== the answer to Finish is lost: the guest runs at the destination"
first_writes=1 new_guest a guest 1 qcow2 --pause 500000
way_to_b 0 250
begin a way guest --copy-storage-all
in_phase a finish
# Finish has gone out, and its answer, if there is one by now, is still on its way.
kill -USR1 $relay_pid
wait_for "running" state_is b guest running
kill -KILL $relay_pid
ends 3 "whether the guest runs at $(uri_of way) is not known, so it stays paused here"
result '.status == "unresolved"'
state_is a guest paused || fail "the guest at a is $(info a guest state)"
qmp a guest query-status | jq -e '.running == false' >/dev/null || fail "it runs at both ends"
goes_on b guest
must_fail "stands where an earlier migration left it" a b guest --copy-storage-all
forget a guest
forget b guest
rm "$tmp"/?/pool/*

echo "== Finish never arrives: the guest runs nowhere, and nobody guesses"
first_writes=1 new_guest a guest 1 qcow2 --pause 500000
remember b
way_to_b 250 0
begin a way guest --copy-storage-all
in_phase a finish
kill -KILL $relay_pid
ends 3 "is not known, so it stays paused here"
state_is a guest paused || fail "the guest at a is $(info a guest state)"
nothing_left b
# The operator has looked, and lets it run.
qmp a guest cont >/dev/null
goes_on a guest
