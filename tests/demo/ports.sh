# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Who listens on a TCP port while the guest moves?  In the background ss is asked again and again,
# on both hosts, and each answer is noted with the phase that the migration was in by the source's
# log.  Of this machine's listeners only those of the demonstration's own processes count; in the
# destination's namespace all do.  Sourced by demo.sh.

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

# listeners: "HOST ADDRESS:PORT" of each listening socket that counts
listeners()
{
    local line fields
    while read -r line; do
        read -ra fields <<<"$line"
        [[ $line =~ pid=([0-9]+) ]] && ours "${BASH_REMATCH[1]}" && echo "source ${fields[3]}"
    done < <(ss -ltnpH)
    [ -z "$namespace" ] || ss -N "$namespace" -ltnH | awk '{ print "destination", $4 }'
}

# Writes a line "PHASE HOST ADDRESS:PORT HOST ADDRESS:PORT..." for each look.
watch_ports()
{
    local phase=before line
    trap - EXIT ERR
    exec 3<"$dir/source/bistreamd.log"
    while :; do
        while read -r line <&3; do
            [[ $line =~ \(demo\)\ out:\ ([a-z]+) ]] && phase=${BASH_REMATCH[1]}
        done
        echo "$phase" $(listeners)
    done >"$dir/ports.log" 2>/dev/null
}

prove_ports()
{
    local expected="source ${address[source]} destination ${address[destination]}" phases phase
    [ -n "$namespace" ] || expected="source ${address[source]} source ${address[destination]}"
    phases=$(awk -v expected="$expected" '
        {
            phase = $1
            sub(/^[^ ]* ?/, "")
            count = split($0, words)
            for (i = 1; i < count; i += 2)
                if (index(expected " ", words[i] " " words[i + 1] " ") == 0) {
                    print phase ": " words[i] " listens on " words[i + 1] > "/dev/stderr"
                    bad = 1
                }
            if (count != 4)
                bad = 1
            if (!looks[phase]++)
                order[++n] = phase
        }
        END {
            for (i = 1; i <= n; i++)
                if (order[i] != "completed")
                    printf "%s%s %d", i > 1 ? ", " : "", order[i], looks[order[i]]
            if (looks["completed"])
                printf ", after %d", looks["completed"]
            exit bad
        }' "$dir/ports.log") || fail "another TCP port was open, or none (see ports.log)"
    ok "no listening TCP port but the daemons' own two, in each look with ss ($phases)"
    for phase in begin prepare mirror memory switch finish confirm; do
        [[ " $phases" == *" $phase "* ]] ||
            echo "        (phase $phase was over before ss could look)"
    done
    if [ -n "$namespace" ] && command -v nft >/dev/null; then
        ok "the destination's firewall let in" \
            "$(mib "$(counted passed)") to port $port and refused" \
            "$(mib "$(counted refused)") of anything else"
    fi
}

# counted NAME: bytes that the firewall's counter has seen
counted()
{
    inside nft list counter inet demo "$1" | sed -n 's/.*bytes \([0-9]*\).*/\1/p'
}
