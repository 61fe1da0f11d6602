#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A destination that is gone for good: the guest has long been decided about, the log stays quiet, and
# the operator can have the rest forgotten.
. "${srcdir:-.}/migrate-functions.sh"

# jobs FILTER: is true of the list of jobs at a
jobs()
{
    at a --json job list | jq -e "$1"
}

journal_is_empty()
{
    [ -z "$(ls "$tmp/a/state/migrations")" ]
}

# dropped: the one job is settling in vain, and can be dropped
dropped()
{
    wait_for "settling" jobs '.[0].phase == "settling" and (.[0].reason | test("refused"))'
    expect_text "'bistream job abort' ends it" "$(at a job list)"
    at a job abort guest
    wait_for "an empty journal" journal_is_empty
    jobs '. == []' >/dev/null || fail "there is a job left: $(at a job list)"
    expect_log a "dropped by the operator; if $1 is ever back, it still has its entry"
    expect_failure "no migration of a guest named guest runs here" at a job abort guest
}

start_daemon a 'ping = "200ms"' 'grace = "0s"'
start_daemon b "qemu_binary = \"$(slow_qemu 1000000)\""
new_guest a guest 1 qcow2
gone=$(uri_of b)

echo "== before Finish: the guest runs on"
begin a b guest --copy-storage-all
wait_for "the copy" grep -q ' out: mirror$' "$tmp/a/log"
kill_daemon b
ends 1 "and the guest stays here"
goes_on a guest
wait_for "settling" jobs '.[0].phase == "settling" and (.[0].reason | test("refused"))'
stop_daemon a
start_daemon a 'ping = "200ms"' 'grace = "0s"'
goes_on a guest
dropped "$gone"
goes_on a guest
for pid in $(qemus_of b); do
    kill -KILL "$pid"
done
rm -f "$tmp"/b/run/*.qmp "$tmp"/b/run/in-*/* "$tmp"/b/pool/*

forget a guest
rm "$tmp"/a/pool/*

echo "== after Finish: the operator leaves the guest to it"
start_daemon b 'ping = "200ms"'
in_background "$PWD/relay" "${port_of[b]}" "$tmp/relay.port" 250 0 0
relay_pid=$!
wait_for "relay" test -s "$tmp/relay.port"
port_of[way]=$(<"$tmp/relay.port")
first_writes=1 new_guest a guest 1 qcow2 --pause 500000
begin a way guest --copy-storage-all
in_phase a finish
kill -KILL $relay_pid
ends 3 "is not known, so it stays paused here"
expect_text "'bistream job resolve' decides" "$(at a job list)"
at a job resolve guest --give-up >/dev/null
wait_for "moved" state_is a guest "moved to 127.0.0.1"
dropped "$(uri_of way)"
state_is a guest "moved to 127.0.0.1" || fail "the guest at a is $(info a guest state)"
