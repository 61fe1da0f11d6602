#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A peer that may migrate in sends definitions that no daemon would: each is refused with the field
# that is wrong, nothing is made, and the daemon stays well.
. "${srcdir:-.}/migrate-functions.sh"

start_daemon b
make_pki evil
uuid=5b1d9c39-0d1f-4f0a-9c39-6d1c2f0e2b11
good='{"name": "guest", "uuid": "'$uuid'", "machine": "pc", "accel": "tcg", "memory": 33554432}'

# refused SENTENCE COOKIE-DISKS FILTER: the good definition, changed by the jq FILTER
refused()
{
    local said status=0
    remember b
    said=$(jq -c "$3" <<<"$good" | ./evil-peer "$tmp/evil/pki" "$(uri_of b)" guest "$2") || status=$?
    [ $status -eq 1 ] || fail "exit code $status: $said"
    expect_text "$1" "$said"
    echo "said: $said"
    nothing_left b
    is_well b
}

disk='{target: "vda", file: "a.raw", format: "raw", size: 1048576}'
refused 'disks[0].file' 1 ".disks = [$disk | .file = \"../../etc/passwd\"]"
refused 'disks[0].file' 1 ".disks = [$disk | .file = \"/etc/passwd\"]"
refused 'disks[0].file' 1 ".disks = [$disk | .file = \"..\"]"
refused 'disks[1].target' 1 ".disks = [$disk, ($disk | .target = \"../vda\" | .file = \"b.raw\")]"
refused 'qemu_args: a definition has no such field' 0 '.qemu_args = ["-monitor", "stdio"]'
refused 'disks[0].backing: a definition has no such field' 0 ".disks = [$disk | .backing = \"x\"]"
refused 'disks' 0 "[range(10000)] as \$n | .disks = [\$n[] | {target: \"vda\"}]"
refused "the guest's definition has another name or UUID than the call" 0 '.name = "other"'
refused 'firmware' 0 '.firmware = "/etc/shadow"'
refused 'serial.log' 0 '.serial = {log: "/etc/cron.d/x"}'
refused "disk d0 is not in the guest's definition" 1 '.'
refused "the arguments of MIGRATE_PREPARE can't be decoded" 0 '.cpu = ("x" * 300000)'

echo "== other guests' images"
cat >"$tmp/other.json" <<END
{"name": "other", "machine": "pc", "accel": "tcg", "memory": "32M",
 "disks": [{"target": "vda", "file": "other.raw", "format": "raw", "size": "1M"}]}
END
at b start "$tmp/other.json" >/dev/null
at b destroy other >/dev/null
truncate -s 1M "$tmp/b/pool/loose.raw"
ln -s other.raw "$tmp/b/pool/link.raw"
id=$(tr -d - <<<"$uuid")
for file in other.raw link.raw; do
    # to be overwritten, shared, read, and as what a new image stands on
    for cookie in vda:1: vda:4: vda:0:; do
        refused "belongs to the domain other here" $cookie ".disks = [$disk | .file = \"$file\"]"
    done
    refused "belongs to the domain other here" vda:0: \
        ".disks = [$disk | .file = \"$file\" | .readonly = true]"
    refused "disk vda can't have its backing file: the image $tmp/b/pool/$file belongs to" \
        "vda:3:$file" ".disks = [$disk | .format = \"qcow2\"]"
done
mv "$tmp/b/pool/other.raw" "$tmp/other.raw"
refused "belongs to the domain other here" vda:1: ".disks = [$disk | .file = \"other.raw\"]"
refused "is not the source's file but another one" vda:0: ".disks = [$disk | .file = \"loose.raw\"]"
refused "is not the source's file but another one" vda:4: ".disks = [$disk | .file = \"loose.raw\"]"
refused "the cookie does not tell what becomes of disk vda" 0 \
    ".disks = [$disk | .file = \"loose.raw\"]"
for end in new before shared; do
    refused "disks[0].file: the file's name ends like a file that a migration makes for itself" 1 \
        ".disks = [$disk | .file = \"loose.raw.$end-$id\"]"
done
rm "$tmp/b/pool/link.raw"
at b undefine other >/dev/null

echo "== a cookie of 10,000 disks"
refused "the arguments of MIGRATE_PREPARE can't be decoded" 10000 '.'
