# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""Daemons of bistream on this machine, each a host with a folder of its own, and the certificates that
other tunnels use as well."""

import os
import textwrap

from procs import run, wait_for


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text, mode=0o600):
    """The lines of TEXT, without what indents them all."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(textwrap.dedent(text).lstrip())
    os.chmod(path, mode)
    return path


def make_ca(build, folder):
    """In FOLDER/ca."""
    run([f"{build}/client/bistream", "pki", "ca", f"--pki-dir={folder}/ca"])


def make_certificate(build, folder, host, kind="host"):
    """One of the CA in FOLDER, in HOST/pki, or of the KIND direct, which QEMU itself uses, in
    HOST/direct."""
    out = f"{host}/{'pki' if kind == 'host' else kind}"
    run([f"{build}/client/bistream", "pki", kind, "host.bench", f"--pki-dir={folder}/ca",
         f"--out={out}", "--ip=127.0.0.1", "--ip=127.0.0.2"])


class Host:
    """A bistreamd in a folder of its own, with a certificate of the CA in its parent's folder ca."""

    def __init__(self, group, build, folder, lines=""):
        self.folder = folder
        self.client = [f"{build}/client/bistream", "-c", f"{folder}/control"]
        os.makedirs(folder, exist_ok=True)
        make_certificate(build, os.path.dirname(folder), folder)
        config = write(f"{folder}/conf", self.configuration() + lines)
        self.process = group.spawn([f"{build}/daemon/bistreamd", "--config", config], f"{folder}/log")
        wait_for(f"bistreamd, which says: {folder}/log", lambda: self.is_up(group))
        self.port = int(read(f"{folder}/run/port"))

    def configuration(self):
        return textwrap.dedent(f"""
            listen = "127.0.0.1:0"
            control_socket = "{self.folder}/control"
            control_group = ""
            pki_dir = "{self.folder}/pki"
            run_dir = "{self.folder}/run"
            state_dir = "{self.folder}/state"
            pool_dir = "{self.folder}/pool"
            allowed_peers = {{"*.bench"}}
            """)

    def is_up(self, group):
        group.check()
        port = f"{self.folder}/run/port"
        return os.path.exists(port) and os.path.getsize(port) > 0

    def run(self, *args):
        """bistream, as a client of this daemon.  Returns what it says."""
        return run([*self.client, *args])
