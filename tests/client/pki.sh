#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# bistream pki ca, host, direct, check: what they make is looked at with the openssl command.

. "${srcdir:-.}/functions.sh"
requires openssl jq

mode_is()
{
    [ "$(stat -c %a "$2")" = "$1" ] || fail "$2 has mode $(stat -c %a "$2"), not $1"
}

# cert_says FILE TEXT
cert_says()
{
    openssl x509 -in "$1" -noout -text >"$dir/text"
    grep -qF -e "$2" "$dir/text" || fail "$1 lacks '$2'"
}

# A CA, in a folder that is made with all above it.
ca=$dir/deep/er/ca
umask 077
run 0 pki ca --pki-dir "$ca"
silent err
said out "$ca/cacert.pem"
mode_is 600 "$ca/cakey.pem"
mode_is 644 "$ca/cacert.pem"
cert_says "$ca/cacert.pem" "CA:TRUE, pathlen:0"
cert_says "$ca/cacert.pem" "Certificate Sign, CRL Sign"
cert_says "$ca/cacert.pem" "NIST CURVE: P-256"
openssl x509 -in "$ca/cacert.pem" -noout -checkend $((3600 * 24 * 3649)) >/dev/null
umask 000

# A second one doesn't replace it by accident.
cp "$ca/cakey.pem" "$dir/cakey.before"
run 1 pki ca --pki-dir "$ca"
said err "$ca/cakey.pem is there already; --force replaces it"
cmp -s "$ca/cakey.pem" "$dir/cakey.before" || fail "the key was changed"

# A host with more names.
run 0 pki host a.example --ip 192.0.2.1 --ip 2001:db8:0::1 --dns a --pki-dir "$ca"
said out "a.example, 192.0.2.1, 2001:db8::1, a"
host=$ca/a.example
mode_is 600 "$host/hostkey.pem"
mode_is 644 "$host/hostcert.pem"
cmp -s "$ca/cacert.pem" "$host/cacert.pem" || fail "the CA's certificate was not copied"
cert_says "$host/hostcert.pem" \
    "DNS:a.example, IP Address:192.0.2.1, IP Address:2001:DB8:0:0:0:0:0:1, DNS:a"
cert_says "$host/hostcert.pem" "TLS Web Server Authentication, TLS Web Client Authentication"
cert_says "$host/hostcert.pem" "Digital Signature"
cert_says "$host/hostcert.pem" "CA:FALSE"
cert_says "$host/hostcert.pem" "Subject: CN = a.example"
for purpose in sslserver sslclient; do
    openssl verify -x509_strict -purpose $purpose -CAfile "$host/cacert.pem" "$host/hostcert.pem" \
        >/dev/null || fail "no good as $purpose"
done
for name in "-verify_hostname a.example" "-verify_ip 192.0.2.1" "-verify_ip 2001:db8::1"; do
    openssl verify $name -CAfile "$host/cacert.pem" "$host/hostcert.pem" >/dev/null ||
        fail "no good with $name"
done
[ "$(openssl pkey -in "$host/hostkey.pem" -pubout)" = \
  "$(openssl x509 -in "$host/hostcert.pem" -noout -pubkey)" ] || fail "key and certificate differ"

run 1 pki host a.example --pki-dir "$ca"
said err "hostkey.pem is there already; --force replaces it"
cp "$host/hostkey.pem" "$dir/hostkey.before"
run 0 pki host a.example --pki-dir "$ca" --force
! cmp -s "$host/hostkey.pem" "$dir/hostkey.before" || fail "--force made no new key"
mode_is 600 "$host/hostkey.pem"

# Serial numbers differ; an address may be the name; a long name doesn't fit into a CN.
run 0 pki host 192.0.2.7 --pki-dir "$ca"
cert_says "$ca/192.0.2.7/hostcert.pem" "IP Address:192.0.2.7"
[ "$(openssl x509 -in "$host/hostcert.pem" -noout -serial)" != \
  "$(openssl x509 -in "$ca/192.0.2.7/hostcert.pem" -noout -serial)" ] || fail "same serial twice"
long=$(printf 'x%.0s' $(seq 60)).$(printf 'y%.0s' $(seq 60)).example
run 0 pki host "$long" --out "$dir/long" --pki-dir "$ca"
openssl verify -verify_hostname "$long" -CAfile "$ca/cacert.pem" "$dir/long/hostcert.pem" \
    >/dev/null || fail "no good with a long name"

# Into the folder of the CA itself, as on a host that is the CA too; and JSON.
run 0 --json pki host b.example --out "$ca" --days 10 --pki-dir "$ca"
json '.type == "host" and .name == "b.example" and (.names | index("b.example")) != null'
json '.expires | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z$")'
json ".key == \"$ca/hostkey.pem\""

# A host's certificate ends with the CA's.
run 0 pki ca --pki-dir "$dir/short" --days 3
run 0 pki host c.example --pki-dir "$dir/short"
said out "when the CA's certificate ends"
[ "$(openssl x509 -in "$dir/short/cacert.pem" -noout -enddate)" = \
  "$(openssl x509 -in "$dir/short/c.example/hostcert.pem" -noout -enddate)" ] ||
    fail "the host outlives its CA"

# Another CA's folder is not taken over.
run 1 pki host c.example --pki-dir "$dir/short" --out "$ca/192.0.2.7"
said err "$ca/192.0.2.7/cacert.pem is there already; --force replaces it"

# For QEMU's own TLS: its names, in both roles.
run 0 pki direct a.example --ip 192.0.2.1 --pki-dir "$ca"
said out "client-cert.pem and client-key.pem for a.example, 192.0.2.1; valid until"
said out "which direct_pki_dir names there"
direct=$host/direct
cmp -s "$ca/cacert.pem" "$direct/ca-cert.pem" || fail "the CA's certificate was not copied"
for role in server client; do
    mode_is 600 "$direct/$role-key.pem"
    mode_is 644 "$direct/$role-cert.pem"
    cert_says "$direct/$role-cert.pem" "Subject: CN = a.example"
    openssl verify -x509_strict -purpose ssl$role -verify_hostname a.example -verify_ip 192.0.2.1 \
        -CAfile "$direct/ca-cert.pem" "$direct/$role-cert.pem" >/dev/null || fail "no good as $role"
    [ "$(openssl pkey -in "$direct/$role-key.pem" -pubout)" = \
      "$(openssl x509 -in "$direct/$role-cert.pem" -noout -pubkey)" ] || fail "$role: another key"
done
! cmp -s "$direct/server-key.pem" "$direct/client-key.pem" || fail "one key in two roles"
run 1 pki direct a.example --pki-dir "$ca"
said err "server-key.pem is there already; --force replaces it"
run 0 --json pki direct a.example --out "$dir/qemu" --pki-dir "$ca"
json ".type == \"direct\" and .folder == \"$dir/qemu\" and .ca == \"$dir/qemu/ca-cert.pem\""
run 1 pki direct "$long" --pki-dir "$ca"
said err "common name, which has at most 64 characters"

# What is no name, and no command.
for name in 'a b' '../x' '*.example' 'a,IP:10.0.0.1' '-a' ''; do
    run 1 pki host --pki-dir "$ca" -- "$name"
    said err "is no host name"
done
run 2 pki host a.example --ip a.example
said err "'a.example' is no IP address"
run 2 pki host a.example --days 0
said err "--days wants 1 to 36500, not '0'"
run 2 pki host
said err "pki host wants the NAME"
run 2 pki direct
said err "pki direct wants the NAME"
run 2 pki frobnicate
said err "there is no 'pki frobnicate'"
run 2 pki
said err "Try 'bistream pki --help'."
run 1 pki host d.example --pki-dir "$dir/nothing"
said err "there is no CA in $dir/nothing; make one with 'bistream pki ca'"

# check: all is well, then one thing wrong after the other.
run 0 pki check --pki-dir "$host"
said out "hostcert.pem  CN=a.example; for a.example; valid until"
said out "The key fits the certificate, and the CA signed it."
run 0 pki check --pki-dir "$host" --json
json '.ok and .certificate.subject == "CN=a.example" and .problems == [] and .warnings == []'
run 0 pki check --pki-dir "$ca"
said err "warning: hostcert.pem expires in "
chmod 0644 "$host/hostkey.pem"
run 1 pki check --pki-dir "$host"
said err "hostkey.pem may be read or changed by others: chmod 0600 $host/hostkey.pem"
chmod 0600 "$host/hostkey.pem"
cp "$ca/192.0.2.7/hostkey.pem" "$host/hostkey.pem"
run 1 pki check --pki-dir "$host" --json
json '.ok == false and .problems == ["hostkey.pem is not the key of hostcert.pem"]'
cp "$dir/short/cacert.pem" "$host/cacert.pem"
run 1 pki check --pki-dir "$host"
said err "hostcert.pem is no good as a server with the CA in cacert.pem"
said err "hostkey.pem is not the key of hostcert.pem"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=bare -days 5 \
    -keyout "$host/hostkey.pem" -out "$host/hostcert.pem" 2>/dev/null
cp "$host/hostcert.pem" "$host/cacert.pem"
run 0 pki check --pki-dir "$host"
said err "warning: hostcert.pem expires in "
echo nonsense >"$host/hostcert.pem"
run 1 pki check --pki-dir "$host"
said err "hostcert.pem holds no certificate in PEM format"
rm "$host/hostcert.pem"
run 1 pki check --pki-dir "$host"
said err "can't read $host/hostcert.pem: No such file or directory"
