# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
#
# Programs of Debian 13 without installing them: its packages are unpacked into a folder, $debian,
# that is kept for the next time; a test is skipped where they can't be had.  Comes after
# functions.sh.
#
# apt gets a configuration, lists and a cache of its own, and no package is installed for it; of the
# system's apt only the archive's address and the way to it are used, and nothing is changed.
#
#     DEBIAN_MIRROR=URL    the archive, if the system's apt knows none

mkdir -p "${slow:=$top_builddir/slow}"
debian=$(readlink -f "$slow")/debian
debian_key=/usr/share/keyrings/debian-archive-keyring.gpg

# debian_has PACKAGE...: they and all that they need are in $debian
debian_has()
{
    local mirror=${DEBIAN_MIRROR:-} log=$debian.log package
    if [ -e "$debian/has-$*" ]; then
        return
    fi
    [ "$(uname -m)" = x86_64 ] || skip "this needs programs of Debian 13 for x86_64"
    requires apt-get --version
    requires dpkg-deb --version
    requires test -r $debian_key
    # shellcheck disable=SC2016
    [ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
        awk '/\/debian\/*$/ && !found++')
    [ -n "$mirror" ] || skip "apt knows no Debian archive; DEBIAN_MIRROR=URL names one"
    private_apt "$debian.apt" "$mirror"
    (
        export APT_CONFIG=$debian.apt/conf
        apt-get -qq update &&
            apt-get -qq install --download-only --no-install-recommends "$@"
    ) >"$log" 2>&1 || skip "$* can't be had from $mirror: $(grep -m 1 '^[EW]:' "$log")"
    for package in "$debian.apt"/var/cache/apt/archives/*.deb; do
        dpkg-deb --extract "$package" "$debian"
    done
    rm -rf "$debian.apt"
    touch "$debian/has-$*"
}

# private_apt FOLDER MIRROR: FOLDER/conf is for APT_CONFIG
private_apt()
{
    rm -rf "$1"
    mkdir -p "$1"/etc/apt/{apt.conf.d,preferences.d,sources.list.d} "$1/var/lib/apt/lists/partial" \
        "$1/var/cache/apt/archives/partial"
    : >"$1/installed"
    echo "deb [signed-by=$debian_key] $2 trixie main" >"$1/etc/apt/sources.list"
    cat >"$1/conf" <<END
Dir "$1/";
Dir::State::status "$1/installed";
APT::Get::Assume-Yes "true";
APT::Update::Error-Mode "any";
$(apt-config dump Acquire)
END
}

# debian_qemu: $ten is Debian 13's QEMU as a qemu_binary, with the loader and libraries that it needs
debian_qemu()
{
    local lib=$debian/usr/lib/x86_64-linux-gnu
    debian_has qemu-system-x86
    ten=$tmp/qemu10
    cat >"$ten" <<END
#!/bin/sh
export QEMU_MODULE_DIR='$lib/qemu'
exec '$lib/ld-linux-x86-64.so.2' --library-path '$lib' '$debian/usr/bin/qemu-system-x86_64' \\
    -L '$debian/usr/share/qemu' -L '$debian/usr/share/seabios' -L '$debian/usr/lib/ipxe/qemu' "\$@"
END
    chmod +x "$ten"
    "$QEMU" -machine help | grep '^pc-i440fx-7\.2 ' >/dev/null ||
        skip "$QEMU has no machine type of QEMU 7.2"
}

# version_of QEMU
version_of()
{
    "$1" --version | sed -n 's/.*version \([0-9.]*\).*/\1/p'
}
