#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A guest that went away and comes back finds its old images: they are set aside, put back when the
# migration fails, deleted when it is settled.  Meanwhile nobody starts it by mistake.
. "${srcdir:-.}/migrate-functions.sh"

start_daemon a
start_daemon b
new_guest a home 2 qcow2,raw
must_migrate a b home --copy-storage-all
arrived a b home

echo "== it is not started twice"
expect_failure "domain home was moved to 127.0.0.1 and lives there" at a start home
expect_failure "domain home was moved to 127.0.0.1 and lives there" at a start "$tmp/home.json"
state_is a home 'moved to *' || fail "home is $(info a home state)"

echo "== a failed return puts the old images back"
stop_daemon a
start_daemon a 'qemu_binary = "/bin/false"'
stays "QEMU (/bin/false) ended at its start" b a home --copy-storage-all

echo "== it comes back, and goes again"
stop_daemon a
start_daemon a
inode=$(stat -c %i "$tmp/a/pool/home-vda.qcow2")
must_migrate b a home --copy-storage-all
[ "$(stat -c %i "$tmp/a/pool/home-vda.qcow2")" != "$inode" ] || fail "the old image is still used"
[ "$(find "$tmp/a/pool" -type f | wc -l)" -eq 2 ] ||
    fail "more than the guest's images is left: $(ls "$tmp/a/pool")"
arrived b a home
must_migrate a b home --copy-storage-all
arrived a b home

echo "== lost there, it may be started by force"
forget b home
at a start home --force >/dev/null
counter a home --above 20 >/dev/null
goes_on a home
