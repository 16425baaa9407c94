"""Why a peer ended for good, kept in its data directory: no later start forgets it.

Whoever told it may not be there then, and what a peer knew to be committed is not on its disk as
such: started again it might do what it refused.
"""

from __future__ import annotations

import logging
from pathlib import Path

from raftsched.raft.files import Disk, read_file, write_atomic
from raftsched.raft.log import MustStop, RemovedFromCluster, SafetyViolation

logger = logging.getLogger(__name__)

#: Who was removed has the one, who would have broken Raft's rules the other.
REMOVED, UNSAFE = "removed", "unsafe"


def refuse(disk: Disk, directory: Path) -> None:
    """Raises RemovedFromCluster or SafetyViolation if an earlier life ended with one."""
    names = disk.list_directory(directory)
    if REMOVED in names:
        raise RemovedFromCluster(_read(disk, directory / REMOVED))
    if UNSAFE in names:
        raise SafetyViolation(_read(disk, directory / UNSAFE))


def remember(disk: Disk, directory: Path, error: MustStop) -> None:
    """For `refuse`.  A disk that is in trouble is told of and no more: the peer ends anyway."""
    if isinstance(error, SafetyViolation):
        name, text = UNSAFE, error.what
    else:
        name, text = REMOVED, str(error)
    try:
        write_atomic(disk, directory / name, text.encode())
    except OSError as failure:
        logger.warning("why this peer ends is not remembered: %s", failure)


def _read(disk: Disk, path: Path) -> str:
    return read_file(disk, path).decode(errors="replace")
