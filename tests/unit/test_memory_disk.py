"""What a simulated disk still has after its power went."""

from __future__ import annotations

import os
from pathlib import Path

from raftsched.testing.disk import PAGE_BYTES, MemoryDisk

FILE = Path("/d/file")
#: Synced, then four pages and a half that are not.
SYNCED, PAGES = b"s" * 100, 4


def _lost(seed: int) -> bytes:
    disk = MemoryDisk()
    handle = disk.open(FILE, os.O_RDWR | os.O_CREAT)
    disk.write(handle, SYNCED, 0)
    disk.datasync(handle)
    disk.sync_directory(FILE.parent)
    disk.write(handle, b"u" * (PAGES * PAGE_BYTES + PAGE_BYTES // 2), len(SYNCED))
    return bytes(disk.restarted(power_loss_seed=seed).names[FILE].data)


def _pages(data: bytes) -> list[bool]:
    """Which pages behind the first have anything of what was not synced."""
    starts = range(PAGE_BYTES, (PAGES + 1) * PAGE_BYTES, PAGE_BYTES)
    return [b"u" in data[start : start + PAGE_BYTES] for start in starts]


def test_what_was_synced_is_there_whatever_else_is_lost() -> None:
    for seed in range(200):
        data = _lost(seed)
        assert data.startswith(SYNCED)
        assert set(data[len(SYNCED) :]) <= {ord("u"), 0}


def test_with_an_odd_seed_a_page_may_be_lost_and_a_later_one_kept() -> None:
    holes = sum(sorted(_pages(_lost(seed)), reverse=True) != _pages(_lost(seed))
                for seed in range(1, 101, 2))  # fmt: skip
    assert holes > 10


def test_with_an_even_seed_it_is_the_end_that_is_lost() -> None:
    for seed in range(0, 100, 2):
        data = _lost(seed)
        assert 0 not in data
