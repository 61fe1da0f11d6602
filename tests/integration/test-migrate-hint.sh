#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A guest that writes without pause, over a line with a long round trip: its mirror catches up and is
# never done.  The operator is told so, once, with what would end it; and a pause does.
. "${srcdir:-.}/migrate-functions.sh"

said()
{
    grep -qF -e "$1" "$tmp/events"
}

start_daemon a
start_daemon b
new_guest a guest 1 qcow2 --vda-data 1M --pause 0
in_background "$PWD/relay" "${port_of[b]}" "$tmp/relay.port" 250 250 0
wait_for "relay" test -s "$tmp/relay.port"
port_of[way]=$(<"$tmp/relay.port")

begin a way guest --copy-storage-all --suspend
WAIT_SECONDS=120 wait_for "a hint" said "the guest writes to disk vda as fast as that is copied"
notice "--copy-storage-synchronous-writes would"
notice "--timeout would pause it"
qmp a guest stop >/dev/null
ends 0 ""
[ "$(jq -s '[.[] | select(.type == "notice")] | length' "$tmp/events")" -eq 1 ] ||
    fail "more was said: $(grep notice "$tmp/events")"
qmp b guest cont >/dev/null # it writes too fast for its last writes to be seen any later
flattened=yes arrived a b guest # it has written for as long as it took
forget a guest
rm "$tmp"/a/pool/*
