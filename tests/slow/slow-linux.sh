#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Linux migrates while it writes: Debian's kernel with ext4 on a raw and a qcow2 disk, and on each a
# writer that appends records with fsync and then says so on the serial port ("vda 17 SHA256").  A
# record is a number, the sum of the record before repeated to 3 KiB, and a sum of all that.  The guest
# goes from a to b, and from b to c, which has QEMU 10.
#
# Proof 1: b's images at the moment after the switch, as if the power had failed: the journal is
# replayed, the filesystem is clean, and every record that was acknowledged until then is there.
# Proof 2: after an orderly shutdown at c the filesystems are clean without that, and each has exactly
# the records that were acknowledged, by a, b and c in turn.
set -e
. "$srcdir/../integration/migrate-functions.sh"
. "$srcdir/debian.sh"
WAIT_SECONDS=240

PATH=$PATH:/usr/sbin:/sbin
requires mkfs.ext4 -V
requires e2fsck -V
requires debugfs -V
requires xz --version
debian_qemu
debian_has linux-image-cloud-amd64 busybox-static
busybox=$debian/usr/bin/busybox

# ---- the guest ---------------------------------------------------------------------------------

# Of its own it has only what it needs to write and to hear the power button.
make_initramfs()
{
    local root=$tmp/initramfs modules module
    modules=$(echo "$debian"/usr/lib/modules/*-cloud-amd64/kernel)
    mkdir -p "$root"/{bin,dev,disks/vda,disks/vdb,etc/acpi/PWRF,proc,sys,var/log,var/run,modules}
    cp "$busybox" "$root/bin/"
    for module in block/virtio_blk acpi/button input/evdev; do
        xz -dc "$modules/drivers/$module.ko.xz" >"$root/modules/${module#*/}.ko"
    done
    init >"$root/init"
    printf '#!/bin/sh\n: >/stop\n' >"$root/etc/acpi/PWRF/00000080" # what acpid runs for the button
    chmod +x "$root/init" "$root/etc/acpi/PWRF/00000080"
    (cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null) | gzip >"$tmp/initrd"
}

init()
{
    cat <<'END'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
exec >/dev/ttyS0 2>&1 </dev/null
/bin/busybox --install -s /bin
PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in /modules/*; do
    insmod $module
done
acpid

write_to()
{
    n=0 sum=$(echo | sha256sum)
    until [ -e /stop ]; do
        n=$((n + 1)) sum=${sum%% *}
        sums=$sum$sum$sum$sum$sum$sum
        record="$n $sums$sums$sums$sums$sums$sums$sums$sums"
        sum=$(echo "$record" | sha256sum)
        echo "$record ${sum%% *}" |
            dd of=/disks/$1/records bs=64k oflag=append conv=notrunc,fsync status=none &&
            echo "$1 $n ${sum%% *}"
    done
}

for disk in vda vdb; do
    mount -t ext4 /dev/$disk /disks/$disk || poweroff -f
done
write_to vda &
write_to vdb &
wait
umount /disks/vda && umount /disks/vdb && echo "unmounted"
poweroff -f
END
}

make_disks()
{
    mkdir -p "$tmp/a/pool" "$tmp/fill"
    head -c 24M /dev/urandom >"$tmp/fill/fill" # keeps the mirrors busy for a while
    mkfs.ext4 -q -d "$tmp/fill" "$tmp/a/pool/linux-vda.raw" 128M
    mkfs.ext4 -q -d "$tmp/fill" "$tmp/vdb" 128M
    qemu-img convert -O qcow2 "$tmp/vdb" "$tmp/a/pool/linux-vdb.qcow2"
}

# start_host NAME [LINE...]: the kernel is the host's business, not the definition's
start_host()
{
    start_daemon "$@" "qemu_args = {\"-kernel\", \"$(echo "$debian"/boot/vmlinuz-*-cloud-amd64)\", \
        \"-initrd\", \"$tmp/initrd\", \"-append\", \"console=ttyS0 loglevel=1 panic=-1\"}"
}

# ---- records -----------------------------------------------------------------------------------

# What host $1 has logged of the serial port.
serial_of()
{
    tr -d '\r' <"$tmp/$1/state/log/linux/serial.log"
}

# acknowledged TARGET HOST...: "N SUM" of each record, in the order of the hosts; a line that one host
# has begun goes on at the next
acknowledged()
{
    local target=$1 host
    shift
    for host in "$@"; do
        serial_of "$host"
    done | awk -v target="$target" '$1 == target && length($3) == 64 { print $2, $3 }'
}

# has_written HOST COUNT: as many records of each disk were acknowledged there
has_written()
{
    [ "$(acknowledged vda "$1" | wc -l)" -ge "$2" ] && [ "$(acknowledged vdb "$1" | wc -l)" -ge "$2" ]
}

# records_in FILESYSTEM: "N SUM" of each record; it is whole, and comes after the one before
records_in()
{
    local n sums sum expected=0 before
    before=$(echo | sha256sum)
    rm -f "$tmp/records"
    debugfs -R "dump /records $tmp/records" "$1" 2>/dev/null
    [ -e "$tmp/records" ] || fail "$1 has no records"
    while read -r n sums sum; do
        expected=$((expected + 1))
        [ "$n" = $expected ] || fail "$1: record $expected expected, found $n"
        [ "${sums:0:64}" = "${before%% *}" ] || fail "$1: record $n is not the one after $((n - 1))"
        before=$(echo "$n $sums" | sha256sum)
        [ "$before" = "$sum  -" ] || fail "$1: record $n is torn"
        echo "$n $sum"
    done <"$tmp/records"
}

# filesystem_of HOST TARGET: the disk as a raw file, which nothing changes any more
filesystem_of()
{
    qemu-img convert -U -O raw "$tmp/$1/pool/linux-$2".* "$tmp/$1-$2"
    echo "$tmp/$1-$2"
}

# ---- migrations --------------------------------------------------------------------------------

# moves FROM TO: while it writes on both disks
moves()
{
    local before during
    wait_for "records at $1" has_written "$1" 20
    before=$(acknowledged vda "$1" | wc -l)
    must_migrate "$1" "$2" linux --copy-storage-all --persistent
    during=$(($(acknowledged vda "$1" | wc -l) - before))
    [ $during -gt 0 ] || fail "the guest has written nothing during the migration"
    echo "$1 -> $2: $(jq -r '"\(.total_ms) ms, downtime \(.downtime_ms) ms"' "$tmp/result")," \
        "$during records on vda meanwhile"
}

make_initramfs
make_disks
start_host a
start_host b
start_host c "qemu_binary = \"$ten\""
define a linux '.machine = "pc-i440fx-7.2" | .memory = "192M" | .cpu = "qemu64,-cx16"'
at a start "$tmp/linux.json" >/dev/null
moves a b

echo "== as if the power had failed"
qmp b linux stop >/dev/null
for target in vda vdb; do
    acknowledged $target a b >"$tmp/acknowledged"
    filesystem=$(filesystem_of b $target)
    e2fsck -fy "$filesystem" || [ $? -eq 1 ] || fail "$target at b can't be mended"
    e2fsck -fn "$filesystem" || fail "$target at b is not clean"
    records_in "$filesystem" >"$tmp/found"
    head -n "$(wc -l <"$tmp/acknowledged")" "$tmp/found" | cmp - "$tmp/acknowledged" ||
        fail "$target at b lacks records"
done
qmp b linux cont >/dev/null

echo "== to QEMU 10, and shut down"
moves b c
wait_for "records at c" has_written c 20
at c shutdown linux >/dev/null
wait_for "shutdown" state_is c linux 'shut off'
serial_of c | grep -x unmounted >/dev/null || fail "it was not an orderly shutdown"
total=0
for target in vda vdb; do
    acknowledged $target a b c >"$tmp/acknowledged"
    filesystem=$(filesystem_of c $target)
    e2fsck -fn "$filesystem" || fail "$target at c is not clean"
    records_in "$filesystem" >"$tmp/found"
    cmp "$tmp/found" "$tmp/acknowledged" || fail "$target at c has other records"
    total=$((total + $(wc -l <"$tmp/found")))
done
echo "Linux, QEMU $(version_of "$QEMU") -> $(version_of "$QEMU") -> $(version_of "$ten"):" \
    "$total records with fsync, none lost, ext4 is clean"
