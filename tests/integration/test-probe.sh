#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# bistream probe: what is at the other end, told apart by codes and never by texts.
. "${srcdir:-.}/functions.sh"
requires jq --version

start_daemon a 'allowed_peers = {}'
start_daemon b
start_daemon old 'offer_bistream = false'

# A daemon of today.
text=$(at a probe "$(uri_of b)")
expect_text "bistreamd" "$text"
json=$(at a --json probe "$(uri_of b)")
expect_json()
{
    printf '%s' "$json" | jq -e "$1" >/dev/null || fail "$1 does not hold for: $json"
}
expect_json '.kind == "bistream"'
expect_json ".hostname == \"$(uname -n)\""
expect_json '.features | index("bistream")'
if command -v qemu-system-x86_64 >/dev/null; then
    expect_json ".qemu == \"$(qemu-system-x86_64 --version | awk 'NR == 1 { print $4 }')\""
fi
expect_log b "for a probe"

# One that does not offer BiStream behaves as one from before it.  No guest can go there: exit code 1.
json=$(at a --json probe "$(uri_of old)") && fail "an old daemon passes for one of today"
expect_json '.kind == "old"'
expect_json '.features == []'

# Without a QEMU a host can still be asked.
start_daemon bare 'qemu_binary = "/nowhere/qemu"'
json=$(at a --json probe "$(uri_of bare)")
expect_json '.kind == "bistream" and .qemu == null'

# A forward wants BiStream, and says who lacks it.
expect_failure "does not offer BiStream" at a forward "$(uri_of old)" "$tmp/x:/run/y"
[ ! -e "$tmp/x" ] || fail "a forward that failed left its socket"

# What is no address at all.
expect_failure "bistream://" at a probe nonsense
expect_failure "no-such-host.invalid" at a probe bistream://no-such-host.invalid
