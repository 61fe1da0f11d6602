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
gate=$PWD/gate
wire=$PWD/wire
ping='ping = "1s"' # a silence is noticed after 3

# ---- hosts -------------------------------------------------------------------------------------

# start_host HOST: its QEMUs' disks are as $tmp/HOST/disks says when they start: empty, "slow RATE"
# (bytes a second) or "fails read|write" (one request of disk vdb does)
start_host()
{
    mkdir -p "$tmp/$1/pool"
    touch "$tmp/$1/disks"
    cat >"$tmp/$1/qemu" <<END
#!/bin/bash
read -r how what <"$tmp/$1/disks"
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
        error+=,file.inject-error.0.sector=$window
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
    start_daemon "$1" "$ping" "qemu_binary = \"$tmp/$1/qemu\""
}

# kill_daemon HOST
kill_daemon()
{
    kill -KILL "${pid_of[$1]}"
    wait "${pid_of[$1]}" 2>/dev/null || :
    unset "pid_of[$1]"
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

# not_twice: whatever has happened, it doesn't run at both ends
not_twice()
{
    ! runs_at a || ! runs_at b || fail "the guest runs at both ends"
}

# ---- the way -----------------------------------------------------------------------------------

start_wire()
{
    coproc WIRE { exec "$wire" "${port_of[b]}" "$tmp/wire.port"; }
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
    begin a way guest --copy-storage-all
}

# command NAME: as QMP has it
command_text()
{
    printf '"execute":"%s"' "$1"
}

# RAM goes so slowly that it takes a minute.
slow_memory()
{
    qmp_at a '{"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 50000}}' >/dev/null
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
    jq -e --arg phase "$1" 'select(.type == "progress" and .phase == $phase)' "$tmp/events"
}

# stop_in PHASE: begins the migration, and holds it there
stop_in()
{
    case $1 in
    prepare) # volumes and QEMU are there at the destination
        watch hold b "$(command_text block-export-add)"
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
        slow_memory
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

# The disk is made fast again then: what waits for it comes to its end, and to the error.
fill_pool()
{
    fill "$tmp/b/pool"
    qmp_at b '{"execute": "qom-set", "arguments": {"path": "/objects/slow", "property": "limits",
        "value": {"bps-total": 0}}}' >/dev/null
}

# small_disk SIZE FOLDER
small_disk()
{
    mkdir -p "$2"
    requires test "$(id -u)" -eq 0
    requires mount -t tmpfs -o size="$1" bistream-test "$2"
    mounts+=("$2")
}

# fill FOLDER: to the last byte
fill()
{
    fallocate -l "$(df --output=avail -B 1 "$1" | tail -n 1)" "$1/filler"
}

# before_fault PHASE FAULT: what has to stand before the migration begins
before_fault()
{
    mkdir -p "$tmp/a" "$tmp/b/pool"
    case $1,$2 in
    mirror,io-error-destination) echo fails write >"$tmp/b/disks" ;;
    mirror,io-error-source) echo fails read >"$tmp/a/disks" ;;
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

# strike FAULT: does it
strike()
{
    case $1 in
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
    stop-destination) kill -STOP "${pid_of[b]}" ;;
    disk-full) fill_pool ;;
    journal-full-source) fill "$tmp/a/state" ;;
    journal-full-destination) fill "$tmp/b/state" ;;
    abort) kill -INT "$client" ;;
    esac
}

# mend FAULT: all daemons run, the way is open
mend()
{
    case $1 in
    kill-source | reboot-source) start_daemon a "$ping" "qemu_binary = \"$tmp/a/qemu\"" ;;
    kill-destination | reboot-destination)
        start_daemon b "$ping" "qemu_binary = \"$tmp/b/qemu\""
        way "port ${port_of[b]}"
        ;;
    stop-destination) kill -CONT "${pid_of[b]}" ;;
    disk-full) rm "$tmp/b/pool/filler" ;;
    # What could not be written is not known after a restart.
    journal-full-source)
        kill_daemon a
        rm "$tmp/a/state/filler"
        start_daemon a "$ping" "qemu_binary = \"$tmp/a/qemu\""
        ;;
    journal-full-destination)
        kill_daemon b
        rm "$tmp/b/state/filler"
        start_daemon b "$ping" "qemu_binary = \"$tmp/b/qemu\""
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
# and go with the daemon, so their inodes don't count.  Logs of QEMUs, and what is known
# of jobs that have ended, are kept on purpose.)
inventory()
{
    (cd "$tmp/$1" && find pool -printf '%i %y %p\n' && find run state \( -path state/log -o -path state/jobs \) -prune -o -printf '%y %p\n') | sort -k 2
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
        -o -path 'pool/*' ! -name 'guest-vd?.*' \) 2>/dev/null | sort)
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
            --copy-storage-all
        at b undefine guest >/dev/null
        must_fail "a file ${disks[0]} exists already; move it away or delete it" a b guest \
            --copy-storage-all
        rm "${disks[@]}"
        nothing_left_at b
        ;;
    esac
}

# again PLACE: a second migration succeeds
again()
{
    if [ "$1" = destination ] || [ "$1" = shut-off-there ]; then
        must_migrate b a guest --copy-storage-all
        moved b a
    else
        must_migrate a b guest --copy-storage-all
        moved a b
    fi
}
