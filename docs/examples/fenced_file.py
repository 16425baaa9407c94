"""A file that only the newest attempt may replace.  Tried by tests/unit/test_fencing.py.

The token stands in the first line of the file, so data and token change in the same rename.  A lock
beside the file makes comparing and replacing one step for all processes of this machine; on NFS
and the like `flock` must work, or the store must compare by itself.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from raftsched.fencing import StaleToken


def read(path: Path) -> tuple[int, bytes]:
    """(token of the attempt that wrote it, data); (0, empty) if nobody did."""
    try:
        head, _, data = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return 0, b""
    return int(head), data


def write(path: Path, token: int, data: bytes) -> None:
    """Replace the file, all or nothing.  Raises StaleToken if a newer attempt wrote it."""
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        highest, _ = read(path)
        if token < highest:
            raise StaleToken(path.name, token, highest)
        blank = path.with_suffix(f".{token}.new")
        with blank.open("wb") as file:
            file.write(b"%d\n" % token + data)
            file.flush()
            os.fsync(file.fileno())
        blank.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # The rename itself survives a power cut.
        finally:
            os.close(folder)
