#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# QEMUs that somebody else started: attached, looked at, let go of, found by a restarted daemon, and
# ended.
. "${srcdir:-.}/functions.sh"

requires qemu-system-x86_64 --version
requires qemu-img --version
requires jq --version
requires socat -V

uuid=6d1c2f0e-5b1d-4f0a-9c39-0d1f5f3a2b11

# run_qemu NAME OPTION...: $pid; its QMP is at $tmp/NAME.qmp
run_qemu()
{
    local name=$1
    shift
    qemu-system-x86_64 -machine pc -accel tcg -m 16 -nodefaults -display none -daemonize \
        -pidfile "$tmp/$name.pid" -qmp "unix:$tmp/$name.qmp,server=on,wait=off" "$@"
    pid=$(cat "$tmp/$name.pid")
    other_pids+=("$pid")
}

field()
{
    at host --json info "$1" | jq -r "$2"
}

expect_gone()
{
    expect_failure "no domain named $1 here" at host info "$1"
}

is_unknown()
{
    ! at host info "$1"
}

start_daemon host
for image in one two; do
    qemu-img create -q -f qcow2 "$tmp/$image.qcow2" 8M
done

run_qemu one -uuid $uuid -drive "if=virtio,file=$tmp/one.qcow2,format=qcow2" -drive if=ide,media=cdrom
one=$pid
expect_failure 'does not wait for a migration, it is running' \
    at host attach --qmp "$tmp/one.qmp" --incoming web
expect_failure "$tmp/none.qmp" at host attach --qmp "$tmp/none.qmp" web

# A socket that some manager holds for its QEMU: a fence would kill the manager.
in_background socat "UNIX-LISTEN:$tmp/relay.qmp,fork" "UNIX-CONNECT:$tmp/one.qmp"
wait_for 'relay of a QMP socket' test -S "$tmp/relay.qmp"
expect_failure 'is not a socket of QEMU' at host attach --qmp "$tmp/relay.qmp" web
at host attach --qmp "$tmp/one.qmp" web
[ "$(field web .state)" = running ] || fail "it runs"
[ "$(field web .pid)" = "$one" ] || fail "another pid"
[ "$(field web .uuid)" = $uuid ] || fail "another UUID"
[ "$(field web .attached)" = true ] || fail "it was attached"
[ "$(field web '.disks | map(.target) | join(" ")')" = 'virtio0 ide0-cd0' ] ||
    fail "its drives are: $(field web .disks)"
[ "$(field web '.disks[0] | .file, .format, .size' | xargs)" = "$tmp/one.qcow2 qcow2 8388608" ] ||
    fail "its disk is: $(field web '.disks[0]')"
[ "$(field web '.disks[1].empty')" = true ] || fail "the CD drive is empty"

expect_failure "(pid $one) is the domain web already" at host attach --qmp "$tmp/one.qmp" web2

stop_daemon host
kill -0 "$one" || fail "it has ended with the daemon"
start_daemon host
[ "$(field web .pid)" = "$one" ] || fail "a restarted daemon does not know it"

at host undefine web
kill -0 "$one" || fail "undefine has ended a QEMU that is not ours"
expect_gone web
at host attach --qmp "$tmp/one.qmp" web
at host destroy web
process_is_gone "$one" || fail "destroy has not ended it"
expect_gone web

run_qemu two -uuid $uuid -drive "if=virtio,file=$tmp/two.qcow2,format=qcow2" -incoming defer -S
expect_failure 'waits for a migration; attach it with --incoming' \
    at host attach --qmp "$tmp/two.qmp" web
at host attach --qmp "$tmp/two.qmp" --incoming web
[ "$(field web .state)" = incoming ] || fail "it waits"
stop_daemon host
start_daemon host
[ "$(field web .state)" = incoming ] || fail "it still waits"
kill -KILL "$pid"
wait_for "its end" is_unknown web
rm -f "$tmp"/*.qmp # QEMU's own, which it leaves when it is killed
