# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""What the bench says: tables of medians, the figures to reach, and both as JSON."""

import json
import os
import platform
import sys
import time


def progress(text=""):
    """On a terminal, one line that is written over and over."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def warn_if_busy():
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"This machine is busy (load average {load:.1f}, {os.cpu_count()} cores): ratios will be "
              "rough, and latencies say nothing.")


def cell(result, column):
    _, mode, key, unit, digits = column
    value = result.get(mode, {}).get(key)
    return "-" if value is None else f"{value / unit:.{digits}f}"


def print_rows(title, peers, results, columns):
    """A row for each of PEERS.  COLUMNS: heading, mode, key, how much of it is one, digits."""
    rows = [["", *(column[0] for column in columns)]]
    rows += [[peer.title, *(cell(results[peer.name], column) for column in columns)]
             for peer in peers]
    widths = [max(map(len, column)) for column in zip(*rows)]
    progress()
    print(f"\n{title}:\n")
    for row in rows:
        print(row[0].ljust(widths[0]), *(text.rjust(width)
                                         for text, width in zip(row[1:], widths[1:])), sep="  ")


def print_figures(results):
    """Each on a line, and whether it is reached."""
    figures = [figure for suite in results.values() for figure in suite["figures"]]
    if figures:
        print("\nWhat bistream must reach:\n")
    for figure in figures:
        sign = ">=" if figure["at_least"] else "<="
        print(f"{figure['figure']:<52} {figure['value']:9.2f}   {sign} {figure['limit']:<6g} "
              f"{'reached' if figure['reached'] else 'NOT reached'}")


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    return {"processor": models[0] if models else platform.machine(), "cores": os.cpu_count(),
            "kernel": platform.release(), "load": os.getloadavg()[0]}


def write_json(arguments, results):
    path = f"{arguments.out}/results.json"
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"date": time.strftime("%Y-%m-%d %H:%M:%S %z"), "machine": machine(),
                   "rounds": arguments.rounds, "seconds": arguments.seconds, **results}, file,
                  indent=1)
    print(f"\nwritten: {path}")
