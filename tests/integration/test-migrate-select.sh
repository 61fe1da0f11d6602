#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Which disks are copied: those named by --migrate-disks, or all that the guest can write to; what is
# left out is said, or refused if it was asked for by name.
. "${srcdir:-.}/migrate-functions.sh"

start_daemon a
start_daemon b

echo "== --migrate-disks: vdb is shared"
new_guest a some 2 qcow2,raw
ln -s "$tmp/a/pool/some-vdb.raw" "$tmp/b/pool/"
must_migrate a b some --copy-storage-all --migrate-disks vda
result '[.disks[].target] == ["vda"]'
notice "disk vdb is not copied (not in --migrate-disks)"
qmp b some stop >/dev/null
last=$(counter b some)
mapfile -t images < <(images b some)
"$guest_dir/guestcheck" images --counter "$last" "${images[@]}"
qmp b some cont >/dev/null
goes_on b some
forget b some
forget a some

echo "== a read-only disk and an empty drive"
make_images a ro 2 qcow2,raw
qemu-img create -q -f raw "$tmp/a/pool/iso.img" 1M
cp "$tmp/a/pool/iso.img" "$tmp/b/pool/"
define a ro '.disks += [{target: "vdc", file: "iso.img", format: "raw", readonly: true},
    {target: "vdd", readonly: true}]'
start_guest a ro
stays "disk vdc is read-only and can't be copied" a b ro --copy-storage-all --migrate-disks vda,vdc
stays "disk vdd is empty and can't be copied" a b ro --copy-storage-all --migrate-disks vdd
stays "the guest has no disk 'vdx'; it has vda, vdb, vdc, vdd" a b ro --copy-storage-all \
    --migrate-disks vda,vdx
must_migrate a b ro --copy-storage-all
notice "disk vdc is not copied (is read-only): its image must be at the destination"
notice "drive vdd is empty: nothing to copy"
result '[.disks[].target] == ["vda", "vdb"]'
arrived a b ro
