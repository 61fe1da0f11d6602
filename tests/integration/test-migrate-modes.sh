#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# The rows of docs/modes.md that depend on what the QEMUs can do, with real QEMUs of which a part is
# hidden; the other rows are in test-migrate-tunnel.sh, -direct.sh, -offline.sh and test-libvirt.sh.
. "${srcdir:-.}/migrate-functions.sh"
requires python3 --version

proxy=$(readlink -f "${srcdir:-.}/qemu-proxy.py")
no_block="query-migrate-capabilities lacks:block"
no_nbd="query-qmp-schema lacks:nbd-server-start"
first=$((20000 + $$ % 20000))

# start HOST LACKS [LINE...]: a daemon with a QEMU that lacks it
start()
{
    local host=$1 lacks=$2
    shift 2
    mkdir -p "$tmp/$host"
    printf '%s\n' "$lacks" >"$tmp/$host/rules"
    cat >"$tmp/$host/qemu" <<END
#!/bin/sh
exec python3 "$proxy" "$tmp/$host/rules" "$QEMU" "\$@"
END
    chmod +x "$tmp/$host/qemu"
    start_daemon "$host" "qemu_binary = \"$tmp/$host/qemu\"" "$@"
}

# restart HOST LACKS [LINE...]
restart()
{
    stop_daemon "$1"
    start "$@"
}

start a ""
start b "$no_nbd" "direct_ports = \"$first-$((first + 3))\""
new_guest a guest 2 qcow2,raw
flattened=yes # QEMU's block migration sees a hole only where a whole MiB is one

echo "== bistream, no NBD there: the disks go in the stream"
must_migrate a b guest --copy-storage-all
result '.mode == "bistream"'
notice "falling back to mode bistream, disks by QEMU's own block migration"
arrived a b guest
forget a guest
rm -f "$tmp"/a/pool/guest-*

echo "== back, where the guest's own QEMU has no NBD"
must_migrate b a guest --copy-storage-all
result '.mode == "bistream"'
notice "disks by QEMU's own block migration"
arrived b a guest

echo "== --no-fallback"
stays "--no-fallback was given; without it mode bistream would do" a b guest --copy-storage-all \
    --no-fallback
stays "--copy-storage-synchronous-writes can't be had in mode bistream" a b guest \
    --copy-storage-all --copy-storage-synchronous-writes

echo "== direct, no NBD there: the disks go in the stream"
must_migrate a b guest --copy-storage-all --direct --no-tls
result '.mode == "direct"'
notice "falling back to mode direct, disks by QEMU's own block migration"
arrived a b guest
must_migrate b a guest --copy-storage-all
arrived b a guest

echo "== direct, no NBD and no block there"
restart b "$no_nbd
$no_block" "direct_ports = \"$first-$((first + 3))\""
stays "QEMU's own block migration is missing at the destination" a b guest --copy-storage-all \
    --direct --no-tls
stays "QEMU's own block migration is missing at the destination" a b guest --copy-storage-all

echo "== tunnel, no block there"
restart b "$no_block" 'offer_bistream = false'
stays "mode tunnel can't carry the disks: QEMU's own block migration is missing at the destination" \
    a b guest --copy-storage-all
if grep -q "preparing" "$tmp/b/log" && tail -n 5 "$tmp/b/log" | grep -q "preparing"; then
    fail "a refusal touched the peer"
fi

echo "== tunnel, no disks to copy: nothing is missing"
cat >"$tmp/bare.json" <<END
{"name": "bare", "machine": "pc", "accel": "tcg", "memory": "32M"}
END
at a start "$tmp/bare.json" >/dev/null
must_migrate a b bare
result '.mode == "tunnel" and .disks == []'
state_is b bare running || fail "bare is $(info b bare state)"
forget b bare

echo "== tunnel, no block here"
forget a bare
at a destroy guest >/dev/null
printf '%s\n' "$no_block" >"$tmp/a/rules"
restart b "" 'offer_bistream = false'
start_guest a guest
stays "QEMU's own block migration is missing on this host" a b guest --copy-storage-all

find "$tmp" -type s -name qmp -delete # those of the proxies
