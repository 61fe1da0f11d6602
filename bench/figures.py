# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""The figures that bistream must reach, most of them relative to the best of the encrypted tunnels in
the same run: "best" is the best of them in that one figure."""

TUNNELS = ("openssh", "haproxy", "stunnel", "socat")

THROUGHPUT = 1.8, 1.3  # of the best tunnel, on one stream and on three
CPU = 0.75             # of the best tunnel's, per byte
MANY = 0.85            # 256 streams, of three
PING = 250, 1500       # us beside bulk, p50 and p99
CONNECT = 0.2          # s for 1000 connections
BESIDE_STALLED = 0.95  # of the rate alone


class Figures:
    """Collects figures from RESULTS, the medians by peer and mode; those without a measurement are
    left out."""

    def __init__(self, results):
        self.results = results
        self.all = []

    def get(self, mode, key, peer="bistream"):
        return self.results.get(peer, {}).get(mode, {}).get(key)

    def best(self, mode, key, choose):
        """Of the other tunnels."""
        values = [self.get(mode, key, peer) for peer in TUNNELS]
        return choose((value for value in values if value is not None), default=None)

    def add(self, text, value, limit, at_least):
        if value is None or limit is None:
            return
        reached = value >= limit if at_least else value <= limit
        self.all.append({"figure": text, "value": value, "limit": limit, "at_least": at_least,
                         "reached": reached})

    def ratio(self, text, mode, key, base, limit, at_least=True):
        """The figure is our value as part of BASE."""
        value = self.get(mode, key)
        if value is not None and base:
            self.add(text, value / base, limit, at_least)


def tunnel_figures(results):
    figures = Figures(results)
    figures.ratio("1 stream, times the best tunnel", "bulk1", "rate",
                  figures.best("bulk1", "rate", max), THROUGHPUT[0])
    figures.ratio("3 streams, times the best tunnel", "bulk3", "rate",
                  figures.best("bulk3", "rate", max), THROUGHPUT[1])
    figures.ratio("CPU per byte, 3 streams, part of the best tunnel's", "bulk3", "cpu",
                  figures.best("bulk3", "cpu", min), CPU, at_least=False)
    figures.ratio("256 streams, part of 3 streams", "bulk256", "rate",
                  figures.get("bulk3", "rate"), MANY)
    figures.add("ping beside bulk, p50 in us", figures.get("ping-bulk", "p50"), PING[0], False)
    figures.add("ping beside bulk, p99 in us", figures.get("ping-bulk", "p99"), PING[1], False)
    figures.add("beside a stalled stream, part of alone", figures.get("stalled", "ratio"),
                BESIDE_STALLED, True)
    figures.add("1000 connections in s", figures.get("connect", "seconds"), CONNECT, False)
    return figures.all
