"""A dictionary in shards, with a frozen view that costs nothing until somebody writes.

One large dictionary stalls the loop when it grows and when it is copied; 64 small ones do neither.
A snapshot freezes all shards; the first write to a frozen shard copies that one alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Generic, TypeVar

Row = TypeVar("Row")

#: Shards per table; a power of two.
SHARDS = 64


def shard_of(key: str) -> int:
    """The shard of a key; the same on every peer and in every process."""
    return zlib.crc32(key.encode()) & (SHARDS - 1)


class Table(Generic[Row]):
    """Rows by key.  Iterates shard by shard, in each by insertion: the same after a restore."""

    __slots__ = ("_frozen", "_length", "_shards")

    def __init__(self) -> None:
        self._shards: list[dict[str, Row]] = [{} for _ in range(SHARDS)]
        #: Shards that a view shares; copied before their first change.
        self._frozen: list[bool] = [False] * SHARDS
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __contains__(self, key: str) -> bool:
        return key in self._shards[zlib.crc32(key.encode()) & (SHARDS - 1)]

    def get(self, key: str) -> Row | None:
        """The row, or None."""
        return self._shards[zlib.crc32(key.encode()) & (SHARDS - 1)].get(key)

    def put(self, key: str, row: Row) -> Row | None:
        """Insert or replace; the row that stood there, None if there was none."""
        number = zlib.crc32(key.encode()) & (SHARDS - 1)
        shard = self._writable(number) if self._frozen[number] else self._shards[number]
        old = shard.get(key)
        if old is None:
            self._length += 1
        shard[key] = row
        return old

    def pop(self, key: str) -> Row | None:
        """Remove and return the row; None if there was none."""
        number = shard_of(key)
        row = self._writable(number).pop(key, None)
        if row is not None:
            self._length -= 1
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
        self._frozen = [True] * SHARDS
        return list(self._shards)

    def thaw(self) -> None:
        """The view taken last is not used any more."""
        self._frozen = [False] * SHARDS

    def _writable(self, number: int) -> dict[str, Row]:
        if self._frozen[number]:
            self._shards[number] = dict(self._shards[number])
            self._frozen[number] = False
        return self._shards[number]
