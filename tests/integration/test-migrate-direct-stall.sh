#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Mode direct, where the connections are QEMU's own, and the guest waits for what goes over them.  The
# ports fall silent, alone or with all of the way, or the QEMU there does: the guest is held up for no
# longer than --stall-timeout, or until an abort.
mode=direct
ABORT_MS=2000
. "${srcdir:-.}/stall-functions.sh"

synchronous=--copy-storage-synchronous-writes
writes="the guest's writes waited for"
paused="the guest, which --timeout has paused, waited for"

# aborted WHO PHASE [OPTION...]: the command ends, too
aborted()
{
    aborts job "$@"
    [ "$ended_ms" -le $ABORT_MS ] || fail "the command ended $ended_ms ms after the abort"
}

two_hosts "$slow"

for who in ports way qemu; do
    gives_up $who mirror "$writes" $synchronous
done
aborted ports mirror $synchronous
aborted qemu mirror $synchronous
bound=3
gives_up ports mirror "$paused" --timeout 1 --stall-timeout $bound
bound=2

# The copies are complete, and each write of the guest's is a question of its own.
: >"$tmp/b/disks"
for who in ports qemu; do
    gives_up $who stream "$writes" $synchronous
    aborted $who stream $synchronous
done
gives_up ports stop "QEMU stood still for 2 s and the guest with it"

echo "== the daemon there is silent, and nobody waits for it"
reach stream $synchronous
hush daemon
writes_for 4
kill -INT "$client"
ends 1 "aborted by the operator"
clean

echo "== once more"
options=("${always[@]}" $synchronous)
again source
