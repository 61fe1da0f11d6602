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
# connection so often while they are carried.  SEED chooses where and how; $report says what it cost.
forward_with_cuts()
{
    local seed=${SEED:-$RANDOM} command answer host undisturbed losses
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
    losses=$(grep -c "link lost, waiting for another" "$tmp/a/log")
    [ "$losses" -ge $(($3 / 2)) ] || fail "the link was lost no more than $losses times"
    report=$(awk -v a="$undisturbed" -v b="$seconds" -v cuts="$3" 'BEGIN {
        printf "%.1f s undisturbed, %.1f s with %d cuts: %.0f %% less throughput, %.2f s a cut",
            a, b, cuts, 100 * (1 - a / b), (b - a) / cuts
    }')
    report="$2 MB on $1 channels: $report (SEED=$seed)"
    echo "$report"
}

# end_forward: it is still the same session
end_forward()
{
    local id host
    for host in a b; do
        ! grep "session .* ended:" "$tmp/$host/log" || fail "a session has ended"
    done
    id=$(at a --json forward --list | jq -r '.[0].id')
    at a forward --stop "$id" >/dev/null
    expect_log b "ended"
}

# resumed_again: a has another link since resumptions were counted by count_resumptions
resumed_again()
{
    [ "$(grep -c "goes on over another link" "$tmp/a/log")" -gt "$resumptions" ]
}

count_resumptions()
{
    resumptions=$(grep -c "goes on over another link" "$tmp/a/log")
}

# ---- migrations --------------------------------------------------------------------------------

# resume_hosts: a and b, where a lost link is noticed soon, and the wire if there isn't one yet
resume_hosts()
{
    local host
    set_mode bistream
    for host in a b; do
        printf '%s\n' 'ping = "200ms"' 'grace = "5m"' 'stall_timeout = "10s"' >>"$tmp/$host/lines"
        start_host $host
    done
    if [ -n "${WIRE_PID:-}" ]; then
        way "port ${port_of[b]}"
    else
        start_wire
    fi
}

# depart_as_far_as PHASE [OPTION...]: a guest is on its way there; where the copy of the disks shall last,
# under a cap, since a slow disk would keep synchronous writes waiting
depart_as_far_as()
{
    options=(--copy-storage-all "${@:2}")
    [ "$1" != mirror ] || options+=(--bandwidth 1M)
    new_guest a guest 2 qcow2,raw --pause 20000
    take_stock
    stop_in "$1"
}

# without_link SECONDS: nobody listens behind the wire for so long, and what it held is gone
without_link()
{
    way "port 1"
    way cut
    way go
    release
    sleep "$1"
    way "port ${port_of[b]}"
}

# What the phase waits for, beside the link.
speed_up()
{
    case $1 in
    mirror) at a job set guest --bandwidth 0 >/dev/null ;;
    memory) memory_rate 1000000000 ;;
    esac
}

# clear_up HOST...: the guest that these know is gone, for the next one
clear_up()
{
    local host
    for host in "$@"; do
        forget "$host" guest
    done
    rm -f "$tmp"/?/pool/*
}

# goes_over PHASE SECONDS [OPTION...]: without a link for so long in the phase
goes_over()
{
    echo "== without a link for $2 s: $1 ${*:3}"
    depart_as_far_as "$1" "${@:3}"
    without_link "$2"
    speed_up "$1"
    ends 0 ""
    notice "link lost, resuming"
    [ "$1" = confirm ] || notice "link is back after" # else the guest has long been let go of
    at a --json job info guest --completed | jq -e 'all(.link_losses >= 1)' >/dev/null ||
        fail "no link was lost"
    moved a b
    clear_up a b
}

# gives_up PHASE SECONDS [OPTION...]: too long for a guest that waits, which runs on here after ten
gives_up()
{
    local began
    echo "== without a link for $2 s: $1 ${*:3}: given up"
    depart_as_far_as "$1" "${@:3}"
    began=$(now_ms)
    (
        tail --pid="$client" -s 0.02 -f /dev/null
        now_ms >"$tmp/ended"
    ) &
    without_link "$2"
    ends 1 "--stall-timeout"
    wait $!
    took=$(($(<"$tmp/ended") - began))
    echo "given up after $took ms"
    [ $took -le 15000 ] || fail "that is not --stall-timeout"
    notice "link lost, resuming"
    goes_on a guest
    nothing_left_at a
    nothing_left_at b
    clear_up a
}
