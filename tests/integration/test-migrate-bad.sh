#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Migrations that can't be: each is refused with a sentence that says why and what to do, the guest
# runs on, and neither side keeps anything of it.
. "${srcdir:-.}/migrate-functions.sh"

start_daemon a
start_daemon b
new_guest a guest 2 qcow2,raw
uuid=$(info a guest uuid)

echo "== the domain"
must_fail 'no domain named nobody here' a b nobody
cat >"$tmp/bare.json" <<END
{"name": "bare", "machine": "pc", "accel": "tcg", "memory": "32M"}
END
at a start "$tmp/bare.json" >/dev/null
at a destroy bare >/dev/null
must_fail 'domain bare is not running' a b bare

echo "== nobody there, or somebody who says nothing"
port_of[nobody]=1
must_fail "can't connect to 127.0.0.1 port 1: Connection refused; is bistreamd running there?" a nobody \
    guest --copy-storage-all
goes_on a guest

echo "== the destination has the name"
jq '.name = "guest"' "$tmp/bare.json" >"$tmp/same.json"
at b start "$tmp/same.json" >/dev/null
stays 'a domain named guest exists already' a b guest --copy-storage-all
forget b guest

echo "== it has the UUID"
jq --arg uuid "$uuid" '.uuid = $uuid | .name = "twin"' "$tmp/bare.json" >"$tmp/twin.json"
at b start "$tmp/twin.json" >/dev/null
stays "a domain with the UUID $uuid exists already, named twin" a b guest --copy-storage-all
forget b twin

echo "== it has a file of that name"
echo precious >"$tmp/b/pool/guest-vdb.raw"
stays "a file $tmp/b/pool/guest-vdb.raw exists already; move it away or delete it" a b guest \
    --copy-storage-all
[ "$(cat "$tmp/b/pool/guest-vdb.raw")" = precious ] || fail "the file was touched"
rm "$tmp/b/pool/guest-vdb.raw"

echo "== shared storage that is not there"
stays "disk vda is not copied, and there is no $tmp/b/pool/guest-vda.qcow2 here (use --copy-storage-all" \
    a b guest

echo "== flags"
stays "the guest has no disk 'vdc'; it has vda, vdb" a b guest --copy-storage-all \
    --migrate-disks vda,vdc
status=0
at a migrate guest "$(uri_of b)" --copy-storage-all --copy-storage-inc >"$tmp/said" 2>&1 || status=$?
[ $status -ne 0 ] || fail "both kinds of copying were taken"

echo "== a block job runs already"
qmp a guest '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "null",
        "size": 67108864, "read-zeroes": true}}' \
    '{"execute": "blockdev-mirror", "arguments": {"job-id": "backup", "device": "vda",
        "target": "null", "sync": "full"}}' >/dev/null
remember b
must_fail 'a block job is running in this guest (mirror "backup")' a b guest --copy-storage-all
qmp a guest '{"execute": "block-job-cancel", "arguments": {"device": "backup", "force": true}}' >/dev/null
no_jobs()
{
    qmp a guest query-block-jobs | jq -e '. == []' && qmp a guest \
        '{"execute": "blockdev-del", "arguments": {"node-name": "null"}}'
}
wait_for "end of the job" no_jobs
nothing_left b
goes_on a guest

echo "== after all that it goes"
must_migrate a b guest --copy-storage-all
arrived a b guest
