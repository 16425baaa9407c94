"""The digest: a number that two replicas have in common only if all their rows are equal.

The sum modulo 2^128 of a 128-bit hash of every row, over (table, key, row as a snapshot has it).
A sum does not care for order, and a change of a row costs the hashes of the old and the new one,
never a pass over the state.  It is nowhere stored: a restored state adds up what it decoded.

Hashing a row takes about as long as applying a change of it, so it is put off: `RowSum` remembers
what a changed row was and hashes it later, once for all its changes meanwhile.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, Generic, TypeVar

import msgspec

Row = TypeVar("Row")

DIGEST_BYTES = 16
#: Raised with every change of what is hashed (a field of a row, a scalar of the state): digests of
#: two formats differ without meaning anything, and are not compared.
FORMAT = 4
#: Rows that change before hashing them begins; twice as many are remembered at most.
TURN_ROWS = 10_000
#: Rows hashed at a stroke while others are written.
STROKE_ROWS = 64
_MASK = (1 << 8 * DIGEST_BYTES) - 1

_encode = msgspec.msgpack.Encoder().encode
#: A hash that has begun with nothing: to copy it takes a quarter less than to make one.
_begun = blake2b(digest_size=DIGEST_BYTES)


def row_hash(table: int, key: str, row: Any) -> bytes:
    """The hash of one row."""
    hashed = _begun.copy()
    hashed.update(_encode((table, key, row)))
    return hashed.digest()


def sum_of(hashes: Sequence[bytes]) -> int:
    """The sum of hashes, modulo 2^128."""
    # In two halves of all at once: a third faster than hash by hash.
    halves: tuple[int, ...] = struct.unpack(f"<{2 * len(hashes)}Q", b"".join(hashes))
    return (sum(halves[::2]) + (sum(halves[1::2]) << 64)) & _MASK


def as_bytes(total: int) -> bytes:
    """A sum as commands and rows carry it."""
    return (total & _MASK).to_bytes(DIGEST_BYTES, "little")


class RowSum(Generic[Row]):
    """The sum over one table, kept lazily.

    The table says of every row what stood there before its first change since the last `turn`.
    ``total`` is the sum over the rows as they stood at that turn, but for ``backlog``: of those it
    has the hashes of what stood there at the turn before.
    """

    __slots__ = ("_credit", "_frozen", "_is_wanted", "_table", "backlog", "changed", "total")

    def __init__(self, table: int) -> None:
        #: Number of the table, new for each: equal rows of two tables have different hashes.
        self._table = table
        self.total = 0
        #: Row before the change by key, None where there was none.
        self.changed: dict[str, Row | None] = {}
        self.backlog: dict[str, Row | None] = {}
        self._credit = 0
        self._frozen = 0
        self._is_wanted = False

    def written(self, count: int, get: Callable[[str], Row | None]) -> None:
        """So many rows were written: hash as many of the backlog, so that it ends in time.

        ``get`` is the table's.
        """
        self._credit += count
        if self._credit < STROKE_ROWS:
            return
        if self.backlog:
            self.settle(self._credit, get)
        elif len(self.changed) >= TURN_ROWS:
            self._turn()
        self._credit = 0

    def _turn(self) -> None:
        """What changed is to be hashed; where a row is behind already, its older one counts."""
        if self.backlog:
            self.backlog = {**self.changed, **self.backlog}
        else:
            self.backlog = self.changed
        self.changed = {}

    def settle(self, limit: int, get: Callable[[str], Row | None]) -> None:
        """Hash up to ``limit`` rows of the backlog."""
        backlog = self.backlog
        some = (backlog.popitem() for _ in range(min(limit, len(backlog))))
        self.total = (self.total + self._difference(some, self.changed, get)) & _MASK
        if self._is_wanted and not backlog:
            self._is_wanted = False
            self._frozen = self.total

    def _difference(
        self,
        rows: Iterable[tuple[str, Row | None]],
        since: dict[str, Row | None],
        get: Callable[[str], Row | None],
    ) -> int:
        """What the sum grows by when rows become what they were before they changed ``since``."""
        table = self._table
        # Nothing that the collector looks at is kept: it would come by ever so often.
        gone: list[bytes] = []
        come: list[bytes] = []
        for key, old in rows:
            new = since[key] if key in since else get(key)
            if new is not old:
                if old is not None:
                    gone.append(row_hash(table, key, old))
                if new is not None:
                    come.append(row_hash(table, key, new))
        return sum_of(come) - sum_of(gone)

    def freeze(self) -> None:
        """Begin the sum over the rows as they stand; an earlier one is not wanted any more."""
        self._turn()
        self._is_wanted = bool(self.backlog)
        self._frozen = self.total

    def frozen(self, limit: int, get: Callable[[str], Row | None]) -> int | None:
        """The sum over the rows as they stood at `freeze`; None: ask again.

        Hashes up to ``limit`` rows.
        """
        if self._is_wanted:
            self.settle(limit, get)
        return None if self._is_wanted else self._frozen

    def now(self, get: Callable[[str], Row | None]) -> int:
        """The sum over the rows as they are.  Changes nothing, takes as long as all that waits."""
        behind = self._difference(self.backlog.items(), self.changed, get)
        return (self.total + behind + self._difference(self.changed.items(), {}, get)) & _MASK

    def add(self, rows: Sequence[tuple[str, Row]]) -> None:
        """Rows that a snapshot brings; whoever writes them does not tell of them (`Table.load`)."""
        hashes = [row_hash(self._table, key, row) for key, row in rows]
        self.total = (self.total + sum_of(hashes)) & _MASK

    def recount(self, rows: Iterable[tuple[str, Row]]) -> int:
        """The sum over ``rows``, all of the table, anew; it must be what `now` says."""
        return sum_of([row_hash(self._table, key, row) for key, row in rows])

    def clear(self) -> None:
        """The table is empty, and nobody asks for its sum."""
        self.changed, self.backlog = {}, {}
        self.total = 0
