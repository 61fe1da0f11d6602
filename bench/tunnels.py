# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""The load generator through each tunnel in turn.

All tunnels are started once and stand idle side by side.  A round is each mode through each tunnel;
rounds are repeated, so that a machine that gets slower or busier meanwhile does so for all of them.
"""

import report
from figures import tunnel_figures
from peers import LOADS, PEERS
from rounds import medians, running, run_json

# Columns: heading, mode, key, how much of it is one, digits.
COLUMNS = (
    ("1 stream GB/s", "bulk1", "rate", 1e9, 2),
    ("CPU s/GB", "bulk1", "cpu", 1, 2),
    ("3 GB/s", "bulk3", "rate", 1e9, 2),
    ("CPU s/GB", "bulk3", "cpu", 1, 2),
    ("64 GB/s", "bulk64", "rate", 1e9, 2),
    ("256 GB/s", "bulk256", "rate", 1e9, 2),
    ("NBD GB/s", "nbd", "rate", 1e9, 2),
    ("ping p50 us", "ping", "p50", 1, 0),
    ("p99", "ping", "p99", 1, 0),
    ("beside bulk p50", "ping-bulk", "p50", 1, 0),
    ("p99", "ping-bulk", "p99", 1, 0),
    ("its GB/s", "ping-bulk", "rate", 1e9, 2),
    ("beside stalled", "stalled", "ratio", 1, 2),
    ("1000 conn. s", "connect", "seconds", 1, 2),
)


def available(arguments, folder):
    """The peers that were asked for and can be had; what is missing is told."""
    peers = []
    for kind in PEERS:
        if kind.name not in arguments.peers:
            continue
        missing = kind.missing()
        if missing:
            print(f"skipped: {kind.title}: {missing}")
        else:
            peers.append(kind(f"{folder}/{kind.name}", arguments.build))
    return peers


def measure(arguments, peer, mode):
    """One run: what the load generator says, with the seconds of CPU that the tunnel has used."""
    command = peer.command(mode, arguments.seconds)
    if not command:
        return {}
    before = peer.cpu()
    result = run_json(command)
    if result.get("bytes"):
        result.setdefault("cpu", (peer.cpu() - before) / result["bytes"] * 1e9)
    return result


def run(arguments, folder):
    modes = [mode for mode in arguments.modes if mode in LOADS]
    peers = available(arguments, folder)
    runs = {peer.name: {mode: [] for mode in modes} for peer in peers}
    with running(peers):
        for number in range(arguments.rounds):
            for mode in modes:
                for peer in peers:
                    report.progress(f"round {number + 1} of {arguments.rounds}: {mode}: {peer.title}")
                    runs[peer.name][mode].append(measure(arguments, peer, mode))
    results = {peer.name: {mode: medians(runs[peer.name][mode]) for mode in modes} for peer in peers}
    report.print_rows("Tunnels, medians", peers, results,
                      [column for column in COLUMNS if column[1] in modes])
    return {"medians": results, "runs": runs, "figures": tunnel_figures(results)}
