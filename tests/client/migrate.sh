#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# migrate: what it asks the daemon for, what it shows, how it ends, and that it never ends before
# it knows where the guest is.

. "${srcdir:-.}/functions.sh"
requires jq script
fake_daemon
to=bistream://b.example

# ---- what it asks for

run 0 migrate web $to --live --copy-storage-all --migrate-disks vda,vdb --dname web2
called "migrate name='web' destination='$to' flags=3 disks=vda,vdb dname='web2'"
run 0 migrate --copy-storage-inc web $to:1234
called "migrate name='web' destination='$to:1234' flags=4 disks= dname=''"
called "keepalive 2"

# asks FLAGS REST OPTION...: the daemon gets these flags, and this behind the name
asks()
{
    flags=$1 rest=$2
    shift 2
    : >"$socket.calls"
    run 0 migrate web $to "$@"
    called "flags=$flags disks= dname='' $rest"
}
nothing="bandwidth=0 downtime=0 timeout=0 stall=0 listen=''"
asks 0 "$nothing"
asks 10 "$nothing" --copy-storage-all --copy-storage-synchronous-writes
asks 16 "$nothing" --auto-converge
asks 64 "$nothing" --persistent
asks 128 "$nothing" --undefinesource
asks 256 "$nothing" --suspend
asks 576 "$nothing" --offline # and persistent
asks 1024 "$nothing" --direct
asks 3072 "bandwidth=0 downtime=0 timeout=0 stall=0 listen='192.0.2.7'" --direct --no-tls \
    --listen-address 192.0.2.7
asks 4096 "$nothing" --no-fallback
asks 0 "bandwidth=0 downtime=30 timeout=5 stall=2000 listen=''" --downtime 30 --timeout 5 \
    --stall-timeout 2
asks 0 "bandwidth=0 downtime=0 timeout=5 stall=0 listen=''" --timeout 5 --timeout-suspend
asks 32 "bandwidth=0 downtime=0 timeout=5 stall=0 listen=''" --timeout-abort --timeout 5
asks 0 "bandwidth=512000 " --bandwidth 500K
asks 0 "bandwidth=104857600 " --bandwidth 100M
asks 0 "bandwidth=2147483648 " --bandwidth 2G
asks 0 "bandwidth=1099511627776 " --bandwidth 1T
asks 0 "bandwidth=104857600 " --bandwidth 100 # as virsh has it
asks 0 "bandwidth=0 " --bandwidth 0

# ---- in a pipe: plain lines

run 0 migrate web $to --verbose
said out "Migration 30313233-3435-3637-3839-616263646566 of 'web' to $to has begun"
said out "Now copying disks"
said out "cd is empty and is not copied?[2J"
said out "Migration of 'web' to $to completed in 12.3 s: memory 1000.0 MiB, vda 3.9 GiB (405.0 MiB/s); downtime 18 ms; mode bistream"
said out "memory 100%"
silent err
! grep -q "$(printf '\033')" "$dir/out" || fail "a pipe got escape sequences"
! grep -q "not this migration" "$dir/out" || fail "it showed another migration's result"
run 1 migrate fails $to
said err "bistream: the migration of 'fails' failed, and the guest stays here: the destination's disk is full"
run 3 migrate unresolved $to
said err "how the migration of 'unresolved' ended is not known: no answer to Finish"
run 1 migrate missing $to
said err "bistream: there is no domain named 'missing' here"

# ---- JSON: an object a line, the last is the result

last()
{
    tail -n 1 "$dir/out" >"$dir/last"
    jq -e "$1" "$dir/last" >/dev/null || fail "the last object is not $1"
}
run 0 migrate web $to --json
jq -es 'map(.type) | .[0] == "started" and index("progress") and index("notice") and
        (map(select(. == "result")) | length) == 1' "$dir/out" >/dev/null || fail "wrong objects"
jq -es 'map(select(.type == "progress")) | .[1] | .phase == "mirror" and
        .memory == {"total": 1048576000, "transferred": 0, "remaining": 1048576000,
                    "rate": 104857600} and
        .disks == [{"target": "vda", "total": 4194304000, "transferred": 2097152000,
                    "remaining": 2097152000, "rate": 209715200}]' "$dir/out" >/dev/null ||
    fail "wrong progress"
jq -es 'map(select(.type == "progress") | .away_ms) == [0, 0, 3456, 0]' "$dir/out" >/dev/null ||
    fail "wrong progress without a link"
last '. == {"type": "result", "status": "completed", "mode": "bistream", "total_ms": 12345,
            "downtime_ms": 18, "ram_bytes": 1048576000,
            "disks": [{"target": "vda", "bytes": 4194304000}], "error": null}'
run 1 migrate fails $to --json
last '.type == "result" and .status == "failed" and .error == "the destination'"'"'s disk is full"'
run 3 migrate unresolved $to --json
last '.type == "result" and .status == "unresolved"'
run 1 migrate missing $to --json
last '.type == "result" and .status == "failed" and .mode == null'
run 1 -c "$dir/none.sock" migrate web $to --json
last '.status == "failed" and (.error | startswith("can'"'"'t reach bistreamd"))'

# ---- the daemon vanishes, or speaks nonsense: nobody knows how it ended

for name in dies dies-early; do
    run 3 migrate $name $to
    said err "how the migration of '$name' ended is not known: bistreamd at $socket ended the connection; its log says why. See 'bistream info $name' here and at the destination"
done
run 3 migrate dies $to --json
last '.type == "result" and .status == "unresolved" and (.error | contains("ended the connection"))'
run 3 migrate garbage $to
said err "doesn't speak bistream's protocol"

# ---- Ctrl-C

for signal in INT TERM; do
    : >"$socket.calls"
    start_in_background migrate waits $to
    wait_for "$dir/out" "copying disks"
    kill -$signal "$background"
    finish 1
    called "abort ours"
    said out "Aborting the migration; waiting until the guest is safe ..."
    said err "the guest stays here: aborted by the operator"
done

start_in_background migrate late $to --json
wait_for "$dir/out" mirror
kill -INT "$background"
finish 0
said out "too late: the destination was asked to start the guest"
last '.status == "completed"'

# A second one explains; a third does no harm; one abort is asked for.
: >"$socket.calls"
start_in_background migrate stubborn $to
wait_for "$dir/out" "copying disks"
kill -INT "$background"
wait_for "$socket.calls" "abort ours"
kill -INT "$background"
wait_for "$dir/out" "Still waiting until the guest is safe on one side"
kill -INT "$background"
kill -0 "$background" || fail "it gave up"
touch "$socket.release"
finish 1
[ "$(grep -c abort "$socket.calls")" -eq 1 ] || fail "it asked to abort more than once"

# A reader that goes away changes nothing about the exit code.
status=0
{ "$bistream" migrate web $to 2>/dev/null || echo $? >"$dir/status"; } | :
[ ! -e "$dir/status" ] || fail "exit $(cat "$dir/status") without a reader"

# ---- on a terminal: bars in place that fit and never run backwards

on_terminal()
{
    TERM=xterm COLUMNS=$1 LINES=$2 script -qec "$bistream migrate $3 $to" /dev/null \
        >"$dir/screen" </dev/null || fail "it failed on a terminal"
    tr -d '\r' <"$dir/screen" | sed "s/$(printf '\033')\[[0-9]*[A-Z]//g" >"$dir/lines"
}
on_terminal 72 24 web
grep -Eq '^vda    \[=+>? *\]  50%' "$dir/lines" || fail "no bar"
grep -q "Migrating 'web' to $to: copying memory" "$dir/lines" || fail "no phase"
grep -q "Migrating 'web' to $to: link lost, resuming (3 s)" "$dir/lines" || fail "no word of the lost link"
grep "^vda" "$dir/lines" | sed 's/.*\] *\([0-9]*\)%.*/\1/' >"$dir/percents"
sort -nc "$dir/percents" || fail "a bar ran backwards"
grep -q '^100$' "$dir/percents" || fail "the bar isn't full at the end"
grep '\[[=> ]*\]' "$dir/lines" >"$dir/bars"
[ "$(wc -L <"$dir/bars")" -lt 72 ] || fail "a bar is too wide"
on_terminal 30 24 web
grep "^vda" "$dir/lines" >"$dir/bars"
[ "$(wc -L <"$dir/bars")" -lt 30 ] || fail "a bar is too wide for 30 columns"
# More disks than lines: their sum.
on_terminal 80 24 many
grep -Eq '^disks  \[=+>? *\]  50%' "$dir/lines" || fail "no sum of the disks"
! grep -q '^vd63' "$dir/lines" || fail "64 bars on 24 lines"

# ---- wrong usage

# wrong SENTENCE OPTION...
wrong()
{
    sentence=$1
    shift
    run 2 migrate web $to "$@"
    said err "bistream: $sentence"
}
: >"$socket.calls"
run 2 migrate web
said err "migrate wants NAME DEST [OPTION...]"
run 2 migrate web b.example
said err "'b.example' is no destination: write bistream://HOST[:PORT]"
wrong "--copy-storage-all and --copy-storage-inc can't be had together: they are two ways" \
    --copy-storage-all --copy-storage-inc
wrong "--migrate-disks wants --copy-storage-all or --copy-storage-inc" --migrate-disks vda
wrong "--migrate-disks wants targets such as vda,vdb, not ''" --copy-storage-all \
    --migrate-disks vda,,vdb
wrong "--migrate-disks names vda twice" --copy-storage-all --migrate-disks vda,vda
wrong "--copy-storage-synchronous-writes wants --copy-storage-all or --copy-storage-inc" \
    --copy-storage-synchronous-writes
wrong "--timeout-abort wants --timeout" --timeout-abort
wrong "--timeout-suspend wants --timeout" --timeout-suspend
wrong "--timeout-suspend and --timeout-abort can't be had together" --timeout 5 \
    --timeout-suspend --timeout-abort
wrong "--no-tls wants --direct" --no-tls
wrong "--listen-address wants --direct" --listen-address 192.0.2.7
wrong "--listen-address wants an address of the host DEST, not ''" --direct --listen-address ''
for option in live suspend auto-converge direct; do
    wrong "--offline and --$option can't be had together: " --offline --$option
done
wrong "--offline and --copy-storage-synchronous-writes can't be had together: " --offline \
    --copy-storage-all --copy-storage-synchronous-writes
for option in downtime timeout stall-timeout; do
    wrong "--offline and --$option can't be had together: " --offline --$option 5
done
for rate in "" K 5k 5KB 5M5 -5 +5 " 5" 5.5M 99999999999999999999 18446744073709551615G; do
    wrong "--bandwidth wants a rate such as 500K, 100M or 2G (bytes per second), not '$rate'" \
        --bandwidth "$rate"
done
wrong "--downtime wants milliseconds, 1 to 2000000, not '2000001'" --downtime 2000001
wrong "--timeout wants seconds, 1 to 2592000, not '0'" --timeout 0
wrong "--stall-timeout wants seconds, 1 to 3600, not '1.5'" --stall-timeout 1.5
[ ! -s "$socket.calls" ] || fail "wrong usage reached the daemon"
