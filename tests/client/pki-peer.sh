#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# bistream pki check DEST, against a TLS server that answers as it is told.

. "${srcdir:-.}/functions.sh"
requires python3 jq

ca=$dir/ca
run 0 pki ca --pki-dir "$ca"
run 0 pki host here.example --pki-dir "$ca"
run 0 pki host localhost --ip 127.0.0.1 --pki-dir "$ca"
run 0 pki host elsewhere.example --days 5 --pki-dir "$ca"
run 0 pki ca --pki-dir "$dir/other"
run 0 pki host localhost --pki-dir "$dir/other"
here=$ca/here.example

cat >"$dir/server.py" <<'PYTHON'
import socket, ssl, struct, sys

pki, port_file, manner = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.load_cert_chain(pki + "/hostcert.pem", pki + "/hostkey.pem")
context.load_verify_locations(pki + "/cacert.pem")
context.verify_mode = ssl.CERT_REQUIRED
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
open(port_file, "w").write("port %d" % listener.getsockname()[1])

def string(text):
    data = text.encode()
    return struct.pack(">I", len(data)) + data + b"\0" * (-len(data) % 4)

def reply(status, payload):
    header = struct.pack(">IIiiIi", 0x20008b15, 1, 1, 1, 1, status)
    return struct.pack(">I", 4 + len(header) + len(payload)) + header + payload

def error(code, domain, text):
    return reply(1, struct.pack(">iiI", code, domain, 1) + string(text) +
                 struct.pack(">iIIIIiiI", 2, 0, 0, 0, 0, -1, -1, 0))

answers = {
    "bistreamd": b"\1" + reply(0, string("9.9.9") + string("b") + string("") + bytes(8)),
    "refuses": b"\1" + error(88, 10, "bistreamd at b doesn't list here.example in allowed_peers"),
    "libvirt": b"\1" + error(39, 7, "Cannot find program 536906517 version 1"),
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "garbage": b"\1" + b"\xff" * 100,
    "leaves": b"",
}
caller, _ = listener.accept()
try:
    with context.wrap_socket(caller, server_side=True) as tls:
        tls.sendall(answers[manner])
        if manner != "leaves":
            while tls.recv(65536):
                pass
except (ssl.SSLError, OSError):
    pass
PYTHON

# serve PKI_DIR MANNER: sets $port.
serve()
{
    rm -f "$dir/port"
    python3 "$dir/server.py" "$1" "$dir/port" "$2" &
    pids="$pids $!"
    wait_for "$dir/port" port
    port=$(sed 's/port //' "$dir/port")
}

serve "$ca/localhost" bistreamd
run 0 pki check "bistream://localhost:$port" --pki-dir "$here"
silent err
said out "Certificate:  CN=localhost; for localhost, 127.0.0.1; valid until"
said out "The bistreamd 9.9.9 there accepts this host's certificate."
serve "$ca/localhost" bistreamd
run 0 pki check "bistream://127.0.0.1:$port" --pki-dir "$here" --json
json '.ok and .version == "9.9.9" and .certificate.subject == "CN=localhost"'
json '.certificate.names == ["localhost", "127.0.0.1"] and .problems == []'

serve "$ca/localhost" refuses
run 1 pki check "bistream://localhost:$port" --pki-dir "$here"
said out "Certificate:  CN=localhost"
said err "bistreamd at b doesn't list here.example in allowed_peers"
serve "$ca/localhost" libvirt
run 1 pki check "bistream://localhost:$port" --pki-dir "$here"
said err "a libvirt RPC server listens there, no bistreamd"
for manner in http garbage; do
    serve "$ca/localhost" $manner
    run 1 pki check "bistream://localhost:$port" --pki-dir "$here"
    said err "what listens there speaks TLS but is no bistreamd"
done
serve "$ca/localhost" leaves
run 1 pki check "bistream://localhost:$port" --pki-dir "$here" --json
json '.ok == false and (.problems | length) == 1 and .certificate.subject == "CN=localhost"'

# The wrong name, the wrong CA on either side, nobody there.
serve "$ca/elsewhere.example" bistreamd
run 1 pki check "bistream://localhost:$port" --pki-dir "$here"
said err "elsewhere.example"
silent out
serve "$dir/other/localhost" bistreamd
run 1 pki check "bistream://localhost:$port" --pki-dir "$here"
said err "bistream CA"
run 1 pki check "bistream://127.0.0.1:1" --pki-dir "$here"
said err "can't connect to 127.0.0.1 port 1: Connection refused"
run 1 pki check "bistream://localhost:$port" --pki-dir "$dir/nothing"
said err "$dir/nothing/cacert.pem"
run 2 pki check localhost
said err "'localhost' is no destination: write bistream://HOST[:PORT]"
