#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# What the options and the guest's state change: no disks at all, a paused guest, some of the disks,
# disks that can't be copied, another name, shared storage.
. "${srcdir:-.}/migrate-functions.sh"

start_daemon a
start_daemon b

echo "== without disks"
cat >"$tmp/bare.json" <<END
{"name": "bare", "machine": "pc", "accel": "tcg", "memory": "32M"}
END
at a start "$tmp/bare.json" >/dev/null
must_migrate a b bare --copy-storage-all
result '.disks == []'
state_is b bare running || fail "bare is $(info b bare state)"
state_is a bare 'moved to 127.0.0.1' || fail "bare is $(info a bare state)"
forget b bare

echo "== a paused guest stays paused"
new_guest a still 2 qcow2,raw
qmp a still stop >/dev/null
wait_for "pause" state_is a still paused
before=$(counter a still)
must_migrate a b still --copy-storage-all
result '.downtime_ms == 0'
state_is b still paused || fail "still is $(info b still state)"
[ "$(counter b still)" -eq "$before" ] || fail "a paused guest has run"
mapfile -t images < <(images b still)
"$guest_dir/guestcheck" images --counter "$before" "${images[@]}"
qmp b still cont >/dev/null
wait_for "running" state_is b still running
goes_on b still
forget b still
forget a still

echo "== another name"
new_guest a old 1 qcow2
must_migrate a b old --copy-storage-all --dname new
arrived_as_new()
{
    # Image files keep their names.
    for image in "$tmp"/b/pool/old-*; do
        ln -s "$image" "${image/old-/new-}"
    done
    arrived a b old new
}
arrived_as_new
at b --json list --all | jq -e '[.[].name] | index("old") == null' >/dev/null ||
    fail "the old name is known at the destination"
forget b new
forget a old

echo "== shared storage: nothing is copied"
new_guest a shared 2 qcow2,raw
cp "$tmp"/a/pool/shared-* "$tmp/b/pool"
stays "shared-vda.qcow2 here is not the source's file but another one" a b shared
rm "$tmp"/b/pool/shared-*
for image in "$tmp"/a/pool/shared-*; do
    ln -s "$image" "$tmp/b/pool/"
done
must_migrate a b shared
result '.disks == []'
qmp b shared stop >/dev/null
last=$(counter b shared)
mapfile -t images < <(images b shared)
"$guest_dir/guestcheck" images --counter "$last" "${images[@]}"
qmp b shared cont >/dev/null
goes_on b shared
forget b shared
forget a shared
