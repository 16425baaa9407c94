"""Term and vote: never lost in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftsched.raft.files import JournalDamaged
from raftsched.raft.hard_state import HardState, HardStateFile
from raftsched.raft.log import SafetyViolation
from raftsched.testing.disk import Crash, MemoryDisk

PATH = Path("/data/hard-state")


def made() -> MemoryDisk:
    disk = MemoryDisk()
    HardStateFile.create(disk, PATH)
    return disk


def reopened(disk: MemoryDisk, seed: int | None = None) -> HardState:
    return HardStateFile(disk.restarted(seed), PATH).state


def test_new_file_has_no_vote() -> None:
    assert reopened(made(), 0) == HardState(0, 0, None)


@pytest.mark.parametrize("vote", [None, "", "peer-1", "pähr"])
def test_saved_state_survives_power_loss(vote: str | None) -> None:
    disk = made()
    HardStateFile(disk, PATH).save(5, vote)
    assert reopened(disk, 0) == HardState(1, 5, vote)


def test_saving_the_same_writes_nothing() -> None:
    disk = made()
    file = HardStateFile(disk, PATH)
    file.save(5, "a")
    operations = disk.operations
    file.save(5, "a")
    assert disk.operations == operations


@pytest.mark.parametrize(("term", "vote"), [(4, "a"), (5, "b"), (5, None)])
def test_term_never_falls_and_vote_never_changes(term: int, vote: str | None) -> None:
    file = HardStateFile(made(), PATH)
    file.save(5, "a")
    with pytest.raises(SafetyViolation, match=r"was to .*do not start this peer again"):
        file.save(term, vote)
    assert (file.state.term, file.state.vote) == (5, "a")


def test_crash_at_any_operation_leaves_old_or_new() -> None:
    """Also when the next process dies while it mends."""
    for crash_at in range(1, 5):
        for seed in range(40):
            disk = made()
            file = HardStateFile(disk, PATH)
            file.save(5, "a")
            disk.crash_at = disk.operations + crash_at
            with pytest.raises(Crash):
                file.save(6, "b")
            disk = disk.restarted(seed)
            disk.crash_at = 1 + seed % 4
            with pytest.raises(Crash):
                HardStateFile(disk, PATH)
            assert reopened(disk, seed + 1) in (HardState(1, 5, "a"), HardState(2, 6, "b"))


def test_any_flipped_bit_is_mended_from_the_other_copy() -> None:
    disk = made()
    HardStateFile(disk, PATH).save(5, "a")
    for offset in range(0, 2 * 4096, 7):
        bad = disk.restarted()
        bad.names[PATH].data[offset] ^= 4
        assert reopened(bad) == HardState(1, 5, "a")
        HardStateFile(bad, PATH)
        assert bad.names[PATH].data == disk.names[PATH].data


@pytest.mark.parametrize("size", [0, 100, 4095])
def test_both_copies_damaged_refuses(size: int) -> None:
    disk = made()
    del disk.names[PATH].data[size:]
    with pytest.raises(JournalDamaged, match="neither copy"):
        reopened(disk)


def test_copies_of_different_times_refuse() -> None:
    disk = made()
    file = HardStateFile(disk, PATH)
    old = bytes(disk.names[PATH].data[:4096])
    file.save(5, "a")
    file.save(6, "a")
    disk.names[PATH].data[:4096] = old
    with pytest.raises(JournalDamaged, match="differ"):
        reopened(disk)
