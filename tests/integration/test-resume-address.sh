#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# The source's address changes in the middle of a migration, as with a new lease or NAT, and it leaves
# one network for another, as with a cable that is pulled: the migration goes on from the new one.
# Each daemon has a network namespace of its own; two pairs of veth lead from one to the other.
. "${srcdir:-.}/migrate-functions.sh"
requires test "$(id -u)" -eq 0
requires ip -V
requires unshare --net true

declare -A holder
address=10.83.0.1 # b's, whichever way leads there

# inside HOST COMMAND...
inside()
{
    local host=$1
    shift
    nsenter --net="/proc/${holder[$host]}/ns/net" "$@"
}

has_a_net()
{
    [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]
}

for host in a b; do
    in_background unshare --net sleep infinity
    holder[$host]=$!
    wait_for "namespace" has_a_net $!
    inside $host ip link set lo up
done
inside b ip address add $address/32 dev lo
for net in 1 2; do
    requires inside a ip link add net$net type veth peer name net$net netns "${holder[b]}"
    inside b ip address add 10.83.$net.1/24 dev net$net
    inside b ip link set net$net up
done

# go_online NET NUMBER: a has that address there, and its way to b leads over it
go_online()
{
    inside a ip address flush dev "net$1"
    inside a ip address add "10.83.$1.$2/24" dev "net$1"
    inside a ip link set "net$1" up
    inside a ip route replace $address via "10.83.$1.1"
}

# start_inside HOST [LINE...]
start_inside()
{
    local real=$bistreamd host=$1
    bistreamd=$tmp/bistreamd-$host
    printf '#!/bin/sh\nexec nsenter --net=/proc/%s/ns/net %s "$@"\n' "${holder[$host]}" "$real" \
        >"$bistreamd"
    chmod +x "$bistreamd"
    start_daemon "$@" 'ping = "200ms"' 'grace = "5m"'
    bistreamd=$real
}

# goes_on_from ADDRESS: the migration that is under way
goes_on_from()
{
    expect_log b "peer $1:"
    at a job set guest --bandwidth 0 >/dev/null
    ends 0 ""
    notice "link lost, resuming"
    notice "link is back after"
    arrived a b guest
    forget a guest
    forget b guest
    rm "$tmp"/?/pool/*
}

start_inside a 'listen = "127.0.0.1:0"'
start_inside b
go_online 1 2

echo "== another address"
new_guest a guest 2 qcow2,raw --pause 20000
begin a b guest --copy-storage-all --bandwidth 1M
copying a guest
expect_log b "peer 10.83.1.2:"
go_online 1 3
goes_on_from 10.83.1.3

echo "== another network"
new_guest a guest 2 qcow2,raw --pause 20000
begin a b guest --copy-storage-all --bandwidth 1M
copying a guest
inside a ip link set net1 down
go_online 2 2
goes_on_from 10.83.2.2
