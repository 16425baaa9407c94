"""Snapshots on their way to followers that need entries this leader's log no longer has.

A file is read and sent piece by piece with PySyncObj's heartbeats, no faster than the connection
takes it.  The follower says ``snapshot_end`` once it has loaded the snapshot, has no use for it, or
had to give up; until then, where it says that its log ends does not matter.  Then it catches up
with the log behind the snapshot, which must not be trimmed away before, or it would begin anew.

A transfer whose connection broke begins anew as well; but a follower that finds in the first piece
what it has says ``snapshot_have``, and the pieces go on where it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from raftsched.raft.engine import Piece
from raftsched.raft.snapshot import RawReader, SnapshotStore

PIECE_BYTES = 256 * 1024
#: No more pieces are read while so much waits in the connection; half of it is the mark to go on.
WINDOW_BYTES = 8 * 1024 * 1024
#: A transfer without a piece sent is given up after this, as is who loads, or catches up.
PATIENCE_SECONDS = 60.0


class _Transfer:
    """One snapshot to one follower, from the first piece to the end of its loading."""

    def __init__(self, number: int, reader: RawReader, patience_ends_at: float) -> None:
        self.number = number
        self.reader = reader
        self.offset = 0
        #: The next piece does not follow the one before.
        self.has_jumped = False
        #: The connection has enough for now.
        self.waits = False
        self.patience_ends_at = patience_ends_at


class Laggards:
    """The followers that are sent a snapshot, or load one.  Times are monotonic seconds."""

    def __init__(
        self,
        store: SnapshotStore,
        waiting_bytes: Callable[[str], int],
        first_index: Callable[[], int] = lambda: 0,
        last_index: Callable[[], int] = lambda: 0,
    ) -> None:
        """``waiting_bytes``: what waits to be sent to a peer; the indexes are those of the log."""
        self._store = store
        self._first_index = first_index
        self._last_index = last_index
        self._waiting_bytes = waiting_bytes
        self._numbers = itertools.count(1)
        self._transfers: dict[str, _Transfer] = {}
        #: Followers through with a transfer: when patience with them ends, and where the log ended
        #: then.  Were it trimmed before they have that, they would need the next snapshot, too.
        self._catching_up: dict[str, tuple[float, int]] = {}

    @property
    def need_log(self) -> bool:
        """The log should not be trimmed just now."""
        return bool(self._transfers or self._catching_up)

    def is_sending(self, peer_id: str) -> bool:
        """A follower has not said ``snapshot_end`` yet."""
        return peer_id in self._transfers

    def next_piece(self, peer_id: str, now: float) -> Piece | None:
        """The next piece for a follower, at first of the newest snapshot; None: not now."""
        transfer = self._transfers.get(peer_id) or self._begin(peer_id, now)
        if transfer is None:
            return None
        if self._waiting_bytes(peer_id) >= WINDOW_BYTES:
            transfer.waits = True
            return None
        offset = transfer.offset
        data = transfer.reader.read(offset, PIECE_BYTES)
        where = offset if transfer.has_jumped else offset == 0
        transfer.has_jumped = False
        transfer.offset += len(data)
        transfer.patience_ends_at = now + PATIENCE_SECONDS
        return data, where, not data, transfer.number

    def resume(self, peer_id: str, number: int, offset: int) -> None:
        """The follower has the first ``offset`` bytes from an earlier transfer."""
        transfer = self._transfers.get(peer_id)
        if transfer is None or transfer.number != number:
            return
        if transfer.offset < offset <= transfer.reader.total_bytes:
            transfer.offset = offset
            transfer.has_jumped = True

    def _begin(self, peer_id: str, now: float) -> _Transfer | None:
        latest = self._store.latest()
        if latest is None or latest.meta.index + 1 < self._first_index():
            return None  # What follows it is not here any more; another one is being made.
        transfer = _Transfer(
            next(self._numbers), self._store.open_raw(latest), now + PATIENCE_SECONDS
        )
        self._transfers[peer_id] = transfer
        self._catching_up.pop(peer_id, None)
        return transfer

    def ready(self) -> list[str]:
        """Followers whose connection takes more again, each told once."""
        ready = [
            peer_id
            for peer_id, transfer in self._transfers.items()
            if transfer.waits and self._waiting_bytes(peer_id) <= WINDOW_BYTES // 2
        ]
        for peer_id in ready:
            self._transfers[peer_id].waits = False
        return ready

    def step(self, matched: Callable[[str], int], now: float) -> None:
        """Forget who has caught up (``matched``: how far a peer has the log), or takes too long."""
        for peer_id, transfer in list(self._transfers.items()):
            if matched(peer_id) >= transfer.reader.meta.index or now > transfer.patience_ends_at:
                self.ended(peer_id, transfer.number)
        latest = self._store.latest()
        for peer_id, (patience_ends_at, goal) in list(self._catching_up.items()):
            if latest is not None:
                goal = max(goal, latest.meta.index)
            if matched(peer_id) >= goal or now > patience_ends_at:
                del self._catching_up[peer_id]

    def ended(self, peer_id: str, number: int) -> None:
        """The follower is through with a transfer, in one way or another."""
        transfer = self._transfers.get(peer_id)
        if transfer is not None and transfer.number == number:
            self.stop(peer_id)
            self._catching_up[peer_id] = (transfer.patience_ends_at, self._last_index())

    def stop(self, peer_id: str) -> None:
        """The follower is gone."""
        self._catching_up.pop(peer_id, None)
        transfer = self._transfers.pop(peer_id, None)
        if transfer is not None:
            transfer.reader.close()

    def stop_all(self) -> None:
        """This peer does not lead any more, or stops."""
        for peer_id in [*self._transfers, *self._catching_up]:
            self.stop(peer_id)
