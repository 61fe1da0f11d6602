#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Walks the fault matrix, prints a line per cell, and writes the table to matrix.md.  Run by
# `make check-fault`; fails when a cell does.
#
#     ONLY='PHASE FAULT'   only these cells (a pattern, e.g. 'memory *')
#     JOBS=N               cells at a time (default: one a processor)
#
# The log of a cell is logs/PHASE.FAULT.log; its line of the table is in logs/PHASE.FAULT.cell.
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
    code=$(cat "$CODE_FILE" 2>/dev/null || echo -)
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$code" "$4" "$((SECONDS - started))" \
        "${what:-failed, see $line.log}" >"$line.cell"
    printf '%-12s %-22s %-4s %-12s %3s s  %s\n' "$1" "$2" "$code" "$4" "$((SECONDS - started))" \
        "${what:-failed, see $line.log}"
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

# Phases across, faults down, in the order in which they first appear.
awk -F '\t' '
    $0 ~ /^[a-z]/ {
        phase = $1; fault = $2
        if (!(phase in seen)) { seen[phase] = 1; phases[++p] = phase }
        if (!(fault in seen)) { seen[fault] = 1; faults[++f] = fault }
        cell[phase, fault] = $6 == "ok" ? $3 " " $4 ", " $5 " s" : $6 ~ /^skipped/ ? "skipped" : "**" $6 "**"
    }
    END {
        printf "|"; for (i = 1; i <= p; i++) printf " | %s", phases[i]; print " |"
        printf "|---"; for (i = 1; i <= p; i++) printf "|---"; print "|"
        for (j = 1; j <= f; j++) {
            printf "| %s", faults[j]
            for (i = 1; i <= p; i++)
                printf " | %s", ((phases[i], faults[j]) in cell) ? cell[phases[i], faults[j]] : "–"
            print " |"
        }
    }' <(sed -n 's/^\([a-z][^ ]*\) *\([^ ]*\) .*/\1.\2.cell/p' "$srcdir/matrix" |
    (cd $logs && xargs -I % sh -c 'cat % 2>/dev/null || :')) >matrix.md

good=$(cat $logs/*.cell | grep -c -P '\tok$' || :)
skipped=$(cat $logs/*.cell | grep -c -P '\tskipped: ' || :)
bad=$((cells - good - skipped))
echo "$cells cells, $bad failed, $skipped skipped, $SECONDS s"
[ "$bad" -eq 0 ]
