#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# The bench's load generator: in each of its modes all bytes get through a forward as they were sent,
# and a tunnel that changes or loses a byte has no result.
. "${srcdir:-.}/functions.sh"
requires socat -V
requires jq --version

load=$(readlink -f "$top_builddir/bench/load")
near=$tmp/near far=$tmp/far

# load MODE [OPTION...]: a short run through the tunnel
load()
{
    "$load" "$@" --near "$near" --far "$far" --seconds 0.1 --limit 20
}

# measures FILTER MODE [OPTION...]: FILTER is true of the result
measures()
{
    local filter=$1
    shift
    load "$@" >"$tmp/result" || fail "load $* failed"
    jq -e "$filter" "$tmp/result" >/dev/null || fail "load $*: $(cat "$tmp/result")"
}

# tunnel_of COMMAND: what goes from NEAR to FAR passes through it; NEAR is another one each time, since
# socat removes its own in the end
tunnel_of()
{
    near+=+
    in_background socat "UNIX-LISTEN:$near" "SYSTEM:$1 | socat - 'UNIX-CONNECT:$far'"
    wait_for "a bad tunnel" test -S "$near"
}

start_daemon a
start_daemon b "forward_allow = {\"$far\"}"
at a forward --detach "$(uri_of b)" "$near:$far" >/dev/null
measures '.bytes > 100000 and .rate > 0' bulk --streams 3
measures '.bytes > 100000 and .bytes % 65568 == 0' nbd --streams 3
measures '.pings > 0 and .bytes > 100000 and .p50 > 0 and .p50 <= .p99' ping --streams 2
measures '.held > 0 and .rate > 0 and .alone > 0' stalled
measures '.connections == 50' connect --count 50
stop_daemon a

tunnel_of "stdbuf -o0 tr a b"
expect_failure "is wrong" load bulk
tunnel_of "stdbuf -o0 head -c 100004"
expect_failure "stream 0: " load bulk
rm -f "$far" "$tmp"/near*
