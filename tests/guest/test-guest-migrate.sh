#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors

# The guest survives what it is made for: a live migration with its disks, from QEMU to QEMU with
# nothing between them.  So whatever a migration by the daemons loses, it was not QEMU or the guest.

. "${srcdir:-.}/functions.sh"
requires jq

# wait_until NAME COMMAND FILTER: until jq's FILTER is true of what the command returns
wait_until()
{
    for _ in $(seq 1 400); do
        state=$(qmp "$1" "$2")
        if test "$(echo "$state" | jq "$3")" = true; then
            return 0
        fi
        sleep 0.05
    done
    fail "QEMU $1: $2 did not become $3: $state"
}

capabilities()
{
    for name in "$@"; do
        printf '{"capability": "%s", "state": true}\n' "$name"
    done | jq -sc '{execute: "migrate-set-capabilities", arguments: {capabilities: .}}'
}

make_images source --slots 128 --ram 1M
mkdir "$work/destination"
qemu-img create -q -f qcow2 "$work/destination/vda.qcow2" 64M
qemu-img create -q -f raw "$work/destination/vdb.raw" 64M
start_guest source
counter source --above 100 >/dev/null

start_guest destination -incoming defer -S
qmp destination "$(capabilities events late-block-activate)" \
    "{\"execute\": \"nbd-server-start\", \"arguments\": {\"addr\": {\"type\": \"unix\",
        \"data\": {\"path\": \"$work/nbd\"}}}}" >/dev/null
for target in vda vdb; do
    qmp destination "{\"execute\": \"block-export-add\", \"arguments\": {\"type\": \"nbd\",
        \"id\": \"export-$target\", \"node-name\": \"$target\", \"writable\": true}}" >/dev/null
done
qmp destination "{\"execute\": \"migrate-incoming\",
    \"arguments\": {\"uri\": \"unix:$work/migration\"}}" >/dev/null

qmp source "$(capabilities events return-path pause-before-switchover late-block-activate)" >/dev/null
for target in vda vdb; do
    qmp source "{\"execute\": \"blockdev-add\", \"arguments\": {\"driver\": \"nbd\",
            \"node-name\": \"to-$target\", \"server\": {\"type\": \"unix\", \"path\": \"$work/nbd\"},
            \"export\": \"$target\", \"detect-zeroes\": \"unmap\", \"discard\": \"unmap\"}}" \
        "{\"execute\": \"blockdev-mirror\", \"arguments\": {\"job-id\": \"mirror-$target\",
            \"device\": \"$target\", \"target\": \"to-$target\", \"sync\": \"full\",
            \"auto-dismiss\": false}}" >/dev/null
done
wait_until source query-block-jobs '[.[].ready] == [true, true]'
qmp source "{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"unix:$work/migration\"}}" >/dev/null
wait_until source query-migrate '.status == "pre-switchover"'
for target in vda vdb; do
    qmp source "{\"execute\": \"block-job-cancel\", \"arguments\": {\"device\": \"mirror-$target\"}}" \
        >/dev/null
done
wait_until source query-jobs '[.[].status] == ["concluded", "concluded"]'
test "$(qmp source query-jobs | jq '[.[].error] == [null, null]')" = true ||
    fail "a mirror failed: $(qmp source query-jobs)"
for target in vda vdb; do
    qmp source "{\"execute\": \"job-dismiss\", \"arguments\": {\"id\": \"mirror-$target\"}}" \
        "{\"execute\": \"blockdev-del\", \"arguments\": {\"node-name\": \"to-$target\"}}" >/dev/null
done
qmp source '{"execute": "migrate-continue", "arguments": {"state": "pre-switchover"}}' >/dev/null
wait_until source query-migrate '.status == "completed"'
wait_until destination query-migrate '.status == "completed"'

last=$(counter source)
./guestcheck images --counter "$last" "$work"/source/vd?.*
stop_guest source
qmp destination nbd-server-stop >/dev/null
test "$(counter destination)" = "$last" || fail "the counter changed on its way"
./guestcheck ram --qmp "$work/destination.qmp" | grep 'ram=whole'

echo "It goes on at the destination"
qmp destination cont >/dev/null
counter destination --above $((last + 600)) >/dev/null
qmp destination stop >/dev/null
./guestcheck ram --qmp "$work/destination.qmp" | grep 'errors=0 disks=2 ram=whole'
./guestcheck images --counter "$(counter destination)" "$work"/destination/vd?.*
./guestcheck diff --after "$last" "$work"/source/vd?.* -- "$work"/destination/vd?.*
./guestcheck sparse "$work"/destination/vdb.raw
test ! -s "$work/destination.serial" || fail "the guest booted anew, or had errors, at the destination"
