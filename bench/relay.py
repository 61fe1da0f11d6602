# SPDX-License-Identifier: LGPL-2.1-or-later
# Copyright (C) 2026 The bistream authors
"""Long links: tests/integration/relay.c between the two ends, in user space."""

import os
from collections import namedtuple

from procs import wait_for

# A round trip in ms, and megabytes per second each way (0: no limit).
Link = namedtuple("Link", "round_trip rate", defaults=(0,))


def start_relay(group, build, folder, link, port, at="0"):
    """Relays to PORT from the port AT (or ADDRESS:PORT; 0 is a free one), which is returned."""
    file = f"{folder}/relay-{port}"
    group.spawn([f"{build}/tests/integration/relay", str(port), file, str(link.round_trip // 2),
                 str(link.round_trip // 2), str(at), str(link.rate)], f"{folder}/relay-log")

    def written():
        group.check()
        return os.path.exists(file) and os.path.getsize(file) > 0
    wait_for("the relay's port", written)
    with open(file, encoding="utf-8") as text:
        return int(text.read())
