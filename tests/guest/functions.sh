# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors

# What the tests of the guest have in common: a folder of their own in $work, QEMUs that end with the
# test, and words for what is asserted.  Sourced, from the build folder; QEMU is set by make.

set -e -o pipefail

: "${QEMU:=qemu-system-x86_64}"

# Skips the test unless each of the programs is there.
requires()
{
    for program in "$@"; do
        if ! command -v "$program" >/dev/null; then
            echo "skipped: $program is missing"
            exit 77
        fi
    done
}

requires "$QEMU" qemu-img qemu-nbd

work=$(mktemp -d "${TMPDIR:-/tmp}/bistream-guest-XXXXXX")

clean_up()
{
    status=$?
    for pidfile in "$work"/*.pid; do
        if test -f "$pidfile"; then
            kill -9 "$(cat "$pidfile")" 2>/dev/null || :
        fi
    done
    if test $status -ne 0 && test $status -ne 77; then
        for serial in "$work"/*.serial; do
            test ! -f "$serial" || sed "s|^|${serial##*/}: |" "$serial"
        done
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

fail()
{
    echo "FAILED: $*" >&2
    exit 1
}

# make_images NAME OPTION...: the images of a guest, in $work/NAME
make_images()
{
    mkdir "$work/$1"
    (name=$1; shift; ./mkguest --dir "$work/$name" --size 64M --vda-data 8M "$@")
}

# start_guest NAME OPTION...: a QEMU with the images in $work/NAME; OPTIONs are QEMU's
start_guest()
{
    name=$1
    shift
    for image in "$work/$name"/vd?.*; do
        target=${image##*/}
        set -- "$@" -device "virtio-blk-pci,drive=drive-${target%.*}" -drive \
"if=none,id=drive-${target%.*},node-name=${target%.*},file=$image,format=${target##*.},discard=unmap"
    done
    start_qemu "$name" "$@"
}

# start_qemu NAME OPTION...: a QEMU without disks
start_qemu()
{
    name=$1
    shift
    "$QEMU" -machine pc -accel tcg -m 64 -nodefaults -display none -daemonize \
        -pidfile "$work/$name.pid" -serial "file:$work/$name.serial" \
        -qmp "unix:$work/$name.qmp,server=on,wait=off" "$@"
}

# qmp NAME COMMAND...
qmp()
{
    (name=$1; shift; ./guestcheck qmp "$work/$name.qmp" "$@")
}

# counter NAME [OPTION...]: the guest's counter
counter()
{
    (name=$1; shift; ./guestcheck ram --qmp "$work/$name.qmp" "$@" | sed 's/^counter=\([0-9]*\) .*/\1/')
}

# wait_for NAME TEXT: until the guest has said TEXT on its serial port
wait_for()
{
    for _ in $(seq 1 200); do
        if grep -q "$2" "$work/$1.serial"; then
            return 0
        fi
        sleep 0.05
    done
    fail "the guest $1 did not say \"$2\""
}

# stop_guest NAME: stops it for good, and leaves its images
stop_guest()
{
    pid=$(cat "$work/$1.pid")
    qmp "$1" quit >/dev/null
    tail --pid="$pid" -s 0.05 -f /dev/null
}

# must_find SENTENCE COMMAND...: COMMAND has to end with code 1 and print SENTENCE (a pattern)
must_find()
{
    sentence=$1
    shift
    code=0
    "$@" >"$work/out" 2>&1 || code=$?
    if test $code -ne 1; then
        fail "exit code 1 expected from $*, got $code: $(cat "$work/out")"
    fi
    if ! grep -q "$sentence" "$work/out"; then
        fail "\"$sentence\" expected from $*, got: $(cat "$work/out")"
    fi
    echo "seen: $(cat "$work/out")"
}
