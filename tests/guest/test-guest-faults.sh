#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors

# A disk that is not there, and a write that fails, are told by the guest and not skipped.

. "${srcdir:-.}/functions.sh"

echo "A disk is missing"
make_images missing --disks 2
rm "$work"/missing/vdb.*
start_guest missing
wait_for missing "too few disks, the BIOS has only 1"
stop_guest missing

echo "Two writes fail"
make_images failing --disks 2 --slots 64 --format raw
start_qemu failing \
    -drive "if=none,id=a,format=raw,file=$work/failing/vda.raw" -device virtio-blk-pci,drive=a \
    -blockdev "{\"driver\": \"raw\", \"node-name\": \"b\", \"file\": {\"driver\": \"blkdebug\",
        \"image\": {\"driver\": \"file\", \"filename\": \"$work/failing/vdb.raw\"},
        \"inject-error\": [{\"event\": \"write_aio\", \"once\": true},
                           {\"event\": \"write_aio\", \"once\": true, \"state\": 1}]}}" \
    -device virtio-blk-pci,drive=b
counter failing --above 512 >/dev/null
qmp failing stop >/dev/null
./guestcheck ram --qmp "$work/failing.qmp" | tee "$work/out"
grep -q 'errors=[12] ' "$work/out" || fail "the failed write was not counted"
grep 'write 0x0000000000000001 to disk 1 failed, status 0x.*, trying again' \
    "$work/failing.serial" || fail "the failed write was not told"
./guestcheck images --counter "$(counter failing)" "$work"/failing/vd?.raw
