#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# bistream probe: what is at the other end, told apart by codes and never by texts.
. "${srcdir:-.}/functions.sh"
requires jq --version

start_daemon a 'allowed_peers = {}'
start_daemon b
start_daemon old 'offer_bistream = false'

# A daemon of today.
text=$(at a probe "$(uri_of b)")
expect_text "bistreamd" "$text"
json=$(at a --json probe "$(uri_of b)")
expect_json()
{
    printf '%s' "$json" | jq -e "$1" >/dev/null || fail "$1 does not hold for: $json"
}
expect_json '.kind == "bistream"'
expect_json ".hostname == \"$(uname -n)\""
expect_json '.features | index("bistream") and index("tunnel") and index("direct")'
expect_json '.features | index("direct-tls") | not'
if command -v qemu-system-x86_64 >/dev/null; then
    expect_json ".qemu == \"$(qemu-system-x86_64 --version | awk 'NR == 1 { print $4 }')\""
    expect_json '.features | index("qemu-nbd")'
fi
expect_log b "for a probe"

# One that does not offer BiStream behaves as one from before it.  No guest can go there: exit code 1.
json=$(at a --json probe "$(uri_of old)") && fail "an old daemon passes for one of today"
expect_json '.kind == "old"'
expect_json '.features | index("tunnel") and (index("bistream") | not)'

# Without a QEMU a host can still be asked.
start_daemon bare 'qemu_binary = "/nowhere/qemu"'
json=$(at a --json probe "$(uri_of bare)")
expect_json '.kind == "bistream" and .qemu == null'
expect_json '.features | any(startswith("qemu-")) | not'
expect_log bare "no QEMU, so guests can't run here: QEMU (/nowhere/qemu) can't be run"

# Nor with one that doesn't answer; the start doesn't wait for it for long.
printf '#!/bin/sh\nexec sleep 1000\n' >"$tmp/mute.sh"
chmod +x "$tmp/mute.sh"
start_daemon mute "qemu_binary = \"$tmp/mute.sh\""
json=$(at a --json probe "$(uri_of mute)")
expect_json '.qemu == null'
[ "$(ls "$tmp/mute/run")" = port ] || fail "the QEMU that was asked left something: $(ls "$tmp/mute/run")"

# QEMU's own TLS, as long as its files are of use; and no ports, no mode direct.
"$bistream" pki direct "$(uname -n)" --out "$tmp/direct" --pki-dir "$tmp/ca" >/dev/null
start_daemon tls "direct_pki_dir = \"$tmp/direct\"" 'direct_ports = ""'
json=$(at a --json probe "$(uri_of tls)")
expect_json '.features | index("direct-tls") and (index("direct") | not)'
rm "$tmp/direct/client-key.pem"
json=$(at a --json probe "$(uri_of tls)")
expect_json '.features | index("direct-tls") | not'

# A forward wants BiStream, and says who lacks it.
expect_failure "does not offer BiStream" at a forward "$(uri_of old)" "$tmp/x:/run/y"
[ ! -e "$tmp/x" ] || fail "a forward that failed left its socket"

# What is no address at all.
expect_failure "bistream://" at a probe nonsense
expect_failure "no-such-host.invalid" at a probe bistream://no-such-host.invalid
