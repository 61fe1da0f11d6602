# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""Processes that the bench starts: each is ended by its pid, with all that it has started itself, also
when the bench is interrupted; and the processor time that they have used together, from /proc."""

import contextlib
import os
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """What could not be measured, as a sentence."""


def stat_of(pid):
    """The fields of /proc/PID/stat from the third on, or None when the process has gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def started(pid):
    """When the process was, so that no other of the same pid is taken for it."""
    stat = stat_of(pid)
    return stat and stat[19]


def tree(roots):
    """ROOTS and all their descendants that live, parents first."""
    children = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        stat = stat_of(pid)
        if stat:
            children.setdefault(int(stat[1]), []).append(int(pid))
    found = list(roots)
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def wait_for(what, condition, seconds=10):
    """Returns what CONDITION returns, once that is true."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Failure(f"waited in vain for {what}")
        time.sleep(0.01)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_ports(count):
    """COUNT ports in a row, free at all loopback addresses."""
    for first in range(20000 + os.getpid() % 1000 * 8, 32000, count):
        with contextlib.ExitStack() as probes:
            try:
                for port in range(first, first + count):
                    probes.enter_context(socket.socket()).bind(("", port))
                return range(first, first + count)
            except OSError:
                pass
    raise Failure(f"there are no {count} free ports in a row")


def kill_users(folder):
    """Ends what was started with a path in FOLDER and has outlived its parent."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                uses = f"{folder}/".encode() in file.read()
            if uses:
                os.kill(int(pid), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass


def answers(port):
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(args, **options):
    """Runs a command to its end.  Returns what it has printed."""
    done = subprocess.run(args, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise Failure(f"{os.path.basename(args[0])}: {said or f'exit code {done.returncode}'}")
    return done.stdout


class Group:
    """Processes that belong together."""

    def __init__(self):
        self.roots = []
        self.at_rest = set()

    def spawn(self, args, log, env=None):
        """Starts a process, whose words go to the file LOG."""
        with open(log, "ab") as out:
            # In a session of its own, so that Ctrl-C reaches the bench alone.
            process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       env=env, start_new_session=True)
        self.roots.append(process)
        return process

    def check(self):
        for process in self.roots:
            if process.poll() is not None:
                raise Failure(f"{process.args[0]} has ended with exit code {process.returncode}")

    def pids(self):
        return tree([process.pid for process in self.roots if process.poll() is None])

    def settle(self, seconds=5):
        """Waits for the end of what they have started for a run.  Before that no sum of theirs is right:
        a child's time comes to its parent in between."""
        deadline = time.monotonic() + seconds
        while not self.at_rest.issuperset(self.pids()) and time.monotonic() < deadline:
            time.sleep(0.02)

    def rest(self):
        """Now only those run that always do."""
        self.at_rest = set(self.pids())

    def cpu(self):
        """Seconds that all of them have used, with children that have ended."""
        stats = filter(None, map(stat_of, self.pids()))
        return sum(sum(map(int, stat[11:15])) for stat in stats) / TICKS

    def stop(self):
        """Ends them, the last started first; those that don't end in time by SIGKILL."""
        left = {pid: started(pid) for pid in self.pids()}
        for process in reversed(self.roots):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.roots = []
        for pid, when in left.items():
            if when and started(pid) == when:
                os.kill(pid, signal.SIGKILL)
