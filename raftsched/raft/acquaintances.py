"""Which directory each of the other peers had when it was first met: a wiped one is noticed.

A peer that lost its directory has forgotten its votes and what it acknowledged; under its old id it
would be counted for both again.  So every directory gets a mark of its own when it is made, peers
tell theirs in the handshake, and remember those of the others for good.  A peer that comes back
with another mark is refused by everybody who knew it.
"""

from __future__ import annotations

import logging
import zlib
from pathlib import Path

import msgspec

from raftsched.raft.files import REMEDY, Disk, JournalDamaged, read_file, write_atomic

logger = logging.getLogger(__name__)

_FILE = "acquaintances"
_decoder = msgspec.msgpack.Decoder(dict[str, str])


class Acquaintances:
    """The marks of the others' directories, kept in a file of this peer's."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        """Read what is remembered.  Raises JournalDamaged, OSError."""
        self._disk = disk
        self._path = directory / _FILE
        self._marks: dict[str, str] = {}
        if _FILE in disk.list_directory(directory):
            data = read_file(disk, self._path)
            if len(data) < 4 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
                raise JournalDamaged(self._path, 0, "the checksum is wrong", REMEDY)
            self._marks = _decoder.decode(data[4:])

    def refusal(self, peer_id: str, mark: str) -> str:
        """Why a peer with that mark may not come in; empty if it may."""
        known = self._marks.get(peer_id, "")
        if not known or known == mark:
            return ""
        return (
            f"{peer_id!r} was known with another directory: wiped, it has forgotten its votes; "
            "remove it and add it again under a new id (docs/operations/damage.md)"
        )

    def meet(self, peer_id: str, mark: str) -> None:
        """Remember a peer, durably, if it is new.  Without room it is remembered another time."""
        if not mark or self._marks.get(peer_id):
            return
        marks = {**self._marks, peer_id: mark}
        body = msgspec.msgpack.encode(dict(sorted(marks.items())))
        try:
            write_atomic(self._disk, self._path, zlib.crc32(body).to_bytes(4, "little") + body)
        except OSError as error:
            logger.warning("the directory of %s is not remembered yet: %s", peer_id, error)
            return
        self._marks = marks
