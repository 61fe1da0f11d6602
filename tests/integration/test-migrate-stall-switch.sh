#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A path that falls silent while the guest's CPUs wait, with QEMU's main loop or for the switch: the
# migration is given up, and the guest goes on, before it has stood still for much longer than
# --stall-timeout.
. "${srcdir:-.}/stall-functions.sh"

two_hosts

still="QEMU stood still for 2 s and the guest with it"
gives_up way connect "$still"
gives_up way stop "$still"
gives_up qemu stop "$still"

switch="the guest stood still for 2 s, and the rest of it had not gone over to"
gives_up way switch "$switch"
gives_up qemu switch "$switch"
gives_up daemon switch "$switch"

# After Finish it is the destination that gives up.
gives_up qemu sent "the guest can't be held up for longer"
