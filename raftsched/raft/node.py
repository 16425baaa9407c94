"""PySyncObj's name for a peer, with a hash that is the same in every process.

PySyncObj keeps nodes in sets and sends in their order; with Python's own hash of strings that
order, and with it everything that follows, would differ from run to run.
"""

from __future__ import annotations

from functools import cache
from zlib import crc32

from pysyncobj.node import Node


class PeerNode(Node):  # type: ignore[misc]
    """A peer by its id."""

    def __init__(self, peer_id: str) -> None:
        super().__init__(peer_id)
        self._hash = crc32(peer_id.encode())

    def __hash__(self) -> int:
        return int(self._hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PeerNode) and bool(self._id == other._id)


@cache
def node_of(peer_id: str) -> PeerNode:
    """The one of a member; every message needs it several times."""
    return PeerNode(peer_id)
