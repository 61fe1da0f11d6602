#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# demo.sh BUILD_DIR: what "./quickstart demo" shows once everything is built.
#
# Two daemons on this machine, each with folders of its own, and a guest that never stops writing
# numbered blocks to both of its disks.  The guest is migrated, and then each claim is checked and
# told in a line.  As root the destination lives in a network namespace behind a firewall that
# admits the one TCP port; otherwise both daemons are on the loopback interface.
#
# Whatever happens, nothing is left running: clean_up() ends what this script started, by pid.  The
# folder with all logs stays only when something failed.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
[ $# -eq 1 ] && [ -x "$1/client/bistream" ] || {
    echo "usage: demo.sh BUILD_DIR (where bistream was built)" >&2
    exit 2
}
build=$(readlink -f "$1")
bistream=$build/client/bistream
bistreamd=$build/daemon/bistreamd
guestcheck=$build/tests/guest/guestcheck
port=16520

dir=$(mktemp -d "${TMPDIR:-/tmp}/bistream-demo.XXXXXX")
namespace=
watcher=
declare -A daemon=()  # host -> pid of its bistreamd
declare -A address=() # host -> ADDRESS:PORT

. "$here/hosts.sh"
. "$here/ports.sh"

bold='' plain=''
if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' plain=$'\e[0m'
fi

title()
{
    printf '\n%s%s%s\n' "$bold" "$*" "$plain"
}

ok()
{
    printf '  ok    %s\n' "$*"
}

fail()
{
    printf '  FAILED  %s\n' "$*" >&2
    exit 1
}

clean_up()
{
    local status=$?
    trap - EXIT
    trap '' INT TERM
    end_hosts
    if [ $status -eq 0 ] || [ $status -eq 130 ]; then
        rm -rf "$dir"
        [ $status -eq 0 ] || printf '\nInterrupted; nothing is left of the demonstration.\n' >&2
    else
        echo >&2
        echo "The demonstration failed.  The logs are in $dir:" >&2
        find "$dir" -name '*.log' -size +0 -printf '    %P\n' >&2
    fi
    exit $status
}
trap clean_up EXIT
trap 'exit 130' INT TERM
trap 'echo "demo.sh: line $LINENO: $BASH_COMMAND" >&2' ERR
set -E

# at HOST ARGUMENT...: the operator's command, on that host
at()
{
    local host=$1
    shift
    "$bistream" -c "$dir/$host/run/control" "$@"
}

# info HOST FIELD
info()
{
    at "$1" --json info demo | jq -r ".$2"
}

# check ARGUMENT...: guestcheck, whose findings go to the log
check()
{
    local status=0
    echo "guestcheck $*" >>"$dir/guestcheck.log"
    "$guestcheck" "$@" 2>&1 | tee -a "$dir/guestcheck.log" || status=$?
    [ $status -eq 0 ] || fail "guestcheck $1 says: $(tail -n 1 "$dir/guestcheck.log")"
}

# value NAME TEXT: of "NAME=VALUE" in TEXT
value()
{
    [[ $2 =~ (^|[[:space:]])$1=([^[:space:]:]*) ]] || fail "no $1 in: $2"
    echo "${BASH_REMATCH[2]}"
}

# size_of BYTES: for people
size_of()
{
    numfmt --to=iec-i --suffix=B --format='%.1f' "$1" | sed 's/[KMG]*i*B$/ &/'
}

# ---- the guest ---------------------------------------------------------------------------------

disks=2 slots=4096 # more writes than happen between the switch and the look, or gaps could hide

make_guest()
{
    "$build/tests/guest/mkguest" --dir "$dir/source/images" --vda-data 300M --slots $slots \
        >"$dir/mkguest.log"
    cat >"$dir/demo.json" <<END
{
    "name": "demo", "machine": "pc", "accel": "tcg", "memory": "64M",
    "disks": [{"target": "vda", "file": "vda.qcow2", "format": "qcow2"},
              {"target": "vdb", "file": "vdb.raw", "format": "raw"}],
    "serial": {"log": "serial.log"}
}
END
    at source start "$dir/demo.json" >/dev/null
    source_pid=$(info source pid)
    before=$(value counter "$(check ram --qmp "$(info source qmp)" --above 100)")
}

# ---- the proof ---------------------------------------------------------------------------------

prove_where()
{
    local state qmp first second
    state=$(info destination state)
    [ "$state" = running ] || fail "the destination says that the guest is $state"
    qmp=$(info destination qmp)
    first=$(value counter "$(check ram --qmp "$qmp")")
    second=$(value counter "$(check ram --qmp "$qmp" --above "$first")")
    ok "the guest runs at the destination: its counter went from $first to $second as we looked"

    state=$(info source state)
    [[ $state == "moved to "* ]] || fail "the source says that the guest is $state"
    [ "$(info source pid)" = null ] && ! ours "$source_pid" ||
        fail "its QEMU at the source (pid $source_pid) is still there"
    ok "and only there: its QEMU at the source has ended, the domain is \"$state\""
}

prove_writes()
{
    local from=("$dir"/source/images/vd?.*) to=("$dir"/destination/images/vd?.*)
    local qmp last ram now differ
    qmp=$(info destination qmp)
    last=$(value last "$(check images "${from[@]}")")
    "$guestcheck" qmp "$qmp" stop >/dev/null
    ram=$(check ram --qmp "$qmp")
    now=$(value counter "$ram")
    [[ $ram == *errors=0* && $ram == *ram=whole* ]] || fail "the guest's memory: $ram"
    [ "$now" -gt "$last" ] || fail "the counter is $now and was $last at the source"
    [ $((now - last)) -le $((disks * slots)) ] ||
        fail "we looked too late: $((now - last)) writes since the switch, $((disks * slots)) slots"
    check images --counter "$now" "${to[@]}" >/dev/null
    differ=$(check diff --after "$last" "${from[@]}" -- "${to[@]}")
    differ=$(grep -o 'differing sectors=[0-9]*' <<<"$differ" | awk -F= '{ sum += $2 } END { print sum + 0 }')
    "$guestcheck" qmp "$qmp" cont >/dev/null

    ok "it went on writing while it moved: $((last - before)) blocks"
    ok "no gap: $last was the last write at the source, and all from $((last + 1)) to $now," \
        "with those before them back to $((now > disks * slots ? now - disks * slots + 1 : 1))," \
        "are on the destination's disks, each whole and in its place"
    ok "of all sectors of both disks $differ differ from the source's final images, and each of" \
        "these carries a number above $last"
    ok "its memory is whole: every page has the block that it should have"
    check ram --qmp "$qmp" --above "$now" >/dev/null
}

# It has gone on writing here, blocks of 4 KiB, mostly where holes were.
prove_sparse()
{
    local from to last now
    from=$(value allocated "$(check sparse "$dir/source/images/vdb.raw")")
    last=$(value last "$(check images "$dir"/source/images/vd?.*)")
    to=$(check sparse "$dir/destination/images/vdb.raw")
    now=$(value counter "$(check ram --qmp "$(info destination qmp)")")
    [ "$(value allocated "$to")" -le $((from + from / 8 + 1048576 + (now - last) * 4096)) ] ||
        fail "vdb takes $(size_of "$from") at the source and $(size_of "$(value allocated "$to")") here"
    ok "vdb is still sparse: $(size_of "$(value size "$to")"), of which" \
        "$(size_of "$(value allocated "$to")") take up space (at the source: $(size_of "$from"))"
}

# The result as the source's daemon has logged it.
summarise()
{
    local line parts
    line=$(grep ' (demo) out: completed: ' "$dir/source/bistreamd.log" | tail -n 1)
    line=${line##*completed: }
    IFS=, read -ra parts <<<"$line"
    title "Summary"
    printf '%s\n' "${parts[@]}" | awk '
        { sub(/^ /, "") }
        $1 == "mode" { printf "  %-12s %s\n", "mode", $2 }
        $1 == "total" { total = $2 }
        $1 == "downtime" { downtime = $2 }
        $3 == "bytes" {
            printf "  %-12s %.1f MiB\n", $1, $2 / 1048576
            bytes += $2
        }
        END {
            printf "  %-12s %.0f MiB/s over all\n", "rate", bytes / 1048576 / (total / 1000)
            printf "  %-12s %.1f s\n", "total time", total / 1000
            printf "  %-12s %d ms\n", "downtime", downtime
        }'
}

# ---- the whole ---------------------------------------------------------------------------------

title "Two hosts on this machine"
make_certificates
make_network
start_daemon source
start_daemon destination
for host in source destination; do
    printf '  %-12s bistreamd on %s%s\n' "$host" "${address[$host]}" "$(where_is $host)"
done
at source probe "bistream://${address[destination]}" | sed 's/^/  probe        /'

title "A guest that never stops writing to both of its disks"
start_watching
make_guest
echo "  vda          qcow2, 1 GiB, 300 MiB of it incompressible data"
echo "  vdb          raw, 1 GiB, mostly holes"

title "bistream migrate demo bistream://${address[destination]} --copy-storage-all"
at source migrate demo "bistream://${address[destination]}" --copy-storage-all ||
    fail "bistream migrate ended with exit code $?"

title "The proof"
prove_where
prove_writes
prove_sparse
stop_watching
prove_ports
summarise
