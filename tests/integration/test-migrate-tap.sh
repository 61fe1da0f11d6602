#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Which of this host's tap devices a guest from a peer gets is this host's to say.
. "${srcdir:-.}/migrate-functions.sh"

tap=bs$$
requires ip tuntap add dev "$tap" mode tap
remove_tap()
{
    local status=$?
    set +e
    ip link del "$tap"
    (exit $status)
    finish_guests
}
trap remove_tap EXIT

start_daemon a
start_daemon b
make_images a guest 1 qcow2
define a guest ".nics = [{type: \"tap\", ifname: \"$tap\"}]"
start_guest a guest

echo "== it says nothing"
stays "definition is refused: nics[0].ifname: no guest that comes from a peer may use the tap device $tap" \
    a b guest --copy-storage-all

echo "== it allows others"
stop_daemon b
start_daemon b 'tap_allow = {"vm-*", "br0"}'
stays "no guest that comes from a peer may use the tap device $tap; have it added to tap_allow" \
    a b guest --copy-storage-all

# Both hosts are one here, so that QEMU finds it in use.
echo "== it allows this one"
stop_daemon b
start_daemon b 'tap_allow = {"bs*"}'
stays "could not configure /dev/net/tun ($tap): Device or resource busy" a b guest --copy-storage-all
