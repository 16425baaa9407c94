"""What stock PySyncObj 0.3.17 does with its files (the control), and what ours do: S4 to S9, S24.

See ``test_findings``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pysyncobj.journal import FIRST_RECORD_OFFSET, FileJournal

from raftsched.raft.files import JournalDamaged, SnapshotDamaged
from raftsched.raft.journal import Entry, Journal
from raftsched.raft.snapshot import SnapshotStore
from raftsched.raft.snapshot_file import SnapshotMeta
from raftsched.testing.disk import Crash, MemoryDisk
from tests.simulation.stock.files import Child, System
from tests.simulation.stock.library import file_names, replaced
from tests.unit.raft.stock import Peer

DIRECTORY = Path("/data")
JOURNAL, DUMP = "/data/journal", "/data/dump"


class Stock:
    """The process in which the library's files are on a disk in memory."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.child: Child | None = None

    def journal(self, last: int = 0) -> FileJournal:
        """The one on the disk, with entries up to ``last`` added if it is new."""
        journal = FileJournal(JOURNAL)
        for index in range(1, last + 1):
            journal.add(*entry(index))
        return journal

    def restart(self, power_loss_seed: int | None = None) -> FileJournal:
        """The journal as the next process finds it."""
        self.disk = self.disk.restarted(power_loss_seed)
        return self.journal()


@pytest.fixture
def stock() -> Iterator[Stock]:
    process = Stock()
    with replaced(file_names(System(lambda: process))):
        yield process


def open_journal(disk: MemoryDisk, **settings: Any) -> Journal:
    defaults: dict[str, Any] = {"cluster_id": "c", "peer_id": "p", "reserve_bytes": 0}
    return Journal.open(DIRECTORY, disk=disk, **{**defaults, **settings})


def entry(index: int, term: int = 1) -> Entry:
    return (b"\0command %d" % index, index, term)


def filled(disk: MemoryDisk, last: int, *, each: int = 1, **settings: Any) -> Journal:
    """Ours with entries 1 to ``last``, synced after ``each`` so many."""
    journal = open_journal(disk, **settings)
    journal.setCurrentTerm(1, "p")
    for index in range(1, last + 1):
        journal.add(*entry(index))
        if not index % each:
            journal.sync()
    return journal


def indexes(journal: Any) -> list[int]:
    return [one[1] for one in journal[:]]


# S4: the dump is newer than the journal's beginning ----------------------------------------------


def dumped() -> None:
    """A dump that ends with entries 5 and 6."""
    writer = Peer(fullDumpFile=DUMP, useFork=False)
    data: tuple[Any, ...] = ({"applied": [2, 3, 4, 5, 6]}, entry(6), entry(5), set())
    writer._SyncObj__serializer.serialize(data, 5)
    writer.close()


def test_s4_stock_throws_its_journal_away(stock: Stock) -> None:
    stock.journal(10)
    dumped()
    peer = Peer(journalFile=JOURNAL, fullDumpFile=DUMP)
    assert peer.last_index == 10
    peer.doTick(0)
    assert (peer.first_index, peer.last_index) == (5, 6)
    peer.close()


def test_s4_journal_keeps_what_is_behind_the_snapshot() -> None:
    disk = MemoryDisk()
    filled(disk, 10)
    journal = open_journal(disk.restarted())
    journal.align(entry(5), entry(6))
    assert indexes(journal) == [5, 6, 7, 8, 9, 10]


# S5: compaction in place -------------------------------------------------------------------------


def test_s5_stock_killed_while_it_compacts_has_lost_the_tail(stock: Stock) -> None:
    journal = stock.journal(100)
    stock.disk.crash_at = stock.disk.operations + 10
    with pytest.raises(Crash):
        journal.deleteEntriesTo(50)
    assert indexes(stock.restart()) == [51, 52, 53, 54]


def test_s5_kill_anywhere_in_compaction_loses_nothing() -> None:
    crashes = 0
    while True:
        disk = MemoryDisk()
        journal = filled(disk, 100, each=5, segment_bytes=300)
        disk.crash_at = disk.operations + crashes + 1
        try:
            for trimmed in (30, 19):
                journal.deleteEntriesTo(trimmed)
        except Crash:
            crashes += 1
            assert indexes(open_journal(disk.restarted()))[-50:] == list(range(51, 101))
        else:
            assert journal.first_index == 50 and crashes > 3
            return


# S6: nothing is checked, nothing is synced -------------------------------------------------------


def test_s6_stock_loses_power_and_what_it_acknowledged(stock: Stock) -> None:
    stock.journal(10)
    assert not stock.disk.calls["datasync"]
    assert len(stock.restart(power_loss_seed=0)) < 10


def test_s6_stock_takes_a_flipped_bit_for_a_command(stock: Stock) -> None:
    stock.journal(3)
    data = stock.disk.names[Path(JOURNAL)].data
    data[data.index(b"command 2")] ^= 1
    assert stock.restart()[1] == (b"\0bommand 2", 2, 1)


def test_s6_stock_cannot_start_after_a_page_was_lost(stock: Stock) -> None:
    stock.journal(3)
    data = stock.disk.names[Path(JOURNAL)].data
    data[FIRST_RECORD_OFFSET:] = bytes(len(data) - FIRST_RECORD_OFFSET)
    with pytest.raises(struct.error):
        stock.restart()


def test_s6_what_was_synced_survives_every_power_loss() -> None:
    disk = MemoryDisk()
    filled(disk, 10)
    for seed in range(20):
        assert indexes(open_journal(disk.restarted(seed))) == list(range(1, 11))


def test_s6_damage_is_refused() -> None:
    disk = MemoryDisk()
    filled(disk, 6)
    [data] = [file.data for file in disk.names.values() if b"command 2" in file.data]
    data[data.index(b"command 2")] ^= 1
    with pytest.raises(JournalDamaged):
        open_journal(disk.restarted())


def test_s6_lost_page_at_the_end_is_found_and_cut() -> None:
    disk = MemoryDisk()
    journal = filled(disk, 6)
    journal.add(*entry(7))
    journal.sync()
    [data] = [file.data for file in disk.names.values() if b"command 2" in file.data]
    data[data.index(b"command 7") :] = bytes(len(data) - data.index(b"command 7"))
    assert indexes(open_journal(disk.restarted())) == [1, 2, 3, 4, 5, 6]


# S7: a commit index beyond the log ---------------------------------------------------------------


def test_s7_stock_applies_what_is_not_committed(stock: Stock) -> None:
    journal = stock.journal(10)
    journal.setRaftCommitIndex(20)
    journal.setCurrentTerm(1, None)
    peer = Peer(journalFile=JOURNAL)
    peer.hear(peer.append(10, 1, *[1] * 15, term=1, commit=10))
    assert peer.commit_index == 20
    peer.close()


def test_s7_commit_index_is_not_believed_after_a_restart() -> None:
    disk = MemoryDisk()
    journal = filled(disk, 10)
    journal.setRaftCommitIndex(10)
    assert open_journal(disk.restarted()).getRaftCommitIndex() == 1


# S8: a snapshot that cannot be loaded ------------------------------------------------------------


def piece(data: bytes, *, is_first: bool, is_last: bool) -> dict[str, Any]:
    serialized = (data, is_first, is_last)
    return {"type": "append_entries", "term": 3, "commit_index": 60, "serialized": serialized}


def test_s8_stock_acknowledges_a_snapshot_it_cannot_load(
    stock: Stock, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Peer(fullDumpFile=DUMP)
    peer.fill(*[2] * 29)
    peer.hear(piece(b"garbage", is_first=True, is_last=False))
    [answer] = peer.hear(piece(b"", is_first=False, is_last=True))
    assert "failed to load full dump" in caplog.text
    assert (answer["next_node_idx"], answer["success"]) == (31, True)
    peer.close()


def test_s8_corrupt_snapshot_is_never_acknowledged() -> None:
    """It is refused before anybody hears of it; `installing` acknowledges what was swapped in."""
    store = SnapshotStore.open(DIRECTORY, cluster_id="c", disk=MemoryDisk())
    incoming = store.receive()
    incoming.add(b"garbage")
    with pytest.raises(SnapshotDamaged):
        incoming.finish()
    assert store.latest() is None


# S9: an older snapshot replaces a longer log -----------------------------------------------------


def test_s9_stock_gives_up_its_log_for_an_older_snapshot(stock: Stock) -> None:
    dumped()
    data = bytes(stock.disk.names[Path(DUMP)].data)
    peer = Peer(fullDumpFile="/data/other")
    peer.fill(*[1] * 9)
    peer.hear(piece(data, is_first=True, is_last=False))
    peer.hear(piece(b"", is_first=False, is_last=True))
    assert (peer.first_index, peer.last_index) == (5, 6)
    peer.close()


def test_s9_older_snapshot_is_not_published() -> None:
    """And `tests/integration/test_installing.py`: one that the log holds is not taken."""
    store = SnapshotStore.open(DIRECTORY, cluster_id="c", disk=MemoryDisk())
    for last, is_newer in ((20, True), (10, False), (20, False), (21, True)):
        meta = SnapshotMeta("c", entry(last - 1), entry(last))
        assert store.publish(store.write(meta, [b"state"])) is is_newer


# S24: a vote that a power loss takes back --------------------------------------------------------


def test_s24_stock_forgets_its_vote_when_the_power_fails(stock: Stock) -> None:
    stock.journal(3).setCurrentTerm(5, "n2")
    journal = stock.restart(power_loss_seed=0)
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (0, None)


def test_s24_vote_survives_every_power_loss() -> None:
    disk = MemoryDisk()
    filled(disk, 3).setCurrentTerm(5, "q")
    for seed in range(20):
        journal = open_journal(disk.restarted(seed))
        assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (5, "q")
