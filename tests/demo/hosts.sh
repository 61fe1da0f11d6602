# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# The two hosts of the demonstration: their certificates, the network between them, their daemons,
# and the end of it all.  Sourced by demo.sh.

make_certificates()
{
    local host
    "$bistream" pki ca --pki-dir "$dir/ca" >"$dir/pki.log"
    choose_addresses
    for host in source destination; do
        mkdir -p "$dir/$host/images"
        "$bistream" pki host "$host.demo" --pki-dir "$dir/ca" --out "$dir/$host/pki" \
            --ip "${address[$host]}" >>"$dir/pki.log"
    done
}

# As root two addresses of 198.18.0.0/15, which is kept for tests and routed nowhere.
choose_addresses()
{
    address=([source]=127.0.0.1 [destination]=127.0.0.1)
    reason="not run as root"
    [ "$(id -u)" -eq 0 ] || return 0
    reason="this machine allows no network namespaces"
    ip netns add "bistream-demo-$$" 2>>"$dir/network.log" || return 0
    namespace=bistream-demo-$$
    local net=198.18.$(($$ / 64 % 256)).$(($$ % 64 * 4))
    address=([source]=${net%.*}.$((${net##*.} + 1)) [destination]=${net%.*}.$((${net##*.} + 2)))
}

# inside COMMAND...: in the destination's network namespace
inside()
{
    ip netns exec "$namespace" "$@"
}

# Nothing comes in or goes out but what belongs to connections to the one port.
raise_firewall()
{
    if command -v nft >/dev/null; then
        inside nft -f - <<END
table inet demo {
    counter passed { }
    counter refused { }
    chain input {
        type filter hook input priority 0; policy drop;
        tcp dport $port counter name passed accept
        counter name refused drop
    }
    chain output {
        type filter hook output priority 0; policy drop;
        tcp sport $port accept
    }
}
END
    else
        inside iptables -P INPUT DROP
        inside iptables -P OUTPUT DROP
        inside iptables -A INPUT -p tcp --dport $port -j ACCEPT
        inside iptables -A OUTPUT -p tcp --sport $port -j ACCEPT
    fi
}

make_network()
{
    [ -n "$namespace" ] || return 0
    local near=bs-demo-$$
    {
        ip link add "${near::15}" type veth peer name eth0 netns "$namespace"
        ip address add "${address[source]}/30" dev "${near::15}"
        ip link set "${near::15}" up
        inside ip address add "${address[destination]}/30" dev eth0
        inside ip link set eth0 up
        inside ip link set lo up
        raise_firewall
    } >>"$dir/network.log" 2>&1 || fail "the network between the hosts could not be made"
}

# where_is HOST: what there is to say about its place
where_is()
{
    if [ -z "$namespace" ]; then
        echo " (loopback: $reason)"
    elif [ "$1" = destination ]; then
        echo ", in a network namespace that admits this port only"
    fi
}

# start_daemon HOST
start_daemon()
{
    local host=$1 listen=${address[$1]}:0 enter=()
    if [ -n "$namespace" ]; then
        listen=${address[$host]}:$port
        [ "$host" = source ] || enter=(ip netns exec "$namespace")
    fi
    cat >"$dir/$host/bistreamd.conf" <<END
listen         = "$listen"
control_socket = "$dir/$host/run/control"
control_group  = ""
pki_dir        = "$dir/$host/pki"
run_dir        = "$dir/$host/run"
state_dir      = "$dir/$host/state"
pool_dir       = "$dir/$host/images"
allowed_peers  = {"source.demo", "destination.demo"}
END
    # Of a session of its own, where a terminal's Ctrl-C doesn't come.  Each of these becomes the
    # next, so the pid is the daemon's.
    setsid "${enter[@]}" "$bistreamd" --config "$dir/$host/bistreamd.conf" \
        >>"$dir/$host/bistreamd.log" 2>&1 &
    daemon[$host]=$!
    until [ -e "$dir/$host/run/port" ]; do # written once both sockets accept
        kill -0 "${daemon[$host]}" 2>/dev/null ||
            fail "bistreamd ended: $(tail -n 1 "$dir/$host/bistreamd.log")"
        sleep 0.02
    done
    address[$host]=${address[$host]}:$(<"$dir/$host/run/port")
}

# ours PID: whether the process still is one of this demonstration
ours()
{
    [ -r "/proc/$1/cmdline" ] && grep -qzF -e "$dir/" "/proc/$1/cmdline"
}

# Ends the daemons, then the QEMUs that they left running, then the network.
end_hosts()
{
    local pid file
    for pid in $watcher "${daemon[@]}"; do
        kill "$pid" 2>/dev/null || :
        wait "$pid" 2>/dev/null || :
    done
    for file in "$dir"/*/run/*.pid; do
        [ -f "$file" ] || continue
        pid=$(<"$file")
        if ours "$pid"; then
            kill -KILL "$pid" 2>/dev/null || :
            while ours "$pid"; do sleep 0.02; done
        fi
    done
    if [ -n "$namespace" ]; then
        ip netns delete "$namespace" # and with it both ends of the link
    fi
}
