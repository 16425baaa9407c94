"""What the journal's memory has and its disk has not yet: gathered, then written as one group."""

from __future__ import annotations

#: What a record and its entry take in memory beside the data.
OVERHEAD_BYTES = 256


class Group:
    """Records on their way to the disk."""

    __slots__ = (
        "durable_index",
        "error",
        "holds_reset",
        "index_max",
        "is_full",
        "memory_bytes",
        "records",
    )

    def __init__(
        self,
        records: list[bytes],
        memory_bytes: int,
        durable_index: int,
        index_max: int,
        holds_reset: bool,
    ) -> None:
        self.records = records
        self.memory_bytes = memory_bytes
        #: What ``durable_index`` becomes; lowered by what is cut from memory meanwhile.
        self.durable_index = durable_index
        #: Highest index of an entry among the records.
        self.index_max = index_max
        self.holds_reset = holds_reset
        #: How the write went: there was no room, or another error.
        self.is_full = False
        self.error: OSError | None = None


class Pending:
    """Records gathered since the last group was taken."""

    def __init__(self) -> None:
        self._records: list[bytes] = []
        #: What they take in memory, about.
        self.memory_bytes = 0
        self._index_max = 0
        self._holds_reset = False

    def __bool__(self) -> bool:
        return bool(self._records)

    def add(self, record: bytes, data: bytes = b"", *, entry: int = 0) -> None:
        """A record, its data behind it; ``entry`` is its index if it is one."""
        self._records.append(record)
        self.memory_bytes += OVERHEAD_BYTES + len(data)
        if data:
            self._records.append(data)
        self._index_max = max(self._index_max, entry)

    def add_reset(self, record: bytes) -> None:
        """A record after which nothing before it counts."""
        self._records.append(record)
        self._holds_reset = True

    def take(self, durable_index: int) -> Group:
        """All of it as a group that makes the log durable up to ``durable_index``."""
        group = Group(
            self._records, self.memory_bytes, durable_index, self._index_max, self._holds_reset
        )
        self._records, self.memory_bytes = [], 0
        self._index_max, self._holds_reset = 0, False
        return group

    def put_back(self, group: Group) -> None:
        """A group that found no room goes before what was gathered since."""
        self._records = group.records + self._records
        self.memory_bytes += group.memory_bytes
        self._index_max = max(group.index_max, self._index_max)
        self._holds_reset = group.holds_reset or self._holds_reset
