#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# The link breaks, and nobody but the log and the operator notices: a forward whose relay is killed
# and stopped again and again, and migrations that lose their link for a second.
. "${srcdir:-.}/migrate-functions.sh"
requires socat -V

relay=$PWD/relay
mkdir "$tmp/far"
start_daemon a 'ping = "200ms"' 'grace = "60s"'
start_daemon b 'ping = "200ms"' 'grace = "60s"' "forward_allow = {\"$tmp/far/*.sock\"}" \
    "qemu_binary = \"$(slow_qemu 15000000)\""

# way_to_b [PORT]: a relay before b
way_to_b()
{
    rm -f "$tmp/relay.port"
    in_background "$relay" "${port_of[b]}" "$tmp/relay.port" 0 0 "${1:-0}"
    relay_pid=$!
    wait_for "relay" test -s "$tmp/relay.port"
    port_of[way]=$(<"$tmp/relay.port")
}

# cut SECONDS [STOP]: no way for so long; with STOP it is silent first, until that was noticed
cut()
{
    if [ "${2:-}" ]; then
        kill -STOP $relay_pid
        sleep 1.5 # longer than three PINGs
    fi
    kill -KILL $relay_pid
    wait $relay_pid 2>/dev/null || :
    sleep "$1"
    way_to_b "${port_of[way]}"
}

echo "== a forward"
way_to_b
: >"$tmp/forward.out"
"$bistream" -c "$tmp/a/control" forward "$(uri_of way)" "$tmp/echo:$tmp/far/echo.sock" \
    >"$tmp/forward.out" 2>"$tmp/forward.err" &
forward=$!
other_pids+=("$forward")
wait_for "forward" grep -q '^ready$' "$tmp/forward.out"
in_background socat "UNIX-LISTEN:$tmp/far/echo.sock,fork" EXEC:cat
wait_for "far program" test -S "$tmp/far/echo.sock"
head -c 50000021 /dev/urandom >"$tmp/data"
talkers=()
for _ in 1 2 3 4; do
    (
        for _ in 1 2 3; do
            socat -t 60 - "UNIX-CONNECT:$tmp/echo" <"$tmp/data" | cmp - "$tmp/data" || exit 1
        done
    ) &
    talkers+=($!)
done
cuts=0
while [ $cuts -lt 12 ]; do
    sleep 0.2
    if [ $((cuts % 4)) = 3 ]; then cut 0 STOP; else cut 0; fi
    cuts=$((cuts + 1))
done
for pid in "${talkers[@]}"; do
    wait "$pid" || fail "bytes changed on a link that broke"
done
expect_log a "link lost, waiting for another"
expect_log a "goes on over another link"
kill -INT "$forward"
wait "$forward" || fail "the forward has failed: $(cat "$tmp/forward.err")"

# migrates_anyway PHASE: with the link cut for a second in that phase
migrates_anyway()
{
    begin a way guest --copy-storage-all --bandwidth 8M
    in_phase a "$1"
    [ "$1" = memory ] || copying a guest
    cut 1
    wait "$client" || fail "the migration has failed: $(cat "$tmp/said")"
    notice "link lost, resuming"
    notice "link is back"
    at a --json job info guest --completed >"$tmp/info"
    jq -e 'all(.link_losses == 1)' "$tmp/info" >/dev/null || fail "losses: $(cat "$tmp/info")"
    arrived a b guest
    forget b guest
    forget a guest
    rm -f "$tmp"/?/pool/*
}

for phase in mirror memory; do
    echo "== a migration without a link for a second in phase $phase"
    new_guest a guest 2 qcow2,raw --ram 16M
    migrates_anyway $phase
done

echo "== the grace time is over"
kill -KILL $relay_pid
stop_daemon a
start_daemon a 'ping = "200ms"' 'grace = "1s"'
way_to_b
new_guest a guest 2 qcow2,raw
remember a
begin a way guest --copy-storage-all
copying a guest
kill -KILL $relay_pid
ends 1 "and the guest stays here"
goes_on a guest
nothing_left a
