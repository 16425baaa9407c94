"""A snapshot is sent no faster than the connection takes it, and the log waits for the laggard."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftsched.raft.engine import Piece
from raftsched.raft.laggards import PATIENCE_SECONDS, PIECE_BYTES, WINDOW_BYTES, Laggards
from raftsched.raft.snapshot import SnapshotStore
from raftsched.raft.snapshot_file import SnapshotMeta
from raftsched.testing.disk import MemoryDisk

NOBODY_HAS_ANYTHING = {"n2": 0}.__getitem__


class Connection:
    """What waits to be sent."""

    def __init__(self) -> None:
        self.bytes = 0

    def waiting(self, peer_id: str) -> int:
        return self.bytes


def publish(store: SnapshotStore, index: int, size: int) -> None:
    meta = SnapshotMeta("c", (b"p", index - 1, 1), (b"l", index, 1))
    store.publish(store.write(meta, [bytes(1024 * 1024)] * (size // (1024 * 1024))))


@pytest.fixture
def store() -> SnapshotStore:
    store = SnapshotStore.open(Path("/snapshots"), cluster_id="c", disk=MemoryDisk())
    publish(store, 10, 2 * WINDOW_BYTES)
    return store


def test_pieces_are_the_file_and_the_last_is_empty(store: SnapshotStore) -> None:
    laggards = Laggards(store, Connection().waiting)
    pieces: list[Piece] = []
    while not pieces or not pieces[-1][2]:
        piece = laggards.next_piece("n2", 0.0)
        assert piece is not None
        pieces.append(piece)
    latest = store.latest()
    assert latest is not None
    raw = store.open_raw(latest)
    assert b"".join(piece[0] for piece in pieces) == raw.read(0, raw.total_bytes)
    assert [piece[1] for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert pieces[-1][0] == b"" and {piece[3] for piece in pieces} == {1}
    assert max(len(piece[0]) for piece in pieces) == PIECE_BYTES


def test_nothing_is_read_while_the_connection_has_enough(store: SnapshotStore) -> None:
    connection = Connection()
    laggards = Laggards(store, connection.waiting)
    while (piece := laggards.next_piece("n2", 0.0)) is not None:
        connection.bytes += len(piece[0])
    assert connection.bytes == WINDOW_BYTES
    assert laggards.ready() == []
    connection.bytes = WINDOW_BYTES // 2
    assert laggards.ready() == ["n2"]
    assert laggards.ready() == [], "told once"
    piece = laggards.next_piece("n2", 0.0)
    assert piece is not None and not piece[1], "it goes on where it was"


def test_without_a_snapshot_there_is_nothing_to_send() -> None:
    store = SnapshotStore.open(Path("/snapshots"), cluster_id="c", disk=MemoryDisk())
    laggards = Laggards(store, Connection().waiting)
    assert laggards.next_piece("n2", 0.0) is None
    assert not laggards.need_log


def test_end_of_another_transfer_does_not_count(store: SnapshotStore) -> None:
    laggards = Laggards(store, Connection().waiting)
    laggards.next_piece("n2", 0.0)
    laggards.ended("n2", 7)
    laggards.ended("n3", 1)
    assert laggards.is_sending("n2")
    laggards.ended("n2", 1)
    assert not laggards.is_sending("n2")
    piece = laggards.next_piece("n2", 0.0)
    assert piece is not None and piece[1] and piece[3] == 2, "it begins anew, with another number"


def test_log_is_needed_until_the_laggard_is_past_the_newest_snapshot(store: SnapshotStore) -> None:
    laggards = Laggards(store, Connection().waiting)
    assert not laggards.need_log
    laggards.next_piece("n2", 0.0)
    publish(store, 20, 1024 * 1024)
    laggards.ended("n2", 1)
    for matched, is_needed in ((10, True), (19, True), (20, False)):
        laggards.step({"n2": matched}.__getitem__, 1.0)
        assert laggards.need_log is is_needed


def test_patience_ends(store: SnapshotStore) -> None:
    laggards = Laggards(store, Connection().waiting)
    laggards.next_piece("n2", 5.0)
    laggards.step(NOBODY_HAS_ANYTHING, 5.0 + PATIENCE_SECONDS)
    assert laggards.is_sending("n2")
    laggards.step(NOBODY_HAS_ANYTHING, 5.1 + PATIENCE_SECONDS)
    assert not laggards.is_sending("n2") and not laggards.need_log


def test_lost_follower_and_lost_leadership_are_forgotten(store: SnapshotStore) -> None:
    laggards = Laggards(store, Connection().waiting)
    laggards.next_piece("n2", 0.0)
    laggards.next_piece("n3", 0.0)
    laggards.stop("n2")
    assert laggards.is_sending("n3") and not laggards.is_sending("n2")
    laggards.ended("n3", 2)
    laggards.stop_all()
    assert not laggards.need_log


def test_transfer_goes_on_where_the_follower_says_it_was(store: SnapshotStore) -> None:
    laggards = Laggards(store, Connection().waiting)
    laggards.next_piece("n2", 0.0)
    laggards.resume("n2", 1, 5 * PIECE_BYTES + 7)
    latest = store.latest()
    assert latest is not None
    raw = store.open_raw(latest)
    piece = laggards.next_piece("n2", 0.0)
    offset = 5 * PIECE_BYTES + 7
    assert piece == (raw.read(offset, PIECE_BYTES), offset, False, 1)
    piece = laggards.next_piece("n2", 0.0)
    assert piece == (raw.read(offset + PIECE_BYTES, PIECE_BYTES), False, False, 1)


@pytest.mark.parametrize("number, offset", [(2, 10 * PIECE_BYTES), (1, 10), (1, 1 << 40)])
def test_what_a_follower_cannot_have_changes_nothing(
    store: SnapshotStore, number: int, offset: int
) -> None:
    laggards = Laggards(store, Connection().waiting)
    laggards.next_piece("n2", 0.0)
    laggards.resume("n2", number, offset)
    laggards.resume("n3", number, offset)
    second = laggards.next_piece("n2", 0.0)
    assert second is not None and second[1] is False and len(second[0]) == PIECE_BYTES


def test_log_is_needed_until_the_laggard_has_what_was_there_when_it_had_loaded(
    store: SnapshotStore,
) -> None:
    laggards = Laggards(store, Connection().waiting, last_index=lambda: 15)
    laggards.next_piece("n2", 0.0)
    laggards.ended("n2", 1)
    for matched, is_needed in ((10, True), (14, True), (15, False)):
        laggards.step({"n2": matched}.__getitem__, 1.0)
        assert laggards.need_log is is_needed
