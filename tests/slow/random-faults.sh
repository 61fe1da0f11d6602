#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# random-faults.sh MODE [SECONDS [SEED]]: one guest goes to and fro between two daemons while things
# break at random moments: its operator gives up, a daemon is stopped or killed and started again, or
# stands still for a while or for longer than the other side has patience, the QEMU at the destination
# is killed.  After each attempt the guest must run on exactly one side and write on, no write may be
# lost, and neither side may keep anything of an attempt that failed.  One that ended "unresolved" has
# to settle itself; only where the destination's QEMU was killed may it need its operator's decision.
#
# A failure prints the seed and the number of the attempt.
. "$(dirname "$0")/../integration/migrate-functions.sh"

flattened=yes # so few bytes that the writes themselves are most of them
mode=$1
duration=${2:-150}
seed=${3:-$RANDOM}
RANDOM=$seed
attempt=0
span=1000 # ms that a migration takes
declare -A outcomes
trap 'status=$?; set +e; echo "seed $seed, attempt $attempt" >&2; (exit $status); finish_guests' EXIT

in_mode "$mode" a b
for host in a b; do
    printf '%s\n' 'ping = "1s"' 'grace = "0s"' >>"$tmp/$host/lines"
    run_host $host
    echo "listen = \"127.0.0.1:${port_of[$host]}\"" >>"$tmp/$host/lines" # for when it comes back
done

fresh_guest()
{
    new_guest a guest 2 qcow2,raw --size 32M --vda-data 4M
    here=a there=b
}

# at_random MS: sleeps for up to that long
at_random()
{
    sleep "$(awk -v r=$((RANDOM * 32768 + RANDOM)) -v ms="$1" \
        'BEGIN { printf "%.3f", r / 1073741824 * ms / 1000 }')"
}

# restart HOST: SIGTERM, which has to end well in each phase
restart()
{
    stop_daemon "$1"
    run_host "$1"
}

# kill_and_run HOST: SIGKILL
kill_and_run()
{
    kill -KILL "${pid_of[$1]}"
    wait "${pid_of[$1]}" 2>/dev/null || :
    run_host "$1"
}

# pause_daemon HOST SECONDS
pause_daemon()
{
    kill -STOP "${pid_of[$1]}"
    sleep "$2"
    kill -CONT "${pid_of[$1]}"
}

kill_incoming()
{
    local pid
    for pid in $(qemus_of "$there"); do
        kill -KILL "$pid"
        killed=yes
    done
}

# inject FAULT CLIENT
inject()
{
    at_random "$span"
    case $1 in
    none) ;;
    give-up) kill -INT "$2" 2>/dev/null || : ;;
    source-stands) pause_daemon "$here" 0.$((RANDOM % 10)) ;;
    destination-stands) pause_daemon "$there" 0.$((RANDOM % 10)) ;;
    source-silent) pause_daemon "$here" 5 ;;
    destination-silent) pause_daemon "$there" 5 ;;
    stop-source) restart "$here" ;;
    stop-destination) restart "$there" ;;
    kill-source) kill_and_run "$here" ;;
    kill-destination) kill_and_run "$there" ;;
    kill-qemu) kill_incoming ;;
    kill-and-give-up)
        kill_incoming
        kill -INT "$2" 2>/dev/null || :
        ;;
    esac
}

# unharmed HOST: the guest runs there, and its images hold all that it has written
unharmed()
{
    goes_on "$1" guest
    qmp "$1" guest stop >/dev/null
    mapfile -t files < <(images "$1" guest)
    "$guest_dir/guestcheck" images --counter "$(counter "$1" guest)" "${files[@]}"
    qmp "$1" guest cont >/dev/null
    goes_on "$1" guest
}

has_guest()
{
    at "$1" --json list --all | jq -e 'any(.name == "guest")' >/dev/null
}

runs_at()
{
    has_guest "$1" && state_is "$1" guest running
}

# The guest that left is forgotten, or left where it will come back to.
left_behind()
{
    if [ $((RANDOM % 2)) -eq 0 ]; then
        forget "$1" guest
        rm "$tmp/$1/pool"/*
    fi
}

swap()
{
    local was=$here
    here=$there
    there=$was
}

completed()
{
    settles
    if [ -n "$killed" ]; then # when it had arrived
        start_over
        return
    fi
    arrived "$here" "$there" guest
    left_behind "$here"
    swap
}

failed()
{
    settles
    unharmed "$here"
    nothing_left "$here"
    nothing_left "$there"
}

start_over()
{
    local host
    for host in a b; do
        ! has_guest $host || forget $host guest
        rm -f "$tmp/$host/pool"/*
    done
    fresh_guest
}

# Nobody knew whose the guest was; soon that is known.
unresolved()
{
    ! runs_at "$here" || ! runs_at "$there" || fail "the guest runs at both ends"
    if [ -n "$killed" ]; then
        at "$here" job resolve guest --keep >/dev/null 2>&1 || : # unless it has settled itself
    fi
    settles
    if [ -n "$killed" ]; then
        start_over
    elif runs_at "$here"; then
        failed
    else
        completed
    fi
}

no_jobs()
{
    at "$1" --json job list | jq -e '. == []'
}

settles()
{
    wait_for_quietly no_jobs "$here" || fail "not settled: $(at "$here" job list)"
}

faults=(none give-up give-up give-up source-stands destination-stands kill-qemu kill-qemu
    kill-and-give-up source-silent destination-silent stop-source stop-destination
    kill-source kill-destination)
fresh_guest
while [ $SECONDS -lt "$duration" ]; do
    attempt=$((attempt + 1))
    fault=${faults[RANDOM % ${#faults[@]}]}
    killed=
    remember "$here"
    remember "$there"
    "$bistream" -c "$tmp/$here/control" --json migrate guest "$(uri_of "$there")" \
        "${options[@]}" >"$tmp/events" 2>"$tmp/said" &
    client=$!
    inject "$fault" $client
    WAIT_SECONDS=150 wait_for "end of attempt $attempt" process_is_gone $client
    status=0
    wait $client || status=$?
    said=$(tail -n 1 "$tmp/said")
    echo "$attempt: $fault: $here to $there: $status ${said:0:200}"
    case $status in
    0)
        span=$(tail -n 1 "$tmp/events" | jq '.total_ms + 100')
        completed
        ;;
    1) failed ;;
    3) unresolved ;;
    *) fail "exit code $status: $(cat "$tmp/said")" ;;
    esac
    outcomes[$fault:$status]=$((${outcomes[$fault:$status]:-0} + 1))
    is_well a
    is_well b
done
for key in "${!outcomes[@]}"; do
    echo "$key: ${outcomes[$key]}"
done | sort
trap finish_guests EXIT
