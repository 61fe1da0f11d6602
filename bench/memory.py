# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""Mode memory: how much larger (VmRSS) the daemons get by sessions that idle, by channels that idle, and
by streams that nobody reads.  What is told is the one of the two daemons that grows more."""

import contextlib
import os
import subprocess

import report
from figures import Figures
from hosts import Host, make_ca
from procs import Failure, Group
from rounds import running

SESSIONS, SESSION_MAX = 8, 1  # more of them; MiB for each
CHANNELS, CHANNELS_MAX = 1000, 16
STREAMS, STREAMS_MAX = 64, 64 # session_memory's default

COLUMNS = (("idle session MiB", "session", "grown", 1, 2),
           (f"{CHANNELS} idle channels", "channels", "grown", 1, 1),
           (f"{STREAMS} stalled streams", "stalled", "grown", 1, 1))


class Daemons:
    """Two of them, and forwards between them."""

    name, title = "bistream", "bistream, one daemon"

    def __init__(self, build, folder):
        self.build, self.folder = build, folder
        self.group = Group()
        self.forwards = 0

    def start(self):
        os.makedirs(self.folder)
        make_ca(self.build, self.folder)
        self.far = Host(self.group, self.build, f"{self.folder}/b",
                        f'forward_allow = {{"{self.folder}/far"}}\n')
        self.near = Host(self.group, self.build, f"{self.folder}/a")

    def stop(self):
        self.group.stop()

    def open_session(self):
        """Returns the socket that leads through it."""
        socket = f"{self.folder}/near-{self.forwards}"
        self.forwards += 1
        self.near.run("forward", "--detach", f"bistream://127.0.0.1:{self.far.port}",
                      f"{socket}:{self.folder}/far")
        return socket

    def resident(self):
        """MiB of each."""
        return [resident(host.process.pid) for host in (self.near, self.far)]

    @contextlib.contextmanager
    def streams(self, near, count, *options):
        """That are there, idle or full."""
        with subprocess.Popen([f"{self.build}/bench/load", "hold", f"--near={near}",
                               f"--far={self.folder}/far", f"--streams={count}", *options],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
            try:
                if load.stdout.readline() != "ready\n":
                    raise Failure(f"{count} streams can't be held")
                yield
                load.stdin.close()
                if load.wait() != 0:
                    raise Failure(f"{count} streams that were held did not end well")
            except BaseException:
                load.kill()
                raise


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    raise Failure(f"process {pid} has no VmRSS")


def grown(before, after, count=1):
    return {"grown": max(b - a for a, b in zip(before, after)) / count}


def measure(daemons):
    results = {}
    near = daemons.open_session() # the first pays for what all of them use
    one = daemons.resident()
    for _ in range(SESSIONS):
        daemons.open_session()
    many = daemons.resident()
    results["session"] = grown(one, many, SESSIONS)
    with daemons.streams(near, CHANNELS):
        results["channels"] = grown(many, daemons.resident())
    before = daemons.resident()
    with daemons.streams(near, STREAMS, "--fill"):
        # What the channels before have left behind is used again, and belongs to these as well.
        results["stalled"] = grown([min(*pair) for pair in zip(many, before)], daemons.resident())
    return results


def run(arguments, folder):
    report.progress("memory")
    with running([daemons := Daemons(arguments.build, f"{folder}/memory")]):
        results = {Daemons.name: measure(daemons)}
    figures = Figures(results)
    figures.add("an idle session in MiB", figures.get("session", "grown"), SESSION_MAX, False)
    figures.add(f"{CHANNELS} idle channels in MiB", figures.get("channels", "grown"), CHANNELS_MAX,
                False)
    figures.add(f"{STREAMS} stalled streams in MiB", figures.get("stalled", "grown"), STREAMS_MAX,
                False)
    report.print_rows("Memory, growth of the larger daemon", [Daemons], results, COLUMNS)
    return {"medians": results, "runs": {}, "figures": figures.all}
