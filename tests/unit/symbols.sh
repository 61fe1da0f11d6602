#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Holds a folder without I/O to its word: symbols.sh symbols-FOLDER.txt
#
# Links FOLDER's library with what it uses of the folders below into one object (ld -r), and compares
# what is still undefined then, that is, what it wants of the system, with the list of what it may
# want: memory, text, arithmetic, XDR; no file descriptor, clock, thread or log.  It keeps no
# writable data either.  Run by make check in the build folder, for each list in TESTS.

list=$1
folder=${list##*/symbols-}
folder=${folder%.txt}
top=../..
library=$top/$folder/lib$folder.a
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT

case $folder in
rpc) below="rpc/librpcxdr.a common/libcommon.a" ;;
mux) below="rpc/librpc.a rpc/librpcxdr.a common/libcommon.a" ;;
*)
    echo "$list: no folder without I/O is called '$folder'"
    exit 99
    ;;
esac

archives=
for archive in $below; do
    archives="$archives $top/$archive"
done
# shellcheck disable=SC2086 # a list of paths without blanks
"${LD:-ld}" -r -o "$work/linked.o" --whole-archive "$library" --no-whole-archive $archives || exit 99
"${NM:-nm}" --undefined-only -P "$work/linked.o" | sed 's/ .*//' | sort -u >"$work/wanted"

if grep -E '^_*(asan|tsan|ubsan|msan|gcov|sanitizer|llvm_prof|llvm_gc)_' "$work/wanted" >/dev/null; then
    echo "skipped: the objects are instrumented (sanitizers or coverage), and call what they like"
    exit 77
fi

sed -e 's/ *#.*//' -e '/^$/d' "$list" | sort -u >"$work/allowed"
comm -23 "$work/wanted" "$work/allowed" >"$work/new"
status=0
while read -r symbol; do
    echo "$folder/ uses $symbol, which is not in $list.  Used by:"
    # shellcheck disable=SC2086
    "${NM:-nm}" -A --undefined-only "$library" $archives | sed -n "s/^\([^ ]*\).* U $symbol\$/    \1/p"
    status=1
done <"$work/new"
if [ $status -ne 0 ]; then
    echo "$folder/ does no I/O, reads no clock, starts no thread, logs nothing (see HACKING)."
    echo "A symbol that keeps to that is added to the list; anything else belongs further up."
fi

"${OBJDUMP:-objdump}" -h "$work/linked.o" |
    awk '$2 ~ /^\.(data|bss|tdata|tbss)$/ && $3 !~ /^0*$/ { print $2 }' >"$work/data"
while read -r section; do
    echo "$folder/ keeps data in $section: it may have no global variable.  It is one of:"
    # shellcheck disable=SC2086
    "${NM:-nm}" -A "$library" $archives | grep ' [bBdDC] ' | sed 's/^/    /'
    status=1
done <"$work/data"
exit $status
