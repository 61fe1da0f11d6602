#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# libvirt and we answer each other with clean errors: virsh on our control socket, and our probe on
# the TLS port of a libvirtd, which runs here with private folders and under another user if we are
# root, so that it touches nothing of this host's own libvirt.
. "${srcdir:-.}/functions.sh"

start_daemon a

# --- virsh ------------------------------------------------------------------------------------------------

if command -v virsh >/dev/null; then
    expect_failure "Cannot find program 536903814 version 1" \
        timeout 30 virsh -c "qemu+unix:///system?socket=$tmp/a/control" list
    is_well a
fi

# --- a libvirtd ---------------------------------------------------------------------------------------------

command -v virsh >/dev/null || skip "this needs: virsh"
libvirtd=$(PATH=$PATH:/usr/sbin:/sbin command -v libvirtd) || skip "this needs: libvirtd"
requires openssl version

make_pki l
mkdir -m 0700 "$tmp/l/home"
port=
run_libvirtd()
{
    port=$((20000 + RANDOM % 40000))
    cat >"$tmp/l/conf" <<END
listen_tls = 1
listen_tcp = 0
listen_addr = "127.0.0.1"
tls_port = "$port"
key_file = "$tmp/l/pki/hostkey.pem"
cert_file = "$tmp/l/pki/hostcert.pem"
ca_file = "$tmp/l/pki/cacert.pem"
tls_no_sanity_certificate = 1
unix_sock_dir = "$tmp/l/home"
log_outputs = "2:stderr"
END
    local as_user=()
    if [ "$(id -u)" -eq 0 ]; then
        as_user=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
        chmod 0711 "$tmp"
        chown -R nobody "$tmp/l"
    fi
    HOME="$tmp/l/home" XDG_RUNTIME_DIR="$tmp/l/home" XDG_CONFIG_HOME="$tmp/l/home" \
        XDG_CACHE_HOME="$tmp/l/home" XDG_DATA_HOME="$tmp/l/home" \
        "${as_user[@]}" "$libvirtd" --listen --config "$tmp/l/conf" --pid-file "$tmp/l/home/pid" \
        >>"$tmp/l/log" 2>&1 &
    pid=$!
}
libvirtd_answers()
{
    ! kill -0 "$pid" 2>/dev/null || (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}

# Its port can't be left to the system; if the one we draw is taken, we draw again.
for attempt in 1 2 3 4 5; do
    run_libvirtd
    wait_for "start of libvirtd" libvirtd_answers
    kill -0 "$pid" 2>/dev/null && break
    [ "$attempt" -lt 5 ] || skip "libvirtd does not start here: $(tail -n 3 "$tmp/l/log")"
done
other_pids+=("$pid")

expect_failure "libvirt RPC server, no bistreamd" at a probe "bistream://127.0.0.1:$port"
expect_failure "libvirt RPC server, no bistreamd" \
    at a forward "bistream://127.0.0.1:$port" "$tmp/x:/run/y"
is_well a

kill "$pid"
wait "$pid" || true
