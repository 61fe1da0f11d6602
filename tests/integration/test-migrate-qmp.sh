#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# QEMU refuses a command, says something that is no answer, hangs up or dies, at each step of a
# migration and on either side: the guest goes on where it was, and nothing of the attempt is left.
. "${srcdir:-.}/migrate-functions.sh"
requires python3 --version

proxy=$(readlink -f "${srcdir:-.}/qemu-proxy.py")

# proxied HOST: prints a qemu_binary whose QMP follows $tmp/HOST/rules
proxied()
{
    mkdir -p "$tmp/$1"
    : >"$tmp/$1/rules"
    cat >"$tmp/$1/qemu" <<END
#!/bin/sh
exec python3 "$proxy" "$tmp/$1/rules" "$QEMU" "\$@"
END
    chmod +x "$tmp/$1/qemu"
    echo "$tmp/$1/qemu"
}

start_daemon a "qemu_binary = \"$(proxied a)\""
start_daemon b "qemu_binary = \"$(proxied b)\""
new_guest a guest 2 qcow2,raw

options=()

# breaks HOST COMMAND HOW [TIMES] [SENTENCE]
breaks()
{
    echo "== $1: $2 $3"
    echo "$2 $3 ${4:-1}" >"$tmp/$1/rules"
    stays "${5:-}" a b guest --copy-storage-all "${options[@]}"
    : >"$tmp/$1/rules"
}

if [ "${1:-}" = all ]; then
    refused_there="query-migrate-capabilities migrate-set-capabilities query-block nbd-server-start
        block-export-add migrate-incoming"
    broken_there="qmp_capabilities block-export-add migrate-incoming"
    breakages="garbage close die"
    refused_here="query-migrate-capabilities migrate-set-capabilities migrate-set-parameters
        query-block blockdev-add blockdev-mirror migrate migrate-continue"
    refused_late="block-job-cancel job-dismiss blockdev-del"
else
    refused_there="block-export-add"
    broken_there="migrate-incoming"
    breakages="garbage die"
    refused_here="blockdev-mirror migrate-continue"
    refused_late="blockdev-del"
fi

for command in $refused_there; do
    breaks b $command error 1 "QEMU refused $command: it was made to fail"
done
for command in $broken_there; do
    for how in $breakages; do
        breaks b $command $how 1 "at the destination: "
    done
done
for how in $breakages; do
    breaks b nbd-server-stop $how 1 "the destination could not take the guest over"
done
breaks b cont error 1 "the destination could not take the guest over: QEMU refused cont"
for command in $refused_here; do
    breaks a $command error 1 "QEMU refused $command: it was made to fail"
done
for command in $refused_late; do
    breaks a $command error 1 "it was made to fail"
done

# silent_prepare: a migration begins, in which the destination's QEMU says nothing any more
silent_prepare()
{
    echo "block-export-add silence" >"$tmp/b/rules"
    remember a
    remember b
    begin a b guest --copy-storage-all
    wait_for "socket of the destination" prepares
}

prepares()
{
    [ -n "$(find "$tmp/b/run" -path '*/in-*/nbd')" ]
}

echo "== given up while the destination prepares"
silent_prepare
kill -INT $client
ends 1 "the guest stays here: aborted by the operator"
goes_on a guest
nothing_left a
nothing_left b

echo "== the source's daemon is stopped while the destination prepares"
silent_prepare
stop_daemon a
ends 1 "the guest stays here: bistreamd is being stopped"
start_daemon a "qemu_binary = \"$tmp/a/qemu\""
goes_on a guest
nothing_left b

echo "== the destination's daemon is stopped while it prepares"
silent_prepare
stop_daemon b
ends 1 "bistreamd is stopping"
goes_on a guest
[ -z "$(find "$tmp/b/pool" "$tmp/b/run" -mindepth 1)" ] || fail "left: $(find "$tmp/b/pool" "$tmp/b/run")"
start_daemon b "qemu_binary = \"$tmp/b/qemu\""

# sockets: how many the guest's QEMU has, with its proxy
sockets()
{
    local pid
    for pid in $(qemus_of a); do
        find "/proc/$pid/fd" -lname 'socket:*'
    done | wc -l
}

has_as_many_sockets()
{
    [ "$(sockets)" -eq "$1" ]
}

echo "== mode direct, in which QEMU gets a connection that it may not use"
: >"$tmp/b/rules"
first=$((20000 + $$ % 20000))
stop_daemon b
start_daemon b "qemu_binary = \"$tmp/b/qemu\"" "direct_ports = \"$first-$((first + 3))\""
options=(--direct --no-tls)
before=$(sockets)
for command in getfd migrate; do
    breaks a $command error 1 "QEMU refused $command: it was made to fail"
    wait_for "end of the connection" has_as_many_sockets "$before"
done

must_migrate a b guest --copy-storage-all "${options[@]}"
arrived a b guest
forget b guest
rm -rf "$tmp"/?/tmp*
