# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""The tunnels that are compared: each leads from a UNIX socket NEAR, at which it listens, to a UNIX
socket FAR, which it dials for each connection to NEAR.  Both ends run on this machine; what is between
them is TCP over the loopback interface, encrypted with AES-128-GCM.  bench/README tells why each is
configured as it is."""

import getpass
import os
import shutil

from procs import Failure, Group, answers, free_port, run, wait_for


class Peer:
    """One tunnel.  FOLDER is its own, BUILD where bistream was built."""

    name = title = package = None
    encrypted = True
    programs = ()

    def __init__(self, folder, build):
        self.folder, self.build = folder, build
        self.near, self.far = f"{folder}/near", f"{folder}/far"
        self.processes = Group()

    @classmethod
    def missing(cls):
        """The sentence that tells what isn't installed, or None."""
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        for program in cls.programs:
            if not shutil.which(program, path=path):
                return f"{program} is not installed (Debian's package {cls.package})"
        return None

    def program(self, name):
        return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

    def write(self, name, text, mode=0o600):
        path = f"{self.folder}/{name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def spawn(self, *args, env=None):
        return self.processes.spawn(args, f"{self.folder}/log", env)

    def wait_for(self, what, condition):
        """For CONDITION, as long as our processes live."""
        def met():
            self.processes.check()
            return condition()
        try:
            wait_for(f"{self.title}: {what}", met)
        except Failure as failure:
            raise Failure(f"{failure}; its log says: {self.log()}") from None

    def log(self):
        try:
            with open(f"{self.folder}/log", encoding="utf-8", errors="replace") as file:
                return " / ".join(file.read().split("\n")[-6:])
        except FileNotFoundError:
            return "nothing"

    def start(self):
        """Returns when connections can be made."""
        os.makedirs(self.folder)
        self.start_ends()
        self.wait_for("its socket", lambda: os.path.exists(self.near))

    def start_ends(self):
        raise NotImplementedError

    def stop(self):
        self.processes.stop()

    def cpu(self):
        return self.processes.cpu()


class NoTunnel(Peer):
    name, title, encrypted = "none", "no tunnel", False

    def start(self):
        os.makedirs(self.folder)
        self.far = self.near


class OpenSSH(Peer):
    """One connection, streamlocal forwarding; an sshd of our own with keys of our own."""

    name, title, package = "openssh", "OpenSSH, one connection", "openssh-server"
    programs = ("sshd", "ssh", "ssh-keygen")

    def start_ends(self):
        port = free_port()
        for key in ("host", "user"):
            run([self.program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "",
                 "-f", f"{self.folder}/{key}"])
        shutil.copy(f"{self.folder}/user.pub", f"{self.folder}/authorized")
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True) # sshd insists on it
        self.start_server(port)
        self.start_client(port)

    def start_server(self, port):
        config = self.write("sshd_config", f"""
            ListenAddress 127.0.0.1:{port}
            HostKey {self.folder}/host
            PidFile none
            AuthorizedKeysFile {self.folder}/authorized
            StrictModes no
            UsePAM no
            PermitRootLogin prohibit-password
            PasswordAuthentication no
            AllowStreamLocalForwarding yes
            Ciphers aes128-gcm@openssh.com
            Compression no
            """)
        self.spawn(self.program("sshd"), "-D", "-e", "-f", config)
        self.wait_for("sshd", lambda: answers(port))

    def start_client(self, port):
        config = self.write("ssh_config", f"""
            Host tunnel
            HostName 127.0.0.1
            Port {port}
            User {getpass.getuser()}
            IdentityFile {self.folder}/user
            IdentitiesOnly yes
            UserKnownHostsFile {self.folder}/known
            StrictHostKeyChecking no
            BatchMode yes
            Ciphers aes128-gcm@openssh.com
            Compression no
            ExitOnForwardFailure yes
            """)
        self.spawn(self.program("ssh"), "-F", config, "-N", "-L", f"{self.near}:{self.far}", "tunnel")


class Bistream(Peer):
    """Two daemons, and a forward between them."""

    name, title = "bistream", "bistream"

    def start_ends(self):
        self.bistream = f"{self.build}/client/bistream"
        run([self.bistream, "pki", "ca", f"--pki-dir={self.folder}/ca"])
        ports = [self.start_daemon(host) for host in ("near-host", "far-host")]
        self.client = [self.bistream, "-c", f"{self.folder}/near-host/control"]
        run([*self.client, "forward", "--detach", f"bistream://127.0.0.1:{self.port(ports[1])}",
             f"{self.near}:{self.far}"])

    def start_daemon(self, host):
        """Returns its port."""
        folder = f"{self.folder}/{host}"
        os.makedirs(folder)
        run([self.bistream, "pki", "host", f"{host}.bench", f"--pki-dir={self.folder}/ca",
             f"--out={folder}/pki", "--ip=127.0.0.1"])
        config = self.write(f"{host}/conf", f"""
            listen = "127.0.0.1:0"
            control_socket = "{folder}/control"
            control_group = ""
            pki_dir = "{folder}/pki"
            run_dir = "{folder}/run"
            state_dir = "{folder}/state"
            pool_dir = "{folder}/pool"
            allowed_peers = {{"*.bench"}}
            forward_allow = {{"{self.far}"}}
            """)
        self.spawn(f"{self.build}/daemon/bistreamd", "--config", config)
        port = f"{folder}/run/port"
        self.wait_for(f"bistreamd of {host}",
                      lambda: os.path.exists(port) and os.path.getsize(port) > 0)
        with open(port, encoding="utf-8") as file:
            return int(file.read())

    def port(self, port):
        """Where the far daemon is dialled."""
        return port


PEERS = (NoTunnel, OpenSSH, Bistream)
