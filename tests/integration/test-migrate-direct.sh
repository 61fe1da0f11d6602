#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Mode direct: RAM and disks go from QEMU to QEMU through ports of the destination, under QEMU's own
# TLS, which lets in the source's certificate and no other one of the CA.
. "${srcdir:-.}/migrate-functions.sh"

first=$((20000 + $$ % 20000))
ports="$first-$((first + 3))"

# direct_pair HOST: what QEMU itself needs there
direct_pair()
{
    [ -d "$tmp/ca" ] || make_ca
    "$bistream" pki direct "$1.test" --pki-dir="$tmp/ca" --out="$tmp/$1/direct" --ip=127.0.0.1 \
        >/dev/null
}

# listeners: how many of the ports are listened on
listeners()
{
    local port count=0
    for port in $(seq "$first" $((first + 3))); do
        ! grep -qi ":$(printf %04X "$port") 00000000:0000 0A" /proc/net/tcp || count=$((count + 1))
    done
    echo $count
}

no_port_is_used()
{
    [ "$(listeners)" -eq 0 ]
}

direct_pair a
direct_pair b
direct_pair c
start_daemon a "direct_pki_dir = \"$tmp/a/direct\"" "direct_ports = \"$ports\""
start_daemon b "direct_pki_dir = \"$tmp/b/direct\"" "direct_ports = \"$ports\""

echo "== there and back"
new_guest a guest 2 qcow2,raw
for way in "a b" "b a"; do
    # shellcheck disable=SC2086
    must_migrate $way guest --copy-storage-all --direct
    result '.mode == "direct" and (.disks | length) == 2 and .ram_bytes > 0'
    result '[.disks[].bytes] | min > 1000000'
    # shellcheck disable=SC2086
    arrived $way guest
    no_port_is_used || fail "a port is still listened on"
    objects=$(qmp "${way#* }" guest '{"execute": "qom-list", "arguments": {"path": "/objects"}}')
    [[ $objects != *bistream-* ]] || fail "QEMU still has objects of ours: $objects"
done

echo "== --no-fallback changes nothing, --listen-address is obeyed"
must_migrate a b guest --copy-storage-all --direct --no-fallback --listen-address 127.0.0.1
result '.mode == "direct"'
arrived a b guest
must_migrate b a guest --copy-storage-all --direct --no-tls
notice "unencrypted (--no-tls)"
result '.mode == "direct"'
arrived b a guest
stays "this host has no such address" a b guest --copy-storage-all --direct \
    --listen-address 192.0.2.1
no_port_is_used || fail "a port is still listened on"

echo "== by IPv6"
if grep -q '^0*1 .* lo$' /proc/net/if_inet6 2>/dev/null; then
    for host in d e; do
        make_pki $host --ip=::1
        "$bistream" pki direct $host.test --pki-dir="$tmp/ca" --out="$tmp/$host/direct" --ip=::1 \
            >/dev/null
        start_daemon $host 'listen = "[::1]:0"' "direct_pki_dir = \"$tmp/$host/direct\"" \
            "direct_ports = \"$ports\""
    done
    new_guest d six 2 qcow2,raw
    for more in --stall-timeout=10 --no-tls; do
        address='[::1]'
        must_migrate d e six --copy-storage-all --direct --no-fallback $more
        address=::1
        result '.mode == "direct"'
        arrived d e six
        forget d six
        rm "$tmp"/d/pool/six-*
        [ $more = --no-tls ] || {
            address='[::1]'
            must_migrate e d six --copy-storage-all --direct
            address=::1
            arrived e d six
        }
    done
    address=127.0.0.1
    forget e six
    stop_daemon d
    stop_daemon e
else
    echo "no IPv6 here"
fi

echo "== another certificate of the CA is not let in"
# While QEMU at the destination waits, a stranger with a good certificate tries the NBD port.
slow=$(slow_qemu 1000000)
stop_daemon b
start_daemon b "direct_pki_dir = \"$tmp/b/direct\"" "direct_ports = \"$ports\"" \
    "qemu_binary = \"$slow\""
remember a
remember b
begin a b guest --copy-storage-all --direct
copying a guest
[ "$(listeners)" -ge 1 ] || fail "nobody listens on $ports"

# At the port where memory comes in nobody speaks NBD, and both would wait for an answer.
port=$(qmp a guest query-named-block-nodes |
    jq -r '[.[] | select(.drv == "nbd").file | capture(":(?<port>[0-9]+)/").port] | unique[]')

# try WHO: its exit code is $status, and what it is told goes to $tmp/told
try()
{
    status=0
    timeout 20 qemu-img info --object \
        "tls-creds-x509,id=t,dir=$tmp/$1/direct,endpoint=client,verify-peer=yes" --image-opts \
        "driver=nbd,host=127.0.0.1,port=$port,export=vda,tls-creds=t" >"$tmp/told" 2>&1 || status=$?
}

try a
[ $status -eq 0 ] || fail "the right certificate is not let in either: $(cat "$tmp/told")"
try c
[ $status -eq 1 ] || fail "exit code $status of a stranger: $(cat "$tmp/told")"

echo "== an abort in the middle"
kill -INT $client
ends 1 "aborted by the operator"
goes_on a guest
nothing_left a
nothing_left b
no_port_is_used || fail "a port is still listened on"

echo "== the destination's QEMU dies in the middle"
begin a b guest --copy-storage-all --direct
copying a guest
kill -KILL $(qemus_of b)
ends 1 "and the guest stays here"
goes_on a guest
nothing_left a
nothing_left b
no_port_is_used || fail "a port is still listened on"

echo "== all ports are in use by others"
for port in $(seq "$first" $((first + 3))); do
    in_background socat -u "TCP-LISTEN:$port,bind=127.0.0.1,reuseaddr" OPEN:/dev/null
done
listening() { [ "$(listeners)" -eq 4 ]; }
wait_for "all ports in use" listening
stays "direct_ports" a b guest --copy-storage-all --direct

echo "== no pair here, no pair there, no ports there"
stop_daemon b
start_daemon b "direct_ports = \"$ports\""
stays "the destination has no key pair" a b guest --copy-storage-all --direct
stop_daemon b
start_daemon b "direct_pki_dir = \"$tmp/b/direct\"" 'direct_ports = ""'
stays "--no-fallback was given" a b guest --copy-storage-all --direct --no-fallback
must_migrate a b guest --copy-storage-all --direct
result '.mode == "bistream"'
notice "the destination has no ports for direct migrations"
arrived a b guest
