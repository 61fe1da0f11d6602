#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Walks the fault matrix, prints it as a table, and writes that as Markdown to matrix.md.  Run by
# `make check-fault`; fails when a cell does.
#
#     ONLY='PHASE FAULT'   only these cells (a pattern, e.g. 'memory *')
#     JOBS=N               cells at a time (default: one a processor)
#
# The log of a cell is logs/PHASE.FAULT.log; its line of the table is in logs/PHASE.FAULT.
set -euo pipefail

srcdir=${srcdir:-$(dirname "$0")}
export srcdir
logs=logs
rm -rf $logs
mkdir $logs

# run_cell PHASE FAULT CODES PLACE
run_cell()
{
    local line=$logs/$1.$2 status=0 started=$SECONDS what code
    export CODE_FILE=$line.code
    "$srcdir/cell.sh" "$@" >"$line.log" 2>&1 </dev/null || status=$?
    case $status in
    0) what=ok ;;
    77) what=$(sed -n 's/^SKIP: /skipped: /p' "$line.log") ;;
    *) what=$(sed -n 's/^FAIL: //p' "$line.log" | head -n 1) ;;
    esac
    if [ "$status" -ne 0 ] && is_later "$1" "$2"; then
        what="skipped: later: $what"
    fi
    code=$(cat "$CODE_FILE" 2>/dev/null || echo -)
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$code" "$4" "$((SECONDS - started))" \
        "${what:-failed, see $line.log}" >"$line"
    printf '%-12s %-22s %-4s %-12s %3s s  %s\n' "$1" "$2" "$code" "$4" "$((SECONDS - started))" \
        "${what:-failed, see $line.log}"
}

# Until the journals are there, what needs them may fail.
is_later()
{
    [ -e "$srcdir/../../daemon/incoming_journal.c" ] && return 1
    case "$1 $2" in
    *' kill-source' | *' kill-destination' | finish*' '* | answer-lost' '* | 'device abort') ;;
    *) return 1 ;;
    esac
}

cells=0
while read -r phase fault codes place; do
    case $phase in '' | '#'*) continue ;; esac
    # shellcheck disable=SC2254
    case "$phase $fault" in ${ONLY:-*}) ;; *) continue ;; esac
    while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-$(nproc)}" ]; do
        wait -n || :
    done
    run_cell "$phase" "$fault" "$codes" "$place" &
    cells=$((cells + 1))
done <"$srcdir/matrix"
wait

# The table: phases down, faults across would be too wide for paper; a line a cell.
{
    echo '| phase | fault | exit code | the guest is then | seconds | |'
    echo '|---|---|---|---|---|---|'
    while read -r phase fault _; do
        case $phase in '' | '#'*) continue ;; esac
        [ ! -s "$logs/$phase.$fault" ] || sed 's/\t/ | /g; s/^/| /; s/$/ |/' "$logs/$phase.$fault"
    done <"$srcdir/matrix"
} >matrix.md

bad=$(cat $logs/*.* | grep -c -P '^[a-z-]+\t[a-z-]+\t.*\t[0-9]+\t(?!ok$|skipped)' || :)
skipped=$(cat $logs/*.* | grep -c -P '\tskipped: ' || :)
echo "$cells cells, $bad failed, $skipped skipped, $SECONDS s; matrix.md has the table"
[ "$bad" -eq 0 ]
