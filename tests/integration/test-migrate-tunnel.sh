#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A peer from before BiStream, on either side: migrations go through the old one-way tunnel where that
# can carry them, and are refused before anything is touched where it can't.
. "${srcdir:-.}/migrate-functions.sh"
requires python3 --version

flattened=yes # QEMU's block migration sees a hole only where a whole MiB is one
fallen="falling back to mode tunnel"

start_daemon new
start_daemon old 'offer_bistream = false'

# share NAME: its images are on shared storage
share()
{
    local image
    mkdir -p "$tmp/old/pool"
    for image in "$tmp/new/pool/$1"-*; do
        ln -s "$image" "$tmp/old/pool/"
    done
}

echo "== memory alone, disks on shared storage"
new_guest new shared 2 qcow2,raw
share shared
must_migrate new old shared
result '.mode == "tunnel" and .disks == []'
notice "$fallen: the destination's bistreamd does not offer BiStream"
state_is new shared 'moved to 127.0.0.1' || fail "shared is $(info new shared state)"
qmp old shared stop >/dev/null
mapfile -t disks < <(images old shared)
"$guest_dir/guestcheck" images --counter "$(counter old shared)" "${disks[@]}"
qmp old shared cont >/dev/null
goes_on old shared
forget old shared
forget new shared

echo "== disks in the stream, to an old peer and back from an old caller"
new_guest new guest 2 qcow2,raw
must_migrate new old guest --copy-storage-all
result '.mode == "tunnel" and .ram_bytes > 0'
jq -es 'any(.[] | select(.type == "progress").disks[]; .target == "disks" and .transferred > 8000000)' \
    "$tmp/events" >/dev/null || fail "no progress of the disks was told: $(cat "$tmp/events")"
arrived new old guest
must_migrate old new guest --copy-storage-all
result '.mode == "tunnel"'
notice "offer_bistream is false in this host's configuration"
arrived old new guest

echo "== only the top layers"
make_images new inc 1 qcow2
mv "$tmp/new/pool/inc-vda.qcow2" "$tmp/new/pool/base.qcow2"
qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 "$tmp/new/pool/inc-vda.qcow2"
cp "$tmp/new/pool/base.qcow2" "$tmp/old/pool/"
before=$(sha256sum <"$tmp/old/pool/base.qcow2")
define new inc
start_guest new inc
must_migrate new old inc --copy-storage-inc
result '.mode == "tunnel"'
arrived new old inc
[ "$(sha256sum <"$tmp/old/pool/base.qcow2")" = "$before" ] || fail "the backing file has changed"
qemu-img info -U --output=json "$tmp/old/pool/inc-vda.qcow2" |
    jq -e 'has("backing-filename")' >/dev/null || fail "the backing chain is not kept"
forget old inc
forget new inc

echo "== what it can't carry is refused before anything is touched"
stays "--no-fallback was given; without it mode tunnel would do" new old guest --copy-storage-all \
    --no-fallback
stays "--copy-storage-synchronous-writes can't be had in mode tunnel" new old guest \
    --copy-storage-all --copy-storage-synchronous-writes
stays "so --migrate-disks has to name every one of them" new old guest --copy-storage-all \
    --migrate-disks vda
grep -q "preparing" "$tmp/old/log" || fail "nothing was ever prepared at the old peer"
[ "$(grep -c "in from .*: preparing" "$tmp/old/log")" -eq 3 ] || fail "a refusal touched the peer"

echo "== the destination's QEMU stops reading: back pressure, and an abort ends it"
remember new
remember old
begin new old guest --copy-storage-all
in_phase new memory
kill -STOP $(qemus_of old)
kill -INT $client
ends 1 "aborted by the operator"
goes_on new guest
for pid in $(qemus_of old); do
    kill -CONT "$pid"
done
nothing_left new
nothing_left old

echo "== the destination's QEMU dies"
remember new
remember old
begin new old guest --copy-storage-all
in_phase new memory
kill -KILL $(qemus_of old)
ends 1 "and the guest stays here"
goes_on new guest
nothing_left new
nothing_left old

echo "== and then it goes"
must_migrate new old guest --copy-storage-all
arrived new old guest

is_well new
is_well old
