#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# The daemon as its operator sees it: options, --check-config, folders, one instance, signals, and
# what systemd does with it.
. "${srcdir:-.}/functions.sh"
requires socat -V

# --- options and configuration ----------------------------------------------------------------------------

expect_text "--check-config" "$("$bistreamd" --help)"
expect_text "bistreamd " "$("$bistreamd" --version)"
status=0
"$bistreamd" --no-such-option 2>/dev/null || status=$?
[ "$status" -eq 2 ] || fail "a wrong option ends with status $status"

configure_daemon a
[ "$("$bistreamd" --config "$tmp/a/conf" --check-config)" = "$tmp/a/conf: ok" ] ||
    fail "--check-config does not like a good file"
"$bistreamd" --config "${srcdir:-.}/../../etc/bistreamd.conf" --check-config >/dev/null ||
    fail "the example that is installed is wrong"
printf '# a comment\nlisten = "127.0.0.1:0"\nbandwidth = "1G"\n' >"$tmp/wrong"
expect_failure "$tmp/wrong:3: no such option 'bandwidth'" \
    "$bistreamd" --config "$tmp/wrong" --check-config
printf '# a comment\nping = "soon"\n' >"$tmp/wrong"
expect_failure "$tmp/wrong:2: ping = \"soon\": a time from 100ms" "$bistreamd" --config "$tmp/wrong"
expect_failure "can't read the configuration $tmp/none" "$bistreamd" --config "$tmp/none"

# --- start and stop ------------------------------------------------------------------------------------------

expect_failure "$tmp/a/pki" "$bistreamd" --config "$tmp/a/conf" # no certificates yet
start_daemon a
is_well a
mode_of()
{
    stat -c %a "$1"
}
[ "$(mode_of "$tmp/a/state") $(mode_of "$tmp/a/pool")" = "700 700" ] || fail "modes of folders"
[ "$(mode_of "$tmp/a/run")" = 755 ] || fail "mode of run_dir"
[ "$(mode_of "$tmp/a/control")" = 660 ] || fail "mode of the control socket"
[ "$(cat "$tmp/a/state/bistreamd.pid")" = "${pid_of[a]}" ] || fail "pid file"
expect_log a "control 1: pid "

# One daemon per state_dir.
configure_daemon second "state_dir = \"$tmp/a/state\"" "pki_dir = \"$tmp/a/pki\""
expect_failure "another bistreamd (pid ${pid_of[a]}) uses the state folder $tmp/a/state" \
    "$bistreamd" --config "$tmp/second/conf"
# Nor per control socket or port.
configure_daemon second "control_socket = \"$tmp/a/control\"" "pki_dir = \"$tmp/a/pki\""
expect_failure "$tmp/a/control" "$bistreamd" --config "$tmp/second/conf"
configure_daemon second "listen = \"127.0.0.1:${port_of[a]}\"" "pki_dir = \"$tmp/a/pki\""
expect_failure "${port_of[a]}" "$bistreamd" --config "$tmp/second/conf"
is_well a

# SIGHUP and SIGPIPE change nothing; SIGTERM ends it although clients are connected, and a second one
# changes nothing about that.
kill -HUP "${pid_of[a]}"
expect_log a "SIGHUP"
kill -PIPE "${pid_of[a]}"
is_well a
mkfifo "$tmp/hold"
socat - "UNIX-CONNECT:$tmp/a/control" <"$tmp/hold" &
other_pids+=($!)
exec 3>"$tmp/hold"
expect_log a "pid ${other_pids[-1]} "
kill -TERM "${pid_of[a]}"
kill -TERM "${pid_of[a]}" 2>/dev/null || true
wait_for "end of a" process_is_gone "${pid_of[a]}"
wait "${pid_of[a]}" || fail "SIGTERM twice ends it with status $?"
unset "pid_of[a]"
exec 3>&-
[ ! -e "$tmp/a/control" ] && [ ! -e "$tmp/a/run/port" ] || fail "sockets are left behind"
expect_log a "bistreamd: stopped"

# Nor does it wait for a peer that says nothing: who asked for it is told.
start_daemon a
in_background socat -d -d -u TCP-LISTEN:0,bind=127.0.0.1 OPEN:/dev/null 2>"$tmp/socat.log"
wait_for "a silent listener" grep -q 'listening on' "$tmp/socat.log"
port=$(sed -n 's/.*listening on.*127\.0\.0\.1:\([0-9]*\).*/\1/p' "$tmp/socat.log")
"$bistream" -c "$tmp/a/control" probe "bistream://127.0.0.1:$port" 2>"$tmp/told" &
prober=$!
other_pids+=("$prober")
wait_for "the probe" grep -q 'accepting connection' "$tmp/socat.log"
SECONDS=0
stop_daemon a
[ $SECONDS -le 5 ] || fail "SIGTERM waits for a silent peer: $SECONDS s"
wait "$prober" && fail "a probe that was broken off says that all is well"
expect_text "127.0.0.1 port $port" "$(cat "$tmp/told")"

# A daemon that was killed leaves its socket; the next one replaces it.
start_daemon a
kill -KILL "${pid_of[a]}"
wait "${pid_of[a]}" 2>/dev/null || true
[ -S "$tmp/a/control" ] || fail "the socket of a killed daemon should be there"
start_daemon a
is_well a
stop_daemon a

# --- systemd ---------------------------------------------------------------------------------------------------

# Readiness is told once both sockets accept, and so is the end.
in_background socat -u "UNIX-RECV:$tmp/notify" "OPEN:$tmp/notified,creat,append"
wait_for "notify socket" test -S "$tmp/notify"
NOTIFY_SOCKET="$tmp/notify" start_daemon a
if ldd "$bistreamd" | grep -q libsystemd; then
    wait_for "READY=1" grep -q READY=1 "$tmp/notified"
    stop_daemon a
    wait_for "STOPPING=1" grep -q STOPPING=1 "$tmp/notified"
else
    stop_daemon a
fi
kill "${other_pids[-1]}"
rm -f "$tmp/notify"

ldd "$bistreamd" | grep -q libsystemd || exit 0
command -v systemd-socket-activate >/dev/null || exit 0

# Both sockets are systemd's: the first client starts the daemon and is served.  The port can't be
# left to the system here; if the one we draw is taken, we draw again.
for attempt in 1 2 3 4 5; do
    port=$((20000 + RANDOM % 12000))
    systemd-socket-activate -l "$tmp/a/control" -l "127.0.0.1:$port" --fdname=control:listen \
        "$bistreamd" --config "$tmp/a/conf" --debug >>"$tmp/a/log" 2>&1 &
    pid_of[a]=$!
    wait_for "the activated sockets" eval '(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null ||
        ! kill -0 "${pid_of[a]}"'
    ! kill -0 "${pid_of[a]}" 2>/dev/null || break
    rm -f "$tmp/a/control"
done
is_well a
[ "$(cat "$tmp/a/run/port")" = "$port" ] || fail "an activated daemon does not tell its port"
kill -TERM "${pid_of[a]}"
wait_for "end of the activated daemon" process_is_gone "${pid_of[a]}"
wait "${pid_of[a]}" || fail "the activated daemon ended with status $?"
unset "pid_of[a]"
[ -S "$tmp/a/control" ] || fail "the daemon removed a socket that is systemd's"
rm "$tmp/a/control"
