#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# slow-migrate.sh TABLE NAME TIMES DISKS FORMAT [WRAPPER...]: a guest goes to and fro between two
# daemons TIMES times without a lost write, and a line about it goes to TABLE.  The daemons are those
# of $top_builddir, run under WRAPPER if there is one; whatever a sanitizer or valgrind has to say
# ends a daemon with another status than 0, which fails the test.
table=$1 name=$2 times=$3 disks=$4 format=$5
shift 5
set -e
. "$srcdir/../integration/migrate-functions.sh"
WAIT_SECONDS=120

if [ $# -gt 0 ]; then
    printf '#!/bin/sh\nexec %s %s "$@"\n' "$*" "$bistreamd" >"$tmp/wrapped"
    chmod +x "$tmp/wrapped"
    bistreamd=$tmp/wrapped
fi

start_daemon a
start_daemon b
new_guest a guest "$disks" "$format"
from=a to=b
for _ in $(seq "$times"); do
    must_migrate $from $to guest --copy-storage-all
    arrived $from $to guest
    cat "$tmp/result" >>"$tmp/results"
    last=$to to=$from from=$last
done
forget "$from" guest
forget "$to" guest
stop_daemon a
stop_daemon b
jq -sr --arg name "$name" --arg disks "$disks" --arg format "$format" \
    '[$name, $disks, $format, length, (map(.total_ms) | add / length | round),
      (map(.downtime_ms) | max)] | map(tostring) | join(" ")' "$tmp/results" >>"$table"
