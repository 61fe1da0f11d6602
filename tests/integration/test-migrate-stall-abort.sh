#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# An abort on a silent path, in each phase in which it can be held up: the guest runs at the source
# within moments.
. "${srcdir:-.}/stall-functions.sh"

two_hosts "$slow"

aborts Ctrl-C way mirror
aborts job qemu mirror --copy-storage-synchronous-writes
: >"$tmp/b/disks"
aborts job daemon memory
aborts Ctrl-C way connect
aborts job way stop
aborts Ctrl-C qemu stop
aborts Ctrl-C way switch
aborts job qemu switch
