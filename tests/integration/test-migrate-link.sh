#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# The destination's daemon, or the way to it, goes away: in the middle of the copy the guest runs on
# at the source; once the destination was asked to take the guest over, nobody guesses.  Without a grace
# time: what happens with one, and when it is over, is test-resume.sh's.
. "${srcdir:-.}/migrate-functions.sh"

relay=$PWD/relay
start_daemon a 'ping = "200ms"' 'grace = "0s"'
start_daemon b 'ping = "200ms"' "qemu_binary = \"$(slow_qemu 1000000)\""
new_guest a guest 2 qcow2,raw

# way_to_b [THERE BACK [PORT]]: a relay before b, at PORT; delays in ms of what goes there and back
way_to_b()
{
    [ -z "${relay_pid:-}" ] || wait "$relay_pid" 2>/dev/null || :
    rm -f "$tmp/relay.port"
    in_background "$relay" "${port_of[b]}" "$tmp/relay.port" "${1:-0}" "${2:-0}" "${3:-0}"
    relay_pid=$!
    wait_for "relay" test -s "$tmp/relay.port"
    port_of[way]=$(<"$tmp/relay.port")
}

# settled HOST: the journal there holds nothing any more
journal_is_empty()
{
    [ -z "$(ls "$tmp/$1/state/migrations")" ]
}

settled()
{
    wait_for "an empty journal at $1" journal_is_empty "$1"
}

# What was decided is told to the other side as soon as there is a way.
way_comes_back()
{
    way_to_b 0 0 "${port_of[way]}"
    settled a
    settled b
    kill -KILL $relay_pid
}

# restarted_clean HOST: its own sockets, port and the like are new, but nothing of a migration is there
restarted_clean()
{
    ! compgen -G "$tmp/$1/run/in-*" && ! compgen -G "$tmp/$1/run/out-*" || fail "sockets stay at $1"
    [ -z "$(find "$tmp/$1/pool" -name "*.new-*" -o -name "*.before-*" -o -name "*.shared-*")" ] ||
        fail "images of the migration stay at $1"
    [ "$1" = a ] || [ -z "$(qemus_of "$1")$(ls "$tmp/$1/pool")" ] || fail "something stays at $1"
}

images=$(ls "$tmp/a/pool")

echo "== the link is cut in the middle of the copy"
remember a
remember b
way_to_b
begin a way guest --copy-storage-all
copying a guest
kill -KILL $relay_pid
ends 1 "and the guest stays here"
goes_on a guest
way_comes_back
nothing_left a
nothing_left b

echo "== the link falls silent in the middle of the copy"
way_to_b
begin a way guest --copy-storage-all
copying a guest
kill -STOP $relay_pid
ends 1 "and the guest stays here"
goes_on a guest
kill -KILL $relay_pid
way_comes_back
nothing_left a
nothing_left b

echo "== the destination's daemon is killed in the middle of the copy"
begin a b guest --copy-storage-all
copying a guest
same_port="listen = \"127.0.0.1:${port_of[b]}\""
kill_daemon b
ends 1 "and the guest stays here"
goes_on a guest
nothing_left a
start_daemon b 'ping = "200ms"' "qemu_binary = \"$(slow_qemu 1000000)\"" "$same_port"
settled a
settled b
restarted_clean b

echo "== the source's daemon is killed in the middle of the copy"
begin a b guest --copy-storage-all
copying a guest
kill_daemon a
ends 3 "how the migration of 'guest' ended is not known"
start_daemon a 'ping = "200ms"' 'grace = "0s"'
goes_on a guest
settled a
settled b
restarted_clean a
restarted_clean b
[ "$(ls "$tmp/a/pool")" = "$images" ] || fail "images at a: $(ls "$tmp/a/pool")"
forget a guest
rm "$tmp"/a/pool/*

# A guest that seldom writes: with one that writes more often than the line has round trips, the
# mirror is never done.
echo "== the answer to Finish is lost: the guest runs at the destination"
stop_daemon b
start_daemon b 'ping = "200ms"'
remember a
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
must_fail "domain guest is migrating" a b guest --copy-storage-all
# Not even a restart makes it guess.
kill_daemon a
start_daemon a 'ping = "200ms"' 'grace = "0s"'
state_is a guest paused || fail "after a restart the guest at a is $(info a guest state)"
# The way comes back, and with it the answer.
way_to_b 0 0 "${port_of[way]}"
wait_for "moved" state_is a guest "moved to 127.0.0.1"
goes_on b guest
settled a
settled b
kill -KILL $relay_pid
forget a guest
forget b guest
rm "$tmp"/?/pool/*

echo "== Finish never arrives: the guest runs nowhere, until the source has its answer"
first_writes=1 new_guest a guest 1 qcow2 --pause 500000
remember b
way_to_b 250 0
begin a way guest --copy-storage-all
in_phase a finish
kill -KILL $relay_pid
ends 3 "is not known, so it stays paused here"
state_is a guest paused || fail "the guest at a is $(info a guest state)"
way_to_b 0 0 "${port_of[way]}"
wait_for "running" state_is a guest running
goes_on a guest
settled a
settled b
restarted_clean b
