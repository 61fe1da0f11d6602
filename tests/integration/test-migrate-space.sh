#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A disk that is larger than what is free at the destination is refused before anything is made; a
# disk that gets full later ends the copy.
. "${srcdir:-.}/migrate-functions.sh"
. "${srcdir:-.}/offline-functions.sh"

mkdir -p "$tmp/b/pool"
requires test "$(id -u)" -eq 0
requires mount -t tmpfs -o size=40m bistream-test "$tmp/b/pool"
mounts+=("$tmp/b/pool")

start_daemon a
start_daemon b
new_guest a guest 2 qcow2,raw
stays "no room for disk vda: 64 MiB are needed in $tmp/b/pool, but only 40 MiB are free" a b guest \
    --copy-storage-all

echo "== each one fits, but not all that they hold"
make_images a full 8 raw --size 24M --vda-data 1M
for image in "$tmp"/a/pool/full-*.raw; do
    dd if=/dev/urandom of="$image" bs=1M seek=18 count=6 conv=notrunc status=none
done
define a full
start_guest a full
stays "no room for the disks together" a b full --copy-storage-all

echo "== it gets full while a guest is copied that is shut off"
shut_off_guest a big 1 raw --size 34M --vda-data 14M
begin a b big --offline --bandwidth 3M
wait_for "some of the copy" has_some "$tmp/b/pool/big-vda.raw"
# All but what the copy may take meanwhile: it needs more than that yet.
free=$(df --output=avail -B 1 "$tmp/b/pool" | tail -n 1)
fallocate -l $((free - 4194304)) "$tmp/b/pool/filler"
ends 1 "disk vda can't be written to at the destination: No space left on device"
expect_text "and the guest stays here" "$(cat "$tmp/said")"
unharmed a b big
wait_for "an empty journal" journal_is_empty a
wait_for "an empty journal" journal_is_empty b
[ "$(ls "$tmp/b/pool")" = filler ] || fail "left at b: $(ls "$tmp/b/pool")"
rm "$tmp/b/pool/filler"
must_migrate a b big --offline
is_there a b big
