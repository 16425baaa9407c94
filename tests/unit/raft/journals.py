"""A journal on a disk in memory, as the tests of journals take it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raftsched.raft.journal import Entry, Journal
from raftsched.testing.disk import MemoryDisk

DIRECTORY = Path("/data")
SEGMENT = DIRECTORY / "segment-000000000001.log"


def entry(index: int, term: int = 1) -> Entry:
    return (b"\x00command %d of %d" % (index, term), index, term)


def open_journal(disk: MemoryDisk, **settings: Any) -> Journal:
    defaults: dict[str, Any] = {"cluster_id": "c", "peer_id": "p", "reserve_bytes": 0}
    return Journal.open(DIRECTORY, disk=disk, **{**defaults, **settings})


def filled(disk: MemoryDisk, groups: int = 3, each: int = 2, **settings: Any) -> Journal:
    journal = open_journal(disk, **settings)
    journal.setCurrentTerm(1, "p")
    for group in range(groups):
        for index in range(group * each + 1, (group + 1) * each + 1):
            journal.add(*entry(index))
        journal.sync()
    return journal


def add_all(journal: Journal, *entries: Entry) -> None:
    for one in entries:
        journal.add(*one)
