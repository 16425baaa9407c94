"""A dictionary in shards, with a frozen view that costs nothing until somebody writes.

One large dictionary stalls the loop when it grows and when it is copied; many small ones do
neither.  A snapshot freezes all shards; the first write to a frozen shard copies that one alone.
An entry about 64 tasks touches 64 shards: of a million tasks in 64 shards it copied every one, in
0.2 s; in 1,024 it takes 14 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar
from zlib import crc32

from raftsched.core.digest import RowSum

Row = TypeVar("Row")

#: Shards per table; a power of two.
SHARDS = 1024
#: ``crc32(key.encode()) & SHARD_MASK`` is the number of a key's shard.
SHARD_MASK = SHARDS - 1


def shard_of(key: str) -> int:
    """The shard of a key; the same on every peer and in every process."""
    return crc32(key.encode()) & SHARD_MASK


class Table(Generic[Row]):
    """Rows by key.  Iterates shard by shard, in each by insertion: the same after a restore.

    Hashing a key takes longer than all else here: who reads rows and then writes them remembers
    the shards' numbers and hands them to `update`.
    """

    __slots__ = ("_frozen", "_length", "_mask", "_shards", "sum")

    def __init__(self, number: int = 0, shards: int = SHARDS) -> None:
        """``number``: the table's own in the digest.  ``shards``: a power of two."""
        self._shards: list[dict[str, Row]] = [{} for _ in range(shards)]
        self._mask = shards - 1
        #: Shards that a view shares; copied before their first change.
        self._frozen: list[bool] = [False] * shards
        self._length = 0
        #: The digest's part of this table; every change below is told to it.
        self.sum: RowSum[Row] = RowSum(number)

    def __len__(self) -> int:
        return self._length

    def __contains__(self, key: str) -> bool:
        return key in self._shards[crc32(key.encode()) & self._mask]

    def get(self, key: str) -> Row | None:
        """The row, or None."""
        return self._shards[crc32(key.encode()) & self._mask].get(key)

    def shard_of(self, key: str) -> int:
        """The number of a key's shard; the same on every peer and in every process."""
        return crc32(key.encode()) & self._mask

    @property
    def shards(self) -> Sequence[Mapping[str, Row]]:
        """The shards as they are at any time, for reading, by the number `shard_of` gives."""
        return self._shards

    def put(self, key: str, row: Row) -> Row | None:
        """Insert or replace; the row that stood there, None if there was none."""
        number = self.shard_of(key)
        old = self._shards[number].get(key)
        self.update({key: (number, old, row)})
        return old

    def update(self, rows: Mapping[str, tuple[int, Row | None, Row]]) -> None:
        """Insert or replace rows, each with its shard's number and the row that stands there."""
        shards, frozen, changed = self._shards, self._frozen, self.sum.changed
        for key, (number, old, row) in rows.items():
            if frozen[number]:
                self._writable(number)
            shards[number][key] = row
            if old is None:
                self._length += 1
            if key not in changed:
                changed[key] = old
        self.sum.written(len(rows), self.get)

    def load(self, rows: Iterable[tuple[int, str, Row]]) -> None:
        """Rows of a snapshot, with their shards' numbers; `RowSum.add` has counted them already.

        Raises ValueError for a key that is there.
        """
        shards = self._shards
        for number, key, row in rows:
            if key in shards[number]:
                raise ValueError(f"{key} stands there twice")
            shards[number][key] = row
            self._length += 1

    def pop(self, key: str) -> Row | None:
        """Remove and return the row; None if there was none."""
        row = self._writable(self.shard_of(key)).pop(key, None)
        if row is not None:
            self._length -= 1
            self.sum.changed.setdefault(key, row)
            self.sum.written(1, self.get)
        return row

    def items(self) -> Iterator[tuple[str, Row]]:
        """All keys and rows.  The table must not change while this is drawn."""
        for shard in self._shards:
            yield from shard.items()

    def values(self) -> Iterator[Row]:
        """All rows.  The table must not change while this is drawn."""
        for shard in self._shards:
            yield from shard.values()

    def freeze(self) -> list[dict[str, Row]]:
        """The shards as they are now; they will not change, the table goes on with copies."""
        self._frozen = [True] * len(self._shards)
        return list(self._shards)

    def thaw(self) -> None:
        """The view taken last is not used any more."""
        self._frozen = [False] * len(self._shards)

    def take_apart(self) -> Iterator[dict[str, Row]]:
        """The shards, one by one; the table is empty afterwards."""
        self._length = 0
        self.sum.clear()
        for number in range(len(self._shards)):
            shard, self._shards[number] = self._shards[number], {}
            yield shard

    def _writable(self, number: int) -> dict[str, Row]:
        if self._frozen[number]:
            self._shards[number] = dict(self._shards[number])
            self._frozen[number] = False
        return self._shards[number]
