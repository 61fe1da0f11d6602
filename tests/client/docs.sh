#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# The manual pages are well-formed and tell of every command and option; completion knows them too.

. "${srcdir:-.}/functions.sh"
docs=${srcdir:-.}/../../docs
etc=${srcdir:-.}/../../etc

for page in bistream.1 bistreamd.8 bistreamd.conf.5; do
    if command -v mandoc >/dev/null; then
        mandoc -T lint -W warning "$docs/$page" >"$dir/err" 2>&1 || fail "$page"
    elif command -v groff >/dev/null; then
        groff -mdoc -ww -z "$docs/$page" >"$dir/err" 2>&1 || fail "$page"
        [ ! -s "$dir/err" ] || fail "$page"
    fi
done

for command in start attach list info shutdown destroy undefine migrate job forward probe pki; do
    grep -q "^\.Ss $command" "$docs/bistream.1" || fail "bistream.1 doesn't tell of $command"
    "$bistream" $command --help | grep -o -- '--[a-z-]*' | sort -u >"$dir/options"
    while read -r option; do
        grep -q "Fl -${option#--}\b" "$docs/bistream.1" ||
            fail "bistream.1 doesn't tell of $command $option"
    done <"$dir/options"
done

command -v bash >/dev/null || exit 0
complete()
{
    PATH=$(dirname "$bistream"):$PATH bash -c '
        . "$1"
        shift
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        _bistream
        printf "%s\n" "${COMPREPLY[@]}"' bash "$etc/bistream.bash-completion" "$@" >"$dir/out"
}
complete bistream mig
[ "$(cat "$dir/out")" = migrate ] || fail "migrate isn't completed"
complete bistream migrate --copy
said out --copy-storage-all
said out --copy-storage-inc
fake_daemon
complete bistream -c "$socket" info w
[ "$(cat "$dir/out")" = web ] || fail "the domain isn't completed"
complete bistream job r
[ "$(cat "$dir/out")" = resolve ] || fail "job's action isn't completed"
complete bistream -c "$socket" job abort m
[ "$(cat "$dir/out")" = mail ] || fail "the job's guest isn't completed"
