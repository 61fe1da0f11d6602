#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# slow-modes.sh TIMES [MODE...]: a guest that never stops writing goes from a to b and back TIMES times
# in each mode, and loses no write.  Where it comes back its old images are set aside as NAME.before-ID
# until it is settled, and then they are deleted: nothing piles up.
times=$1
shift
[ $# -gt 0 ] || set -- bistream synchronous tunnel direct
set -e
. "$srcdir/../integration/migrate-functions.sh"

flattened=yes # so few bytes that the writes themselves are most of them

# goes FROM TO: in the background, and looks at what is aside at TO meanwhile: to $tmp/aside
goes()
{
    : >"$tmp/aside"
    begin "$1" "$2" guest "${options[@]}"
    until process_is_gone $client; do
        (cd "$tmp/$2/pool" && find . -name '*.before-*') >>"$tmp/aside"
        sleep 0.02
    done
    wait $client || fail "exit code $?: $(cat "$tmp/said")"
    tail -n 1 "$tmp/events" >"$tmp/result"
    result ".mode == \"${mode/synchronous/bistream}\""
    cat "$tmp/result" >>"$tmp/results"
}

# nothing_aside HOST: its pool has the guest's two images and no more
nothing_aside()
{
    [ "$(cd "$tmp/$1/pool" && find . -type f | sort | tr '\n' ' ')" = "./guest-vda.qcow2 ./guest-vdb.raw " ]
}

# turn FROM TO: a migration, and its proofs
turn()
{
    local was
    was=$(stat -c %i "$tmp/$2/pool"/guest-vd?.* 2>/dev/null || :)
    goes "$1" "$2"
    if [ -n "$was" ]; then
        [ "$(sed 's/before-.*/before/' "$tmp/aside" | sort -u | wc -l)" -eq 2 ] ||
            fail "the old images were not set aside, but: $(sort -u "$tmp/aside")"
        [ "$(stat -c %i "$tmp/$2/pool"/guest-vd?.*)" != "$was" ] || fail "the old images are used"
    fi
    wait_for_quietly nothing_aside "$2" || fail "in the pool of $2: $(ls "$tmp/$2/pool")"
    nothing_aside "$1" || fail "in the pool of $1: $(ls "$tmp/$1/pool")"
    arrived "$1" "$2" guest
}

for mode in "$@"; do
    in_mode "$mode" a b
    run_host a
    run_host b
    : >"$tmp/results"
    new_guest a guest 2 qcow2,raw --size 32M --vda-data 4M
    for _ in $(seq "$times"); do
        turn a b
        turn b a
    done
    forget a guest
    forget b guest
    rm "$tmp"/[ab]/pool/*
    stop_daemon a
    stop_daemon b
    summary+="$mode $times there and back, $(jq -sr '"\(map(.total_ms) | add / length | round) ms each, "
        + "guest stood \(map(.downtime_ms) | max) ms at most"' "$tmp/results"); "
done
echo "${summary%; }"
