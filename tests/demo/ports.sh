# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Who listens on a TCP port while the guest moves?  In the background ss is asked again and again,
# on both hosts, and each answer is noted with the phase that the migration was in by the source's
# log.  In the destination's namespace every listener counts.  On the machine itself those don't that
# were there before, or that belong to a process which is none of the demonstration's; so whose a new
# one is has to be found out, once per port.  Sourced by demo.sh.

declare -A strange=() # ADDRESS:PORT that others listen on

start_watching()
{
    watch_ports &
    watcher=$!
}

stop_watching()
{
    kill "$watcher"
    wait "$watcher" 2>/dev/null || :
    watcher=
}

# is_strange ADDRESS:PORT: nobody of ours listens there
is_strange()
{
    local line pid
    line=$(ss -ltnpH "sport = :${1##*:}")
    for pid in $(grep -o 'pid=[0-9]*' <<<"$line"); do
        ! ours "${pid#pid=}" || return 1
    done
}

# look NAMESPACE-OPTION...: sets $listeners to "ADDRESS:PORT ADDRESS:PORT..."
look()
{
    local fields
    listeners=
    while read -ra fields; do
        [ $# -gt 0 ] || [ -z "${strange[${fields[3]}]:-}" ] || continue
        if [ $# -eq 0 ] && [[ " ${address[*]} " != *" ${fields[3]} "* ]] && is_strange "${fields[3]}"; then
            strange[${fields[3]}]=1
            continue
        fi
        listeners+=" ${fields[3]}"
    done <<<"$(ss "$@" -ltnH)"
}

# Writes a line "PHASE ADDRESS:PORT ADDRESS:PORT..." for each look.
watch_ports()
{
    local phase=before line listeners here
    trap - EXIT ERR
    exec 3<"$dir/source/bistreamd.log"
    while :; do
        while read -r line <&3; do
            [[ $line =~ \(demo\)\ out:\ ([a-z]+) ]] && phase=${BASH_REMATCH[1]}
        done
        look
        here=$listeners
        listeners=
        [ -z "$namespace" ] || look -N "$namespace"
        echo "$phase$here$listeners"
    done >"$dir/ports.log" 2>/dev/null
}

prove_ports()
{
    local phases phase
    phases=$(awk -v expected="${address[source]} ${address[destination]}" '
        {
            phase = $1
            sub(/^[^ ]* /, "")
            if ($0 != expected) {
                print "in phase " phase ": " $0 > "/dev/stderr"
                bad = 1
            }
            if (phase == "completed")
                phase = "after"
            if (!looks[phase]++)
                order[++n] = phase
        }
        END {
            for (i = 1; i <= n; i++)
                printf "%s%s %d", (i > 1 ? ", " : ""), order[i], looks[order[i]]
            exit bad || n == 0
        }' "$dir/ports.log") || fail "another TCP port was listened on, or none; see ports.log"
    ok "no listening TCP port but the daemons' own, in each look with ss ($phases)"
    for phase in prepare mirror memory switch finish confirm; do
        [[ " $phases" == *" $phase "* ]] ||
            echo "        (phase $phase was over before ss could look)"
    done
    if [ -n "$namespace" ] && command -v nft >/dev/null; then
        ok "the destination's firewall let in $(size_of "$(counted passed)") to port $port and refused" \
            "$(size_of "$(counted refused)") of anything else"
    fi
}

# counted NAME: bytes that the firewall's counter has seen
counted()
{
    inside nft list counter inet demo "$1" | sed -n 's/.*bytes \([0-9]*\).*/\1/p'
}
