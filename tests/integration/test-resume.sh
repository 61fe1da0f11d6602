#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# The link breaks, at any byte and in any way, and what a forward carries doesn't notice.  When the grace
# time is over, it is as if there had been none.
. "${srcdir:-.}/resume-functions.sh"

echo "== a forward"
forward_with_cuts 8 "${MEGABYTES:-400}" "${CUTS:-30}"

echo "== silence while there is nothing to be carried"
count_resumptions
began=$(now_ms)
way hush
wait_for "another link" resumed_again
[ $(($(now_ms) - began)) -lt 5000 ] || fail "that was noticed after $(($(now_ms) - began)) ms"

echo "== somebody else answers, with a good certificate"
start_daemon c
count_resumptions
way "port ${port_of[c]}"
way cut
expect_log a "its certificate is another one than when the session was opened"
way "port ${port_of[b]}"
way cut
wait_for "another link" resumed_again
carry 2 10
end_forward

echo "== the grace time of a migration is over"
stop_daemon a
start_daemon a 'ping = "100ms"' 'grace = "1s"'
stop_daemon b
start_daemon b 'ping = "100ms"' 'grace = "60s"' "qemu_binary = \"$(slow_qemu 1000000)\""
way "port ${port_of[b]}"
new_guest a guest 2 qcow2,raw
remember a
begin a way guest --copy-storage-all
copying a guest
way "port 1" # where nobody listens
way cut
ends 1 "and the guest stays here"
expect_text "came back within 1 s" "$(cat "$tmp/said")"
goes_on a guest
nothing_left a
