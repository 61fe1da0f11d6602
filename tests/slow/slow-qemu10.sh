#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Guests with a machine type that QEMU 7.2 and 10 both have go from one to the other, back, and from
# 10 to 10; on 10 they are aborted, lose the destination's QEMU, and leave their backing file behind.
# In mode direct they go there and back.  7.2 is the system's QEMU, 10 is Debian 13's.
set -e
. "$srcdir/../integration/migrate-functions.sh"
. "$srcdir/debian.sh"
WAIT_SECONDS=120

debian_qemu

# moves FROM TO: the guest does, nothing of it is lost, and its raw disk keeps its holes
moves()
{
    must_migrate "$1" "$2" guest "${options[@]}"
    result ".mode == \"$mode\" and (.disks | length) == 2"
    arrived "$1" "$2" guest
    echo "$mode, $machine: $1 -> $2: $(jq -r '"\(.total_ms) ms, downtime \(.downtime_ms) ms"' "$tmp/result")"
    count=$((count + 1))
}

# remove_guest HOST...: they know nothing of it any more, and nobody has an image
remove_guest()
{
    local host
    for host in "$@"; do
        forget "$host" guest
    done
    find "$tmp"/*/pool -type f -delete
}

start_daemon old
start_daemon new "qemu_binary = \"$ten\""
start_daemon next "qemu_binary = \"$ten\""
start_daemon slow "qemu_binary = \"$(QEMU=$ten slow_qemu 1000000)\""

mode=bistream
options=(--copy-storage-all)
count=0
for machine in pc-i440fx-7.2 pc-q35-7.2; do
    make_images old guest 2 qcow2,raw
    define old guest ".machine = \"$machine\""
    start_guest old guest
    moves old new
    moves new old
    moves old new
    moves new next
    moves next old
    remove_guest old new next
done

new_guest new guest 2 qcow2,raw
for fault in abort kill; do
    echo "== 10 -> 10: $fault in the middle of the copy"
    remember new
    remember slow
    begin new slow guest --copy-storage-all
    copying new guest
    if [ $fault = abort ]; then
        kill -INT $client
        ends 1 "aborted by the operator"
    else
        kill -KILL "$(qemus_of slow)"
        ends 1 "the migration of 'guest' failed, and the guest stays here"
    fi
    goes_on new guest
    nothing_left new
    nothing_left slow
done
machine=pc
moves new next
remove_guest new next

echo "== 10 -> 10: --copy-storage-inc"
make_images new guest 2 qcow2,raw
mkdir -p "$tmp/next/pool"
mv "$tmp/new/pool/guest-vda.qcow2" "$tmp/new/pool/base.qcow2"
cp "$tmp/new/pool/base.qcow2" "$tmp/next/pool/"
qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 "$tmp/new/pool/guest-vda.qcow2"
define new guest
start_guest new guest
must_migrate new next guest --copy-storage-inc
result '.disks[0].target == "vda" and .disks[0].bytes < 8388608'
arrived new next guest
count=$((count + 1))
cmp "$tmp/new/pool/base.qcow2" "$tmp/next/pool/base.qcow2"
qemu-img info -U --output=json "$tmp/next/pool/guest-vda.qcow2" |
    jq -e --arg base "$tmp/next/pool/base.qcow2" '."full-backing-filename" == $base' >/dev/null ||
    fail "the backing chain is not kept"
forget new guest
forget next guest
find "$tmp"/*/pool -type f -delete

for host in old new next; do
    stop_daemon $host
done
for pair in "old new" "new next"; do
    read -r one other <<<"$pair"
    mode=direct
    rm -rf "$tmp/$one/direct" # of the other pair
    in_mode $mode $one $other
    for host in new next; do
        echo "qemu_binary = \"$ten\"" >>"$tmp/$host/lines"
    done
    run_host $one
    run_host $other
    machine=pc-q35-7.2
    make_images $one guest 2 qcow2,raw
    define $one guest ".machine = \"$machine\""
    start_guest $one guest
    moves $one $other
    moves $other $one
    remove_guest $one $other
    stop_daemon $one
    stop_daemon $other
done

echo "QEMU $(version_of "$QEMU") <-> $(version_of "$ten"): $count migrations, none lost a write"
