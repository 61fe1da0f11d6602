#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A guest that is shut off is being copied, and a storage daemon dies on either side, or the path falls
# silent: the guest stays where it is, nothing else is left, and it can be migrated again.
. "${srcdir:-.}/../fault/fault-functions.sh"
. "${srcdir:-.}/offline-functions.sh"

set_mode bistream
start_host a
start_host b
start_wire
shut_off_guest a guest 2 qcow2,raw --vda-data 24M
take_stock

# half_gone: the copy is on its way, and lasts
half_gone()
{
    begin a way guest --offline --bandwidth 8M
    half_way b guest
}

# nothing_came: the guest is where it was, and nothing else is anywhere
nothing_came()
{
    unharmed a b guest
    nothing_left_at a
    nothing_left_at b
}

# storage_daemon_dies HOST SENTENCE
storage_daemon_dies()
{
    local pid
    echo "== the storage daemon of $1 is killed"
    half_gone
    for pid in $(storage_daemons); do
        ! grep -qzF -e "$tmp/$1/run" "/proc/$pid/cmdline" || kill -KILL "$pid"
    done
    ends 1 "$2"
    expect_text "and the guest stays here" "$(cat "$tmp/said")"
    [ "$(wc -l <"$tmp/said")" -eq 1 ] || fail "more than a sentence: $(cat "$tmp/said")"
    nothing_came
}

storage_daemon_dies a "at the source"
storage_daemon_dies b "at the destination"

echo "== aborted on a silent path"
half_gone
way 'hold there'
way 'hold back'
struck=$(now_ms)
at a job abort guest >/dev/null
ends 1 "aborted by the operator"
took=$(($(now_ms) - struck))
echo "aborted in $took ms"
[ $took -le "${ABORT_MS:-2000}" ] || fail "it took $took ms"
state_is a guest 'shut off' || fail "it is $(info a guest state) at a"
way cut
way go
nothing_came

echo "== a path that stays silent"
half_gone
way 'hold there'
way 'hold back'
ends 1 "and the guest stays here"
unharmed a b guest
way cut
way go
wait_for "an empty journal" journal_is_empty a
must_migrate a way guest --offline
is_there a b guest
no_traces_soon b
runs b guest
