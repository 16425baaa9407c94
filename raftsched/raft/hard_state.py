"""Term and vote: what a peer must never forget (Raft, figure 2), durable before anybody hears it.

The file has two slots, mirrors of each other on different disk pages, written and synced one after
the other.  So whichever slot is torn by a crash or rots later, the other one holds either the
present state or the one before a write that nobody was told of; two slots that cannot be read
refuse.  Overwriting in place needs no room, so a peer with a full disk can still vote.

A single file replaced by rename would do as well, but takes room and a directory sync, and leaves
nothing to heal from.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from pathlib import Path

import msgspec

from raftsched.raft.files import (
    REMEDY,
    Disk,
    JournalDamaged,
    read_exactly,
    write_all,
    write_atomic,
)
from raftsched.raft.log import SafetyViolation

logger = logging.getLogger(__name__)

#: Two slots on pages (and so, on any disk in use, sectors) of their own.
_SLOT_BYTES = 4096
_SLOTS = (0, _SLOT_BYTES)
_MAGIC = b"RSHS"
#: Magic, format version, sequence, term, bytes of the vote (-1 = none); the CRC-32 of all follows.
_HEAD = struct.Struct("<4sIQQi")
_CRC = struct.Struct("<I")
_VERSION = 1
#: Longest peer id that fits a slot with room to spare.
_VOTE_BYTES_MAX = 1024


class HardState(msgspec.Struct, frozen=True):
    """One durable (term, vote)."""

    #: Counts the writes, so that of two slots the newer is known.
    sequence: int
    term: int
    #: The peer voted for in ``term``.
    vote: str | None


def _encode(state: HardState) -> bytes:
    vote = b"" if state.vote is None else state.vote.encode()
    if len(vote) > _VOTE_BYTES_MAX:
        raise ValueError(f"a peer id of {len(vote)} bytes; {_VOTE_BYTES_MAX} are the most")
    size = -1 if state.vote is None else len(vote)
    body = _HEAD.pack(_MAGIC, _VERSION, state.sequence, state.term, size) + vote
    return (body + _CRC.pack(zlib.crc32(body))).ljust(_SLOT_BYTES, b"\0")


def _decode(slot: bytes) -> HardState | None:
    """The state in a slot; None when it is not a whole slot of ours."""
    if len(slot) < _SLOT_BYTES:
        return None
    magic, version, sequence, term, size = _HEAD.unpack_from(slot)
    end = _HEAD.size + max(size, 0)
    if magic != _MAGIC or version != _VERSION or not -1 <= size <= _VOTE_BYTES_MAX:
        return None
    if _CRC.unpack_from(slot, end)[0] != zlib.crc32(slot[:end]) or any(slot[end + _CRC.size :]):
        return None
    return HardState(sequence, term, None if size < 0 else slot[_HEAD.size : end].decode())


class HardStateFile:
    """The file.  Errors of the disk pass through as OSError: the caller must end the process."""

    #: What is durable.
    state: HardState

    def __init__(self, disk: Disk, path: Path) -> None:
        """Open an existing file.  Raises JournalDamaged when neither slot can be trusted."""
        self._disk = disk
        self._path = path
        self._fd = disk.open(path, os.O_RDWR)
        try:
            self.state = self._read()
        except BaseException:
            disk.close(self._fd)
            raise

    @staticmethod
    def create(disk: Disk, path: Path) -> None:
        """Make the file of a peer that has never voted."""
        write_atomic(disk, path, _encode(HardState(0, 0, None)) * len(_SLOTS))

    def save(self, term: int, vote: str | None) -> None:
        """Durable when it returns.  Does nothing if it says the same.  Raises SafetyViolation."""
        if (term, vote) == (self.state.term, self.state.vote):
            return
        if term < self.state.term:
            raise SafetyViolation(f"the term was to fall from {self.state.term} to {term}")
        if term == self.state.term and self.state.vote is not None:
            raise SafetyViolation(
                f"the vote of term {term} was to go from {self.state.vote} to {vote or 'nobody'}"
            )
        state = HardState(self.state.sequence + 1, term, vote)
        for offset in _SLOTS:
            self._write(state, offset)
        self.state = state

    def close(self) -> None:
        self._disk.close(self._fd)

    def _write(self, state: HardState, offset: int) -> None:
        write_all(self._disk, self._fd, _encode(state), offset)
        self._disk.datasync(self._fd)

    def _read(self) -> HardState:
        slots = _read_slots(self._disk, self._fd)
        newest = _newest(slots, self._path)
        # Rewritten also when they are equal, as what a killed process wrote may not be on the disk
        # yet; the damaged or older one first, so that a crash here leaves the good one alone.
        found = zip(slots, _SLOTS, strict=True)
        for copy, offset in sorted(found, key=lambda at: at[0] == newest):
            if copy is None:
                logger.warning("%s: mended the copy at byte %d", self._path, offset)
            self._write(newest, offset)
        return newest


def read_hard_state(disk: Disk, path: Path) -> HardState:
    """What is durable, with nothing mended.  Raises JournalDamaged."""
    fd = disk.open(path, os.O_RDONLY)
    try:
        return _newest(_read_slots(disk, fd), path)
    finally:
        disk.close(fd)


def _read_slots(disk: Disk, fd: int) -> list[HardState | None]:
    return [_decode(read_exactly(disk, fd, _SLOT_BYTES, offset)) for offset in _SLOTS]


def _newest(slots: list[HardState | None], path: Path) -> HardState:
    """The state that counts.  Raises JournalDamaged when neither slot can be trusted."""
    intact = [slot for slot in slots if slot is not None]
    if not intact:
        raise JournalDamaged(path, 0, "neither copy of term and vote is intact", REMEDY)
    newest = max(intact, key=lambda slot: slot.sequence)
    for slot in intact:
        if newest.sequence - slot.sequence > 1 or (
            slot.sequence == newest.sequence and slot != newest
        ):
            raise JournalDamaged(path, 0, "the copies of term and vote differ", REMEDY)
    return newest
