"""What the cluster decided, read off a stopped peer: its log applied again, entry by entry.

It changes nothing in the directory and asks nobody.  What stands in the log behind the newest
snapshot is applied as if it were committed, for the disk does not say: a peer that was cut off may
have entries at its end that the cluster never agreed on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from raftsched.core import codec, machine
from raftsched.core.commands import Entry
from raftsched.core.differences import Before, Changed
from raftsched.core.outcomes import Applied
from raftsched.core.state import State
from raftsched.core.versions import UnknownVersion
from raftsched.peer.errors import UpgradeNeeded
from raftsched.raft.archive import Archive, Archived
from raftsched.raft.files import Damaged as Damaged
from raftsched.raft.files import StorageError as StorageError

#: Of a digest: rows hashed at a stroke; all of them.
_ALL_ROWS = 1 << 62


class BadEntry(Exception):
    """Its checksum is right, and no program wrote it so."""


class About(NamedTuple):
    """Whose log it is, and what there is of it."""

    peer_id: str
    cluster_id: str
    #: The latest term that the peer knows of.
    term: int
    #: Index of the snapshot that it begins with; 0: it begins with nothing.
    base_index: int
    last_index: int
    #: What is known to be committed without asking another peer.
    committed_index: int
    #: Bytes of an unfinished write at the end, which are passed over.
    torn_bytes: int


class Decided(NamedTuple):
    """What one command entry did."""

    entry: Entry
    applied: Applied
    changed: Changed


class Step(msgspec.Struct, frozen=True):
    """One entry of the log, and the state behind it."""

    index: int
    term: int
    #: None: the entry holds no commands, or nobody meant it to stand where it stands.
    decided: Decided | None
    #: Ids of voters and learners, if it changed who is a member.
    members: tuple[tuple[str, ...], tuple[str, ...]] | None
    #: Appended for another term than the one it stands in: skipped whole by every peer.
    is_stray: bool
    #: Of the state behind it, as `cluster verify` compares it.
    digest: bytes


class Replay:
    """The open log of a stopped peer; `close` it."""

    def __init__(self, data_dir: Path) -> None:
        """``data_dir`` is a peer's, as ``serve`` takes it.

        Raises StorageError (Damaged among them), OSError and UpgradeNeeded.
        """
        self._archive = archive = Archive(data_dir / "raft")
        self.about = About(
            archive.identity.peer_id, archive.identity.cluster_id, archive.term,
            archive.base_index, archive.last_index, archive.committed_index, archive.torn_bytes,
        )  # fmt: skip
        try:
            self.state = self._base()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the directory."""
        self._archive.close()

    def steps(self) -> Iterator[Step]:
        """Entry by entry, to be drawn once; `state` is the one behind the step drawn last.

        Raises UpgradeNeeded and BadEntry.
        """
        for archived in self._archive.entries():
            try:
                step = self._step(archived)
            except msgspec.DecodeError as error:
                what = f"entry {archived.index} of term {archived.term} cannot be read: {error}"
                raise BadEntry(what) from None
            yield step

    def _base(self) -> State:
        if not self.about.base_index:
            return State(self.about.cluster_id)
        try:
            state = codec.restore_state(self._archive.snapshot_chunks())
        except UnknownVersion as error:
            raise UpgradeNeeded(str(error)) from None
        state.index = self.about.base_index
        return state

    def _step(self, archived: Archived) -> Step:
        index, term = archived.index, archived.term
        decided: Decided | None = None
        is_stray = False
        if archived.command is not None:
            entry = _decoded(archived.command)
            is_stray = entry.term != term
            if is_stray:
                self.state.index = index
            else:
                before = Before(self.state)
                applied = machine.apply(self.state, index, entry)
                decided = Decided(entry, applied, before.changed())
        members = archived.configuration
        told = (tuple(sorted(members.voters)), tuple(sorted(members.learners))) if members else None
        return Step(index, term, decided, told, is_stray, self._digest())

    def _digest(self) -> bytes:
        self.state.freeze_digest()
        digest = self.state.frozen_digest(_ALL_ROWS)
        assert digest is not None
        return digest


def _decoded(command: bytes) -> Entry:
    try:
        return codec.decode_entry(command)
    except UnknownVersion as error:
        raise UpgradeNeeded(str(error)) from None
