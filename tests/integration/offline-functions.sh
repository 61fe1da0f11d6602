# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# What the tests of guests that are shut off share, on top of migrate-functions.sh (or
# fault-functions.sh), which stands before this in each of them.
requires qemu-storage-daemon --version

# Storage daemons outlive their daemon.
storage_daemons()
{
    local file
    for file in $(grep -lz -e '^qemu-storage-daemon$' /proc/[0-9]*/cmdline 2>/dev/null); do
        if grep -qzF -e "${tmp:?}/" "$file" 2>/dev/null; then
            basename "$(dirname "$file")"
        fi
    done
}

no_storage_daemons()
{
    [ -z "$(storage_daemons)" ]
}

finish_storage()
{
    local status=$? pid
    trap - EXIT
    set +e
    for pid in $(storage_daemons); do
        kill -KILL "$pid"
    done
    (exit $status)
    finish_guests
}
trap finish_storage EXIT

# shut_off_guest HOST NAME DISKS FORMATS [OPTION...]: one that has written for a while; its counter
# is $last
shut_off_guest()
{
    new_guest "$@"
    shut_off "$1" "$2"
}

shut_off()
{
    qmp "$1" "$2" stop >/dev/null
    last=$(counter "$1" "$2")
    at "$1" destroy "$2" >/dev/null
    state_is "$1" "$2" 'shut off' || fail "$2 is $(info "$1" "$2" state)"
}

# is_there FROM TO NAME [NEW-NAME]: shut off at TO with the images of FROM, moved at FROM; no process
# is left that serves them
is_there()
{
    local from=$1 to=$2 name=$3 new=${4:-$3} old fresh i
    state_is "$to" "$new" 'shut off' || fail "$new at $to is $(info "$to" "$new" state)"
    state_is "$from" "$name" 'moved to 127.0.0.1' || fail "$name is $(info "$from" "$name" state)"
    no_storage_daemons || fail "storage daemons are left"
    mapfile -t old < <(images "$from" "$name")
    mapfile -t fresh < <(images "$to" "$name")
    [ ${#old[@]} -eq ${#fresh[@]} ] || fail "${#fresh[@]} images arrived of ${#old[@]}"
    for i in "${!old[@]}"; do
        qemu-img compare -q "${old[i]}" "${fresh[i]}" || fail "${fresh[i]} is not ${old[i]}"
    done
    [ -n "${flattened:-}" ] || still_sparse 0 "${old[@]}" -- "${fresh[@]}"
    "$guest_dir/guestcheck" images --counter "$last" "${fresh[@]}"
}

# runs HOST NAME: it can be started, and has written over all that it wrote in its life before
runs()
{
    at "$1" start "$2" >/dev/null
    counter "$1" "$2" --above "$last" >/dev/null
    goes_on "$1" "$2"
}

# is_not_at HOST NAME: nothing of it but that it has moved
is_not_at()
{
    [[ $(at "$1" --json list --all | jq -r ".[] | select(.name == \"$2\").state") == ?(moved to *) ]]
}

# unharmed FROM TO NAME: the migration failed, and the guest is shut off at FROM only
unharmed()
{
    state_is "$1" "$3" 'shut off' || fail "$3 is $(info "$1" "$3" state)"
    wait_for "nothing of $3 at $2" is_not_at "$2" "$3"
    WAIT_SECONDS=20 wait_for "storage daemons" no_storage_daemons
}

# half_way HOST NAME: some MiB of NAME-vda have arrived there
half_way()
{
    wait_for "some of the copy" has_some "$tmp/$1/pool/$2-vda.qcow2"
}

has_some()
{
    [ "$(stat -c %b "$1")" -gt 16384 ]
}

# partials HOST: copies that are kept there for the next attempt
partials()
{
    (cd "$tmp/$1/pool" && ls -- *.partial-* 2>/dev/null) || :
}

journal_is_empty()
{
    [ -z "$(ls "$tmp/$1/state/migrations")" ]
}
