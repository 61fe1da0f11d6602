#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""The bench: measures what was asked for, prints medians and which of the figures that bistream must
reach are reached, and writes the same as JSON and as a plot."""

import argparse
import os
import resource
import signal
import sys
import tempfile

sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import long
import memory
import migrate
import plot
import report
import tunnels
from peers import LOADS, PEERS
from procs import Failure

# The suites beside the load generator's modes, which are run together.
SUITES = {"long": long, "migrate": migrate, "memory": memory}
MODES = (*LOADS, *SUITES)


def choice(text, all_names, what):
    """The names in TEXT, separated by commas or blanks; all when it is empty."""
    names = text.replace(",", " ").split() or list(all_names)
    for name in names:
        if name not in all_names:
            raise Failure(f"there is no {what} \"{name}\"; there are: {' '.join(all_names)}")
    return names


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default=".", help="where bistream was built")
    parser.add_argument("--rounds", default="", help="how often all is measured (5)")
    parser.add_argument("--seconds", default="", help="how long one measurement takes (1)")
    parser.add_argument("--peers", default="", help=" ".join(peer.name for peer in PEERS))
    parser.add_argument("--modes", default="", help=" ".join(MODES))
    parser.add_argument("--out", default=".", help="folder of results.json and results.svg")
    arguments = parser.parse_args()
    arguments.rounds = int(arguments.rounds or 5)
    arguments.seconds = float(arguments.seconds or 1)
    arguments.out = os.path.abspath(arguments.out)
    arguments.build = os.path.abspath(arguments.build)
    arguments.peers = choice(arguments.peers, [peer.name for peer in PEERS], "peer")
    arguments.modes = choice(arguments.modes, MODES, "mode")
    return arguments


def measure(arguments, folder):
    """Results by suite."""
    results = {}
    if any(mode in LOADS for mode in arguments.modes):
        results["tunnels"] = tunnels.run(arguments, folder)
    for name, suite in SUITES.items():
        if name in arguments.modes:
            results[name] = suite.run(arguments, folder)
    return results


def raise_limits():
    """A thousand streams have two thousand ends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def interrupt(*_):
    raise KeyboardInterrupt


def main():
    arguments = parse_arguments()
    raise_limits()
    sys.stdout.reconfigure(line_buffering=True)
    report.warn_if_busy()
    signal.signal(signal.SIGTERM, interrupt)
    with tempfile.TemporaryDirectory(prefix="bistream-bench.", dir="/tmp") as folder:
        results = measure(arguments, folder)
    report.print_figures(results)
    report.write_json(arguments, results)
    if "tunnels" in results:
        no_plot = plot.draw(f"{arguments.out}/results.svg", results["tunnels"]["medians"])
        print(f"no plot: {no_plot}" if no_plot else f"written: {arguments.out}/results.svg")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"bench: {failure}")
    except KeyboardInterrupt:
        sys.exit("\nbench: interrupted; nothing was left running")
