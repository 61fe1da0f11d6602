# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""The medians as bars, drawn by gnuplot into an SVG file: throughput and CPU, latency, connections.
Without a tunnel there is nothing to compare with, and its bars would dwarf the others."""

import shutil
import subprocess

from peers import PEERS

# Panels: title, whether logarithmic, and groups of bars (label, mode, key, how much of it is one).
PANELS = (
    ("throughput, GB/s (more is better)", False,
     (("1 stream", "bulk1", "rate", 1e9), ("3", "bulk3", "rate", 1e9), ("64", "bulk64", "rate", 1e9),
      ("256", "bulk256", "rate", 1e9), ("NBD-like", "nbd", "rate", 1e9))),
    ("CPU of both ends, s per GB (less is better)", False,
     (("1 stream", "bulk1", "cpu", 1), ("3", "bulk3", "cpu", 1), ("64", "bulk64", "cpu", 1),
      ("256", "bulk256", "cpu", 1), ("NBD-like", "nbd", "cpu", 1))),
    ("64 bytes there and back, us (less is better)", True,
     (("alone, p50", "ping", "p50", 1), ("p99", "ping", "p99", 1),
      ("beside bulk, p50", "ping-bulk", "p50", 1), ("p99", "ping-bulk", "p99", 1))),
    ("1000 connections, s (less is better)", True, (("", "connect", "seconds", 1),)),
)


def value_of(results, peer, group):
    _, mode, key, unit = group
    value = results[peer.name].get(mode, {}).get(key)
    return None if value is None else value / unit


def panel(number, peers, results):
    """gnuplot's lines for one panel, or none where nothing was measured.  A peer's colour is the same
    in all of them."""
    title, logarithmic, groups = PANELS[number]
    rows = [[value_of(results, peer, group) for peer in peers] for group in groups]
    drawn = [i for i in range(len(peers)) if any(row[i] is not None for row in rows)]
    if not drawn:
        return []
    lines = [f"$panel{number} << END"]
    for group, row in zip(groups, rows):
        lines.append(" ".join([f'"{group[0]}"',
                               *("NaN" if value is None else f"{value:.4g}" for value in row)]))
    bars = ", ".join(f'$panel{number} using {i + 2}:xtic(1) title "{peers[i].title}" linetype {i + 1}'
                     for i in drawn)
    return [*lines, "END", f'set title "{title}"', "unset key" if number else "set key top right",
            # A logarithmic axis has no zero.
            "set logscale y; set yrange [*:*]" if logarithmic else
            "unset logscale y; set yrange [0:*]", f"plot {bars}"]


def draw(path, results):
    """Returns why there is no plot, or None."""
    if not shutil.which("gnuplot"):
        return "gnuplot is not installed (Debian's package gnuplot-nox)"
    peers = [peer for peer in PEERS if peer.encrypted and peer.name in results]
    lines = ["set terminal svg size 1200,800 background rgb 'white' font 'sans,11'",
             f"set output '{path}'", "set multiplot layout 2,2", "set style data histograms",
             "set style histogram clustered gap 1", "set style fill solid 0.8",
             "set grid ytics", "set xtics scale 0"]
    for number in range(len(PANELS)):
        lines += panel(number, peers, results)
    done = subprocess.run(["gnuplot"], input="\n".join([*lines, "unset multiplot", ""]), text=True,
                          capture_output=True, check=False)
    return done.stderr.strip() if done.returncode != 0 else None
