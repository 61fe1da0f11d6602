#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Ctrl-C in the middle: the guest runs at the source, and nothing of it is left at the destination.
. "${srcdir:-.}/migrate-functions.sh"

start_daemon a
start_daemon b "qemu_binary = \"$(slow_qemu 1000000)\""
new_guest a guest 2 qcow2,raw

# interrupt SIGNAL: once disks are being copied
interrupt()
{
    remember a
    remember b
    begin a b guest --copy-storage-all
    copying a guest
    [ -e "$tmp/b/pool/guest-vda.qcow2" ] || fail "nothing was begun at the destination"
    kill -"$1" $client
    ends 1 "aborted by the operator"
    result '.status == "failed"'
    goes_on a guest
    nothing_left a
    nothing_left b
}

interrupt INT
interrupt TERM

echo "== a client that is killed leaves the migration alone"
begin a b guest --copy-storage-all
in_phase a mirror
kill -KILL $client
wait $client || :
expect_failure "domain guest is migrating" at a migrate guest "$(uri_of b)"
expect_failure "domain guest is migrating" at a destroy guest

echo "== the source's daemon is stopped in the middle"
stop_daemon a
start_daemon a
goes_on a guest
nothing_left b

echo "== while the QEMU there never greets"
cat >"$tmp/mute" <<END
#!/bin/sh
case "\$*" in *"-machine none "*) exec $QEMU "\$@" ;; esac # the daemon asks what it can do
exec sleep 1000
END
chmod +x "$tmp/mute"
stop_daemon b
start_daemon b "qemu_binary = \"$tmp/mute\""
is_mute()
{
    compgen -G "$tmp/b/run/*.admin.qmp"
}
remember a
remember b
begin a b guest --copy-storage-all
wait_for "a QEMU that is mute" is_mute
began=$SECONDS
kill -INT $client
ends 1 "aborted by the operator"
nothing_left a
nothing_left b
jq '.disks = [] | .name = "mute"' "$tmp/guest.json" >"$tmp/mute.json"
in_background "$bistream" -c "$tmp/b/control" start "$tmp/mute.json"
wait_for "a QEMU that is mute" is_mute
stop_daemon b
[ $((SECONDS - began)) -lt 15 ] || fail "it took $((SECONDS - began)) s"

echo "== and then it goes"
start_daemon b
must_migrate a b guest --copy-storage-all
arrived a b guest
