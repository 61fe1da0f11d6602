#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors

# The checker can fail: each kind of damage is done to images and RAM of a real guest, and has to be
# found and named.

. "${srcdir:-.}/functions.sh"
requires qemu-io

disks=2 slots=64 window=2048

# The block of write N, in sectors from the start of its disk.
block_of()
{
    echo $((window + $1 / disks % slots * 8))
}

# copy_sectors FROM SECTOR TO SECTOR COUNT
copy_sectors()
{
    dd if="$1" skip="$2" of="$3" seek="$4" count="$5" bs=512 conv=notrunc status=none
}

check_images()
{
    ./guestcheck images --counter "$last" "$work/guest/vda.qcow2" "$work/guest/vdb.raw"
}

# Puts vdb back as the guest left it.
mend()
{
    cp "$work/good.raw" "$work/guest/vdb.raw"
    check_images >/dev/null
}

# One guest, looked at twice: "old" is a whole round of all slots before the end.
make_images guest --disks $disks --slots $slots --ram 1M
start_guest guest
counter guest --above 200 >/dev/null
qmp guest stop >/dev/null
before=$(counter guest)
mkdir "$work/old"
cp "$work"/guest/vd?.* "$work/old"
qmp guest cont >/dev/null
counter guest --above $((before + 2 * disks * slots + 2)) >/dev/null
qmp guest stop >/dev/null
./guestcheck ram --qmp "$work/guest.qmp" | tee "$work/out"
grep -q 'errors=0 disks=2 ram=whole' "$work/out" || fail "the guest's RAM is not whole"
last=$(counter guest)

echo "The exports of the QEMU that has the guest are as good as the files"
qmp guest "{\"execute\": \"nbd-server-start\", \"arguments\": {\"addr\": {\"type\": \"unix\",
        \"data\": {\"path\": \"$work/nbd\"}}}}" \
    '{"execute": "block-export-add", "arguments": {"type": "nbd", "id": "a", "node-name": "vda"}}' \
    '{"execute": "block-export-add", "arguments": {"type": "nbd", "id": "b", "node-name": "vdb"}}'
./guestcheck images --counter "$last" "nbd+unix:///vda?socket=$work/nbd" \
    "nbd+unix:///vdb?socket=$work/nbd"

qmp guest "{\"execute\": \"pmemsave\", \"arguments\": {\"val\": 0, \"size\": 3145728,
        \"filename\": \"$work/ram\"}}"
stop_guest guest
check_images
cp "$work/guest/vdb.raw" "$work/good.raw"

# A write to vdb that is surely complete, and the one before on the same disk.
n=$((last - 1 - last % 2))
block=$(block_of $n)
previous=$(block_of $((n - 2)))

echo "A flipped byte"
printf 'X' | dd of="$work/guest/vdb.raw" bs=1 seek=$((block * 512 + 900)) conv=notrunc status=none
must_find "vdb.raw, sector $((block + 1)): write $n expected, found write $n torn at byte 388" \
    check_images
mend

echo "Two blocks swapped"
copy_sectors "$work/good.raw" "$block" "$work/guest/vdb.raw" "$previous" 8
copy_sectors "$work/good.raw" "$previous" "$work/guest/vdb.raw" "$block" 8
must_find "found write .* that belongs to disk 1 sector" check_images
mend

echo "An old block"
copy_sectors "$work/old/vdb.raw" "$block" "$work/guest/vdb.raw" "$block" 8
must_find "sector $block: write $n expected, found write" check_images
mend

echo "A block that is old in its second half"
copy_sectors "$work/old/vdb.raw" $((block + 4)) "$work/guest/vdb.raw" $((block + 4)) 4
must_find "sector $((block + 4)): write $n expected, found write" check_images
mend

echo "A block of zeros"
copy_sectors /dev/zero 0 "$work/guest/vdb.raw" "$block" 8
must_find "sector $block: write $n expected, found zeros" check_images
mend

echo "The other disk's block"
qemu-img convert -O raw "$work/guest/vda.qcow2" "$work/vda.raw"
copy_sectors "$work/vda.raw" "$block" "$work/guest/vdb.raw" "$block" 8
must_find "that belongs to disk 0 sector $block" check_images
mend

echo "A write that the disks don't have, and one that they shouldn't have"
must_find "write .* expected, found write" ./guestcheck images --counter $((last + 2)) \
    "$work/guest/vda.qcow2" "$work/guest/vdb.raw"
must_find "write .* expected, found write" ./guestcheck images --counter $((last - 2)) \
    "$work/guest/vda.qcow2" "$work/guest/vdb.raw"

echo "Without a counter"
./guestcheck images "$work"/guest/vd?.* | tee "$work/out"
grep -q -E "last=($last|$((last + 1))) " "$work/out" || fail "the last write was not found"
copy_sectors "$work/old/vdb.raw" "$block" "$work/guest/vdb.raw" "$block" 8
must_find "vd[ab].*, sector .*: write .* expected, found write" ./guestcheck images "$work"/guest/vd?.*
mend

echo "Disks in the wrong order"
must_find "vdb.raw, sector 0: the guest's boot sector expected" ./guestcheck images \
    --counter "$last" "$work/guest/vdb.raw" "$work/guest/vda.qcow2"

echo "A block lost on qcow2"
cp "$work/guest/vda.qcow2" "$work/vda.qcow2"
qemu-io -f qcow2 -c "write -z $(($(block_of $((n - 1))) * 512)) 4k" "$work/vda.qcow2" >/dev/null
must_find "vda.qcow2, sector .*: write $((n - 1)) expected, found zeros" ./guestcheck images \
    --counter "$last" "$work/vda.qcow2" "$work/guest/vdb.raw"

echo "RAM"
check_ram()
{
    ./guestcheck ram --dump "$work/ram"
}
check_ram
cp "$work/ram" "$work/ram.good"
page=$((n % 256))
printf 'X' | dd of="$work/ram" bs=1 seek=$((0x200000 + page * 4096 + 100)) conv=notrunc status=none
must_find "RAM page $page, part 0: write $n expected, found write $n torn at byte 100" check_ram
copy_sectors /dev/zero 0 "$work/ram" $((0x200000 / 512 + page * 8)) 8
must_find "RAM page $page, part 0: write $n expected, found zeros" check_ram
cp "$work/ram.good" "$work/ram"
copy_sectors /dev/zero 0 "$work/ram" $((0x7000 / 512)) 1
must_find "no guest was running in memory dump" check_ram

echo "Differences"
compare()
{
    after=$1
    ./guestcheck diff --after "$after" "$work/old/vda.qcow2" "$work/old/vdb.raw" -- \
        "$work/guest/vda.qcow2" "$work/guest/vdb.raw"
}
compare "$before"
./guestcheck diff --after "$last" "$work/vda.raw" "$work/good.raw" -- \
    "$work/guest/vda.qcow2" "$work/guest/vdb.raw" | tee "$work/out"
test "$(grep -c ' differing sectors=0$' "$work/out")" -eq 2 || fail "equal images differ"
must_find "differs from the source: a write after $last expected, found write" compare "$last"
copy_sectors /dev/zero 0 "$work/guest/vdb.raw" 2600 1
must_find "sector 2600: differs from the source: a write after $before expected, found zeros" \
    compare "$before"
mend
copy_sectors "$work/ram.good" 0 "$work/guest/vdb.raw" 100000 1
must_find "sector 100000: differs from the source: .* found data that no guest wrote" \
    compare "$before"
mend
truncate -s 65M "$work/guest/vdb.raw"
must_find "has 67108864 bytes, .* has 68157440" compare "$before"

echo "What cannot be checked is not called lost"
code=0
./guestcheck images --counter 1 "$work/no-such-image" || code=$?
test $code -eq 2 || fail "exit code 2 expected for a missing image, got $code"
