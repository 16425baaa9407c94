"""Orphaned descendants: whoever adopts them has them among its children, and reaps them."""

from __future__ import annotations

import ctypes
import os

#: prctl(2): orphans among the descendants of this process become its children.
_PR_SET_CHILD_SUBREAPER = 36
#: The list of children, some 8 bytes each, is read in parts of this.
_PAGE_BYTES = 64 * 1024


def adopt_orphans() -> int:
    """Become the parent of orphaned descendants: the list of children, open; -1: not here."""
    path = f"/proc/self/task/{os.getpid()}/children"
    try:
        if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            return -1
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, AttributeError):
        return -1


def children(listing: int) -> list[int]:
    """Pids of all children, of an open list of them; those that came as orphans among them."""
    listed = b""
    # A page at a time, whatever is asked for.
    while part := os.pread(listing, _PAGE_BYTES, len(listed)):
        listed += part
    return [int(pid) for pid in listed.split()]
