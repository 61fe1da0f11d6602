#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# start, attach, list, info, shutdown, destroy, undefine.

. "${srcdir:-.}/functions.sh"
requires jq
fake_daemon

# list: a table as virsh prints it, without what could move the cursor.
run 0 list
cat >"$dir/expected" <<'TEXT'
 PID    Name     Persistent   State
---------------------------------------
 4242   web      yes          running
 17     db?[2J   no           paused
TEXT
cmp -s "$dir/out" "$dir/expected" || fail "another table than expected"
run 0 list --all
said out " -      moved    yes          moved to b.example"
run 0 list --all --json
json 'length == 3'
json '.[0] == {"name": "web", "uuid": "10101010-1010-1010-1010-101010101010", "state": "running",
               "pid": 4242, "attached": false, "persistent": true}'
json '.[1].attached and .[2].pid == null'

# info.
run 0 info web
said out "Name:           web"
said out "CPU(s):         2"
said out "Persistent:     no"
said out "Memory:         256.0 MiB"
said out "Disk:           vda, qcow2, 1.0 GiB, /pool/web.qcow2"
said out "Disk:           cd, read-only, empty"
! grep -q "Moved" "$dir/out" || fail "it shows what there is none of"
run 0 --json info web
json '.name == "web" and .memory == 268435456 and (.disks | length) == 2 and .moved_to == null'
run 1 info missing
said err "bistream: there is no domain named 'missing' here"
silent out

# start: a file, standard input, a name.
printf '{ "name": "new",\n  "memory": "64M" }\n' >"$dir/new.json"
run 0 start "$dir/new.json"
said out "Domain 'new' started"
called "start name='' definition='{ \"name\": \"new\","
run 0 start web --force --json
json '. == {"name": "web", "action": "started"}'
called "start name='web' definition='' force=1"
"$bistream" start - <"$dir/new.json" >"$dir/out" || fail "start from standard input"
said out "Domain 'new' started"
run 1 start missing
said err "there is no domain named 'missing' here"
run 1 start "$dir/none.json"
said err "can't read the definition $dir/none.json: No such file or directory"
printf '{ "name": "new",\n  "memory": }\n' >"$dir/bad.json"
run 1 start "$dir/bad.json"
said err "$dir/bad.json:2:"
printf '{"name": "a", "name": "b"}' >"$dir/bad.json"
run 1 start "$dir/bad.json"
said err "$dir/bad.json:1:"
head -c 300000 /dev/zero | tr '\0' ' ' >"$dir/bad.json"
run 1 start "$dir/bad.json"
said err "is longer than 262144 bytes"
head -c 100 /dev/zero >"$dir/bad.json"
run 1 start "$dir/bad.json"
said err "is no JSON text"

# attach: the daemon works in another folder.
(cd "$dir" && "$bistream" attach --qmp here.qmp --incoming web >out) || fail "attach"
said out "Domain 'web' attached; it waits for its migration, and is killed if that fails"
called "attach name='web' qmp='$dir/here.qmp' incoming=1"
run 0 attach --qmp /run/web.qmp web --json
json '. == {"name": "web", "action": "attached"}'
called "attach name='web' qmp='/run/web.qmp' incoming=0"

# shutdown, destroy, undefine.
run 0 shutdown web
said out "Domain 'web' is being shut down"
run 0 destroy web
said out "Domain 'web' destroyed"
run 0 undefine web --json
json '. == {"name": "web", "action": "undefined"}'
for command in shutdown destroy undefine; do
    called "$command name='web'"
    run 1 $command missing
    said err "there is no domain named 'missing' here"
done
run 2 destroy web db
said err "destroy: 'db' is too much"
