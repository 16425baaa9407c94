"""Where a runner listens: a Unix socket in the node's directory, for its owner only."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def socket_address(directory: Path) -> tuple[str, int]:
    """A path for the socket that is short however long the directory's is, and what it needs open.

    Unix socket paths end at 107 bytes; the descriptor must be closed after use.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{descriptor}/runner.sock", descriptor


def listen(directory: Path) -> socket.socket:
    """The runner's socket, for its owner only."""
    address, descriptor = socket_address(directory)
    try:
        (directory / "runner.sock").unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            listener.bind(address)
        finally:
            os.umask(mask)
        listener.listen(4)
        return listener
    finally:
        os.close(descriptor)
