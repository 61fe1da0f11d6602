#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# job list, abort, resolve: what they ask for, and that nobody resolves without being told the risk.

. "${srcdir:-.}/functions.sh"
requires jq
fake_daemon

# list: why a job is unresolved stands below the table.
run 0 job list
cat >"$dir/expected" <<'TEXT'
 Guest    Destination            Phase
---------------------------------------------
 web      bistream://b.example   mirror
 db?[2J   bistream://b.example   unresolved
 mail     bistream://b.example   settling

db?[2J is unresolved: can't connect to b.example:?No route to host

bistreamd goes on asking the destination; 'bistream job resolve' decides without its answer.
TEXT
cmp -s "$dir/out" "$dir/expected" || fail "another table than expected"
run 0 job list --json
json 'length == 3'
json '.[0] == {"id": "10101010-1010-1010-1010-101010101010", "name": "web",
               "destination": "bistream://b.example", "phase": "mirror", "reason": null}'
json '.[1].phase == "unresolved" and (.[1].reason | startswith("can'"'"'t connect"))'

# abort.
run 0 job abort web
said out "The migration of 'web' is being aborted; the guest stays where it is"
called "job abort name='web'"
run 0 --json job abort web
json '. == {"name": "web", "action": "aborting"}'
run 1 job abort missing
said err "bistream: there is no domain named 'missing' here"
silent out

# resolve: the options may stand anywhere; each says what it risks, and so does the help.
run 0 job resolve db --keep
called "job resolve name='db' resolve=1"
said out "The destination is asked once more; if it says that it has 'db'"
said out "two guests write to their own copies"
said out "be certain that it doesn't"
run 0 job --give-up resolve db
called "job resolve name='db' resolve=2"
said out "it runs nowhere until"
said out "'bistream start --force db' here; its images here stay"
run 0 job resolve db --keep --json
json '. == {"name": "db", "action": "keeping"}'
run 0 job resolve db --give-up --json
json '. == {"name": "db", "action": "giving up"}'
run 0 job --help
said out "two guests"
said out "be certain that it"
said out "it runs nowhere until it is started with 'start --force'"
run 1 job resolve missing --give-up
said err "bistream: there is no domain named 'missing' here"
silent out

# Wrong usage asks the daemon for nothing.
: >"$socket.calls"
run 2 job
said err "job wants list | abort NAME | resolve NAME --keep|--give-up"
said err "Try 'bistream job --help'."
run 2 job resolve db
said err "job resolve wants one of --keep and --give-up"
run 2 job resolve db --keep --give-up
said err "job resolve wants one of --keep and --give-up"
run 2 job resolve --keep
said err "job resolve wants the NAME of a guest"
run 2 job abort
said err "job abort wants the NAME of a guest"
run 2 job abort web --keep
said err "job abort takes neither --keep nor --give-up"
run 2 job abort web db
said err "job: 'db' is too much"
run 2 job list web
said err "job list takes no name, and 'web' is one"
for action in info set; do
    run 2 job $action web
    said err "job $action is not supported by this version"
done
run 2 job frobnicate
said err "there is no 'job frobnicate'"
said err "Try 'bistream job --help'."
[ ! -s "$socket.calls" ] || fail "wrong usage reached the daemon"
