#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# The options that shape a migration do what they say, with a peer of today and through the old tunnel.
. "${srcdir:-.}/migrate-functions.sh"
requires python3 --version

start_daemon a
start_daemon b
start_daemon old 'offer_bistream = false'

# setting FIELD: of QEMU's parameters, or of its capabilities
setting()
{
    qmp a guest query-migrate-parameters | jq ".\"$1\""
}

capability()
{
    qmp a guest query-migrate-capabilities | jq ".[] | select(.capability == \"$1\").state"
}

# is_set FIELD VALUE: while it migrates
is_set()
{
    [ "$("$1" "$2")" = "$3" ] || fail "$2 is $("$1" "$2") and not $3"
}

# slowly TO [OPTION...]: begins, and it takes a quarter of a minute, whatever carries the disks
slowly()
{
    begin a "$1" guest --copy-storage-all --bandwidth 600K "${@:2}"
}

# under_way TO [OPTION...]: the same, and waits until it has
under_way()
{
    slowly "$@"
    wait_for "the first bytes" has_begun
}

has_begun()
{
    jq -es 'any(.[]; .type == "progress" and ([.memory, .disks[]?] | any(.transferred > 0)))' \
        "$tmp/events"
}

# give_up: by an abort
give_up()
{
    at a job abort guest >/dev/null
    ends 1 "aborted by the operator"
    goes_on a guest
}

for to in b old; do
    [ $to = b ] || flattened=yes # QEMU's block migration sees a hole only where a whole MiB is one
    new_guest a guest 2 qcow2,raw

    echo "== $to: --downtime and --auto-converge"
    # With disks in the stream QEMU has to send everything before it may stop the guest.
    under_way $to --downtime 1234 --auto-converge
    is_set setting downtime-limit $([ $to = b ] && echo 1234 || echo 0)
    is_set capability auto-converge true
    give_up

    echo "== $to: --timeout-abort"
    remember a
    remember $to
    slowly $to --timeout 1 --timeout-abort
    ends 1 "not done after 1 s (--timeout-abort)"
    goes_on a guest
    nothing_left a
    nothing_left $to

    echo "== $to: --timeout, and then an abort; without --downtime and --auto-converge"
    under_way $to --timeout 1
    is_set setting downtime-limit $([ $to = b ] && echo 300 || echo 0)
    is_set capability auto-converge false
    wait_for "pause" state_is a guest paused
    notice "not done after 1 s (--timeout): the guest is paused until it is"
    give_up

    echo "== $to: --timeout"
    slowly $to --timeout 1
    wait_for "pause" state_is a guest paused
    at a job set guest --bandwidth 0 >/dev/null
    ends 0 ""
    wait_for "running" state_is $to guest running
    arrived a $to guest
    forget a guest
    forget $to guest
    rm "$tmp/a/pool"/* "$tmp/$to/pool"/*

    echo "== $to: --suspend"
    new_guest a guest 2 qcow2,raw
    must_migrate a $to guest --copy-storage-all --suspend
    state_is $to guest paused || fail "the guest at $to is $(info $to guest state)"
    last=$(counter $to guest)
    mapfile -t disks < <(images $to guest)
    "$guest_dir/guestcheck" images --counter "$last" "${disks[@]}"
    [ "$(counter $to guest)" -eq "$last" ] || fail "a paused guest has run"
    qmp $to guest cont >/dev/null
    arrived a $to guest
    forget a guest
    forget $to guest
    rm "$tmp/a/pool"/* "$tmp/$to/pool"/*
done
flattened=

echo "== --copy-storage-synchronous-writes"
mkdir -p "$tmp/c"
: >"$tmp/c/rules"
cat >"$tmp/c/qemu" <<END
#!/bin/sh
exec python3 "$(readlink -f "${srcdir:-.}/qemu-proxy.py")" "$tmp/c/rules" "$QEMU" "\$@"
END
chmod +x "$tmp/c/qemu"
start_daemon c "qemu_binary = \"$tmp/c/qemu\""
new_guest c guest 2 qcow2,raw
must_migrate c b guest --copy-storage-all --copy-storage-synchronous-writes
arrived c b guest
[ "$(jq -c 'select(.execute == "blockdev-mirror").arguments."copy-mode"' "$tmp/c/rules.log")" = \
    $'"write-blocking"\n"write-blocking"' ] || fail "the mirrors are no active ones"

rm -f "$tmp"/c/tmp*/qmp # the proxy's, which is killed with its QEMU

echo "== what doesn't go together"
usage()
{
    local text=$1 status=0
    shift
    at a migrate guest "$(uri_of b)" "$@" >"$tmp/said" 2>&1 || status=$?
    [ $status -eq 2 ] || fail "$*: exit code $status instead of 2"
    expect_text "$text" "$(cat "$tmp/said")"
}
usage "--copy-storage-all and --copy-storage-inc can't be had together" --copy-storage-all \
    --copy-storage-inc
usage "--copy-storage-synchronous-writes wants --copy-storage-all" --copy-storage-synchronous-writes
usage "--timeout-abort wants --timeout" --timeout-abort
usage "--timeout-suspend wants --timeout" --timeout-suspend
usage "--timeout-suspend and --timeout-abort can't be had together" --timeout 1 --timeout-suspend \
    --timeout-abort
usage "--offline and --suspend can't be had together" --offline --suspend
usage "--offline and --auto-converge can't be had together" --offline --auto-converge
usage "--offline and --downtime can't be had together" --offline --downtime 100
