#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# A guest that is shut off: its images are copied and compared, and it is started at the destination
# with nothing missing.
. "${srcdir:-.}/migrate-functions.sh"
. "${srcdir:-.}/offline-functions.sh"

start_daemon a
start_daemon b

echo "== raw and qcow2"
shut_off_guest a plain 2 qcow2,raw
must_migrate a b plain --offline
result '.mode == "offline" and (.disks | length == 2)'
is_there a b plain
runs b plain

echo "== one that runs is refused"
expect_failure "--offline is for one that is shut off" at b migrate plain "$(uri_of a)" --offline
forget b plain
at a undefine plain >/dev/null

# carried_less HOST: what is kept is taken up by a migration of big from a, and only the rest is carried
carried_less()
{
    [ "$(partials b | wc -l)" -eq 2 ] || fail "kept at b: $(partials b)"
    must_migrate a b big --offline
    result '.disks[0].bytes < 29360128'
    is_there a b big
    [ -z "$(ls "$tmp/b/pool" | grep -v '^big-vd[ab][.][a-z0-9]*$')" ] || fail "$(ls "$tmp/b/pool")"
    wait_for "an empty journal" journal_is_empty a
    wait_for "an empty journal" journal_is_empty b
}

# as_before: big is shut off at a only, once more, and nobody moved it
as_before()
{
    forget b big
    rm "$tmp/b/pool/big"*
    at a start big --force >/dev/null
    counter a big --above "$last" >/dev/null # a boot counts from 0
    shut_off a big
}

# way_to_b PORT: a relay before b, at PORT (0: any)
way_to_b()
{
    rm -f "$tmp/relay.port"
    in_background "$PWD/relay" "${port_of[b]}" "$tmp/relay.port" 0 0 "$1"
    relay_pid=$!
    wait_for "relay" test -s "$tmp/relay.port"
    port_of[way]=$(<"$tmp/relay.port")
}

echo "== only the top layer"
make_images a top 2 qcow2,raw
mv "$tmp/a/pool/top-vda.qcow2" "$tmp/a/pool/base.qcow2"
qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 "$tmp/a/pool/top-vda.qcow2"
cp "$tmp/a/pool/base.qcow2" "$tmp/b/pool/"
define a top
start_guest a top
shut_off a top
must_migrate a b top --offline --copy-storage-inc
result '.disks[0].target == "vda" and .disks[0].bytes < 4194304'
is_there a b top
runs b top
forget b top
forget a top
rm "$tmp"/?/pool/*

echo "== under another name"
shut_off_guest a old 1 raw
must_migrate a b old --offline --dname new
is_there a b old new
at b undefine new >/dev/null
at a undefine old >/dev/null
rm "$tmp"/?/pool/*

shut_off_guest a big 2 qcow2,raw --vda-data 32M
images=$(ls "$tmp/a/pool")

echo "== aborted"
remember a
remember b
begin a b big --offline --bandwidth 8M
half_way b big
expect_failure "domain big is migrating" at a start big
kill -INT $client
since=$SECONDS
ends 1 "aborted by the operator"
[ $((SECONDS - since)) -le 3 ] || fail "it took $((SECONDS - since)) seconds"
nothing_left a
nothing_left b
unharmed a b big
wait_for "an empty journal" journal_is_empty b

echo "== the link is cut, and the next attempt goes on where it was"
stop_daemon a
stop_daemon b
start_daemon a 'ping = "200ms"' 'grace = "0s"'
start_daemon b 'ping = "200ms"'
way_to_b 0
begin a way big --offline --bandwidth 8M
half_way b big
kill -KILL $relay_pid
ends 1 "and the guest stays here"
unharmed a b big
way_to_b "${port_of[way]}" # it is told now that the copy is worth keeping
wait_for "an empty journal" journal_is_empty a
kill -KILL $relay_pid
carried_less
as_before

echo "== the destination's daemon is killed"
begin a b big --offline --bandwidth 8M
half_way b big
kill_daemon b
ends 1 "and the guest stays here"
start_daemon b "listen = \"127.0.0.1:${port_of[b]}\""
unharmed a b big
jq -e '[.volumes[].kept] == [true, true]' "$tmp"/b/state/migrations/*.json >/dev/null ||
    fail "b's journal: $(cat "$tmp"/b/state/migrations/*.json)"
carried_less
as_before

echo "== the source's daemon is killed"
begin a b big --offline --bandwidth 8M
half_way b big
kill_daemon a
ends 3 "is not known"
start_daemon a
wait_for "an end at a" journal_is_empty a
unharmed a b big
[ "$(ls "$tmp/a/pool")" = "$images" ] || fail "images at a: $(ls "$tmp/a/pool")"
carried_less
runs b big
