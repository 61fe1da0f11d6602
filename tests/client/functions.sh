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

# Starts the daemon that only talks, at $socket, and has bistream use it.
fake_daemon()
{
    socket=$dir/control.sock
    pid=$("${FAKE_DAEMON:?set FAKE_DAEMON to the built fake_daemon}" "$socket")
    pids="$pids $pid"
    BISTREAM_URI=$socket
    export BISTREAM_URI
}

# called TEXT: the fake daemon got this call.
called()
{
    grep -qF -e "$1" "$socket.calls" || {
        sed 's/^/  calls: /' "$socket.calls" >&2
        fail "the daemon wasn't called so: $1"
    }
}

# start_in_background ARGUMENT...: as run, but goes on; see finish.
start_in_background()
{
    # The child opens them when it gets to it; until then the last run's output would stand there.
    : >"$dir/out"
    : >"$dir/err"
    "$bistream" "$@" >"$dir/out" 2>"$dir/err" &
    background=$!
    pids="$pids $background"
}

# wait_for FILE TEXT: until FILE holds TEXT, at most 20 seconds.
wait_for()
{
    for i in $(seq 400); do
        if grep -qF -e "$2" "$1" 2>/dev/null; then
            return
        fi
        sleep 0.05
    done
    fail "'$2' never came in $1"
}

# finish STATUS: waits for the background's end, which must have this exit code.
finish()
{
    status=0
    wait "$background" || status=$?
    [ $status -eq "$1" ] || fail "it ended with $status instead of $1"
}
