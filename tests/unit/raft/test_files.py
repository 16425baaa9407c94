"""The real disk: the same idioms on a real file system, and one process per directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raftsched.raft.files import DirectoryLocked, OsDisk, read_file, write_atomic
from raftsched.raft.journal import Journal
from raftsched.raft.snapshot import SnapshotStore
from raftsched.raft.snapshot_file import SnapshotMeta

KILLED = """
import os, sys
from pathlib import Path
from raftsched.raft.journal import Journal
journal = Journal.open(Path(sys.argv[1]), cluster_id="c", peer_id="p", segment_bytes=4096)
journal.setCurrentTerm(1, "p")
for index in range(1, 200):
    journal.add(b"\\0" + b"x" * 100, index, 1)
    journal.sync()
print(journal.durable_index, flush=True)
sys.stdin.read()
"""


def open_journal(directory: Path) -> Journal:
    return Journal.open(directory, cluster_id="c", peer_id="p", segment_bytes=4096)


def test_directories_that_are_made_are_synced_into_their_parents(tmp_path: Path) -> None:
    """Or a power loss takes the directory, and with it everything that was synced in it."""
    synced: list[Path] = []

    class Watched(OsDisk):
        def sync_directory(self, path: Path) -> None:
            synced.append(path)
            super().sync_directory(path)

    Watched().make_directory(tmp_path / "data" / "raft" / "journal")
    assert synced == [tmp_path, tmp_path / "data", tmp_path / "data" / "raft"]
    Watched().make_directory(tmp_path / "data" / "raft" / "journal")
    assert len(synced) == 3


def test_atomic_write_replaces(tmp_path: Path) -> None:
    disk, path = OsDisk(), tmp_path / "file"
    for data in (b"first", b"", b"second"):
        write_atomic(disk, path, data)
        assert read_file(disk, path) == data
    assert disk.list_directory(tmp_path) == ["file"]
    assert path.stat().st_mode & 0o077 == 0


def test_journal_survives_sigkill_and_its_lock_ends_with_it(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "raft"
    command = [sys.executable, "-c", KILLED, str(directory)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"199\n"
        with pytest.raises(DirectoryLocked, match="in use by another process"):
            open_journal(directory)
        process.kill()
    journal = open_journal(directory)
    assert journal.durable_index == 199 and journal.getVotedForNodeId() == "p"
    assert journal.bytes_on_disk > 199 * 100
    journal.close()
    journal.close()
    open_journal(directory).close()


def test_snapshot_and_compaction_on_a_real_disk(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    store = SnapshotStore.open(tmp_path / "snapshots", cluster_id="c")
    journal.setCurrentTerm(1, None)
    for upto in (100, 200, 300):
        for index in range(journal.last_index + 1, upto + 1):
            journal.add(b"\0" + b"x" * 100, index, 1)
        journal.sync()
        meta = SnapshotMeta("c", journal[-2], journal[-1])
        assert store.publish(store.write(meta, [b"state", b"more"]))
        store.prune()
        journal.deleteEntriesTo(len(journal) - 2)
    journal.close()
    journal = open_journal(tmp_path)
    assert 100 < journal.first_index <= 199
    store = SnapshotStore.open(tmp_path / "snapshots", cluster_id="c")
    snapshot = store.usable(journal.first_index)
    assert snapshot is not None and list(store.read(snapshot)) == [b"state", b"more"]
    journal.align(snapshot.meta.previous, snapshot.meta.last)
    assert (journal.first_index, len(journal)) == (299, 2)
    journal.close()
