#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# QEMUs that someone else started: attached at the source, and waiting at the destination.
. "${srcdir:-.}/migrate-functions.sh"

start_daemon a
start_daemon b
uuid=5b1d9c39-0d1f-4f0a-9c39-6d1c2f0e2b11

# qemu HOST OPTION...: like a manager would, with images $tmp/HOST/pool/guest-*
qemu()
{
    local host=$1 image target drives=()
    shift
    for image in "$tmp/$host"/pool/guest-vd?.*; do
        target=${image##*-}
        target=${target%.*}
        drives+=(-drive "if=none,id=drive-$target,node-name=$target,file=$image,discard=unmap,format=${image##*.}"
            -device "virtio-blk-pci,drive=drive-$target")
    done
    "$QEMU" -nodefaults -machine pc -accel tcg -m 32 -display none -daemonize -uuid $uuid \
        -pidfile "$tmp/$host/guest.pid" \
        -qmp "unix:$tmp/$host/guest.qmp,server=on,wait=off" \
        -qmp "unix:$tmp/$host/admin.qmp,server=on,wait=off" "${drives[@]}" "$@"
}

# check HOST OPTION...
check()
{
    local host=$1
    shift
    "$guest_dir/guestcheck" ram --qmp "$tmp/$host/admin.qmp" "$@" | sed 's/^counter=\([0-9]*\) .*/\1/'
}

make_images a guest 2 qcow2,raw
mkdir -p "$tmp/b/pool"
qemu a
at a attach --qmp "$tmp/a/guest.qmp" guest >/dev/null
check a --above 20 >/dev/null

goes_on_attached()
{
    state_is a guest running || fail "the guest is $(info a guest state)"
    check a --above "$(check a)" >/dev/null
}

echo "== nobody waits at the destination"
must_fail "guest was attached at the source, so a QEMU must wait for it here" a b guest \
    --copy-storage-all
goes_on_attached

# waiting SIZE: a QEMU at the destination whose disks have that size
waiting()
{
    rm -f "$tmp"/b/pool/guest-*
    qemu-img create -q -f qcow2 "$tmp/b/pool/guest-vda.qcow2" "$1"
    qemu-img create -q -f raw "$tmp/b/pool/guest-vdb.raw" "$1"
    qemu b -S -incoming defer
    at b attach --qmp "$tmp/b/guest.qmp" --incoming guest >/dev/null
}

for size in 32M 128M; do
    echo "== disks of $size wait for disks of 64M"
    waiting $size
    pid=$(<"$tmp/b/guest.pid")
    must_fail "disk vda has $(numfmt --from=iec $size) bytes here and 67108864 at the source" a b guest \
        --copy-storage-all
    goes_on_attached
    wait_for "end of the QEMU that waited" process_is_gone "$pid"
    [ -e "$tmp/b/pool/guest-vda.qcow2" ] || fail "an image that we did not make was deleted"
    [ "$(at b --json list --all)" = "[]" ] || fail "it is still known: $(at b list --all)"
done

echo "== it arrives"
waiting 64M
must_migrate a b guest --copy-storage-all
"$guest_dir/guestcheck" qmp "$tmp/b/admin.qmp" stop >/dev/null
now=$(check b)
mapfile -t old < <(images a guest)
mapfile -t fresh < <(images b guest)
last=$("$guest_dir/guestcheck" images "${old[@]}" | sed 's/.*last=\([0-9]*\) .*/\1/')
[ "$now" -gt "$last" ] || fail "the counter is $now, it was $last"
"$guest_dir/guestcheck" images --counter "$now" "${fresh[@]}"
"$guest_dir/guestcheck" diff --after "$last" "${old[@]}" -- "${fresh[@]}" >/dev/null
"$guest_dir/guestcheck" qmp "$tmp/b/admin.qmp" cont >/dev/null
check b --above "$now" >/dev/null
wait_for "running" state_is b guest running
process_is_gone "$(cat "$tmp/a/guest.pid" 2>/dev/null || echo 0)" || fail "the source's QEMU is still there"
