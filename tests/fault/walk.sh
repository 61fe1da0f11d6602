#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Walks the fault matrix, prints a line per cell, and writes the table to matrix.md.  Run by
# `make check-fault`; fails when a cell does.
#
#     ONLY='MODE PHASE FAULT'   only these cells (a pattern, e.g. '* memory *')
#     AGAIN=1                   only those that were not good the last time; the table has all
#     JOBS=N                    cells at a time (default: one a processor)
#
# The log of a cell is logs/MODE.PHASE.FAULT.log; its line of the table is in the .cell beside it.
set -euo pipefail

srcdir=${srcdir:-$(dirname "$0")}
export srcdir
logs=logs
[ -n "${AGAIN:-}" ] || rm -rf $logs
mkdir -p $logs

# run_cell MODE PHASE FAULT CODES PLACE
run_cell()
{
    local line=$logs/$1.$2.$3 status=0 started=$SECONDS what code
    export CODE_FILE=$line.code
    "$srcdir/cell.sh" "$@" >"$line.log" 2>&1 </dev/null || status=$?
    case $status in
    0) what=ok ;;
    77) what=$(sed -n 's/^SKIP: /skipped: /p' "$line.log") ;;
    *) what=$(sed -n 's/^FAIL: //p' "$line.log" | head -n 1) ;;
    esac
    what=${what:-failed, see $line.log}
    code=$(cat "$CODE_FILE" 2>/dev/null || echo -)
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$code" "$5" "$((SECONDS - started))" \
        "$what" >"$line.cell"
    printf '%-11s %-11s %-24s %-4s %-11s %3s s  %s\n' "$1" "$2" "$3" "$code" "$5" \
        "$((SECONDS - started))" "$what"
}

# table MODE: its cells, phases across, faults down, in the order in which they first appear
table()
{
    sed -n "s/^$1  *\([^ ]*\)  *\([^ ]*\) .*/$logs\/$1.\1.\2.cell/p" "$srcdir/matrix" |
        { xargs cat 2>/dev/null || :; } | awk -F '\t' -v mode="$1" '
        {
            phase = $2; fault = $3
            if (!(phase in seen)) { seen[phase] = 1; phases[++p] = phase }
            if (!(fault in seen)) { seen[fault] = 1; faults[++f] = fault }
            good = $4 " " $5 ", " $6 " s"
            cell[phase, fault] = $7 == "ok" ? good : $7 ~ /^skipped/ ? "skipped" : "**" $7 "**"
        }
        END {
            if (!p) exit
            printf "| " mode; for (i = 1; i <= p; i++) printf " | %s", phases[i]; print " |"
            printf "|---"; for (i = 1; i <= p; i++) printf "|---"; print "|"
            for (j = 1; j <= f; j++) {
                printf "| %s", faults[j]
                for (i = 1; i <= p; i++)
                    printf " | %s", ((phases[i], faults[j]) in cell) ? cell[phases[i], faults[j]] : "–"
                print " |"
            }
            print ""
        }'
}

cells=0
while read -r mode phase fault codes place; do
    case $mode in '' | '#'*) continue ;; esac
    # shellcheck disable=SC2254
    case "$mode $phase $fault" in ${ONLY:-*}) ;; *) continue ;; esac
    ! grep -q -P '\tok$' "$logs/$mode.$phase.$fault.cell" 2>/dev/null || continue
    while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-$(nproc)}" ]; do
        wait -n || :
    done
    run_cell "$mode" "$phase" "$fault" "$codes" "$place" &
    cells=$((cells + 1))
done <"$srcdir/matrix"
wait

for mode in bistream synchronous tunnel direct; do
    table $mode
done >matrix.md
cat matrix.md

good=$(cat $logs/*.cell | grep -c -P '\tok$' || :)
skipped=$(cat $logs/*.cell | grep -c -P '\tskipped: ' || :)
bad=$(cat $logs/*.cell | grep -v -c -P '\t(ok|skipped: .*)$' || :)
echo "$cells cells walked in $SECONDS s; $good good, $bad failed, $skipped skipped"
[ "$bad" -eq 0 ]
