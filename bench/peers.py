# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""The tunnels that are compared: each leads from a UNIX socket NEAR, at which it listens, to a UNIX
socket FAR, which it dials for each connection to NEAR.  Both ends run on this machine; what is between
them is TCP over the loopback interface, encrypted with AES-128-GCM.  bench/README tells why each is
configured as it is."""

import getpass
import os
import shutil

from hosts import Host, make_ca, make_certificate, read, write
from procs import Failure, Group, answers, free_port, run, wait_for
from relay import start_relay


# The load generator's arguments, by the name of the mode.
LOADS = {
    "bulk1": ("bulk", "--streams=1"),
    "bulk3": ("bulk", "--streams=3"),
    "bulk64": ("bulk", "--streams=64"),
    "bulk256": ("bulk", "--streams=256"),
    "nbd": ("nbd", "--streams=3"),
    "ping": ("ping", "--streams=0"),
    "ping-bulk": ("ping", "--streams=3"),
    "stalled": ("stalled",),
    "connect": ("connect", "--count=1000"),
}

CIPHERSUITE = "TLS_AES_128_GCM_SHA256"


class Peer:
    """One tunnel.  FOLDER is its own, BUILD where bistream was built, LINK what the TCP connection goes
    through, where it isn't the loopback interface alone (only of those that call reach())."""

    name = title = package = None
    encrypted = True
    programs = ()

    def __init__(self, folder, build, link=None):
        self.folder, self.build, self.link = folder, build, link
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

    def write(self, name, text):
        return write(f"{self.folder}/{name}", text)

    def spawn(self, *args, env=None):
        return self.processes.spawn(args, f"{self.folder}/log", env)

    def reach(self, port):
        """The port at which the client end finds the server end."""
        if not self.link:
            return port
        return start_relay(self.processes, self.build, self.folder, self.link, port)

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
        self.processes.rest()

    def start_ends(self):
        raise NotImplementedError

    def command(self, mode, seconds):
        """What measures it, and prints JSON; None: it has nothing to measure in that mode."""
        return [f"{self.build}/bench/load", *LOADS[mode], f"--near={self.near}", f"--far={self.far}",
                f"--seconds={seconds}"]

    def stop(self):
        self.processes.stop()

    def cpu(self):
        """Seconds that both ends have used, as soon as they have nothing more to do."""
        self.processes.settle()
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
        self.start_client(self.reach(port))

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
        make_ca(self.build, self.folder)
        far = Host(self.processes, self.build, f"{self.folder}/far-host",
                   f'forward_allow = {{"{self.far}"}}\n')
        near = Host(self.processes, self.build, f"{self.folder}/near-host")
        near.run("forward", "--detach", f"bistream://127.0.0.1:{self.reach(far.port)}",
                 f"{self.near}:{self.far}")


class BareTLS(Peer):
    """One connection and nothing around it; a program of its own measures it."""

    name, title = "bare", "bare TLS connection, 16 KiB writes"

    def start(self):
        os.makedirs(self.folder)
        make_ca(self.build, self.folder)
        make_certificate(self.build, self.folder, self.folder)

    def command(self, mode, seconds):
        if mode != "bulk1":
            return None
        return [f"{self.build}/bench/bare-tls", f"{self.folder}/pki", str(seconds)]


class TLSPeer(Peer):
    """Two processes, and a TLS connection for each stream."""

    def start_ends(self):
        make_ca(self.build, self.folder)
        make_certificate(self.build, self.folder, self.folder)
        self.pki = f"{self.folder}/pki"
        port = free_port()
        self.start_server(port)
        self.wait_for("its port", lambda: answers(port))
        self.start_client(port)

    def start_server(self, port):
        raise NotImplementedError

    def start_client(self, port):
        raise NotImplementedError


class Stunnel(TLSPeer):
    name, title, package = "stunnel", "stunnel, TLS per stream", "stunnel4"
    programs = ("stunnel4",)

    def start_end(self, client, accept, connect):
        config = self.write(f"client-{client}.conf", f"""
            foreground = yes
            pid =
            debug = warning
            [tunnel]
            cert = {self.pki}/hostcert.pem
            key = {self.pki}/hostkey.pem
            CAfile = {self.pki}/cacert.pem
            verifyChain = yes
            sslVersionMin = TLSv1.3
            ciphersuites = {CIPHERSUITE}
            client = {client}
            accept = {accept}
            connect = {connect}
            """)
        self.spawn(self.program("stunnel4"), config)

    def start_server(self, port):
        self.start_end("no", f"127.0.0.1:{port}", self.far)

    def start_client(self, port):
        self.start_end("yes", self.near, f"127.0.0.1:{port}")


class HAProxy(TLSPeer):
    name, title, package = "haproxy", "haproxy, TLS per stream", "haproxy"
    programs = ("haproxy",)

    def start_end(self, name, bind, server):
        pem = self.write("both.pem", read(f"{self.pki}/hostcert.pem") + read(f"{self.pki}/hostkey.pem"))
        tls = (f"ssl crt {pem} ca-file {self.pki}/cacert.pem verify required "
               f"ssl-min-ver TLSv1.3 ciphersuites {CIPHERSUITE}")
        config = self.write(f"{name}.cfg", f"""
            global
                maxconn 4096
            defaults
                mode tcp
                timeout connect 10s
                timeout client 1h
                timeout server 1h
            listen tunnel
                bind {bind.format(tls=tls)}
                server other {server.format(tls=tls)}
            """)
        self.spawn(self.program("haproxy"), "-db", "-f", config)

    def start_server(self, port):
        self.start_end("server", f"127.0.0.1:{port} {{tls}}", f"unix@{self.far}")

    def start_client(self, port):
        self.start_end("client", f"unix@{self.near}", f"127.0.0.1:{port} {{tls}}")


class Socat(TLSPeer):
    """Forks for each stream."""

    name, title, package = "socat", "socat, TLS per stream", "socat"
    programs = ("socat",)

    def start_end(self, *addresses):
        # Its options don't reach TLS 1.3's ciphersuites; OpenSSL's own configuration does.
        config = self.write("openssl.cnf", f"""
            openssl_conf = init
            [init]
            ssl_conf = ssl
            [ssl]
            system_default = tls
            [tls]
            MinProtocol = TLSv1.3
            Ciphersuites = {CIPHERSUITE}
            """)
        tls = (f"cert={self.pki}/hostcert.pem,key={self.pki}/hostkey.pem,"
               f"cafile={self.pki}/cacert.pem,verify=1,nodelay")
        self.spawn(self.program("socat"), "-b", "131072",
                   *(address.format(tls=tls) for address in addresses),
                   env={**os.environ, "OPENSSL_CONF": config})

    def start_server(self, port):
        self.start_end(f"OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,backlog=1024,{{tls}}",
                       f"UNIX-CONNECT:{self.far}")

    def start_client(self, port):
        self.start_end(f"UNIX-LISTEN:{self.near},fork,backlog=1024",
                       f"OPENSSL:127.0.0.1:{port},{{tls}}")


PEERS = (NoTunnel, BareTLS, OpenSSH, HAProxy, Stunnel, Socat, Bistream)
