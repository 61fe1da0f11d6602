#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Guests with 1, 2 and 8 disks, qcow2 and raw, arrive whole, and the result is told in the words and
# fields that scripts rely on.
. "${srcdir:-.}/migrate-functions.sh"

start_daemon a
start_daemon b

# moves NAME DISKS FORMATS
moves()
{
    echo "== $2 disks, $3"
    new_guest a "$1" "$2" "$3"
    must_migrate a b "$1" --copy-storage-all
    result '(keys | sort) == ["disks", "downtime_ms", "error", "mode", "ram_bytes", "status",
                              "total_ms", "type"]'
    result '.type == "result" and .status == "completed" and .mode == "bistream" and .error == null'
    result '.total_ms > .downtime_ms and .downtime_ms > 0 and .ram_bytes > 262144'
    result "(.disks | length) == $2 and all(.disks[]; (keys == [\"bytes\", \"target\"]) and .bytes > 0)"
    result '.disks[0].target == "vda" and .disks[0].bytes > 8388608'
    jq -s -e 'all(.[:-1][]; .type == "started" or .type == "progress" or .type == "notice")' \
        "$tmp/events" >/dev/null || fail "other events: $(cat "$tmp/events")"
    arrived a b "$1"
    forget b "$1"
    forget a "$1"
    rm "$tmp"/?/pool/*
}

moves qcow2 1 qcow2
moves raw 1 raw
moves both 2 qcow2,raw
moves eight 8 raw,qcow2

echo "== what a person reads"
new_guest a plain 1 qcow2
at a migrate plain "$(uri_of b)" --live --copy-storage-all --verbose >"$tmp/said"
expect_text "Migration of 'plain' to $(uri_of b) completed in " "$(tail -n 1 "$tmp/said")"
arrived a b plain
