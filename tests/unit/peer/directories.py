"""Data directories of stopped peers, made entry by entry."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from raftsched.core import codec, machine
from raftsched.core.commands import AnyCommand, Batch, Entry
from raftsched.core.state import State
from raftsched.raft.journal import Journal
from raftsched.raft.snapshot import SnapshotStore
from raftsched.raft.snapshot_file import SnapshotMeta

CLUSTER, PEER = "c", "n1"
#: The stamp of the entry at index 0, and of each further one so much more.
BEGIN_MS, STEP_MS = 1_700_000_000_000, 1_000


class Directory:
    """A peer's data directory, its journal open, and the state that it stands for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = State(CLUSTER)
        self._journal = Journal.open(
            path / "raft" / "journal", cluster_id=CLUSTER, peer_id=PEER, reserve_bytes=0
        )
        self._journal.setCurrentTerm(3, PEER)
        self.add(b"\1")

    def add(self, data: bytes, term: int = 3) -> int:
        """An entry as it is; its index."""
        index = self._journal.last_index + 1
        self._journal.add(data, index, term)
        self._journal.sync()
        return index

    def do(self, *commands: AnyCommand, term: int = 3, version: int = 7) -> int:
        """An entry with a batch, which is applied if it was meant for its term; its index."""
        index = self._journal.last_index + 1
        batch = Batch(PEER, 1, index, commands)
        entry = Entry(version, term, BEGIN_MS + index * STEP_MS, (batch,), agreed=True)
        if term == 3:
            machine.apply(self.state, index, entry)
        return self.add(b"\0" + codec.encode_entry(entry))

    def snapshot(self) -> None:
        """Of the state as it is."""
        store = SnapshotStore.open(self.path / "raft" / "snapshots", cluster_id=CLUSTER)
        previous, last = self._journal[-2:]
        chunks: Iterable[bytes] = codec.snapshot_chunks(self.state)
        assert store.publish(store.write(SnapshotMeta(CLUSTER, previous, last), chunks))
        self.state.end_snapshot()

    def compact(self) -> None:
        """Leave nothing of the journal but what a snapshot needs, in a segment of its own."""
        entries = self._journal[-2:]
        self._journal.clear()
        for entry in entries:
            self._journal.add(*entry)
        self._journal.sync()

    def stop(self, *, clean: bool = True) -> Path:
        """The path, for whoever reads it."""
        self._journal.close(clean)
        return self.path
