# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""Mode migrate: real migrations of a guest that never stops writing to its memory and both of its disks
(tests/guest), in mode bistream and in mode direct, where QEMU's own TLS carries memory and disks.  Both
go through a relay with a round trip of 20 ms, with what the daemons say to each other.

The relay stands at 127.0.0.2, so that QEMU finds the destination's own port numbers there.  The images
are in memory where there is room, so that it is not the machine's disk that is measured.

The guest writes to each disk less often than once a round trip.  QEMU's mirrors of one that writes more
often get ready by chance alone, in either mode, and it would be that chance that is measured.
"""

import json
import os
import shutil
import tempfile

import report
from figures import Figures
from hosts import Host, make_ca, make_certificate
from procs import Failure, Group, free_ports, kill_users
from procs import run as run_program
from relay import Link, start_relay
from rounds import medians, running

LINK = Link(20)
RELAY = "127.0.0.2"
WAYS = {"bistream": [], "direct": ["--direct"]}
TIME = 1.05                     # of mode direct's
DOWNTIME = LINK.round_trip + 10 # ms more than mode direct's

GUEST = {"name": "guest", "machine": "pc", "accel": "tcg", "memory": "256M",
         "disks": [{"target": "vda", "file": "vda.qcow2", "format": "qcow2"},
                   {"target": "vdb", "file": "vdb.raw", "format": "raw"}]}
IMAGES = ["--vda-data=512M", "--ram=8M", "--pause=20000", "--slots=4096"]
WRITES = "100" # that it has made before it goes


class Way:
    """A row of the table."""

    def __init__(self, name):
        self.name, self.title = name, f"mode {name}"


class Pair:
    """Two hosts, and a long link from A to B."""

    def __init__(self, build, folder):
        self.build, self.folder = build, folder
        self.group = Group()

    def start(self):
        os.makedirs(self.folder)
        make_ca(self.build, self.folder)
        ports = free_ports(4)
        self.a, self.b = (self.start_host(name, ports) for name in ("a", "b"))
        for port in ports:
            start_relay(self.group, self.build, self.folder, LINK, port, f"{RELAY}:{port}")
        self.port = start_relay(self.group, self.build, self.folder, LINK, self.b.port, f"{RELAY}:0")

    def start_host(self, name, ports):
        folder = f"{self.folder}/{name}"
        os.makedirs(folder)
        make_certificate(self.build, self.folder, folder, "direct")
        return Host(self.group, self.build, folder,
                    f'direct_pki_dir = "{folder}/direct"\ndirect_ports = "{ports[0]}-{ports[-1]}"\n')

    def stop(self):
        self.group.stop()
        kill_users(self.folder) # QEMUs outlive their daemons

    def guestcheck(self, *args):
        """What it says of the guest."""
        return run_program([f"{self.build}/tests/guest/guestcheck", *args])

    def writes(self, host):
        """Waits until the guest there has made some, also from one host to the other."""
        qmp = json.loads(host.run("--json", "info", "guest"))["qmp"]
        self.guestcheck("ram", "--qmp", qmp, "--above", WRITES, "--timeout", "60")

    def migrate(self, options):
        """A new guest goes from A to B and is looked at there."""
        pool = f"{self.a.folder}/pool"
        run_program([f"{self.build}/tests/guest/mkguest", "--dir", pool, *IMAGES])
        with open(f"{self.folder}/guest.json", "w", encoding="utf-8") as file:
            json.dump(GUEST, file)
        self.a.run("start", f"{self.folder}/guest.json")
        self.writes(self.a)
        said = self.a.run("--json", "migrate", "guest", f"bistream://{RELAY}:{self.port}",
                          "--copy-storage-all", "--no-fallback", *options)
        self.writes(self.b)
        self.b.run("destroy", "guest")
        self.a.run("undefine", "guest")
        for host in (self.a, self.b):
            for disk in GUEST["disks"]:
                os.unlink(f"{host.folder}/pool/{disk['file']}")
        return json.loads(said.splitlines()[-1])


def measure(pair, way):
    try:
        result = pair.migrate(WAYS[way])
    except Failure as failure:
        report.progress()
        print(f"failed: migration in mode {way}: {failure}")
        return {"error": str(failure)}
    if result["mode"] != way:
        return {"error": f"went in mode {result['mode']}"}
    return {"seconds": result["total_ms"] / 1000, "downtime": result["downtime_ms"]}


def figures_of(results):
    figures = Figures(results)
    direct = results["direct"].get("migrate", {})
    if direct:
        figures.ratio("migration's time, part of QEMU's own TLS's", "migrate", "seconds",
                      direct["seconds"], TIME, at_least=False)
        figures.add("its downtime in ms", figures.get("migrate", "downtime"),
                    direct["downtime"] + DOWNTIME, False)
    return figures.all


def images_folder(folder):
    """In memory if that has room for four images with their data."""
    memory = "/dev/shm"
    roomy = os.path.isdir(memory) and shutil.disk_usage(memory).free > 4 << 30
    return tempfile.TemporaryDirectory(prefix="bistream-bench.", dir=memory if roomy else folder)


def run(arguments, folder):
    runs = {way: [] for way in WAYS}
    with images_folder(folder) as images, running([pair := Pair(arguments.build, f"{images}/pair")]):
        for number in range(arguments.rounds):
            for way in WAYS:
                report.progress(f"round {number + 1} of {arguments.rounds}: migrate: mode {way}")
                runs[way].append(measure(pair, way))
    results = {way: {"migrate": medians(of_way)} for way, of_way in runs.items()}
    report.print_rows(f"Migrations, {LINK.round_trip} ms round trip", map(Way, WAYS), results,
                      (("s", "migrate", "seconds", 1, 2), ("downtime ms", "migrate", "downtime", 1, 0)))
    return {"medians": results, "runs": runs, "figures": figures_of(results)}
