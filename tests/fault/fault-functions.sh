# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# The parts of a cell of the fault matrix: how a migration is stopped exactly in a phase, what is
# done to it there, how the hosts are mended afterwards, and what has to be true in the end.
#
# The guest is `guest`; it runs at host a and shall go to host b, whose way leads over wire, a relay
# that can hold, cut and let go what it carries.  A moment is chosen by gate, which holds a daemon's
# thread before it writes a certain text to its log or to QEMU.
. "${srcdir:-.}/../integration/migrate-functions.sh"

# Without this a gate may trace its own children only.
may_trace()
{
    [ "$(id -u)" -eq 0 ] || [ "$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)" -eq 0 ]
}
requires may_trace

window=2048 # the sector of each disk where the guest's writes begin
gate=$(readlink -f "$top_builddir/tests/fault/gate")
wire=$(readlink -f "$top_builddir/tests/fault/wire")

now_ms()
{
    echo $(($(date +%s%N) / 1000000))
}

# ---- hosts -------------------------------------------------------------------------------------

there=() # more options for migrations by the wire

# set_mode MODE: as which the cell's migrations go
set_mode()
{
    local host
    in_mode "$1" a b
    there=()
    [ "$1" != direct ] || there=(--listen-address 127.0.0.2)
    for host in a b; do
        mkdir -p "$tmp/$host/pool"
        # A silence is noticed after 3 s and ends the session, and a guest that stands still for it is
        # given 3 s, too.
        printf '%s\n' 'ping = "1s"' 'grace = "0s"' 'stall_timeout = "3s"' "qemu_binary = \"$tmp/$host/qemu\"" \
            >>"$tmp/$host/lines"
    done
}

# start_host HOST: its QEMUs' disks are as $tmp/HOST/disks says when they start: empty, "slow RATE"
# (bytes a second) or "fails read|write SECTOR" (one request for that sector of disk vdb does)
start_host()
{
    touch "$tmp/$1/disks"
    cat >"$tmp/$1/qemu" <<END
#!/bin/bash
read -r how what sector <"$tmp/$1/disks"
args=()
for arg in "\$@"; do
    case \$how,\$arg in
    slow,if=none,*file.driver=file,*)
        arg=\${arg/file.driver=file,/file.driver=throttle,file.throttle-group=slow,}
        arg=\${arg/,file.filename=/,file.file.driver=file,file.file.filename=}
        ;;
    fails,if=none,id=drive-vdb,*file.driver=file,*)
        error=file.inject-error.0.event=none,file.inject-error.0.iotype=\$what
        error+=,file.inject-error.0.once=on,file.inject-error.0.errno=5
        error+=,file.inject-error.0.sector=\$sector
        arg=\${arg/file.driver=file,/file.driver=blkdebug,\$error,}
        arg=\${arg/,file.filename=/,file.image.driver=file,file.image.filename=}
        ;;
    esac
    args+=("\$arg")
done
[ "\$how" != slow ] || args=(-object throttle-group,id=slow,x-bps-total=\$what "\${args[@]}")
exec $QEMU "\${args[@]}"
END
    chmod +x "$tmp/$1/qemu"
    run_host "$1"
}

# reboot HOST: what is left of a host that was switched off: its disks
reboot()
{
    local pid
    kill_daemon "$1"
    for pid in $(qemus_of "$1"); do
        kill -KILL "$pid"
        wait_for "its end" process_is_gone "$pid"
    done
    rm -rf "$tmp/$1"/run
}

# qmp_at HOST COMMAND...: at the operator's socket of the one QEMU there, with or without a daemon
qmp_at()
{
    timeout 5 "$guest_dir/guestcheck" qmp "$tmp/$1"/run/*.admin.qmp "${@:2}"
}

# runs_at HOST: its QEMU says that the guest runs
runs_at()
{
    [ -n "$(qemus_of "$1")" ] && qmp_at "$1" query-status 2>/dev/null | jq -e .running >/dev/null
}

has_no_qemu()
{
    [ -z "$(qemus_of "$1")" ]
}

# not_twice: whatever has happened, it doesn't run at both ends
not_twice()
{
    ! runs_at a || ! runs_at b || fail "the guest runs at both ends"
}

# ---- the way -----------------------------------------------------------------------------------

start_wire()
{
    local ports=()
    [ ${#there[@]} -eq 0 ] ||
        mapfile -t ports < <(seq $((first_port + 4)) $((first_port + 7)))
    coproc WIRE { exec "$wire" "${port_of[b]}" "$tmp/wire.port" "${ports[@]}"; }
    other_pids+=("$WIRE_PID")
    wait_for "wire" test -s "$tmp/wire.port"
    port_of[way]=$(<"$tmp/wire.port")
}

# way COMMAND: the wire does it, before this ends
way()
{
    local answer
    echo "$1" >&"${WIRE[1]}"
    read -r answer <&"${WIRE[0]}"
    [ "$answer" = "$1" ] || fail "the wire said '$answer' to '$1'"
}

# ---- moments -----------------------------------------------------------------------------------

# watch hold|spoil HOST TEXT: a gate in the daemon of HOST, for what it is about to write
watch()
{
    rm -f "$tmp/gate" "$tmp/gate.ready"
    "$gate" "$1" "${pid_of[$2]}" "$3" "$tmp/gate" &
    gate_pid=$!
    other_pids+=($gate_pid)
    wait_for "gate" test -e "$tmp/gate.ready"
}

# reached: the daemon is there
reached()
{
    wait_for "the moment" test -e "$tmp/gate"
}

# release: the held thread goes on
release()
{
    [ -n "${gate_pid:-}" ] || return 0
    kill "$gate_pid" 2>/dev/null || :
    wait "$gate_pid" 2>/dev/null || :
    gate_pid=
}

depart()
{
    begin a way guest "${options[@]}" "${there[@]}"
}

# command NAME: as QMP has it
command_text()
{
    printf '"execute":"%s"' "$1"
}

# memory_rate BYTES: a second; with 50000 it takes a minute
memory_rate()
{
    qmp_at a "{\"execute\": \"migrate-set-parameters\",
        \"arguments\": {\"max-bandwidth\": $1}}" >/dev/null
}

# Until now it was the destination's disks that the migration waited for.
fast_disks()
{
    qmp_at b '{"execute": "qom-set", "arguments": {"path": "/objects/slow", "property": "limits",
        "value": {"bps-total": 0}}}' >/dev/null
}

in_device()
{
    local status=0 answer
    answer=$(timeout 0.5 "$guest_dir/guestcheck" qmp "$tmp/a"/run/*.admin.qmp query-migrate) || status=$?
    # In this phase QEMU may be deaf until somebody reads.
    [ $status -eq 124 ] || jq -e '.status == "device"' <<<"$answer"
}

in_progress()
{
    jq -es --arg phase "$1" 'any(.[]; .type == "progress" and .phase == $phase)' "$tmp/events"
}

# stop_in PHASE: begins the migration, and holds it there
stop_in()
{
    case $1 in
    begin) # the destination knows nothing
        watch hold a "$(command_text query-block-jobs)"
        depart
        reached
        ;;
    prepare) # volumes and QEMU are there at the destination
        watch hold b "$(command_text block-export-add)"
        depart
        reached
        ;;
    connect) # the first mirror is about to connect
        watch hold a "$(command_text blockdev-add)"
        depart
        reached
        ;;
    mirror)
        depart
        copying a guest
        ;;
    memory)
        watch hold a "$(command_text migrate)"
        depart
        reached
        memory_rate 50000
        release
        wait_for "memory" in_progress memory
        ;;
    switch) # the guest stands, the mirrors are not complete
        watch hold a ' out: switch'
        depart
        reached
        ;;
    device) # the last of RAM and the devices are on their way
        watch hold a "$(command_text migrate-continue)"
        depart
        reached
        way 'hold there'
        release
        wait_for "device" in_device
        ;;
    finish-lost) # asked, and that never arrives while the connection lives
        watch hold a ' out: finish'
        depart
        reached
        way 'hold there'
        release
        wait_for "finish" in_progress finish
        ;;
    finish) # the destination has decided that the guest is its own, and has not resumed it yet
        watch hold b "$(command_text cont)"
        depart
        reached
        ;;
    answer-lost) # the guest runs at the destination, and nobody at the source knows
        watch hold a ' out: finish'
        depart
        reached
        way 'hold back'
        release
        wait_for "running" runs_at b
        ;;
    confirm) # the source knows, and has not ended its QEMU yet
        watch hold a ' out: confirm'
        depart
        reached
        ;;
    esac
}

# spoil_in PHASE HOST: begins the migration, in which the QEMU of HOST refuses a command
spoil_in()
{
    local command
    case $1,$2 in
    begin,a) command=query-block-jobs ;;
    prepare,b) command=nbd-server-start ;;
    mirror,a) command=blockdev-mirror ;;
    memory,a) command=migrate ;;
    switch,a) command=block-job-cancel ;;
    device,a) command=migrate-continue ;;
    finish,b) command=nbd-server-stop ;;
    esac
    watch spoil "$2" "$(command_text $command)"
    depart
    reached
}

# ---- faults ------------------------------------------------------------------------------------

# fill_pool PHASE: what waits for a slow disk comes to its end then, and to the error
fill_pool()
{
    fill "$tmp/b/pool"
    [ "$1" != mirror ] || fast_disks
}

# small_disk SIZE FOLDER
small_disk()
{
    mkdir -p "$2"
    requires test "$(id -u)" -eq 0
    requires mount -t tmpfs -o size="$1" bistream-test "$2"
    mounts+=("$2")
}

# fill FOLDER: to the last byte, whoever else writes there
fill()
{
    for _ in {1..50}; do
        ! fallocate -l "$(df --output=avail -B 1 "$1" | tail -n 1)" "$1/filler" 2>/dev/null || return 0
    done
    fail "$1 doesn't get full"
}

# sector_of WRITE: where write n, an odd number, is on disk vdb: in slot n / 2, of 8 sectors
sector_of()
{
    echo $((window + $1 / 2 % slots * 8))
}

# before_fault PHASE FAULT: what has to stand before the guest does
before_fault()
{
    case $1,$2 in
    mirror,io-error-destination) echo fails write "$(sector_of 1)" >"$tmp/b/disks" ;;
    mirror,io-error-source) echo fails read "$(sector_of 1)" >"$tmp/a/disks" ;;
    memory,io-error-source) echo fails read "$(sector_of 751)" >"$tmp/a/disks" ;;
    mirror,qmp-*) ;;
    mirror,disk-full) echo slow 3000000 >"$tmp/b/disks" ;;
    mirror,*) echo slow 1000000 >"$tmp/b/disks" ;;
    esac
    case $2 in
    disk-full) small_disk 160m "$tmp/b/pool" ;;
    journal-full-source) small_disk 4m "$tmp/a/state" ;;
    journal-full-destination) small_disk 4m "$tmp/b/state" ;;
    esac
}

# fail_in PHASE HOST: begins the migration, in which a request of a disk of HOST's fails; in memory
# that is one for what the guest writes only then
fail_in()
{
    if [ "$1" = memory ]; then
        [ "$2" = a ] ||
            echo fails write "$(sector_of $(($(counter a guest) / 2 * 2 + 501)))" >"$tmp/b/disks"
        stop_in memory
        [ ! -s "$tmp/said" ] || fail "too early: $(cat "$tmp/said")"
    else
        depart
    fi
}

# strike PHASE FAULT: does it
strike()
{
    case $2 in
    kill-source) kill_daemon a ;;
    kill-destination) kill_daemon b ;;
    reboot-source) reboot a ;;
    reboot-destination) reboot b ;;
    kill-source-qemu) kill -KILL "$(qemus_of a)" ;;
    kill-destination-qemu) kill -KILL "$(qemus_of b)" ;;
    cut) way cut ;;
    silent)
        way 'hold there'
        way 'hold back'
        ;;
    stop-source) kill -STOP "${pid_of[a]}" ;;
    stop-destination) kill -STOP "${pid_of[b]}" ;;
    stop-destination-qemu) kill -STOP "$(qemus_of b)" ;;
    disk-full) fill_pool "$1" ;;
    journal-full-source) fill "$tmp/a/state" ;;
    journal-full-destination) fill "$tmp/b/state" ;;
    abort) kill -INT "$client" ;;
    esac
}

# What stands still goes on before there is a result: what waits for it, waits.
go_on()
{
    local mode=$1 phase=$2 fault=$3 pid
    case $mode,$phase,$fault in
    *,stop-source)
        wait_for "fence" has_no_qemu b
        kill -CONT "${pid_of[a]}"
        ;;
    bistream,mirror,stop-destination-qemu | bistream,memory,stop-destination-qemu)
        # Nothing waits for that QEMU but the copy, so the guest runs on.
        counter a guest --above $(($(counter a guest) + 50)) >/dev/null
        [ ! -s "$tmp/said" ] || fail "given up: $(cat "$tmp/said")"
        kill -CONT "$(qemus_of b)"
        if [ "$phase" = mirror ]; then
            fast_disks
        else
            memory_rate 1000000000
        fi
        ;;
    esac
}

# mend FAULT: all daemons run, the way is open
mend()
{
    local pid
    case $1 in
    kill-source | reboot-source) run_host a ;;
    kill-destination | reboot-destination)
        run_host b
        way "port ${port_of[b]}"
        ;;
    stop-destination) kill -CONT "${pid_of[b]}" ;;
    stop-destination-qemu)
        for pid in $(qemus_of b); do # it may have been killed
            kill -CONT "$pid" 2>/dev/null || :
        done
        ;;
    disk-full) rm "$tmp/b/pool/filler" ;;
    # What could not be written is not known after a restart.
    journal-full-source)
        kill_daemon a
        rm "$tmp/a/state/filler"
        run_host a
        ;;
    journal-full-destination)
        kill_daemon b
        rm "$tmp/b/state/filler"
        run_host b
        way "port ${port_of[b]}"
        ;;
    esac
    : >"$tmp/a/disks"
    : >"$tmp/b/disks"
    way cut
    way go
}

# ---- afterwards --------------------------------------------------------------------------------

# What there is of a host that must not change by a migration that fails.  (Files of run_dir come
# and go with the daemon, so their inodes don't count.  Logs of QEMUs and what `job info --completed`
# tells are kept on purpose.)
inventory()
{
    (cd "$tmp/$1" && find pool -printf '%i %y %p\n' &&
        find run state \( -path state/log -o -path state/jobs \) -prune -o -printf '%y %p\n') |
        sort -k 2
    at "$1" --json list --all | jq -c '.[] | [.name, .state, .pid]'
    qemus_of "$1" | sed 's/^/QEMU /'
}

take_stock()
{
    local host
    for host in a b; do
        inventory $host >"$tmp/$host.before"
    done
}

has_its_stock()
{
    inventory "$1" >"$tmp/$1.after" && cmp -s "$tmp/$1.before" "$tmp/$1.after"
}

# nothing_left_at HOST: it is as it was
nothing_left_at()
{
    wait_for_quietly has_its_stock "$1" ||
        fail "$1 is not as before: $(diff "$tmp/$1.before" "$tmp/$1.after")"
}

# no_traces HOST: of any migration: sockets, folders, entries of the journal, volumes with odd names
no_traces()
{
    local found
    found=$(cd "$tmp/$1" && find run state/migrations pool \
        \( -path 'run/in-*' -o -path 'run/out-*' -o -path 'state/migrations/*' \
        -o -path 'pool/*' ! -name 'guest-vd?.qcow2' ! -name 'guest-vd?.raw' \) 2>/dev/null | sort)
    [ -z "$found" ]
}

no_traces_soon()
{
    wait_for_quietly no_traces "$1" ||
        fail "left at $1: $(cd "$tmp/$1" && find run state/migrations pool 2>/dev/null | tr '\n' ' ')"
}

# moved FROM TO: the guest lives at TO alone, whole, and nothing of the migration is left
moved()
{
    wait_for_quietly state_is "$2" guest running || fail "the guest at $2 is $(info "$2" guest state)"
    wait_for_quietly state_is "$1" guest 'moved to *' ||
        fail "the guest at $1 is $(info "$1" guest state)"
    [ -z "$(qemus_of "$1")" ] || fail "a QEMU is left at $1"
    flattened=yes arrived "$1" "$2" guest # it has gone on writing for as long as it took to mend
    no_traces_soon "$1"
    no_traces_soon "$2"
}

# is_in PLACE: the guest, now or soon, and nothing of the migration anywhere
is_in()
{
    local disks last
    case $1 in
    source)
        goes_on a guest
        nothing_left_at a
        nothing_left_at b
        ;;
    destination)
        moved a b
        ;;
    shut-off-there) # it lived there when that host was rebooted
        wait_for_quietly state_is a guest 'moved to *' || fail "the guest at a is $(info a guest state)"
        state_is b guest 'shut off' || fail "the guest at b is $(info b guest state)"
        mapfile -t disks < <(images b guest)
        last=$("$guest_dir/guestcheck" images "${disks[@]}" | sed 's/.*last=\([0-9]*\) .*/\1/')
        at b start guest >/dev/null
        counter b guest --above $((last + 20)) >/dev/null # it counts from 1 again
        goes_on b guest
        no_traces_soon a
        no_traces_soon b
        ;;
    shut-off) # its QEMU was killed: it is not somewhere else, and can be started again
        wait_for_quietly state_is a guest 'shut off' || fail "the guest at a is $(info a guest state)"
        nothing_left_at b
        mapfile -t disks < <(images a guest)
        last=$("$guest_dir/guestcheck" images "${disks[@]}" | sed 's/.*last=\([0-9]*\) .*/\1/')
        at a start guest >/dev/null
        counter a guest --above $((last + 20)) >/dev/null # it counts from 1 again
        goes_on a guest
        no_traces_soon a
        ;;
    lost) # it died at the destination, after it may have run: the operator decides
        state_is a guest paused || fail "the guest at a is $(info a guest state)"
        at a job resolve guest --keep >/dev/null
        goes_on a guest
        nothing_left_at a
        # Its images there may be the newest, so only the operator throws them away.
        no_traces_soon b
        mapfile -t disks < <(images b guest)
        [ ${#disks[@]} -eq 2 ] || fail "of its disks ${#disks[@]} are left at b"
        must_fail "domain guest exists here as well, shut off, with disks of its own" a b guest \
            "${options[@]}" "${there[@]}"
        at b undefine guest >/dev/null
        must_fail "a file ${disks[0]} exists already; move it away or delete it" a b guest \
            "${options[@]}" "${there[@]}"
        rm "${disks[@]}"
        nothing_left_at b
        ;;
    esac
}

# again PLACE: a second migration succeeds
again()
{
    if [ "$1" = destination ] || [ "$1" = shut-off-there ]; then
        must_migrate b a guest "${options[@]}"
        moved b a
    else
        must_migrate a b guest "${options[@]}" "${there[@]}"
        moved a b
    fi
}
