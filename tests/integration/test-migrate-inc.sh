#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# --copy-storage-inc copies the top layer only; the backing file has to be at the destination
# already, and is not touched.
. "${srcdir:-.}/migrate-functions.sh"

start_daemon a
start_daemon b

# The guest's images become overlays of what mkguest made.
make_images a inc 2 qcow2,raw
mv "$tmp/a/pool/inc-vda.qcow2" "$tmp/a/pool/base.qcow2"
qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 "$tmp/a/pool/inc-vda.qcow2"
define a inc
start_guest a inc

echo "== the backing file is missing"
stays "disk vda needs its backing file here: copy base.qcow2 to $tmp/b/pool first" a b inc \
    --copy-storage-inc

echo "== it has another size"
qemu-img create -q -f qcow2 "$tmp/b/pool/base.qcow2" 32M
stays "disk vda: the backing file $tmp/b/pool/base.qcow2 here has another size than the source's" \
    a b inc --copy-storage-inc

echo "== it is there"
cp "$tmp/a/pool/base.qcow2" "$tmp/b/pool/"
before=$(sha256sum <"$tmp/b/pool/base.qcow2")
must_migrate a b inc --copy-storage-inc
result '.disks[0].target == "vda" and .disks[0].bytes < 8388608'
arrived a b inc
[ "$(sha256sum <"$tmp/b/pool/base.qcow2")" = "$before" ] || fail "the backing file has changed"
qemu-img info -U --output=json "$tmp/b/pool/inc-vda.qcow2" |
    jq -e '."full-backing-filename" == "'"$tmp"'/b/pool/base.qcow2"' >/dev/null ||
    fail "the backing chain is not kept"

echo "== --copy-storage-all flattens"
must_migrate b a inc --copy-storage-all
result '.disks[0].bytes > 8388608'
flattened=yes arrived b a inc
qemu-img info -U --output=json "$tmp/a/pool/inc-vda.qcow2" |
    jq -e 'has("backing-filename") | not' >/dev/null || fail "a backing file is left"
