#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# What a daemon makes of a journal that holds more, less or other things than it should.
. "${srcdir:-.}/functions.sh"
requires jq --version

journal=$tmp/a/state/migrations
mkdir -p "$journal"

# id NUMBER: of a migration
id()
{
    printf '%032x' "$1"
}

# entry NUMBER STATE SINCE [VOLUMES]: of a guest that was to come in
entry()
{
    jq -n --arg state "$2" --argjson since "$3" --argjson volumes "${4:-[]}" '{version: 1,
        side: "destination", $state, peer: "b.test", name: "web", running: true, $since,
        uuid: "6d1c2f0e-5b1d-4f0a-9c39-0d1f5f3a2b11", definition: null, $volumes}' \
        >"$journal/$(id "$1").json"
}

# has NUMBER
has()
{
    [ -e "$journal/$(id "$1").json" ]
}

echo "== entries that nobody asks for are forgotten, when they are old or many"
now=$(date +%s)
entry 1 "not mine" $((now - 31 * 86400))
entry 2 "not mine" $((now - 29 * 86400))
entry 3 "not mine" $((now + 999 * 86400))
# What stands for something stays, whatever its age.
entry 4 lost 0
entry 5 running 0
start_daemon a
! has 1 || fail "an entry of last month is kept"
has 2 && has 3 && has 4 && has 5 || fail "an entry is gone that was needed"
expect_log a "migration $(id 1) (web) in: forgotten; b.test has not asked for it in all this time"
stop_daemon a
for ((i = 16; i < 16 + 300; i++)); do
    cp "$journal/$(id 2).json" "$journal/$(id $i).json"
done
start_daemon a
[ "$(grep -l '"not mine"' "$journal"/*.json | wc -l)" -eq 256 ] ||
    fail "not 256 entries: $(grep -l '"not mine"' "$journal"/*.json | wc -l)"
has 3 && has 4 && has 5 || fail "an entry is gone that was needed"
is_well a
stop_daemon a
rm "$journal"/*

echo "== entries that are damaged, or two for one guest, are no reason not to start"
entry 1 prepared 0
truncate -s 40 "$journal/$(id 1).json"
: >"$journal/$(id 2).json"
entry 3 lost 0
sed -i 's/"version": 1/"version": 2/' "$journal/$(id 3).json"
entry 4 prepared 0
entry 5 prepared 0
entry 6 mine 0
entry 7 mine 0
start_daemon a
for i in 1 2 3; do
    has $i || fail "the damaged entry $i is gone"
    expect_log a "$(id $i): left alone"
done
expect_log a "version is not known to this bistreamd"
for i in 4 5; do
    jq -e '.state == "not mine"' "$journal/$(id $i).json" >/dev/null || fail "entry $i was not fenced"
done
for i in 6 7; do
    jq -e '.state == "lost"' "$journal/$(id $i).json" >/dev/null || fail "entry $i is not lost"
done
is_well a
