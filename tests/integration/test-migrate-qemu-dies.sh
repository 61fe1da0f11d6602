#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# QEMU at the destination: missing, dying in Prepare, and killed in the middle of the copy.
. "${srcdir:-.}/migrate-functions.sh"

start_daemon a
new_guest a guest 2 qcow2,raw

# with_qemu PROGRAM: the destination, anew
with_qemu()
{
    [ -z "${pid_of[b]:-}" ] || stop_daemon b
    start_daemon b "qemu_binary = \"$1\""
}

echo "== missing"
with_qemu "$tmp/no-such-qemu"
stays "QEMU ($tmp/no-such-qemu) can't be run: No such file or directory" a b guest --copy-storage-all

echo "== it ends at once"
cat >"$tmp/tired" <<END
#!/bin/sh
case "\$*" in *"-machine none "*) exec $QEMU "\$@" ;; esac # the daemon asks what it can do
echo "qemu: this host is tired" >&2
exit 1
END
chmod +x "$tmp/tired"
with_qemu "$tmp/tired"
stays "ended at its start: qemu: this host is tired" a b guest --copy-storage-all

echo "== it lacks the machine type"
printf '#!/bin/bash\nexec %s "${@/pc-i440fx-*/pc-i440fx-99.0}"\n' "$QEMU" >"$tmp/old"
chmod +x "$tmp/old"
with_qemu "$tmp/old"
stays "list supported machines" a b guest --copy-storage-all

echo "== it is killed in the middle of the copy"
with_qemu "$(slow_qemu 1000000)"
remember a
remember b
begin a b guest --copy-storage-all
copying a guest
kill -KILL "$(qemus_of b)"
ends 1 "at the destination its QEMU has died without a word"
goes_on a guest
nothing_left a
nothing_left b

echo "== and then it goes"
with_qemu "$QEMU"
must_migrate a b guest --copy-storage-all
arrived a b guest
