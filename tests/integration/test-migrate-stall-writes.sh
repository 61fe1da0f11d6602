#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A path that falls silent while the guest waits for its disks: the migration is given up, and the guest
# goes on, before it has stood still for much longer than --stall-timeout.
. "${srcdir:-.}/stall-functions.sh"

two_hosts "$slow"

writes="the guest's writes waited for"
gives_up way mirror "$writes" --copy-storage-synchronous-writes
gives_up qemu mirror "$writes" --copy-storage-synchronous-writes
gives_up daemon mirror "$writes" --copy-storage-synchronous-writes
bound=3
gives_up qemu mirror "the guest, which --timeout has paused, waited for" --timeout 1 \
    --stall-timeout $bound
expect_text "for 3 s" "$(cat "$tmp/said")"
