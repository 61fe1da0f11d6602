#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# job info of a migration that runs, which asks its QEMU for nothing, and of those that have ended, which
# outlive the daemon.
. "${srcdir:-.}/migrate-functions.sh"

start_daemon a
start_daemon b
new_guest a web 2 qcow2,raw

# job HOST FILTER ARGUMENT...: of job info's JSON the filter is true
job()
{
    local host=$1 filter=$2
    shift 2
    at "$host" --json job info "$@" >"$tmp/job"
    jq -e "$filter" "$tmp/job" >/dev/null || fail "not so: $filter: $(cat "$tmp/job")"
}

transferred()
{
    at a --json job info web | jq '.disks[0].transferred'
}

has_copied()
{
    [ "$(transferred)" -gt "$1" ]
}

has_ended()
{
    at a --json job info --completed | jq -e "length == $1"
}

expect_failure "no migration of a guest named web runs here" at a job info web
[ "$(at a --json job info --completed)" = '[]' ] || fail "migrations that never were"
expect_failure "no migration of a guest named web that has ended" at a job info --completed web

# One that takes long, and is given up.
begin a b web --copy-storage-all --bandwidth 300K
copying a web
wait_for "the first bytes" has_copied 0
wait_for "more of them" has_copied "$(transferred)"
job a '.name == "web" and .status == "running" and .phase == "mirror" and .mode == "bistream" and
    .fallback == null and .error == null and .downtime_ms == 0 and .elapsed_ms > 0 and
    .started > 1700000000 and .round_trip_us > 0 and .link_losses == 0 and .bandwidth == 307200' web
job a '.disks | map(.target) == ["vda", "vdb"] and
    all(.[]; .total > 6000000 and .remaining > 0 and .transferred + .remaining == .total)' web
expect_text "Phase:           mirror" "$(at a job info web)"
# A QEMU that answers nothing keeps nobody waiting.
qemu=$(info a web pid)
kill -STOP "$qemu"
timeout 5 "$bistream" -c "$tmp/a/control" --json job info web >"$tmp/job" || fail "job info waits for QEMU"
kill -CONT "$qemu"
at a job abort web >/dev/null
ends 1 "aborted by the operator"
goes_on a web
expect_failure "no migration of a guest named web runs here" at a job info web
job a 'length == 1 and (.[0] | .name == "web" and .status == "failed" and .phase == "mirror" and
    (.error | startswith("aborted by the operator")) and .disks[0].remaining > 0)' web --completed

# One that completes.
new_guest b east 2 qcow2,raw
must_migrate b a east --copy-storage-all
cp "$tmp/result" "$tmp/told"
job b '.[0] | .status == "completed" and .phase == "confirm" and .error == null and .round_trip_us > 0 and
    all(.memory, .disks[]; .transferred > 0 and .remaining == 0)' east --completed
jq -e --slurpfile told "$tmp/told" '.[0].downtime_ms == $told[0].downtime_ms and
    .[0].elapsed_ms == $told[0].total_ms' "$tmp/job" >/dev/null || fail "other figures than told"

# A daemon that is started again remembers; a file that is broken costs that one only.
at a --json job info --completed >"$tmp/before"
stop_daemon a
start_daemon a
at a --json job info --completed | cmp - "$tmp/before" || fail "it remembers something else"
stop_daemon b
echo '{"version": 1, "name": ' >"$tmp/b/state/jobs/00000000000000000000000000000000.json"
start_daemon b
expect_log b "/b/state/jobs/00000000000000000000000000000000.json is left out: "
job b 'length == 1 and .[0].name == "east"' --completed

# Killed in the middle of one, it tells how long that has taken all in all.
begin a b web --copy-storage-all --bandwidth 300K
copying a web
kill -KILL "${pid_of[a]}"
wait "${pid_of[a]}" || :
wait "$client" || :
start_daemon a
wait_for "the end" has_ended 2
job a '.[0] | .name == "web" and .status == "failed" and
    (.error | startswith("bistreamd was started again in the middle of it"))' --completed
goes_on a web

# The cap is changed while it runs: it would take minutes, and is done at once.
begin a b web --copy-storage-all --bandwidth 50K
copying a web
at a job set web --bandwidth 60K >/dev/null
job a '.bandwidth == 61440' web
at a job set web --bandwidth 0 >/dev/null
ends 0 ""
arrived a b web
job a '.[0] | .status == "completed" and .bandwidth == null' --completed
expect_failure "no migration of a guest named web runs here" at a job set web --bandwidth 1M
