#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# What is left of a guest's domain: at the destination, when the guest ends there, by --persistent and by
# how it ended; at the source by --undefinesource.  Images stay in each case, and "mine" stays "mine".
. "${srcdir:-.}/migrate-functions.sh"

# begins_again NAME [PAUSE]: it runs at a, and its images only there; us between two writes
begins_again()
{
    ! at a info "$1" >/dev/null 2>&1 || forget a "$1"
    ! at b info "$1" >/dev/null 2>&1 || forget b "$1"
    rm -f "$tmp"/?/pool/*
    first_writes=1 new_guest a "$1" 1 qcow2 --pause "${2:-20000}"
}

is_unknown()
{
    ! at "$1" info "$2"
}

# persistent HOST NAME true|false: as its info and the list tell it
persistent()
{
    [ "$(info "$1" "$2" persistent)" = "$3" ] || fail "$2 at $1: $(at "$1" --json info "$2")"
    at "$1" --json list --all | jq -e --arg name "$2" "any(.[]; .name == \$name and .persistent == $3)" \
        >/dev/null || fail "$2 at $1: $(at "$1" --json list --all)"
}

# has_gone HOST NAME: its domain, and nothing else
has_gone()
{
    wait_for "the end of $2's domain" is_unknown "$1" "$2"
    wait_for "the end of its file" test ! -e "$tmp/$1/state/domains/$2.json"
    [ -e "$tmp/$1/pool/$2-vda.qcow2" ] || fail "the image of $2 is gone at $1"
    expect_log "$1" "domain $2: came by a migration without --persistent, so it goes with its guest"
}

start_daemon a 'ping = "200ms"'
start_daemon b 'ping = "200ms"'

echo "== destroyed by the operator, after a restart of the daemon"
begins_again web
persistent a web true
must_migrate a b web --copy-storage-all
persistent a web true
persistent b web false
stop_daemon b
start_daemon b 'ping = "200ms"'
goes_on b web
persistent b web false
at b destroy web >/dev/null
has_gone b web

echo "== its images are in its way when it comes again, and who has to do what is told"
at a start web --force >/dev/null
counter a web --above 5 >/dev/null
stays "at the destination: a file $tmp/b/pool/web-vda.qcow2 exists already; move it away or delete it" \
    a b web --copy-storage-all
rm "$tmp/b/pool/web-vda.qcow2"
must_migrate a b web --copy-storage-all
arrived a b web

echo "== ended by itself"
begins_again web
must_migrate a b web --copy-storage-all
qmp b web quit >/dev/null
has_gone b web

echo "== crashed: it stays to be looked at, and is the operator's when he starts it"
begins_again web
must_migrate a b web --copy-storage-all
kill -KILL "$(info b web pid)"
wait_for "shut off" state_is b web 'shut off'
persistent b web false
at b start web >/dev/null
persistent b web true
at b destroy web >/dev/null
state_is b web 'shut off' || fail "web at b is $(info b web state)"

echo "== it is migrated away again, and back"
begins_again web
must_migrate a b web --copy-storage-all
must_migrate b a web --copy-storage-all
state_is b web 'moved to *' || fail "web at b is $(info b web state)"
persistent a web false
must_migrate a b web --copy-storage-all --persistent
persistent b web true

echo "== --persistent"
at b destroy web >/dev/null
state_is b web 'shut off' || fail "web at b is $(info b web state)"
at b start web >/dev/null
goes_on b web

echo "== --undefinesource"
begins_again web
must_migrate a b web --copy-storage-all --undefinesource
is_unknown a web >/dev/null 2>&1 || fail "web at a is $(info a web state)"
[ ! -e "$tmp/a/state/domains/web.json" ] || fail "its file is left at a"
[ -e "$tmp/a/pool/web-vda.qcow2" ] || fail "its image is gone at a"
goes_on b web
rm "$tmp/a/pool/web-vda.qcow2"
must_migrate b a web --copy-storage-all # as if it had never been here
goes_on a web

echo "== the answer to Finish is lost, and the guest has come, and gone for good: it is theirs"
begins_again web 500000 # a mirror is never done where writes come faster than round trips
in_background "$PWD/relay" "${port_of[b]}" "$tmp/relay.port" 0 250 0
relay_pid=$!
wait_for "relay" test -s "$tmp/relay.port"
port_of[way]=$(<"$tmp/relay.port")
begin a way web --copy-storage-all --undefinesource
in_phase a finish
kill -USR1 $relay_pid
wait_for "running" state_is b web running
kill -KILL $relay_pid
ends 3 "whether the guest runs at $(uri_of way) is not known, so it stays paused here"
at b destroy web >/dev/null
has_gone b web
state_is a web paused || fail "web at a is $(info a web state)"
wait "$relay_pid" 2>/dev/null || :
# A restart forgets neither the question nor --undefinesource.
kill -KILL "${pid_of[a]}"
wait "${pid_of[a]}" 2>/dev/null || :
start_daemon a 'ping = "200ms"'
state_is a web paused || fail "after a restart web at a is $(info a web state)"
rm "$tmp/relay.port"
in_background "$PWD/relay" "${port_of[b]}" "$tmp/relay.port" 0 0 "${port_of[way]}"
wait_for "the answer" is_unknown a web
[ -z "$(qemus_of a)" ] || fail "web runs on at a"
[ -e "$tmp/a/pool/web-vda.qcow2" ] || fail "its image is gone at a"
