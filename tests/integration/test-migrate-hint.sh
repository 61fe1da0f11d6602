#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A guest that writes without pause, over a line with a long round trip: its mirror catches up and is
# never done.  The operator is told so, once, with what would end it; and that does.
. "${srcdir:-.}/migrate-functions.sh"

start_daemon a
start_daemon b
new_guest a guest 1 qcow2 --vda-data 1M --pause 0
in_background "$PWD/relay" "${port_of[b]}" "$tmp/relay.port" 250 250 0
wait_for "relay" test -s "$tmp/relay.port"
port_of[way]=$(<"$tmp/relay.port")

must_migrate a way guest --copy-storage-all --timeout 36 --suspend
notice "the guest writes to disk vda as fast as that is copied"
notice "--copy-storage-synchronous-writes would"
notice "not done after 36 s (--timeout): the guest is paused until it is"
[ "$(jq -s '[.[] | select(.type == "notice")] | length' "$tmp/events")" -eq 2 ] ||
    fail "more was said: $(grep notice "$tmp/events")"
qmp b guest cont >/dev/null # it writes too fast for its last writes to be seen any later
flattened=yes arrived a b guest # it has written for as long as it took
forget a guest
rm "$tmp"/a/pool/*
