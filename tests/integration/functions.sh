# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# What the integration tests share; each begins with
#
#     . "${srcdir:-.}/functions.sh"
#
# A test has a folder of its own ($tmp) and daemons with free ports, so that any number run at a
# time.  It ends by a failing command (set -e), by fail or skip, or at its last line; in each case
# the daemons it started are stopped, and a test that leaves a process or a socket behind fails.
set -euo pipefail

top_builddir=${top_builddir:-../..}
bistream=$(readlink -f "$top_builddir/client/bistream")
bistreamd=$(readlink -f "$top_builddir/daemon/bistreamd")
export LC_ALL=C

# Short, since it is the beginning of sockets' paths.
tmp=$(mktemp -d /tmp/bistream.XXXXXX)
declare -A pid_of port_of      # of daemons that run, by name
address=127.0.0.1              # where they listen, if nothing else is said
other_pids=()                  # of other programs, ended in the end

# --- how a test ends -------------------------------------------------------------------------------

fail()
{
    printf 'FAIL: %s\n' "$*" >&2
    exit 1
}

skip()
{
    printf 'SKIP: %s\n' "$*" >&2
    exit 77
}

# requires COMMAND...: skips the test where the command does not succeed.
requires()
{
    "$@" >/dev/null 2>&1 </dev/null || skip "this needs: $*"
}

show_logs()
{
    local log
    for log in "$tmp"/*/log; do
        [ -s "$log" ] || continue
        printf -- '--- %s\n' "${log#"$tmp"/}" >&2
        tail -n 60 "$log" >&2
    done
}

finish()
{
    local status=$? name pid
    trap - EXIT
    trap '' INT TERM
    set +e
    for pid in "${other_pids[@]}"; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
    done
    for name in "${!pid_of[@]}"; do
        end_daemon "$name" || status=1
    done
    if [ "$status" -eq 0 ] && [ -n "$(find "$tmp" -type s)" ]; then
        printf 'FAIL: sockets are left behind: %s\n' "$(find "$tmp" -type s | tr '\n' ' ')" >&2
        status=1
    fi
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
        show_logs
    fi
    if [ -n "${KEEP:-}" ]; then
        echo "kept: $tmp"
    else
        rm -rf "$tmp"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 1' INT TERM

# --- waiting and comparing ---------------------------------------------------------------------------

# wait_for WHAT COMMAND...: until the command succeeds, for 30 seconds at the most (slow machines and
# sanitizers included; nothing waits that long when all is well).
wait_for()
{
    local what=$1 deadline=$((SECONDS + ${WAIT_SECONDS:-30}))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "$what: waited in vain for: $*"
        sleep 0.02
    done
}

# expect_failure TEXT COMMAND...: the command fails, and says TEXT.
expect_failure()
{
    local text=$1 output
    shift
    if output=$("$@" 2>&1 </dev/null); then
        fail "should have failed: $*: $output"
    fi
    expect_text "$text" "$output"
}

expect_text()
{
    case $2 in
    *"$1"*) ;;
    *) fail "\"$1\" is not in: $2" ;;
    esac
}

# expect_log NAME TEXT: the daemon says so in its log, now or soon.
expect_log()
{
    wait_for "log of $1" grep -qF -- "$2" "$tmp/$1/log"
}

# in_background COMMAND...: $! is its pid; it is ended with the test.
in_background()
{
    "$@" &
    other_pids+=($!)
}

# --- certificates ------------------------------------------------------------------------------------

# make_ca [DIR]: a CA in $tmp/ca, or DIR.
make_ca()
{
    "$bistream" pki ca --pki-dir="${1:-$tmp/ca}" >/dev/null
}

# make_pki NAME [OPTION...]: host NAME's files in $tmp/NAME/pki, good for dialling $address.
make_pki()
{
    local name=$1
    shift
    [ -d "$tmp/ca" ] || make_ca
    mkdir -p "$tmp/$name"
    "$bistream" pki host "$name.test" --pki-dir="$tmp/ca" --out="$tmp/$name/pki" --ip="$address" "$@" \
        >/dev/null
}

# --- daemons -----------------------------------------------------------------------------------------

# configure_daemon NAME [LINE...]: $tmp/NAME/conf, in which the test's own lines win.
configure_daemon()
{
    local name=$1
    shift
    mkdir -p "$tmp/$name"
    printf '%s\n' "listen = \"$address:0\"" \
        "control_socket = \"$tmp/$name/control\"" 'control_group = ""' \
        "pki_dir = \"$tmp/$name/pki\"" "run_dir = \"$tmp/$name/run\"" \
        "state_dir = \"$tmp/$name/state\"" "pool_dir = \"$tmp/$name/pool\"" \
        'allowed_peers = {"*.test"}' "$@" |
        awk '{ line[$1] = $0 } END { for (key in line) print line[key] }' >"$tmp/$name/conf"
}

# start_daemon NAME [LINE...]: runs a daemon and waits until it serves.
start_daemon()
{
    local name=$1
    [ -d "$tmp/$name/pki" ] || make_pki "$name"
    configure_daemon "$@"
    rm -f "$tmp/$name/run/port" # of one that was killed
    "$bistreamd" --config "$tmp/$name/conf" --debug >>"$tmp/$name/log" 2>&1 &
    pid_of[$name]=$!
    wait_for "start of $name" daemon_is_up_or_gone "$name"
    kill -0 "${pid_of[$name]}" 2>/dev/null || fail "bistreamd $name does not start"
    port_of[$name]=$(cat "$tmp/$name/run/port")
}

daemon_is_up_or_gone()
{
    [ -s "$tmp/$1/run/port" ] || ! kill -0 "${pid_of[$1]}"
}

# stop_daemon NAME: it ends within bounds, says that all went well, and leaves no sockets.
stop_daemon()
{
    end_daemon "$1" || exit 1
}

# The same with a status instead of an exit.
end_daemon()
{
    local name=$1 pid=${pid_of[$1]} status=0 deadline=$((SECONDS + 60)) what=
    unset "pid_of[$name]"
    kill -TERM "$pid" 2>/dev/null || what="has died"
    until [ -n "$what" ] || process_is_gone "$pid"; do
        [ $SECONDS -lt $deadline ] || what="does not end"
        sleep 0.02
    done
    if [ "$what" = "does not end" ]; then
        kill -KILL "$pid"
    fi
    wait "$pid" || status=$?
    if [ -n "$what" ]; then
        :
    elif [ "$status" -ne 0 ]; then
        what="ended with status $status"
    elif [ -e "$tmp/$name/control" ]; then
        what="has left its control socket"
    elif [ -e "$tmp/$name/run/port" ]; then
        what="has left its port file"
    fi
    [ -z "$what" ] || printf 'FAIL: bistreamd %s (pid %s) %s\n' "$name" "$pid" "$what" >&2
    [ -z "$what" ]
}

# kill_daemon NAME: it has no time to do anything
kill_daemon()
{
    kill -KILL "${pid_of[$1]}"
    wait "${pid_of[$1]}" 2>/dev/null || :
    unset "pid_of[$1]"
}

# Also for a child that was not yet waited for.
process_is_gone()
{
    [ ! -e "/proc/$1" ] || grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

# at NAME ARGUMENT...: the command bistream as a client of that daemon.
at()
{
    local name=$1
    shift
    "$bistream" -c "$tmp/$name/control" "$@"
}

# uri_of NAME: where peers find it.
uri_of()
{
    printf 'bistream://%s:%s' "$address" "${port_of[$1]}"
}

# is_well NAME: the daemon serves its clients.
is_well()
{
    at "$1" forward --list >/dev/null || fail "bistreamd $1 is not well"
}
