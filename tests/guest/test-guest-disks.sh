#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors

# The guest runs on 1, 2 and 8 disks, says so, and nothing that it wrote is missing.

. "${srcdir:-.}/functions.sh"

for disks in 1 2 8; do
    make_images "guest$disks" --disks $disks --slots 32 --format raw,qcow2
    start_guest "guest$disks"
    counter "guest$disks" --above $((disks * 32 * 2)) >/dev/null
    grep -q "^bistream guest: disks $disks" "$work/guest$disks.serial" ||
        fail "the guest did not say how many disks it has"
    qmp "guest$disks" stop >/dev/null
    last=$(counter "guest$disks")
    ./guestcheck images --counter "$last" "$work/guest$disks"/vd?.* | tee "$work/out"
    grep -q "writes checked=$((disks * 32))" "$work/out" || fail "not every slot was checked"
    stop_guest "guest$disks"
done
