#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# What else can be asked for when a guest moves that is shut off, and the way back.
. "${srcdir:-.}/migrate-functions.sh"
. "${srcdir:-.}/offline-functions.sh"

start_daemon a
start_daemon b 'grace = "0s"' # where it dials from on the way back

echo "== --migrate-disks: vdb is shared"
shut_off_guest a some 2 qcow2,raw
ln -s "$tmp/a/pool/some-vdb.raw" "$tmp/b/pool/"
must_migrate a b some --offline --migrate-disks vda
result '[.disks[].target] == ["vda"]'
notice "disk vdb is not copied (not in --migrate-disks)"
[ -L "$tmp/b/pool/some-vdb.raw" ] || fail "the shared disk was replaced"
is_there a b some
runs b some
forget b some
forget a some
rm "$tmp"/?/pool/*

echo "== and one that isn't the source's file is refused"
shut_off_guest a some 2 qcow2,raw
cp "$tmp/a/pool/some-vdb.raw" "$tmp/b/pool/"
remember a
remember b
must_fail "is not the source's file but another one" a b some --offline --migrate-disks vda
unharmed a b some
nothing_left a
nothing_left b
forget a some
rm "$tmp"/?/pool/*

echo "== --undefinesource"
shut_off_guest a gone 1 qcow2
must_migrate a b gone --offline --undefinesource
expect_failure "no domain named gone" at a info gone
[ ! -e "$tmp/a/state/domains/gone.json" ] || fail "its file is left at a"
[ -e "$tmp/a/pool/gone-vda.qcow2" ] || fail "its image is gone at a"
expect_failure "a file $tmp/a/pool/gone-vda.qcow2 exists already" at b migrate gone "$(uri_of a)" --offline
rm "$tmp/a/pool/gone-vda.qcow2"
must_migrate b a gone --offline # as if it had never been here
is_there b a gone
forget a gone
forget b gone
rm "$tmp"/?/pool/*

echo "== job set --bandwidth: what would take half a minute is done at once"
shut_off_guest a home 2 qcow2,raw --vda-data 32M
begin a b home --offline --bandwidth 1M
wait_for "the copy" grep -q ' out: mirror$' "$tmp/a/log"
since=$SECONDS
at a job set home --bandwidth 4M >/dev/null
half_way b home
[ $((SECONDS - since)) -le 6 ] || fail "8 MiB at 4 MiB a second took $((SECONDS - since)) s"
at a job set home --bandwidth 0 >/dev/null
ends 0 ""
[ $((SECONDS - since)) -le 10 ] || fail "it took $((SECONDS - since)) s"
is_there a b home
runs b home

echo "== on its way back it breaks off: the old images are put back, and the copy is kept"
shut_off b home
begin b a home --offline --bandwidth 8M
wait_for "the old images aside" compgen -G "$tmp/a/pool/home-vd?.*.before-*"
half_way a home # the new one
kill_daemon a
ends 1 "and the guest stays here"
old=$(stat -c %i "$tmp"/a/pool/home-vda.qcow2.before-*)
start_daemon a "listen = \"127.0.0.1:${port_of[a]}\""
unharmed b a home
[ "$(stat -c %i "$tmp/a/pool/home-vda.qcow2")" = "$old" ] || fail "its old image is not back"
[ "$(partials a | wc -l)" -eq 2 ] || fail "kept at a: $(partials a)"
expect_failure "domain home was moved to 127.0.0.1 and lives there" at a start home

echo "== it comes back, takes up what was copied, and the old images go"
must_migrate b a home --offline
result '.disks[0].bytes < 29360128'
is_there b a home
[ "$(ls "$tmp/a/pool" | wc -l)" -eq 2 ] || fail "more than its images is left: $(ls "$tmp/a/pool")"
[ ! "$tmp/a/pool/home-vda.qcow2" -ef "$tmp/b/pool/home-vda.qcow2" ] || fail "there is but one image"
[ "$(stat -c %i "$tmp/a/pool/home-vda.qcow2")" != "$old" ] || fail "the old image is still used"

echo "== and goes again, as one that runs"
runs a home
must_migrate a b home --copy-storage-all
arrived a b home
wait_for "an empty journal" journal_is_empty a
wait_for "an empty journal" journal_is_empty b
