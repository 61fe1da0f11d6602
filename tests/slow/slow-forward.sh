#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# slow-forward.sh CHANNELS MEGABYTES: that much through one `bistream forward`, on that many
# connections at a time, every byte compared.
channels=$1 megabytes=$2
set -e
. "$srcdir/../integration/functions.sh"

start_daemon a
start_daemon b "forward_allow = {\"$tmp/*\"}"
at a forward --detach "$(uri_of b)" "$tmp/local:$tmp/remote" >/dev/null
"$bulk" "$tmp/local" "$tmp/remote" "$channels" "$megabytes"
at a forward --stop "$(at a --json forward --list | jq -r '.[0].id')" >/dev/null
