# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# What the tests of links that break share.  From a to b leads the wire of the fault matrix, which
# resets, ends and silences connections.
. "${srcdir:-.}/../fault/fault-functions.sh"

bulk=$(readlink -f "$top_builddir/tests/slow/bulk")

# ---- a forward ---------------------------------------------------------------------------------

# carry CHANNELS MEGABYTES: over the forward; $seconds is how long that took
carry()
{
    local said
    said=$(timeout 500 "$bulk" "$tmp/local" "$tmp/remote" "$@") || fail "what was carried has changed"
    echo "$said"
    seconds=$(sed 's/.* in \([0-9.]*\) s.*/\1/' <<<"$said")
}

# forward_with_cuts CHANNELS MEGABYTES CUTS: every byte is what it was, although the wire cuts the
# connection so often while they are carried.  SEED chooses where and how.
forward_with_cuts()
{
    local seed=${SEED:-$RANDOM} command answer host id undisturbed losses
    for host in a b; do
        start_daemon $host 'ping = "100ms"' 'grace = "60s"' "forward_allow = {\"$tmp/*\"}"
    done
    start_wire
    at a forward --detach "$(uri_of way)" "$tmp/local:$tmp/remote" >/dev/null
    carry "$1" "$2"
    undisturbed=$seconds

    # As they are counted in bytes, they come at any byte, and all before the last one.
    command="cuts $3 $(($2 * 600000 / $3)) $seed"
    echo "SEED=$seed: $command"
    echo "$command" >&"${WIRE[1]}"
    carry "$1" "$2"
    read -r -t 1 answer <&"${WIRE[0]}" || fail "there were too few cuts"
    [ "$answer" = "$command" ] || fail "the wire said '$answer' to '$command'"
    for host in a b; do
        ! grep "session .* ended:" "$tmp/$host/log" || fail "a session has ended"
    done
    losses=$(grep -c "link lost, waiting for another" "$tmp/a/log")
    [ "$losses" -ge $(($3 / 2)) ] || fail "the link was lost no more than $losses times"
    id=$(at a --json forward --list | jq -r '.[0].id')
    at a forward --stop "$id" >/dev/null
    expect_log b "ended"
    awk -v with="$seconds" -v without="$undisturbed" -v cuts="$3" -v mb="$2" -v channels="$1" 'BEGIN {
        printf "%d MB on %d channels: %.1f s undisturbed, %.1f s with %d cuts (SEED='"$seed"'): " \
            "%.0f %% less throughput, %.2f s a cut\n", mb, channels, without, with, cuts,
            100 * (1 - without / with), (with - without) / cuts
    }'
}
