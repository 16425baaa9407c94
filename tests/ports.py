"""Where the servers of a test may listen.

A port that the kernel gave and took back may be given to any connection before a server binds it.
These lie below the ports that the kernel gives to whoever asks for any, and a block of them belongs
to one process of tests at a time, so that neither a worker beside it nor another run takes one.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from raftsched.cli.local import PORT_STEP

FIRST, LAST = 10_000, 32_000
BLOCK = 1_000
#: Of a cluster on one machine, each peer's.
PORTS_OF_PEER = 2


def free_port() -> int:
    """A port nobody listens on, and nobody else is given while this process lives."""
    return row_of_ports(1)


def free_ports(count: int) -> list[int]:
    """So many different ones."""
    return [free_port() for _ in range(count)]


def base_port(peers: int = 3) -> int:
    """A base for a cluster on one machine, ``--base-port``."""
    return row_of_ports((peers - 1) * PORT_STEP + PORTS_OF_PEER)


def row_of_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    row: list[int] = []
    for port in itertools.islice(_walk(), 2 * BLOCK):
        if row and port != row[-1] + 1:
            row = []
        row = [*row, port] if _is_free(port) else []
        if len(row) == count:
            return row[0]
    raise AssertionError(f"no {count} free ports in a row")


@functools.cache
def _walk() -> Iterator[int]:
    """Around the block of this process, so that a port just left is given again last of all."""
    return itertools.cycle(_own_block())


def _own_block() -> range:
    directory = Path(tempfile.gettempdir(), f"raftsched-test-ports-{os.getuid()}")
    directory.mkdir(exist_ok=True)
    blocks = list(range(FIRST, LAST, BLOCK))
    random.shuffle(blocks)
    for first in blocks:
        # Open, and so locked, until this process ends; what it starts does not inherit it.
        lock = os.open(directory / str(first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
        else:
            return range(first, first + BLOCK)
    raise AssertionError(f"all {len(blocks)} blocks of ports are taken by other runs")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
