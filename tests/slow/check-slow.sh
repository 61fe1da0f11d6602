#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# check-slow.sh SOURCE_DIR BUILD_DIR: what "make check-slow" runs.  Builds trees with sanitizers in
# BUILD_DIR/slow (kept for the next time), and prints a table in the end.
#
#     TIMES=N        migrations in a row with address and undefined-behaviour sanitizers (default 20)
#     MEGABYTES=N    carried by forward (default 10000)
#     CUTS=N         of the link, meanwhile, in another run (default 200); SEED=N: where and how
#     FAULTS=N       seconds of random faults, in each mode (default 150)
#     TURNS=N        there and back in each mode, and of two guests at once; of the fast tests of links
#                    that break (default 20)
#     ONLY=WORD      only what has this word: address, faults, thread, valgrind, forward, resume,
#                    again, modes, two, qemu10, linux
set -euo pipefail

source=$1 build=$2
slow=$build/slow
table=$slow/table
summaries=$slow/summaries
export slow srcdir=$source/tests/slow bulk=$build/tests/slow/bulk
export ASAN_OPTIONS=detect_leaks=1
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS="suppressions=$source/tests/tsan.supp:second_deadlock_stack=1"
failed=0

# wanted WORD
wanted()
{
    [ -z "${ONLY:-}" ] || [ "$ONLY" = "$1" ]
}

# tree NAME SANITIZERS: builds $slow/build-NAME
tree()
{
    local dir=$slow/build-$1
    echo "== building $dir"
    mkdir -p "$dir"
    [ -f "$dir/config.status" ] ||
        (cd "$dir" && "$source/configure" --enable-sanitizers="$2" >configure.log)
    make -C "$dir" -j"$(nproc)" --no-print-directory >"$dir/make.log" 2>&1 || {
        tail -n 20 "$dir/make.log" >&2
        exit 1
    }
}

# run NAME TREE TIMES WRAPPER...: guests with 1, 2 and 8 disks of both formats
run()
{
    local name=$1 times=$3 disks format
    export top_builddir=$2
    shift 3
    for disks in 1 2 8; do
        for format in qcow2 raw; do
            echo "== $name: $times migrations with $disks disks, $format"
            if ! "$srcdir/slow-migrate.sh" "$table" "$name" "$times" "$disks" "$format" "$@" \
                >"$slow/$name-$disks-$format.log" 2>&1; then
                tail -n 60 "$slow/$name-$disks-$format.log" >&2
                echo "$name $disks $format FAILED - -" >>"$table"
                failed=1
            fi
        done
    done
}

# alone NAME COMMAND...: a test whose last line says what it has done, or why it was skipped
alone()
{
    local name=$1 log=$slow/$1.log status=0
    shift
    wanted "$name" || return 0
    echo "== $name"
    top_builddir=$build "$@" >"$log" 2>&1 || status=$?
    if [ $status -ne 0 ] && [ $status -ne 77 ]; then
        tail -n 60 "$log" >&2
        echo "FAILED" >>"$log"
        failed=1
    fi
    echo "$name: $(tail -n 1 "$log")" | tee -a "$summaries"
}

mkdir -p "$slow"
: >"$table"
: >"$summaries"
if wanted address; then
    tree asan address,undefined
    run address "$slow/build-asan" "${TIMES:-20}"
fi
if wanted faults; then
    tree asan address,undefined
    for mode in bistream synchronous tunnel direct; do
        echo "== random faults, $mode"
        top_builddir=$slow/build-asan "$srcdir/random-faults.sh" $mode "${FAULTS:-150}" \
            >"$slow/faults-$mode.log" 2>&1 || failed=1
        tail -n 25 "$slow/faults-$mode.log"
    done
fi
if wanted thread; then
    tree tsan thread
    run thread "$slow/build-tsan" 1
fi
if wanted valgrind && command -v valgrind >/dev/null; then
    run valgrind "$build" 1 valgrind -q --error-exitcode=99 --leak-check=full \
        --errors-for-leak-kinds=definite
fi
alone forward "$srcdir/slow-forward.sh" 64 "${MEGABYTES:-10000}"
alone resume "$srcdir/slow-resume.sh" 8 "${MEGABYTES:-10000}" "${CUTS:-200}"
alone again "$srcdir/slow-again.sh" "${TURNS:-20}"
alone modes "$srcdir/slow-modes.sh" "${TURNS:-20}"
alone two env srcdir="$source/tests/integration" ROUNDS="${TURNS:-20}" \
    bash "$source/tests/integration/test-migrate-two.sh"
alone qemu10 "$srcdir/slow-qemu10.sh"
alone linux "$srcdir/slow-linux.sh"

if [ -s "$table" ]; then
    printf '\n%-10s %5s  %-6s %10s  %10s  %12s\n' checker disks format migrations 'average ms' \
        'downtime ms'
    while read -r name disks format count average downtime; do
        printf '%-10s %5s  %-6s %10s  %10s  %12s\n' "$name" "$disks" "$format" "$count" "$average" \
            "$downtime"
    done <"$table"
fi
[ ! -s "$summaries" ] || printf '\n%s\n' "$(cat "$summaries")"
[ $failed -eq 0 ] && echo "All is well: no write was lost." || echo "Something FAILED; logs are in $slow"
exit $failed
