# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""What all kinds of measurements share: peers that run only as long as they are needed, programs that
print JSON, medians."""

import contextlib
import json
import statistics

import report
from procs import Failure, run


@contextlib.contextmanager
def running(peers):
    """Starts PEERS, and ends them whatever happens."""
    try:
        for peer in peers:
            peer.start()
        yield
    finally:
        for peer in peers:
            peer.stop()


def run_json(command):
    """What COMMAND prints.  When it fails, that is told, and stands in the result as "error"."""
    try:
        return json.loads(run(command))
    except Failure as failure:
        report.progress()
        print(f"failed: {failure}")
        return {"error": str(failure)}


def medians(runs):
    """Of each number, over the runs that have a result."""
    good = [one for one in runs if "error" not in one]
    return {key: statistics.median(one[key] for one in good) for key in (good[0] if good else ())}
