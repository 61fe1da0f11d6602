#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# --bandwidth caps memory and disks together, by what really goes over the line; job set changes it.
. "${srcdir:-.}/migrate-functions.sh"

MIB=$((1024 * 1024))

start_daemon a
start_daemon b
new_guest a guest 2 qcow2,raw --vda-data 24M --pause 5000
in_background "$PWD/relay" "${port_of[b]}" "$tmp/relay.port" 0 0 0
relay=$!
wait_for "relay" test -s "$tmp/relay.port"
port_of[way]=$(<"$tmp/relay.port")

# read_line: sets $bytes that have gone over the line and $ms
read_line()
{
    bytes=$(sed -n 's/^rchar: //p' "/proc/$relay/io")
    ms=$(($(date +%s%N) / 1000000))
}

# rate_until COMMAND...: sets $rate, bytes a second from now until the command succeeds
rate_until()
{
    local from_bytes from_ms
    read_line
    from_bytes=$bytes from_ms=$ms
    until "$@"; do
        read_line
    done
    rate=$(((bytes - from_bytes) * 1000 / (ms - from_ms)))
    echo "$rate bytes a second for $((ms - from_ms)) ms"
}

# keeps CAP: frames and TLS add little, and what is allowed is made use of
keeps()
{
    [ "$rate" -le $(($1 * 105 / 100)) ] || fail "$rate bytes a second with a cap of $1"
    [ "$rate" -ge $(($1 / 2)) ] || fail "only $rate bytes a second with a cap of $1"
}

has_sent()
{
    [ $((bytes - start)) -ge "$1" ]
}

switches()
{
    grep -q " out: switch$" "$tmp/a/log"
}

begin a way guest --copy-storage-all --bandwidth 2M
copying a guest
read_line
start=$bytes
rate_until has_sent $((8 * MIB))
keeps $((2 * MIB))

echo "== changed while it runs, and kept until the switch"
at a job set guest --bandwidth 3M >/dev/null
rate_until switches
keeps $((3 * MIB))
ends 0 ""
result '.ram_bytes > 1000000'
arrived a b guest
