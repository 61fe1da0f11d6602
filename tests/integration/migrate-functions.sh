# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# What the tests of migrations share, on top of functions.sh: guests that never stop writing, the
# proof that one arrived whole or stayed unharmed, and a look at everything that a migration may
# have left behind.  Begin with
#
#     . "${srcdir:-.}/migrate-functions.sh"
#
# Images stand in $tmp/HOST/pool as NAME-TARGET.FORMAT, definitions in $tmp/NAME.json.
set -e
. "$(dirname "${BASH_SOURCE[0]}")/functions.sh"

guest_dir=$(readlink -f "$top_builddir/tests/guest")
QEMU=${QEMU:-qemu-system-x86_64}
slots=4096 # of each disk's write window: more writes than happen between a switch and our look

requires jq --version
requires "$QEMU" --version
requires qemu-img --version

# QEMUs outlive their daemons, so the guests that still run go first, and the sockets that only the
# end of a QEMU removes.
finish_guests()
{
    local status=$? pid
    trap - EXIT
    set +e
    for pid in $(qemus_of ''); do
        kill -KILL "$pid"
    done
    if [ $status -ne 0 ] && [ $status -ne 77 ]; then
        find "$tmp" -name qemu.log -size +0 -exec tail -n 20 {} + >&2
    fi
    find "$tmp" -type s -name '*.qmp' -delete
    for pid in "${mounts[@]}"; do
        umount -l "$pid"
    done
    (exit $status)
    finish
}
mounts=()
trap finish_guests EXIT

# qemus_of HOST: pids of its QEMUs; '' for all hosts
qemus_of()
{
    local file
    for file in $(grep -lzx -e -nodefaults /proc/[0-9]*/cmdline 2>/dev/null); do
        if grep -qzF -e "${tmp:?}/$1" "$file" 2>/dev/null; then
            basename "$(dirname "$file")"
        fi
    done
}

# ---- guests ------------------------------------------------------------------------------------

# make_images HOST NAME DISKS FORMATS [OPTION...]: images for a guest (options are mkguest's)
make_images()
{
    local host=$1 name=$2 disks=$3 formats=$4 image
    shift 4
    mkdir -p "$tmp/$host/pool" "$tmp/images-$name"
    "$guest_dir/mkguest" --dir "$tmp/images-$name" --disks "$disks" --format "$formats" --size 64M \
        --vda-data 8M --ram 1M --slots $slots --pause 1000 "$@" >/dev/null
    for image in "$tmp/images-$name"/*; do
        mv "$image" "$tmp/$host/pool/$name-${image##*/}"
    done
    rmdir "$tmp/images-$name"
}

# define HOST NAME [FILTER]: writes $tmp/NAME.json for the images that are there; the jq FILTER may
# change it
define()
{
    local host=$1 name=$2 image target
    for image in "$tmp/$host/pool/$name"-vd?.*; do
        target=${image##*-}
        jq -n --arg file "${image##*/}" --arg target "${target%.*}" --arg format "${image##*.}" \
            '{$target, $file, $format}'
    done | jq -s --arg name "$name" '{name: $name, machine: "pc", accel: "tcg", memory: "32M",
        serial: {log: "serial.log"}, disks: .}' | jq "${3:-.}" >"$tmp/$name.json"
}

# start_guest HOST NAME: starts it and waits until it writes
start_guest()
{
    at "$1" start "$tmp/$2.json" >/dev/null
    counter "$1" "$2" --above ${first_writes:-20} >/dev/null
}

# new_guest HOST NAME DISKS FORMATS [OPTION...]: all of these
new_guest()
{
    make_images "$@"
    define "$1" "$2"
    start_guest "$1" "$2"
}

# info HOST NAME FIELD
info()
{
    at "$1" --json info "$2" | jq -r ".$3"
}

# state_is HOST NAME STATE: a pattern
state_is()
{
    local state
    state=$(info "$1" "$2" state)
    # shellcheck disable=SC2053
    [[ $state == $3 ]]
}

# qmp HOST NAME COMMAND...: at the operator's socket
qmp()
{
    local socket
    socket=$(info "$1" "$2" qmp)
    shift 2
    "$guest_dir/guestcheck" qmp "$socket" "$@"
}

# ram HOST NAME [OPTION...]: what guestcheck says about its memory
ram()
{
    local socket
    socket=$(info "$1" "$2" qmp)
    shift 2
    "$guest_dir/guestcheck" ram --qmp "$socket" "$@"
}

# counter HOST NAME [OPTION...]
counter()
{
    ram "$@" | sed 's/^counter=\([0-9]*\) .*/\1/'
}

# images HOST NAME: its image files in the guest's order
images()
{
    ls "$tmp/$1/pool/$2"-vd?.qcow2 "$tmp/$1/pool/$2"-vd?.raw 2>/dev/null | sort
}

# forget HOST NAME: ends the guest for good
forget()
{
    state_is "$1" "$2" 'moved to *' || state_is "$1" "$2" 'shut off' ||
        at "$1" destroy "$2" >/dev/null
    # One that has come without --persistent has gone with its guest.
    ! at "$1" info "$2" >/dev/null 2>&1 || at "$1" undefine "$2" >/dev/null
}

# ---- modes -------------------------------------------------------------------------------------

# in_mode MODE A B: the hosts A and B, which don't run yet, are made for it, "synchronous" being mode
# bistream with synchronous writes.  Configuration goes to $tmp/HOST/lines, what migrations are to be
# given to $options; the ports of mode direct begin with $first_port at A, 4 later at B.
in_mode()
{
    local host
    options=(--copy-storage-all)
    first_port=$((20000 + $$ % 1500 * 8))
    for host in "$2" "$3"; do
        mkdir -p "$tmp/$host"
        : >"$tmp/$host/lines"
    done
    case $1 in
    synchronous) options+=(--copy-storage-synchronous-writes) ;;
    tunnel) echo 'offer_bistream = false' >>"$tmp/$3/lines" ;;
    direct)
        options+=(--direct)
        direct_host "$2" $first_port
        direct_host "$3" $((first_port + 4))
        ;;
    esac
}

# direct_host HOST PORT: QEMU itself has a key pair there, and four ports
direct_host()
{
    [ -d "$tmp/ca" ] || make_ca
    "$bistream" pki direct "$1.test" --pki-dir="$tmp/ca" --out="$tmp/$1/direct" --ip=127.0.0.1 \
        >/dev/null
    printf '%s\n' "direct_pki_dir = \"$tmp/$1/direct\"" "direct_ports = \"$2-$(($2 + 3))\"" \
        >>"$tmp/$1/lines"
}

# run_host HOST: with its lines
run_host()
{
    local lines
    mapfile -t lines <"$tmp/$1/lines"
    start_daemon "$1" "${lines[@]}"
}

# ---- migrations --------------------------------------------------------------------------------

# migrate FROM TO NAME [OPTION...]: the result, JSON's last line, goes to $tmp/result
migrate()
{
    local from=$1 to=$2 name=$3 status=0
    shift 3
    at "$from" --json migrate "$name" "$(uri_of "$to")" "$@" >"$tmp/events" 2>"$tmp/said" ||
        status=$?
    tail -n 1 "$tmp/events" >"$tmp/result"
    return $status
}

# begin FROM TO NAME [OPTION...]: the same in the background; $client is its pid
begin()
{
    local from=$1 to=$2 name=$3
    shift 3
    rm -f "$tmp/events"
    : >"$tmp/$from/log" # where in_phase looks
    "$bistream" -c "$tmp/$from/control" --json migrate "$name" "$(uri_of "$to")" "$@" \
        >"$tmp/events" 2>"$tmp/said" &
    client=$!
}

# ends STATUS SENTENCE: the migration in the background does
ends()
{
    local status=0
    wait "$client" || status=$?
    [ $status -eq "$1" ] || fail "exit code $status instead of $1: $(cat "$tmp/said")"
    expect_text "$2" "$(cat "$tmp/said")"
    tail -n 1 "$tmp/events" >"$tmp/result"
    echo "said: $(cat "$tmp/said")"
}

# must_migrate FROM TO NAME [OPTION...]
must_migrate()
{
    migrate "$@" || fail "migrate $*: exit code $?: $(cat "$tmp/said")"
}

# must_fail SENTENCE FROM TO NAME [OPTION...]: exit code 1, and the operator reads SENTENCE
must_fail()
{
    local sentence=$1 status=0
    shift
    migrate "$@" || status=$?
    [ $status -eq 1 ] || fail "migrate $*: exit code $status instead of 1: $(cat "$tmp/said")"
    expect_text "$sentence" "$(cat "$tmp/said")"
    result '.type == "result" and .status == "failed" and (.error | length > 0)'
    echo "said: $(cat "$tmp/said")"
}

# result FILTER: is true of the result
result()
{
    jq -e "$1" "$tmp/result" >/dev/null || fail "not so: $1: $(cat "$tmp/result")"
}

# notice TEXT: the operator was told
notice()
{
    jq -r 'select(.type == "notice").text' "$tmp/events" | grep -qF -e "$1" ||
        fail "nobody said \"$1\": $(cat "$tmp/events")"
}

# arrived FROM TO NAME [NEW-NAME]: it runs at TO and only there, nothing that it wrote is lost, and
# its images take no more space (unless $flattened says that they may)
arrived()
{
    local from=$1 to=$2 name=$3 new=${4:-$3} last ram now disks old fresh
    # Stopped at once, so that no write of the switch has been overwritten when we look.
    qmp "$to" "$new" stop >/dev/null
    ram=$(ram "$to" "$new")
    now=$(sed 's/^counter=\([0-9]*\) .*/\1/' <<<"$ram")
    [[ $ram == *errors=0*ram=whole* ]] || fail "$new: $ram"
    state_is "$from" "$name" "moved to $address" || fail "$name is $(info "$from" "$name" state)"
    [ "$(info "$from" "$name" pid)" = null ] || fail "$name still has a QEMU at $from"
    mapfile -t old < <(images "$from" "$name")
    mapfile -t fresh < <(images "$to" "$name")
    disks=${#old[@]}
    [ "${#fresh[@]}" -eq "$disks" ] || fail "$disks disks left, ${#fresh[@]} arrived"
    last=$("$guest_dir/guestcheck" images "${old[@]}" | sed 's/.*last=\([0-9]*\) .*/\1/')
    [ $((now - last)) -gt 0 ] && [ $((now - last)) -le $((disks * slots)) ] ||
        fail "$name: counter $now at $to, $last at $from"
    "$guest_dir/guestcheck" images --counter "$now" "${fresh[@]}"
    "$guest_dir/guestcheck" diff --after "$last" "${old[@]}" -- "${fresh[@]}" >/dev/null
    [ -n "${flattened:-}" ] || still_sparse $((now - last)) "${old[@]}" -- "${fresh[@]}"
    qmp "$to" "$new" cont >/dev/null
    goes_on "$to" "$new"
}

# still_sparse WRITES IMAGE... -- IMAGE...: the second images take no more space than the first, a MiB
# aside and a cluster for each of the writes that have come since
still_sparse()
{
    local writes=$1 old=() before after
    shift
    while [ "$1" != -- ]; do
        old+=("$1")
        shift
    done
    shift
    while [ $# -gt 0 ]; do
        before=$(stat -c %b "${old[0]}")
        after=$(stat -c %b "$1")
        [ "$after" -le $((before + before / 8 + 2048 + writes * 128)) ] ||
            fail "$1 has $after blocks, and had $before"
        old=("${old[@]:1}")
        shift
    done
}

# goes_on HOST NAME: the guest runs and writes, and QEMU has nothing of a migration left
goes_on()
{
    wait_for_quietly state_is "$1" "$2" running || fail "$2 at $1 is $(info "$1" "$2" state)"
    counter "$1" "$2" --above "$(counter "$1" "$2")" >/dev/null
    qmp "$1" "$2" query-block-jobs | jq -e '. == []' >/dev/null || fail "$2 has block jobs left"
    qmp "$1" "$2" query-named-block-nodes | jq -e '[.[] | select(.drv == "nbd")] == []' >/dev/null ||
        fail "$2 has NBD nodes left"
}

# ---- leftovers ---------------------------------------------------------------------------------

# everything HOST: files of its pool and run_dir and logs with their inodes, its domains, its QEMUs
everything()
{
    (cd "$tmp/$1" && find pool run state/log ! -name port -printf '%i %y %p\n' | sort -k 3)
    at "$1" --json list --all | jq -c '.[] | [.name, .state, .pid]'
    qemus_of "$1" | sed 's/^/QEMU /'
}

# remember HOST: what there is before a migration that fails
remember()
{
    everything "$1" >"$tmp/$1.before"
}

is_as_before()
{
    everything "$1" >"$tmp/$1.after" && cmp -s "$tmp/$1.before" "$tmp/$1.after"
}

# nothing_left HOST: it is as it was when remembered, now or soon
nothing_left()
{
    WAIT_SECONDS=20 wait_for_quietly is_as_before "$1" ||
        fail "$1 is not as before: $(diff "$tmp/$1.before" "$tmp/$1.after")"
}

# wait_for_quietly COMMAND...: false if that is never so
wait_for_quietly()
{
    local deadline=$((SECONDS + ${WAIT_SECONDS:-30}))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.02
    done
}

# stays SENTENCE FROM TO NAME [OPTION...]: the migration fails with SENTENCE, the guest writes on,
# and nothing is left of it on either side
stays()
{
    remember "$2"
    remember "$3"
    must_fail "$@"
    goes_on "$2" "$4"
    nothing_left "$2"
    nothing_left "$3"
}

# ---- hosts that are slow or broken -------------------------------------------------------------

# slow_qemu RATE: prints a qemu_binary whose disks take RATE bytes a second
slow_qemu()
{
    cat >"$tmp/slow-qemu" <<END
#!/bin/bash
args=()
for arg in "\$@"; do
    case \$arg in
    if=none,*file.driver=file,*)
        arg=\${arg/file.driver=file,/file.driver=throttle,file.throttle-group=slow,}
        arg=\${arg/,file.filename=/,file.file.driver=file,file.file.filename=}
        ;;
    esac
    args+=("\$arg")
done
exec $QEMU -object throttle-group,id=slow,x-bps-total=$1 "\${args[@]}"
END
    chmod +x "$tmp/slow-qemu"
    echo "$tmp/slow-qemu"
}

# copying HOST NAME: waits until both disks of the guest are being copied, which takes minutes with
# a slow QEMU
copying()
{
    wait_for "copying" has_two_jobs "$@"
}

has_two_jobs()
{
    qmp "$1" "$2" query-block-jobs | jq -e 'length == 2'
}

# in_phase HOST PHASE: waits until the migration out of HOST is there
in_phase()
{
    wait_for "phase $2" grep -q " out: $2\$" "$tmp/$1/log"
}
