#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# forward: in the foreground, detached, listed, stopped, and broken.

. "${srcdir:-.}/functions.sh"
requires jq
fake_daemon

# In the foreground: ready, and gone when interrupted.
for signal in INT TERM; do
    : >"$socket.calls"
    start_in_background forward bistream://b "$dir/a.sock:/srv/a.sock" --socket-mode 0660 \
        --socket-user nobody
    wait_for "$dir/out" ready
    called "forward bistream://b $dir/a.sock:/srv/a.sock user='nobody' mode=660 detach=0"
    kill -$signal "$background"
    finish 0
    called "stop 7"
    wait_for "$socket.calls" gone
done

# The daemon ends it; the daemon goes away.
run 1 forward bistream://b "$dir/a.sock:/breaks"
said out ready
said err "the forward has ended: the peer was silent for too long"
start_in_background forward bistream://b "$dir/a.sock:/srv/a.sock"
wait_for "$dir/out" ready
children=$(ps -o pid= --ppid "$pid") || :
kill $children
finish 1
said err "bistreamd at $socket ended the connection; its log says why"

# Several pairs, relative paths, JSON, detached.
(cd "$dir" && "$bistream" forward bistream://b:1 x:/a y:1:/b --detach >out) || fail "detach"
said out ready
said out "'bistream forward --stop 7' ends it"
called "forward bistream://b:1 $dir/x:/a $dir/y:1:/b user='' mode=0 detach=1"
run 0 forward bistream://b /x:/a --detach --json
json '. == {"type": "ready", "id": 7}'

run 0 forward --list
said out " 7    bistream://b.example   3          5.0 MiB   12 B       /run/a.sock   /srv/a.sock"
said out "/run/b.sock   /srv/b.sock"
run 0 forward --list --json
json '.[0].id == 7 and .[0].sent == 5242880 and .[0].sockets[1].remote == "/srv/b.sock"'
run 0 forward --stop 7
said out "Forward 7 stopped"
run 1 forward --stop 8
said err "there is no forward 8"

# Wrong usage.
run 2 forward bistream://b
said err "forward wants DEST LOCAL:REMOTE..."
run 2 forward bistream://b x:y
said err "'x:y' is not LOCAL:REMOTE, where REMOTE is an absolute path at the other end"
run 2 forward bistream://b /x:/y:/z
said err "is not LOCAL:REMOTE"
run 2 forward bistream://b /x:/y /x:/z
said err "/x is given twice"
run 2 forward bistream://b "/x:/$(printf 'y%.0s' $(seq 120))"
said err "is too long"
run 2 forward b /x:/y
said err "'b' is no destination"
for mode in 9 01000 0 -1 rw; do
    run 2 forward bistream://b /x:/y --socket-mode=$mode
    said err "--socket-mode wants an octal mode such as 0660, not '$mode'"
done
run 2 forward --stop x
said err "--stop wants a forward's number, not 'x'"
run 2 forward --list --stop 7
