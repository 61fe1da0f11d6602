#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Mode direct, where the connections are QEMU's own: they fall silent while the TLS handshake of the one
# for memory is under way.  The guest goes on all the while, the migration is given up after
# --stall-timeout, and an abort is heard at once.
mode=direct
ABORT_MS=2000
. "${srcdir:-.}/stall-functions.sh"

# sockets_of PID: how many it has
sockets_of()
{
    find "/proc/$1/fd" -lname 'socket:*' | wc -l
}

has_no_more_sockets()
{
    [ "$(sockets_of "$1")" -le "$2" ]
}

# keeps_none: neither the daemon nor the guest's QEMU holds a connection of the migration
keeps_none()
{
    wait_for "end of connections" has_no_more_sockets "${pid_of[a]}" "$daemon_sockets"
    wait_for "end of connections" has_no_more_sockets "$(qemus_of a)" "$qemu_sockets"
}

# shakes_in_vain WHO: the migration is given up, and the guest has not noticed anything
shakes_in_vain()
{
    gives_up "$1" shake "QEMU's connection for memory got no answer from" "${@:2}"
    stood_less_than 1500
    keeps_none
}

two_hosts
daemon_sockets=$(sockets_of "${pid_of[a]}")
qemu_sockets=$(sockets_of "$(qemus_of a)")

for who in ports way qemu; do
    shakes_in_vain $who
    aborts job $who shake
    [ "$ended_ms" -le $ABORT_MS ] || fail "the command ended $ended_ms ms after the abort"
    keeps_none
done
aborts Ctrl-C ports shake --copy-storage-synchronous-writes

echo "== once more"
options=("${always[@]}")
again source
