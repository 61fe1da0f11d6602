# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# What the tests of silent paths share.  A guest is on its way from a to b, is held in a phase as in
# the fault matrix, and then something falls silent: the way, the QEMU at b, the daemon there, or in
# mode direct only the ports, while the session goes on.
# The session waits for a minute before it calls that an end, so what happens earlier is the
# migration's own doing.
. "${srcdir:-.}/../fault/fault-functions.sh"

bound=${bound:-2} # seconds; stall_timeout
spare_ms=2000     # for the machine, and for QEMU to notice
ABORT_MS=${ABORT_MS:-3000}
slow='slow 1000000' # bytes a second of b's disks, where the copy shall last

mode=${mode:-bistream}

# What stands can't be ended.
silent=
finish_silence()
{
    local status=$?
    set +e
    speak
    (exit $status)
    finish_guests
}
trap finish_silence EXIT

# two_hosts [DISKS]: and a guest that never stops writing
two_hosts()
{
    local host
    set_mode "$mode"
    always=("${options[@]}")
    echo "${1:-}" >"$tmp/b/disks"
    for host in a b; do
        printf '%s\n' 'ping = "60s"' "stall_timeout = \"${bound}s\"" >>"$tmp/$host/lines"
        start_host $host
    done
    start_wire
    new_guest a guest 2 qcow2,raw
    take_stock
}

pids_of()
{
    case $1 in
    way) echo "$WIRE_PID" ;;
    qemu) qemus_of b ;;
    daemon) echo "${pid_of[b]}" ;;
    esac
}

# hush WHO: way, qemu, daemon or ports
hush()
{
    if [ "$1" = ports ]; then
        way 'hold direct'
    else
        silent=$(pids_of "$1")
        kill -STOP "$silent"
    fi
    hushed=$(now_ms)
}

# speak: it goes on, unless it was killed meanwhile
speak()
{
    [ -z "$silent" ] || kill -CONT "$silent" 2>/dev/null || :
    silent=
    [ "$mode" != direct ] || [ -z "${WIRE_PID:-}" ] || way go
}

# reach PHASE [OPTION...]: the migration is there; what holds it goes by release
reach()
{
    options=("${always[@]}" "${@:2}")
    case $1 in
    shake) # memory is about to be: its connection carries nothing yet
        watch hold a "$(command_text migrate)"
        depart
        reached
        ;;
    stop) stop_in memory ;; # stop_guest follows
    stream) # memory is going over, and no hands are shaken any more
        stop_in memory
        wait_for "stream" streams
        ;;
    sent) # all of it, and Finish follows
        watch hold a ' out: finish'
        depart
        reached
        ;;
    *) stop_in "$1" ;;
    esac
}

streams()
{
    qmp_at a query-migrate | jq -e '.status == "active"'
}

# stop_guest: memory need not be fast to be done soon, so QEMU stops the guest for the switch, whose
# writes are under way
stop_guest()
{
    qmp_at a '{"execute": "migrate-set-parameters", "arguments": {"downtime-limit": 2000000}}' >/dev/null
}

# ---- the guest's counter -----------------------------------------------------------------------

# watch_guest: from now on it is looked at for how long the guest's counter stands still
watch_guest()
{
    rm -f "$tmp/seen-enough"
    look_at_guest "$(info a guest qmp)" >"$tmp/stood" &
    watcher=$!
    other_pids+=($watcher)
}

look_at_guest()
{
    local counter=0 last longest=0 now
    last=$(now_ms)
    until [ -e "$tmp/seen-enough" ]; do
        counter=$("$guest_dir/guestcheck" ram --qmp "$1" --above "$counter" |
            sed 's/^counter=\([0-9]*\) .*/\1/')
        now=$(now_ms)
        [ $((now - last)) -le $longest ] || longest=$((now - last))
        last=$now
    done
    echo $longest
}

# stood_less_than MS: at any time, as far as was watched
stood_less_than()
{
    [ "$(<"$tmp/stood")" -lt "$1" ] || fail "the guest stood still for $(<"$tmp/stood") ms"
}

# stood_at_most MS: and it goes on now
stood_at_most()
{
    counter a guest --above "$(counter a guest)" >/dev/null
    touch "$tmp/seen-enough"
    wait $watcher
    echo "the guest stood still for $(<"$tmp/stood") ms at the most"
    stood_less_than "$1"
}

# writes_for SECONDS: since the silence began, and never stands still
writes_for()
{
    watch_guest
    until [ $(($(now_ms) - hushed)) -gt $(($1 * 1000)) ]; do
        counter a guest --above "$(counter a guest)" >/dev/null
    done
    stood_at_most 1500
    kill -0 "$client" || fail "it was given up: $(cat "$tmp/said")"
}

# ---- how it ends -------------------------------------------------------------------------------

# clean: the guest runs at a, and nothing of the migration is left anywhere
clean()
{
    speak
    goes_on a guest
    nothing_left_at a
    nothing_left_at b
}

# gives_up WHO PHASE SENTENCE [OPTION...]: who falls silent in the phase holds the guest up for no
# longer than the bound
gives_up()
{
    local who=$1 phase=$2 sentence=$3
    shift 3
    echo "== $who falls silent, phase $phase $*"
    reach "$phase" "$@"
    watch_guest
    hush "$who"
    release
    [ "$phase" != stop ] || stop_guest
    ends 1 "$sentence"
    echo "given up after $(($(now_ms) - hushed)) ms"
    expect_text "--stall-timeout" "$(cat "$tmp/said")"
    [ "$(wc -l <"$tmp/said")" -eq 1 ] || fail "more than a sentence: $(cat "$tmp/said")"
    stood_at_most $((bound * 1000 + spare_ms))
    clean
}

# aborts HOW WHO PHASE [OPTION...]: job abort, or Ctrl-C
aborts()
{
    local how=$1 who=$2 phase=$3 asked
    shift 3
    echo "== $how, $who silent, phase $phase $*"
    reach "$phase" --stall-timeout 60 "$@"
    hush "$who"
    release
    [ "$phase" != stop ] || stop_guest
    # So late that all buffers are full, and whatever can stand still does.
    until [ $(($(now_ms) - hushed)) -gt 1500 ]; do :; done
    asked=$(now_ms)
    if [ "$how" = Ctrl-C ]; then
        kill -INT "$client"
    else
        at a job abort guest >/dev/null
    fi
    in_time "$asked" &
    local judge=$!
    ends 1 "aborted by the operator"
    ended_ms=$(($(now_ms) - asked))
    wait $judge || fail "the guest does not run soon enough"
    clean
}

# in_time BEGAN: the guest writes
in_time()
{
    local took socket
    socket=$(info a guest qmp)
    counter=$("$guest_dir/guestcheck" ram --qmp "$socket" | sed 's/^counter=\([0-9]*\) .*/\1/')
    "$guest_dir/guestcheck" ram --qmp "$socket" --above "$counter" >/dev/null
    took=$(($(now_ms) - $1))
    echo "it runs $took ms after the abort"
    [ $took -le "$ABORT_MS" ]
}
