#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# The old image of a guest that comes back is neither set aside nor deleted while something here needs
# it: a domain that runs or not, one whose images build upon it, a program that is no domain.
. "${srcdir:-.}/migrate-functions.sh"

# overlay NAME BACKING: an image NAME-vda.qcow2 at a that builds upon BACKING, and its definition
overlay()
{
    qemu-img create -q -f qcow2 -F qcow2 -b "$2" "$tmp/a/pool/$1-vda.qcow2"
    define a "$1"
}

# refused SENTENCE: the guest can't come back, and everything is as it was
refused()
{
    stays "$1" b a home --copy-storage-all
}

# old_image_is_aside: a migration back has replaced it, and is not over
old_image_is_aside()
{
    ls "$tmp"/a/pool/home-vda.qcow2.before-*
}

start_daemon a
start_daemon b "qemu_binary = \"$(slow_qemu 16777216)\"" # so that there is time to do something meanwhile
new_guest a home 1 qcow2
must_migrate a b home --copy-storage-all
arrived a b home
old=$(sha256sum <"$tmp/a/pool/home-vda.qcow2")

echo "== a guest that is shut off builds upon it, two layers down"
qemu-img create -q -f qcow2 -F qcow2 -b home-vda.qcow2 "$tmp/a/pool/middle.qcow2"
overlay leaf middle.qcow2
at a start "$tmp/leaf.json" >/dev/null
at a destroy leaf >/dev/null
refused "$tmp/a/pool/home-vda.qcow2 is a backing file of $tmp/a/pool/leaf-vda.qcow2 of the domain leaf"
forget a leaf

echo "== under another name"
ln "$tmp/a/pool/home-vda.qcow2" "$tmp/a/pool/link.qcow2"
overlay leaf link.qcow2
at a start "$tmp/leaf.json" >/dev/null
refused "of the domain leaf here; undefine that, or make its disk independent"
forget a leaf

echo "== it can't be found out"
echo 'no image at all' >"$tmp/a/pool/link.qcow2.new"
overlay leaf link.qcow2
at a start "$tmp/leaf.json" >/dev/null
at a destroy leaf >/dev/null
mv "$tmp/a/pool/link.qcow2.new" "$tmp/a/pool/leaf-vda.qcow2"
refused "can't find out whether the domain leaf needs $tmp/a/pool/home-vda.qcow2"
forget a leaf
rm "$tmp/a/pool/leaf-vda.qcow2" "$tmp/a/pool/middle.qcow2"

echo "== a QEMU that nobody told us of has it open"
in_background "$QEMU" -display none -S -accel tcg -m 32M -pidfile "$tmp/a/stranger" \
    -drive "if=virtio,readonly=on,format=qcow2,file=$tmp/a/pool/home-vda.qcow2"
stranger=$!
wait_for "stranger" test -s "$tmp/a/stranger"
refused "$tmp/a/pool/home-vda.qcow2 is in use by a program that is no domain here"
kill "$stranger"
wait "$stranger" || true
[ "$(sha256sum <"$tmp/a/pool/home-vda.qcow2")" = "$old" ] || fail "the old image has changed"

echo "== it came to be needed while the guest came back"
source=$(info b home pid)
begin b a home --copy-storage-all
wait_for "old image" old_image_is_aside
kill -STOP "$source"
overlay leaf link.qcow2
at a start "$tmp/leaf.json" >/dev/null
kill -CONT "$source"
wait "$client" || fail "home does not come back: $(cat "$tmp/said")"
expect_log a "home-vda.qcow2.before-"
expect_log a "stays, delete it when nothing needs it"
[ "$(sha256sum <"$(old_image_is_aside)")" = "$old" ] || fail "the old image has changed"
goes_on a home
state_is a leaf running || fail "leaf is $(info a leaf state)"
forget a leaf
rm "$tmp"/a/pool/home-vda.qcow2.before-* "$tmp/a/pool/link.qcow2" "$tmp/a/pool/leaf-vda.qcow2"

echo "== nothing needs it: it goes"
must_migrate a b home --copy-storage-all
must_migrate b a home --copy-storage-all
arrived b a home
[ "$(find "$tmp/a/pool" -type f | wc -l)" -eq 1 ] || fail "left: $(ls "$tmp/a/pool")"
