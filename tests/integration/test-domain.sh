#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A guest's life as its operator sees it: started, listed, looked at, shut down, destroyed, undefined;
# with a daemon that is stopped, killed and started again while the guest runs.
. "${srcdir:-.}/functions.sh"

requires qemu-system-x86_64 --version
requires qemu-img --version
requires jq --version

# A guest that says R on its serial port, waits for its power button and ends the machine (ACPI's
# PM1 registers, where SeaBIOS puts them).
make_disk()
{
    printf '%b' '\xba\x02\x06\xb8\x00\x01\xef' '\xba\xf8\x03\xb0\x52\xee' \
        '\xba\x00\x06\xed\xf6\xc4\x01\x74\xfa' '\xba\x04\x06\xb8\x00\x20\xef\xf4' >"$1"
    truncate -s 510 "$1"
    printf '%b' '\x55\xaa' >>"$1"
    truncate -s 1M "$1"
}

# define NAME [FILTER]: $tmp/NAME.json, changed by jq's FILTER
define()
{
    jq -nc "{name: \"$1\", accel: \"tcg\", memory: \"16M\", serial: {log: \"serial.log\"}, disks: [
        {target: \"vda\", file: \"$1.raw\", format: \"raw\"},
        {target: \"vdb\", file: \"$1.qcow2\", size: \"64M\"}]} | ${2:-.}" >"$tmp/$1.json"
}

# start NAME: what was defined, and waits until its program runs
start()
{
    rm -f "$tmp/host/state/log/$1/serial.log"
    at host start "$tmp/$1.json"
    other_pids+=("$(field "$1" .pid)")
    wait_for "$1" grep -q R "$tmp/host/state/log/$1/serial.log"
}

# field NAME FILTER: of info
field()
{
    at host --json info "$1" | jq -r "$2"
}

is_in_state()
{
    [ "$(field "$1" .state)" = "$2" ]
}

expect_state()
{
    is_in_state "$1" "$2" || fail "$1 is $(field "$1" .state), not $2"
}

start_daemon host
make_disk "$tmp/host/pool/web.raw"

# --- bad definitions and bad images -------------------------------------------------------------

define web '.disks[1].file = "../x"'
expect_failure 'disks[1].file: the file'\''s name may not begin with a dot' \
    at host start "$tmp/web.json"
define web '.colour = "red"'
expect_failure 'colour: a definition has no such field' at host start "$tmp/web.json"
define web '.disks = [range(10000) | {target: "vda"}]'
expect_failure 'disks: has 10000 entries, but a guest may have 64' at host start "$tmp/web.json"
define web 'del(.disks[1].size)'
expect_failure "disk vdb: there is no image $tmp/host/pool/web.qcow2; to have it made, say its" \
    at host start "$tmp/web.json"
define web '.disks[0].size = "2M"'
expect_failure 'has 1048576 bytes, but the definition says 2097152' at host start "$tmp/web.json"
define web '.disks[0].format = "qcow2"'
expect_failure 'disk vda' at host start "$tmp/web.json"
[ "$(at host --json list --all)" = '[]' ] || fail "a start that failed has left a domain"
expect_failure 'no domain named web here' at host info web

# --- a whole life ---------------------------------------------------------------------------------

define web
start web
expect_state web running
[ "$(qemu-img info -U --output=json "$tmp/host/pool/web.qcow2" | jq '."virtual-size"')" = 67108864 ] ||
    fail "the missing image was not made as defined"
[ "$(field web '.disks[1].size')" = 67108864 ] || fail "info does not know the size"
expect_text web "$(at host list)"
expect_failure 'domain web is running already' at host start "$tmp/web.json"
expect_failure 'domain web is running; shut it down or destroy it first' at host undefine web

# The operator's own QMP socket works beside the daemon's.
expect_text '"web"' "$("$top_builddir/tests/guest/guestcheck" qmp "$(field web .qmp)" query-name)"

at host shutdown web
wait_for "shutdown of web" is_in_state web 'shut off'
[ "$(at host --json list)" = '[]' ] || fail "a guest that is shut off is listed without --all"
expect_text 'shut off' "$(at host list --all)"
expect_failure 'domain web is not running' at host destroy web

at host start web
other_pids+=("$(field web .pid)")
expect_state web running
at host destroy web
expect_state web 'shut off'
[ -z "$(find "$tmp/host/run" -name '*.qmp' -o -name '*.pid')" ] || fail "destroy has left files"

# --- a daemon that comes and goes -----------------------------------------------------------------

start web
pid=$(field web .pid)
stop_daemon host
kill -0 "$pid" || fail "the guest has ended with the daemon"
start_daemon host
expect_state web running
[ "$(field web .pid)" = "$pid" ] || fail "another QEMU was found"
kill_daemon host
kill -0 "$pid" || fail "the guest has ended with the killed daemon"
start_daemon host
expect_state web running
at host shutdown web # it is not only seen, it can be talked to
wait_for "shutdown of web" is_in_state web 'shut off'

# What happens meanwhile is noticed as well.
start web
kill_daemon host
kill -KILL "$(cat "$tmp"/host/run/*.pid)"
start_daemon host
expect_state web 'shut off'
[ -z "$(find "$tmp/host/run" -name '*.qmp')" ] || fail "a restarted daemon leaves dead sockets"

# --- QEMU ends by itself ----------------------------------------------------------------------------

start web
kill -KILL "$(field web .pid)"
wait_for "the end of web" is_in_state web 'shut off'
expect_log host 'domain web: QEMU has ended without shutting down'

# --- moved away -------------------------------------------------------------------------------------

stop_daemon host
jq '.moved_to = "there"' "$tmp/host/state/domains/web.json" >"$tmp/moved"
cp "$tmp/moved" "$tmp/host/state/domains/web.json"
start_daemon host
expect_state web 'moved to there'
expect_failure 'domain web was moved to there and lives there' at host start web
expect_failure 'use --force' at host start "$tmp/web.json"
at host start --force web
other_pids+=("$(field web .pid)")
expect_state web running
at host destroy web
expect_state web 'shut off'

at host undefine web
expect_failure 'no domain named web here' at host start web
[ -e "$tmp/host/pool/web.qcow2" ] || fail "undefine has deleted an image"
[ -z "$(ls "$tmp/host/state/domains")" ] || fail "undefine has left a file"

# --- no QEMU ----------------------------------------------------------------------------------------

stop_daemon host
start_daemon host 'qemu_binary = "/nonexistent/qemu"'
expect_failure "can't start web: QEMU (/nonexistent/qemu) can't be run: No such file or directory" \
    at host start "$tmp/web.json"
is_well host
