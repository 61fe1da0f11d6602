#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# slow-again.sh TIMES: the fast tests of links that break, so often in a row, each time with other seeds.
set -euo pipefail
times=$1
integration=$(readlink -f "$srcdir/../integration")
runs=0 skipped=0

# once NAME COMMAND...
once()
{
    local name=$1 status=0 seed=$((RANDOM * 32768 + RANDOM))
    shift
    echo "== $name, turn $turn: SEED=$seed"
    SEED=$seed "$@" || status=$?
    case $status in
    0) runs=$((runs + 1)) ;;
    77) skipped=$((skipped + 1)) ;;
    *) echo "$name failed in turn $turn with SEED=$seed"; exit 1 ;;
    esac
}

for ((turn = 1; turn <= times; turn++)); do
    for program in mux_resume mux_resume_random io_pump_resume daemon_peer_resume; do
        once $program "$top_builddir/tests/unit/$program"
    done
    for script in test-resume test-resume-address test-resume-migrate; do
        once $script env srcdir="$integration" bash "$integration/$script.sh"
    done
done
echo "$times times in a row: $runs runs passed, $skipped skipped"
