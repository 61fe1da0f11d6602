#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# job list, info, abort, set, resolve: what they ask for and show, and that nobody resolves without being
# told the risk.

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

# info: of one that runs, and of those that have ended.
run 0 job info web
called "job info name='web' completed=0"
sed -i '/^Started:/d' "$dir/out" # it depends on the time zone
cat >"$dir/expected" <<'TEXT'
Guest:           web
Migration:       10101010-1010-1010-1010-101010101010
Destination:     bistream://b.example
Phase:           memory
Mode:            tunnel
Fall back:       b.example knows no? better
Time elapsed:    12.3 s
Bandwidth cap:   100.0 MiB/s
Dirty rate:      5.0 MiB/s
Round trip:      0.230 ms
Link losses:     2
Stall time:      1.5 s

 Part     Total        Transferred   Remaining   Rate
--------------------------------------------------------------
 memory   1000.0 MiB   400.0 MiB     600.0 MiB   100.0 MiB/s
 vda      3.9 GiB      3.9 GiB       0 B         200.0 MiB/s
TEXT
cmp -s "$dir/out" "$dir/expected" || fail "another description than expected"
run 0 job info web --json
json '. == {"id": "10101010-1010-1010-1010-101010101010", "name": "web",
            "destination": "bistream://b.example", "status": "running", "phase": "memory",
            "mode": "tunnel", "fallback": "b.example knows no\u001b better", "error": null,
            "started": 1764000000, "elapsed_ms": 12345, "downtime_ms": 0,
            "memory": {"total": 1048576000, "transferred": 419430400, "remaining": 629145600,
                       "rate": 104857600},
            "disks": [{"target": "vda", "total": 4194304000, "transferred": 4194304000,
                       "remaining": 0, "rate": 209715200}],
            "dirty_rate": 5242880, "bandwidth": 104857600, "round_trip_us": 230,
            "link_losses": 2, "stall_ms": 1500}'
run 0 job info --completed
called "job info name='' completed=1"
said out "Outcome:         completed"
said out "Last phase:      memory"
said out "Total downtime:  18 ms"
said out "Outcome:         failed"
said out "Reason:          aborted by the operator"
run 0 job info db --completed --json
called "job info name='db' completed=1"
json 'map([.name, .status, .error, .downtime_ms, .bandwidth]) ==
      [["web", "completed", null, 18, null], ["db", "failed", "aborted by the operator", 0, null]]'
run 1 job info missing
said err "bistream: there is no domain named 'missing' here"
silent out

# set.
run 0 job set web --bandwidth 100M
called "job set name='web' bandwidth=104857600"
said out "The migration of 'web' takes 100.0 MiB/s at the most"
run 0 job set web --bandwidth 0
said out "The migration of 'web' takes what it gets"
run 0 job set web --bandwidth 5 --json
json '. == {"name": "web", "bandwidth": 5242880}'
run 1 job set missing --bandwidth 1G
said err "bistream: there is no domain named 'missing' here"

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
said err "job wants list|info|abort|set|resolve [NAME] [OPTION...]"
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
said err "job abort doesn't take --keep"
run 2 job list --completed
said err "job list doesn't take --completed"
run 2 job info web --bandwidth 1M
said err "job info doesn't take --bandwidth"
run 2 job info
said err "job info wants the NAME of a guest"
run 2 job set web
said err "job set wants --bandwidth"
run 2 job set web --bandwidth fast
said err "--bandwidth wants a rate such as 500K, 100M or 2G (bytes per second), not 'fast'"
run 2 job abort web db
said err "job: 'db' is too much"
run 2 job list web
said err "job list takes no name, and 'web' is one"
run 2 job frobnicate
said err "there is no 'job frobnicate'"
said err "Try 'bistream job --help'."
[ ! -s "$socket.calls" ] || fail "wrong usage reached the daemon"
