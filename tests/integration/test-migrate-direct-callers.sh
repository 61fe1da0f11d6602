#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Mode direct, while strangers call at the destination's port for memory: they say nothing, or something
# else, or hang up.  The destination's QEMU never meets them: it lets others in at its NBD port meanwhile,
# and the migration goes on and succeeds.
. "${srcdir:-.}/migrate-functions.sh"

SOON=5 # seconds; callers stay for longer
more=  # or --no-tls

in_mode direct a b
for host in a b; do
    run_host $host
done
declare -A first_of=([a]=$first_port [b]=$((first_port + 4)))

# port_for_memory HOST NBD: the port that is listened on there and isn't NBD's
port_for_memory()
{
    local port
    for port in $(seq "${first_of[$1]}" $((first_of[$1] + 3))); do
        if [ "$port" -ne "$2" ] && grep -qi ":$(printf %04X "$port") 00000000:0000 0A" /proc/net/tcp; then
            echo "$port"
        fi
    done
}

# look_at_export HOST: with the certificate of HOST, if QEMU wants one
look_at_export()
{
    local creds=(--object "tls-creds-x509,id=t,dir=$tmp/$1/direct,endpoint=client,verify-peer=yes")
    local export="driver=nbd,host=127.0.0.1,port=$nbd,export=vda" status=0
    if [ -n "$more" ]; then
        creds=()
    else
        export+=,tls-creds=t
    fi
    timeout $SOON qemu-img info "${creds[@]}" --image-opts "$export" >"$tmp/told" 2>&1 || status=$?
    [ $status -eq 0 ] || fail "not let in at the NBD port, exit code $status: $(cat "$tmp/told")"
}

# call: descriptors of connections that stay go to $callers
call()
{
    local fd
    exec {fd}<>"/dev/tcp/127.0.0.1/$ram"
    callers+=("$fd")
}

# strangers_call: in each way, some at a time
strangers_call()
{
    callers=()
    call
    look_at_export "$1" # before more of them could meet a full queue
    call
    call
    printf 'GET / HTTP/1.0\r\n' >&"${callers[2]}"
    call
    printf 'GET / HTTP/1.0\r\n\r\n' >&"${callers[3]}"
    : <"/dev/tcp/127.0.0.1/$ram" # and hangs up
}

strangers_leave()
{
    local fd
    for fd in "${callers[@]}"; do
        exec {fd}>&-
    done
}

# with_strangers FROM TO [OPTION]
with_strangers()
{
    local from=$1 to=$2
    more=${3:-}
    echo "== from $from to $to $more"
    # shellcheck disable=SC2086
    begin "$from" "$to" guest "${options[@]}" --bandwidth 200K $more
    copying "$from" guest
    nbd=$(qmp "$from" guest query-named-block-nodes |
        jq -r '[.[] | select(.drv == "nbd").file | capture(":(?<port>[0-9]+)/").port] | unique[]')
    ram=$(port_for_memory "$to" "$nbd")
    [ -n "$ram" ] || fail "nobody listens for memory"
    look_at_export "$from"
    strangers_call "$from"
    look_at_export "$from"
    timeout $SOON "$bistream" -c "$tmp/$from/control" job set guest --bandwidth 0 >/dev/null
    ends 0 ''
    result '.mode == "direct"'
    strangers_leave
    arrived "$from" "$to" guest
}

new_guest a guest 2 qcow2,raw
with_strangers a b
with_strangers b a --no-tls
