#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# cell.sh MODE PHASE FAULT CODES PLACE: one cell of the fault matrix, as the file matrix has it.  Run from
# tests/fault of the build folder.  What the client's exit code was goes to $CODE_FILE, if set.
#
# A guest is on its way from a to b; in PHASE the FAULT strikes; everything is mended; then the exit
# code is one of CODES, the guest is in PLACE and only there, it has lost no write, nothing of the
# migration is left on either side, and a second migration succeeds.
. "${srcdir:-.}/fault-functions.sh"

mode=$1 phase=$2 fault=$3 codes=$4 place=$5

# An abort that is not too late takes no longer than this.
ABORT_MS=${ABORT_MS:-2000}
# A guest that waits for a fault does so for no longer than this: stall_timeout, and what it takes to
# cancel.
HELD_MS=${HELD_MS:-8000}

# hear: waits for the client's end; $code is its exit code
hear()
{
    code=0
    # It is known to end: the test must not hang if it doesn't.
    timeout 60 tail --pid="$client" -s 0.02 -f /dev/null || fail "the command doesn't end"
    wait "$client" || code=$?
    [ -z "${CODE_FILE:-}" ] || echo $code >"$CODE_FILE"
    [[ ",$codes," == *,$code,* ]] || fail "exit code $code, not $codes: $(cat "$tmp/said")"
}

# sentence: one line that says where the guest is
sentence()
{
    case $code in
    0) [ ! -s "$tmp/said" ] || fail "said in spite of success: $(cat "$tmp/said")" ;;
    1) expect_text "the guest stays here" "$(cat "$tmp/said")" ;;
    3) expect_text "not known" "$(cat "$tmp/said")" ;;
    esac
    [ "$(wc -l <"$tmp/said")" -le 1 ] || fail "more than a sentence: $(cat "$tmp/said")"
    echo "exit code $code: $(cat "$tmp/said")"
}

# held: not for long, where it is known to be here
held()
{
    case $code,$fault in
    1,silent | 1,cut | 1,stop-destination*) ;;
    *) return 0 ;;
    esac
    wait_for_quietly runs_at a || fail "the guest doesn't run here"
    took=$(($(now_ms) - struck))
    echo "over in $took ms"
    case $mode,$phase,$fault in
    synchronous,* | *,switch,* | *,device,* | *,finish-lost,stop-destination-qemu)
        [ "$took" -le "$HELD_MS" ] || fail "the guest was held for $took ms"
        ;;
    esac
}

set_mode "$mode"
before_fault "$phase" "$fault"
start_host a
start_host b
start_wire
new_guest a guest 2 qcow2,raw --pause 20000
take_stock

echo "== $mode: $phase, $fault"
struck=0
case $fault in
qmp-source) spoil_in "$phase" a ;;
qmp-destination) spoil_in "$phase" b ;;
io-error-source) fail_in "$phase" a ;;
io-error-destination) fail_in "$phase" b ;;
*)
    stop_in "$phase"
    strike "$phase" "$fault"
    struck=$(now_ms)
    release
    # What was held is not what struck: it goes on, except where all is about the silence.
    case $phase,$fault in
    device,abort | *,kill-* | *,reboot-* | *,silent | *,stop-* | *,cut) ;;
    *) way go ;;
    esac
    case $phase,$fault in
    device,kill-*-qemu | finish-lost,kill-*-qemu | answer-lost,kill-source-qemu) way go ;;
    *,stop-destination-qemu) way go ;;
    answer-lost,kill-destination-qemu) way cut ;;
    esac
    go_on "$mode" "$phase" "$fault"
    ;;
esac
hear
if [ "$fault" = abort ]; then
    took=$(($(now_ms) - struck))
    if [ "$code" -eq 0 ]; then
        notice "too late"
    else
        [ "$took" -le "$ABORT_MS" ] || fail "the abort took $took ms"
    fi
    echo "aborted in $took ms"
fi
sentence
held
not_twice
mend "$fault"
is_in "$place"

echo "== once more"
again "$place"
