# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""Mode long: how much of a long link one stream fills, once it has had time to find out how long the
link is."""

import report
from figures import Figures
from peers import Bistream, OpenSSH
from relay import Link
from rounds import medians, running, run_json

LINKS = {"300 MB/s, 50 ms": Link(50, 300), "100 MB/s, 100 ms": Link(100, 100)}
WARM_UP = 3
AT_LEAST = 0.9 # of the link's rate


def measure(arguments, peer, link):
    result = run_json([f"{arguments.build}/bench/load", "bulk", f"--near={peer.near}",
                       f"--far={peer.far}", f"--seconds={max(2, arguments.seconds)}",
                       f"--warm-up={WARM_UP}"])
    if "rate" in result:
        result["filled"] = result["rate"] / (link.rate * 1e6)
    return result


def run(arguments, folder):
    kinds = [kind for kind in (OpenSSH, Bistream)
             if kind.name in arguments.peers and not kind.missing()]
    runs = {kind.name: {link: [] for link in LINKS} for kind in kinds}
    for number in range(arguments.rounds):
        for name, link in LINKS.items():
            for kind in kinds:
                report.progress(f"round {number + 1} of {arguments.rounds}: {name}: {kind.title}")
                # One at a time: relays and TCP windows of others are not to be in the way.
                peer = kind(f"{folder}/long-{kind.name}-{number}-{link.rate}", arguments.build, link)
                with running([peer]):
                    runs[kind.name][name].append(measure(arguments, peer, link))
    results = {name: {link: medians(of_link) for link, of_link in of_peer.items()}
               for name, of_peer in runs.items()}
    figures = Figures(results)
    for link in LINKS:
        figures.add(f"{link} round trip, part of its rate", figures.get(link, "filled"), AT_LEAST, True)
    report.print_rows("One stream through long links, as part of their rate", kinds, results,
                      [(link, link, "filled", 1, 2) for link in LINKS])
    return {"medians": results, "runs": runs, "figures": figures.all}
