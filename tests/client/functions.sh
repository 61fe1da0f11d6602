# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Sourced by the tests of the bistream command.  Each runs in a folder of its own, $dir, which goes
# away at the end with every process listed in $pids.

set -eu
bistream=${BISTREAM:?set BISTREAM to the command under test}
dir=$(mktemp -d "${TMPDIR:-/tmp}/bistream-client.XXXXXX")
pids=

cleanup()
{
    status=$?
    for pid in $pids; do
        kill "$pid" 2>/dev/null || :
        wait "$pid" 2>/dev/null || :
    done
    rm -rf "$dir"
    exit $status
}
trap cleanup EXIT
trap 'exit 1' INT TERM

fail()
{
    echo "FAIL: $*" >&2
    for file in out err; do
        if [ -s "$dir/$file" ]; then
            sed "s/^/  $file: /" "$dir/$file" >&2
        fi
    done
    exit 1
}

skip()
{
    echo "SKIP: $*" >&2
    exit 77
}

requires()
{
    for tool in "$@"; do
        command -v "$tool" >/dev/null || skip "$tool is not installed"
    done
}

# run STATUS ARGUMENT...: runs bistream, keeps $dir/out and $dir/err, and checks how it ended.
run()
{
    wanted=$1
    shift
    status=0
    "$bistream" "$@" >"$dir/out" 2>"$dir/err" || status=$?
    [ $status -eq "$wanted" ] || fail "bistream $*: exit $status instead of $wanted"
}

# said out|err TEXT: the last run printed this.
said()
{
    grep -qF -e "$2" "$dir/$1" || fail "'$2' is not in what it said on $1"
}

silent()
{
    [ ! -s "$dir/$1" ] || fail "it said something on $1"
}

# json FILTER: the last run's output is JSON of which FILTER is true.
json()
{
    jq -e "$1" "$dir/out" >/dev/null || fail "the JSON is not $1"
}
