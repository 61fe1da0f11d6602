#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# bistream forward: bytes arrive as they were sent, both ways and on many channels; each end of a
# connection is passed on by itself; what may not be reached isn't; sockets go when the forward goes.
. "${srcdir:-.}/functions.sh"
requires socat -V
requires jq --version

channels=${CHANNELS:-64}
mkdir "$tmp/far"
start_daemon a 'allowed_peers = {}'
start_daemon b "forward_allow = {\"$tmp/far/*.sock\"}"

# A foreground forward; $forward is its client's pid.
start_forward()
{
    : >"$tmp/forward.out"
    "$bistream" -c "$tmp/a/control" forward "$(uri_of b)" "$@" \
        >"$tmp/forward.out" 2>"$tmp/forward.err" &
    forward=$!
    other_pids+=("$forward")
    wait_for "forward" grep -q '^ready$' "$tmp/forward.out"
}

# Sends stdin into SOCKET, ends that half, and prints what comes back until the other half ends.
talk()
{
    socat -t 60 - "UNIX-CONNECT:$1"
}

# --- bytes, both ways ---------------------------------------------------------------------------------

start_forward "$tmp/echo:$tmp/far/echo.sock" "$tmp/sum:$tmp/far/sum.sock" \
    "$tmp/gone:$tmp/far/gone.sock" "$tmp/forbidden:$tmp/secret"
[ "$(stat -c %a "$tmp/echo")" = 600 ] || fail "mode of a local socket: $(stat -c %a "$tmp/echo")"

# The far sockets are dialled when somebody connects, so they need not have been there before.
in_background socat -t 60 "UNIX-LISTEN:$tmp/far/echo.sock,fork" EXEC:cat
in_background socat -t 60 "UNIX-LISTEN:$tmp/far/sum.sock,fork" EXEC:sha256sum
wait_for "far programs" test -S "$tmp/far/echo.sock" -a -S "$tmp/far/sum.sock"

head -c 20000003 /dev/urandom >"$tmp/data"
talk "$tmp/echo" <"$tmp/data" | cmp - "$tmp/data" || fail "bytes changed on their way"

# Half-close: sha256sum answers only after the end of its input.
[ "$(talk "$tmp/sum" <"$tmp/data")" = "$(sha256sum <"$tmp/data")" ] ||
    fail "the end of one half was not passed on by itself"

# Nothing at all, and one byte.
[ "$(talk "$tmp/echo" </dev/null | wc -c)" = 0 ] || fail "bytes out of nothing"
[ "$(printf x | talk "$tmp/echo")" = x ] || fail "one byte got lost"

# --- many channels at a time ---------------------------------------------------------------------------

talkers=()
for i in $(seq "$channels"); do
    (
        head -c $((i * 20011)) "$tmp/data" >"$tmp/data.$i"
        talk "$tmp/echo" <"$tmp/data.$i" | cmp - "$tmp/data.$i"
    ) &
    talkers+=($!)
done
for pid in "${talkers[@]}"; do
    wait "$pid" || fail "bytes changed on one of $channels channels"
done
at a --json forward --list >"$tmp/list"
jq -e '.[0].sent > 40000000 and .[0].received > 40000000 and (.[0].sockets | length) == 4' \
    "$tmp/list" >/dev/null || fail "the list does not count: $(cat "$tmp/list")"

# --- refused and broken paths ---------------------------------------------------------------------------

# Nobody listens at the far end; the other channels don't care.
[ -z "$(printf x | talk "$tmp/gone" 2>/dev/null)" ] || fail "an answer from nobody"
expect_log a "$tmp/far/gone.sock"
in_background socat "UNIX-LISTEN:$tmp/secret" EXEC:cat
wait_for "far program" test -S "$tmp/secret"
[ -z "$(printf x | talk "$tmp/forbidden" 2>/dev/null)" ] || fail "a forbidden socket was reached"
expect_log a "lets no forward reach $tmp/secret: have it added to forward_allow"
expect_log b "lets no forward reach $tmp/secret"

# A far program that dies in the middle ends its connection, and only that.
echo begun >"$tmp/words"
socat "FILE:$tmp/words,ignoreeof" "UNIX-LISTEN:$tmp/far/gone.sock" &
victim=$!
other_pids+=("$victim")
wait_for "far program" test -S "$tmp/far/gone.sock"
mkfifo "$tmp/hold"
socat -t 0 - "UNIX-CONNECT:$tmp/gone" <"$tmp/hold" >"$tmp/begun" &
talker=$!
exec 3>"$tmp/hold"
wait_for "far program's first words" grep -q begun "$tmp/begun"
kill -KILL "$victim"
wait_for "the end of the connection" process_is_gone "$talker"
exec 3>&-
[ "$(printf x | talk "$tmp/echo")" = x ] || fail "another channel suffered"

# --- how a forward ends ---------------------------------------------------------------------------------

# With its client.
kill -TERM "$forward"
wait_for "end of the forward's client" process_is_gone "$forward"
wait_for "removal of the sockets" test ! -e "$tmp/echo" -a ! -e "$tmp/sum"
wait_for "empty list" [ "$(at a --json forward --list)" = "[]" ]
expect_log b "ended"

# A client that is killed takes its forward along too.
start_forward "$tmp/echo:$tmp/far/echo.sock"
kill -KILL "$forward"
wait_for "removal of the socket" test ! -e "$tmp/echo"

# Detached, until it is stopped.
at a forward --detach --socket-mode=0660 "$(uri_of b)" "$tmp/echo:$tmp/far/echo.sock" >/dev/null
[ "$(stat -c %a "$tmp/echo")" = 660 ] || fail "mode of a local socket: $(stat -c %a "$tmp/echo")"
[ "$(printf x | talk "$tmp/echo")" = x ] || fail "a detached forward does not carry"
id=$(at a --json forward --list | jq '.[0].id')
at a forward --stop "$id" >/dev/null
[ ! -e "$tmp/echo" ] || fail "a stopped forward left its socket"
expect_failure "no forward has the id $id" at a forward --stop "$id"

# A file that stands in the way is not touched.
echo precious >"$tmp/file"
expect_failure "$tmp/file" at a forward "$(uri_of b)" "$tmp/file:$tmp/far/echo.sock"
[ "$(cat "$tmp/file")" = precious ] || fail "a file was overwritten"
expect_failure "no user \"nobody-of-that-name\"" at a forward --socket-user=nobody-of-that-name \
    "$(uri_of b)" "$tmp/echo:$tmp/far/echo.sock"

# With the far daemon: the client is told, and exits.
start_forward "$tmp/echo:$tmp/far/echo.sock"
stop_daemon b
wait_for "end of the forward's client" process_is_gone "$forward"
wait "$forward" && fail "a forward that was broken off says that all is well"
expect_text "bistreamd is stopping" "$(cat "$tmp/forward.err")"
[ ! -e "$tmp/echo" ] || fail "a broken forward left its socket"

# With the near daemon, detached or not.
start_daemon b "forward_allow = {\"$tmp/far/*.sock\"}"
at a forward --detach "$(uri_of b)" "$tmp/detached:$tmp/far/echo.sock" >/dev/null
start_forward "$tmp/echo:$tmp/far/echo.sock"
stop_daemon a
wait_for "end of the forward's client" process_is_gone "$forward"
[ ! -e "$tmp/echo" ] && [ ! -e "$tmp/detached" ] || fail "sockets are left of a daemon that stopped"
rm -f "$tmp/far"/*.sock "$tmp/secret"
