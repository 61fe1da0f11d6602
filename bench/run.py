#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""The bench: runs the load generator through each tunnel in turn, in interleaved rounds, and prints
medians, ratios, and which of the figures that bistream must reach are reached.

All tunnels are started once and stand idle side by side.  A round is each mode through each tunnel;
rounds are repeated, so that a machine that gets slower or busier meanwhile does so for all of them.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile

sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import plot
import report
from figures import tunnel_figures
from peers import LOADS, PEERS
from procs import Failure, run

def choice(text, all_names, what):
    """The names in TEXT, separated by commas or blanks; all when it is empty."""
    names = text.replace(",", " ").split() or list(all_names)
    for name in names:
        if name not in all_names:
            raise Failure(f"there is no {what} \"{name}\"; there are: {' '.join(all_names)}")
    return names


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", default=".", help="where bistream was built")
    parser.add_argument("--rounds", default="", help="how often all is measured (5)")
    parser.add_argument("--seconds", default="", help="how long one takes (1)")
    parser.add_argument("--peers", default="", help=" ".join(peer.name for peer in PEERS))
    parser.add_argument("--modes", default="", help=" ".join(LOADS))
    parser.add_argument("--out", default=".", help="folder of results.json and results.svg")
    arguments = parser.parse_args()
    arguments.rounds = int(arguments.rounds or 5)
    arguments.seconds = float(arguments.seconds or 1)
    arguments.out = os.path.abspath(arguments.out)
    arguments.build = os.path.abspath(arguments.build)
    arguments.peers = choice(arguments.peers, [peer.name for peer in PEERS], "peer")
    arguments.modes = choice(arguments.modes, LOADS, "mode")
    return arguments


def start_peers(arguments, folder):
    """Those that can be had; what is missing is told."""
    started = []
    try:
        for kind in PEERS:
            if kind.name not in arguments.peers:
                continue
            missing = kind.missing()
            if missing:
                print(f"skipped: {kind.title}: {missing}")
                continue
            peer = kind(f"{folder}/{kind.name}", arguments.build)
            started.append(peer)
            peer.start()
    except BaseException:
        stop_peers(started)
        raise
    return started


def stop_peers(peers):
    for peer in peers:
        peer.stop()


def measure(arguments, peer, mode):
    """One run: what the load generator says, with the seconds of CPU that the tunnel has used."""
    command = peer.command(mode, arguments.seconds)
    if not command:
        return {}
    before = peer.cpu()
    try:
        result = json.loads(run(command))
    except Failure as failure:
        return {"error": str(failure)}
    if result.get("bytes"):
        result.setdefault("cpu", (peer.cpu() - before) / result["bytes"] * 1e9)
    return result


def measure_all(arguments, peers):
    """All runs, by peer and mode."""
    runs = {peer.name: {mode: [] for mode in arguments.modes} for peer in peers}
    for number in range(arguments.rounds):
        for mode in arguments.modes:
            for peer in peers:
                report.progress(f"round {number + 1} of {arguments.rounds}: {mode}: {peer.title}")
                result = measure(arguments, peer, mode)
                runs[peer.name][mode].append(result)
                if "error" in result:
                    report.progress()
                    print(f"{peer.title}: {mode}: {result['error']}")
    report.progress()
    return runs


def medians(runs):
    """Of each number, over the runs that have a result."""
    good = [run for run in runs if "error" not in run]
    return {key: statistics.median(run[key] for run in good) for key in (good[0] if good else ())}


def interrupt(*_):
    raise KeyboardInterrupt


def main():
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, interrupt)
    with tempfile.TemporaryDirectory(prefix="bistream-bench.", dir="/tmp") as folder:
        peers = start_peers(arguments, folder)
        try:
            runs = measure_all(arguments, peers)
        finally:
            stop_peers(peers)
    results = {peer.name: {mode: medians(runs[peer.name][mode]) for mode in arguments.modes}
               for peer in peers}
    figures = tunnel_figures(results)
    report.print_tables(peers, arguments.modes, results)
    report.print_figures(figures)
    report.write_json(arguments, results, runs, figures)
    no_plot = plot.draw(f"{arguments.out}/results.svg", peers, results)
    print(f"no plot: {no_plot}" if no_plot else f"written: {arguments.out}/results.svg")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"bench: {failure}")
    except KeyboardInterrupt:
        sys.exit("\nbench: interrupted; nothing was left running")
