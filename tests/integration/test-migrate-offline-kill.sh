#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A guest that is shut off changes hands, and the daemons of either side, or both, are killed around that
# moment: it settles itself, one side has the guest, whole, nothing else is left, and the guest can be
# migrated again.
. "${srcdir:-.}/../fault/fault-functions.sh"
. "${srcdir:-.}/offline-functions.sh"

set_mode bistream
options=(--offline)
start_host a
start_host b
start_wire
shut_off_guest a guest 2 qcow2,raw

# begins_again: its home is a
begins_again()
{
    state_is a guest 'shut off' || must_migrate b a guest --offline
    state_is a guest 'shut off' || fail "it is $(info a guest state) at a"
    no_traces_soon a
    no_traces_soon b
}

# journal_says HOST STATE
journal_says()
{
    grep -qsF "\"state\": \"$2\"" "$tmp/$1"/state/migrations/*.json
}

# hold_when STATE: the migration is on its way, and is held when a journal says so
hold_when()
{
    case $1 in
    'finish asked') # and that never arrives while the connection lives
        watch hold a ' out: finish'
        depart
        reached
        way 'hold there'
        release
        wait_for "$1" journal_says a "$1"
        ;;
    mine) # it is decided, and not registered there yet
        watch hold b ') in: mine'
        depart
        reached
        journal_says b "$1" || fail "b's journal: $(cat "$tmp/b/state/migrations"/*)"
        ;;
    running) # it is there, and nobody at the source knows
        watch hold a ' out: finish'
        depart
        reached
        way 'hold back'
        release
        wait_for "$1" journal_says b "$1"
        ;;
    theirs) # the source knows, and has not marked it as moved
        watch hold a 'out: journal: theirs'
        depart
        reached
        journal_says a "$1" || fail "a's journal: $(cat "$tmp/a/state/migrations"/*)"
        ;;
    esac
}

# killed STATE HOSTS CODES PLACE: the daemons of HOSTS, when a journal says STATE
killed()
{
    local state=$1 hosts=$2 codes=$3 place=$4 host code=0
    echo "== '$state', daemon $hosts killed"
    begins_again
    hold_when "$state"
    for host in $hosts; do
        kill_daemon "$host"
    done
    release
    for host in $hosts; do
        run_host "$host"
        [ "$host" = a ] || way "port ${port_of[b]}"
    done
    way cut
    way go
    wait "$client" || code=$?
    [[ ",$codes," == *,$code,* ]] || fail "exit code $code, not $codes: $(cat "$tmp/said")"
    WAIT_SECONDS=40 wait_for "an end at a" journal_is_empty a
    if [ "$place" = destination ]; then
        is_there a b guest
        expect_failure "domain guest was moved to 127.0.0.1 and lives there" at a start guest
    else
        unharmed a b guest
        [ "$(partials b | wc -l)" -eq 2 ] || fail "kept at b: $(partials b)"
        must_migrate a way guest --offline
        result '.disks[0].bytes < 1048576' # it had been there already
        is_there a b guest
    fi
    wait_for "an empty journal" journal_is_empty b
    no_traces_soon a
    no_traces_soon b
}

killed 'finish asked' a 3 source
killed 'finish asked' b 1,3 source
killed 'finish asked' 'a b' 3 source
killed mine a 3 destination
killed mine b 0,3 destination
killed mine 'a b' 3 destination
killed running a 3 destination
killed running b 0,3 destination
killed theirs a 3 destination
killed theirs b 0 destination
