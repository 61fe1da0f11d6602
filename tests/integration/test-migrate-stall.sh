#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A path that falls silent while the guest runs: it runs on and writes, for as long as that lasts, and
# the migration goes on afterwards.
bound=1
. "${srcdir:-.}/stall-functions.sh"

two_hosts
longer=$((bound + 1))

# all_fall_silent: one after the other
all_fall_silent()
{
    local who
    for who in way qemu daemon; do
        echo "   $who"
        hush $who
        writes_for $longer
        speak
    done
}

echo "== while disks are copied"
reach mirror --bandwidth 500K
all_fall_silent
at a --json job info guest | jq -e '.phase == "mirror" and .disks[0].remaining > 0' >/dev/null ||
    fail "no disk was being copied any more"
at a job set guest --bandwidth 0 >/dev/null
ends 0 ""
moved a b
forget a guest
rm "$tmp"/a/pool/*
forget b guest
rm "$tmp"/b/pool/*

echo "== while memory is copied"
new_guest a guest 2 qcow2,raw
take_stock
reach memory
all_fall_silent
memory_rate 1000000000
ends 0 ""
moved a b
