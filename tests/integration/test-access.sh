#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Who is let in, what the operator is told of who isn't, and what garbage does to a daemon: nothing.
. "${srcdir:-.}/functions.sh"
requires socat -V
requires openssl version

start_daemon a 'allowed_peers = {}'
start_daemon b

# --- certificates ---------------------------------------------------------------------------------------

# The caller's certificate comes from another CA, and so does the listener's, seen from there.
make_ca "$tmp/other-ca"
mkdir "$tmp/stranger"
"$bistream" pki host stranger.test --pki-dir="$tmp/other-ca" --out="$tmp/stranger/pki" \
    --ip=127.0.0.1 >/dev/null
start_daemon stranger
expect_failure "CA" at a probe "$(uri_of stranger)"
expect_failure "CA" at stranger probe "$(uri_of a)"

# It trusts ours, but we don't trust it: that shows only after its handshake.
mkdir "$tmp/guest"
cp -r "$tmp/stranger/pki" "$tmp/guest/pki"
cp "$tmp/ca/cacert.pem" "$tmp/guest/pki/cacert.pem"
start_daemon guest
expect_failure "127.0.0.1 port ${port_of[b]}" at guest probe "$(uri_of b)"
expect_log b "peer 127.0.0.1:"
expect_log b "shaking hands"

# Expired, at either end.
make_pki late
openssl req -new -key "$tmp/late/pki/hostkey.pem" -subj /CN=late.test -out "$tmp/late.csr" 2>/dev/null
printf 'subjectAltName=DNS:late.test,IP:127.0.0.1\n' >"$tmp/late.ext"
mkdir "$tmp/late-ca"
: >"$tmp/late-ca/index"
echo 1000 >"$tmp/late-ca/serial"
cat >"$tmp/late-ca/conf" <<END
[ca]
default_ca = own
[own]
database = $tmp/late-ca/index
serial = $tmp/late-ca/serial
new_certs_dir = $tmp/late-ca
default_md = sha256
policy = any
[any]
commonName = supplied
END
openssl ca -batch -config "$tmp/late-ca/conf" -cert "$tmp/ca/cacert.pem" -keyfile "$tmp/ca/cakey.pem" \
    -extfile "$tmp/late.ext" -startdate 20200101000000Z -enddate 20200201000000Z \
    -in "$tmp/late.csr" -out "$tmp/late/pki/hostcert.pem" -notext 2>/dev/null ||
    fail "openssl makes no expired certificate"
start_daemon late
expect_failure "expired" at a probe "$(uri_of late)"
expect_failure "expired" at late probe "$(uri_of b)"
expect_log b "expired"

# The right CA, but the name of another host.
mkdir "$tmp/elsewhere"
"$bistream" pki host elsewhere.test --pki-dir="$tmp/ca" --out="$tmp/elsewhere/pki" >/dev/null
start_daemon elsewhere
expect_failure "127.0.0.1" at a probe "$(uri_of elsewhere)"
expect_failure "name" at a probe "$(uri_of elsewhere)"

# The right CA, but not in allowed_peers (a's list is empty; picky knows another name only).
expect_failure "allowed_peers" at b probe "$(uri_of a)"
expect_log a "refused: no name of the certificate CN=b.test"
start_daemon picky 'allowed_peers = {"*.vm.test", "c.test"}'
expect_failure "allowed_peers" at b probe "$(uri_of picky)"
expect_failure "allowed_peers" at b forward "$(uri_of picky)" "$tmp/x:/run/y"
start_daemon welcoming 'allowed_peers = {"*.vm.test", "B.test"}'
at b probe "$(uri_of welcoming)" >/dev/null
expect_log welcoming "welcome as b.test"

# --- listeners that are none -----------------------------------------------------------------------------

# free_listener OPTION... PROGRAM: a TCP port of socat's choice that leads to PROGRAM; sets $port.
free_listener()
{
    in_background socat -d -d "${@:1:$#-1}" "TCP-LISTEN:0,bind=127.0.0.1,fork" "${!#}" \
        2>"$tmp/socat.log"
    wait_for "a listener" grep -q 'listening on' "$tmp/socat.log"
    port=$(sed -n 's/.*listening on.*127\.0\.0\.1:\([0-9]*\).*/\1/p' "$tmp/socat.log")
}

free_listener -u OPEN:/dev/null
kill "${other_pids[-1]}"
wait "${other_pids[-1]}" || true
expect_failure "port $port: Connection refused; is bistreamd running there?" \
    at a probe "bistream://127.0.0.1:$port"

free_listener -u OPEN:/dev/null
silent=$port
free_listener SYSTEM:'echo SSH-2.0-OpenSSH_9.2; cat >/dev/null'
expect_failure "TLS" at a probe "bistream://127.0.0.1:$port"

# That takes ten seconds, so what it ends with is looked at below.
in_background at a probe "bistream://127.0.0.1:$silent" >"$tmp/told" 2>&1
prober=$!

# --- garbage ----------------------------------------------------------------------------------------------

# to_control BYTES: sends them (printf's escapes) to a's control socket and waits for its end.
to_control()
{
    printf "$1" | timeout 30 socat -t 30 - "UNIX-CONNECT:$tmp/a/control" >/dev/null ||
        fail "the control socket does not end after garbage"
    is_well a
}
to_control 'GET / HTTP/1.1\r\n\r\n'
expect_log a "the client sent what is no call: connection closed"
to_control '\377\377\377\377\040\000\213\025'                                  # 4 GiB
to_control '\000\020\000\001\040\000\213\025'                                  # one byte too long
to_control '\000\000\000\010\040\000\213\025'                                  # no room for a header
to_control '\000\000\000\034\040\000\213\025\000\000\000\001\000\000\000\001\000\000\000\003\000\000\000\001\000\000\000\000' # a frame
to_control '\000\020\000\000\040\000\213\025'                                  # promised, never sent

# to_port BYTES: the same to b's TLS port, after a proper handshake.
to_port()
{
    (
        cd "$tmp/a/pki"
        printf "$1" | timeout 30 openssl s_client -quiet -no_ign_eof -tls1_3 -CAfile cacert.pem \
            -cert hostcert.pem -key hostkey.pem -connect "127.0.0.1:${port_of[b]}" 2>/dev/null
    ) >/dev/null || true
    at a probe "$(uri_of b)" >/dev/null || fail "b is not well after garbage"
}
to_port 'GET / HTTP/1.1\r\n\r\n'
expect_log b "it sent what is no message of this protocol"
to_port '\377\377\377\377\040\000\213\025'
to_port '\000\000\000\034\040\000\213\025\000\000\000\001\000\000\000\001\000\000\000\003\000\000\000\001\000\000\000\000'

# And without any TLS.
printf 'GET / HTTP/1.1\r\n\r\n' | timeout 30 socat -t 30 - "TCP:127.0.0.1:${port_of[b]}" >/dev/null ||
    fail "b does not end a connection that is no TLS"
at a probe "$(uri_of b)" >/dev/null || fail "b is not well after garbage without TLS"

# More connections than a daemon serves at a time, all of them silent: peers still come in.
for i in $(seq 140); do
    exec {fd}<>"/dev/tcp/127.0.0.1/${port_of[b]}"
done
at a probe "$(uri_of b)" >/dev/null || fail "silent connections keep peers out"
expect_log b "has to make room for others"

# More sessions than one peer may have, and more refusals than a log should hold.
for i in $(seq 64); do
    at a forward --detach "$(uri_of b)" "$tmp/a/s$i:/nowhere/$i" >/dev/null
done
expect_failure "64 sessions of a.test are open at" \
    at a forward --detach "$(uri_of b)" "$tmp/a/s65:/nowhere/65"
for i in $(seq 220); do
    socat -u OPEN:/dev/null "UNIX-CONNECT:$tmp/a/s1"
done
expect_log b "lets no forward reach /nowhere/1: have it added to forward_allow"
expect_log b "further resets are not logged"
[ "$(grep -c "lets no forward reach" "$tmp/b/log")" -eq 200 ] || fail "each reset is logged"

# The peer that said nothing.
! wait "$prober" || fail "a peer that says nothing was probed: $(cat "$tmp/told")"
expect_text "did not answer the TLS handshake within" "$(cat "$tmp/told")"
