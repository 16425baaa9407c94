"""Where a benchmark's own cluster may listen."""

from __future__ import annotations

import random
import socket

from raftsched.cli.local import PORT_STEP

PEERS = 3


def base_port() -> int:
    """A base of ports that are free, below those that the kernel gives to whoever asks for any."""
    for _ in range(100):
        base = random.randrange(20_000, 32_000, PEERS * PORT_STEP)
        if all(_is_free(base + n * PORT_STEP + more) for n in range(PEERS) for more in (0, 1)):
            return base
    raise AssertionError("no free ports")


def row_of_ports(count: int) -> int:
    """The first of so many ports in a row that are free, below the same range."""
    for _ in range(100):
        base = random.randrange(20_000, 32_000)
        if all(_is_free(base + more) for more in range(count)):
            return base
    raise AssertionError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
