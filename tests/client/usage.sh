#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Help, version, wrong usage, and a daemon that can't be reached.

. "${srcdir:-.}/functions.sh"
requires python3

run 0 --version
grep -Eqx 'bistream [0-9]+\.[0-9]+\.[0-9]+' "$dir/out" || fail "no version"
run 0 --help
for command in start attach list info shutdown destroy undefine migrate job forward probe pki; do
    said out "  $command "
    "$bistream" $command --help >"$dir/help" || fail "$command --help failed"
    grep -q "^Usage: bistream \[-c URI\] \[--json\] $command " "$dir/help" ||
        fail "$command --help has no usage line"
    [ "$(wc -L <"$dir/help")" -le 100 ] || fail "$command --help is wider than 100 columns"
done

run 2
said err "Try 'bistream --help'."
run 2 frobnicate
said err "there is no command 'frobnicate'"
run 2 --frobnicate
said err "bistream: unrecognized option '--frobnicate'"
run 2 list --frobnicate
said err "bistream list: unrecognized option '--frobnicate'"
said err "Try 'bistream list --help'."
run 2 list web
said err "list: 'web' is too much"
run 2 info
said err "info wants NAME"
run 2 attach web
said err "attach wants --qmp SOCKET"
run 2 start
run 2 probe b.example
said err "'b.example' is no destination: write bistream://HOST[:PORT]"

# Where the daemon is: -c before everything, then the environment; before or after the command.
unset BISTREAM_URI
run 1 -c "$dir/none.sock" list
said err "can't reach bistreamd at $dir/none.sock: No such file or directory; is it running?"
BISTREAM_URI="unix://$dir/env.sock"
export BISTREAM_URI
run 1 list
said err "can't reach bistreamd at $dir/env.sock: "
run 1 list -c "unix://$dir/none.sock"
said err "can't reach bistreamd at $dir/none.sock: "
run 1 -c bistream://b.example list
said err "can't connect to bistream://b.example: the daemon is reached on this host"
run 1 -c unix://relative list
said err "the daemon's URI is unix:///PATH, not unix://relative"
run 1 -c "/$(printf 'x%.0s' $(seq 200))" list
said err "is too long: 201 bytes, and 107 is the most that a UNIX socket takes"

# A socket file that nobody listens on, and somebody who isn't a bistreamd.
python3 - "$dir/stale.sock" <<'PYTHON'
import socket, sys
socket.socket(socket.AF_UNIX).bind(sys.argv[1])
PYTHON
run 1 -c "$dir/stale.sock" list
said err "can't reach bistreamd at $dir/stale.sock: Connection refused; is it running?"

# answer BYTES: a server that answers its one caller so, and hangs up.
answer()
{
    rm -f "$dir/other.sock" "$dir/other.ready"
    python3 -c '
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
open(sys.argv[2], "w").write("ready")
caller, _ = listener.accept()
caller.recv(65536)
caller.sendall(bytes.fromhex(sys.argv[3]))
' "$dir/other.sock" "$dir/other.ready" "$1" &
    pids="$pids $!"
    wait_for "$dir/other.ready" ready
}

answer "$(printf 'HTTP/1.1 400 Bad Request\r\n\r\n' | od -An -tx1 | tr -d ' \n')"
run 1 -c "$dir/other.sock" list
said err "what answers at $dir/other.sock doesn't speak bistream's protocol"
answer 0000
run 1 -c "$dir/other.sock" list
said err "bistreamd at $dir/other.sock ended the connection; its log says why"
# A reply whose serial nobody waits for.
answer 0000001c20008b150000000100000066000000010000004d00000000
run 1 -c "$dir/other.sock" list
said err "doesn't speak bistream's protocol"
# The longest message that may come is not waited for when it is announced longer.
answer 7fffffff
run 1 -c "$dir/other.sock" list
said err "doesn't speak bistream's protocol"

# Output that can't be written is a failure.
if [ -w /dev/full ]; then
    status=0
    "$bistream" --help >/dev/full 2>"$dir/err" || status=$?
    [ $status -eq 1 ] || fail "exit $status with a full disk"
    said err "can't write to standard output"
fi
