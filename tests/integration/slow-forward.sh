#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A forward carries GIGABYTES (10) on CHANNELS (64) at a time, there and back, every byte compared.
. "${srcdir:-.}/functions.sh"
requires socat -V

channels=${CHANNELS:-64}
gigabytes=${GIGABYTES:-10}
block=16000000
blocks=$((gigabytes * 1000000000 / channels / block + 1))

start_daemon a 'allowed_peers = {}'
start_daemon b "forward_allow = {\"$tmp/*.sock\"}"
# socat writes without looking how much fits: more than 64 KiB at a time, and two of them that talk
# both ways would wait for each other.
in_background socat -b 65536 "UNIX-LISTEN:$tmp/echo.sock,fork" EXEC:cat
wait_for "the far program" test -S "$tmp/echo.sock"
at a forward --detach "$(uri_of b)" "$tmp/echo:$tmp/echo.sock" >/dev/null
head -c $block /dev/urandom >"$tmp/data"

# stream_of CHANNEL: bytes that stand elsewhere in each channel's stream.
stream_of()
{
    tail -c "+$(($1 * 4099))" "$tmp/data"
    for _ in $(seq $blocks); do
        cat "$tmp/data"
    done
}

talkers=()
for i in $(seq "$channels"); do
    (stream_of "$i" | socat -b 65536 -t 600 - "UNIX-CONNECT:$tmp/echo" | cmp - <(stream_of "$i")) &
    talkers+=($!)
done
for pid in "${talkers[@]}"; do
    wait "$pid" || fail "bytes changed on one of $channels channels"
done
is_well a
rm "$tmp/echo.sock"
