#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# probe: each kind of peer, in words and in JSON; the exit code says whether it can take a guest.

. "${srcdir:-.}/functions.sh"
requires jq
fake_daemon

run 0 probe bistream://b.example
said out "bistream://b.example: bistreamd"
said out "Host name:      b?]0;x"
said out "QEMU:           7.2.22"
said out "Features:       bistream tunnel direct direct-tls direct-id qemu-nbd qemu-block"
said out "BiStream:       version 1"
said out "Certificate:    CN=b.example"
said out "Round trip:     0.2 ms"
run 0 probe bistream://b.example --json
json '.kind == "bistream" and .version == "0.1.0" and (.features | length) == 7'
json '.features == ["bistream", "tunnel", "direct", "direct-tls", "direct-id", "qemu-nbd", "qemu-block"]'
json '.bistream_version == 1 and .certificate == "CN=b.example" and .round_trip_us == 230'

run 1 probe bistream://old.example:1234
said out "bistreamd from before BiStream"
run 1 probe bistream://old.example --json
json '.kind == "old" and .features == ["tunnel", "qemu-block"] and .bistream_version == null'

run 1 probe bistream://libvirt.example
said out "bistream://libvirt.example: libvirt RPC server, no bistreamd"
! grep -q "QEMU" "$dir/out" || fail "it shows what libvirt never told"
run 1 probe bistream://libvirt.example --json
json '.kind == "libvirt" and .description == "libvirt RPC server, no bistreamd"'
json '.version == null and .qemu == null'

run 1 probe bistream://nobody
said err "can't connect to nobody port 16520: Connection refused; is bistreamd running there?"
silent out
