"""A peer that lost its directory is not counted under its old id."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from raftsched.raft.acquaintances import Acquaintances
from raftsched.raft.files import JournalDamaged
from raftsched.testing.disk import MemoryDisk

DIRECTORY = Path("/raft")


def test_wiped_peer_is_refused_also_after_a_power_loss_here() -> None:
    disk = MemoryDisk()
    known = Acquaintances(disk, DIRECTORY)
    assert known.refusal("n2", "a") == ""
    known.meet("n2", "a")
    known.meet("n3", "b")
    again = Acquaintances(disk.restarted(power_loss_seed=3), DIRECTORY)
    assert again.refusal("n2", "a") == again.refusal("n3", "b") == again.refusal("n4", "x") == ""
    assert "wiped" in again.refusal("n2", "c")
    assert "wiped" in again.refusal("n2", "")


def test_first_mark_stays() -> None:
    known = Acquaintances(MemoryDisk(), DIRECTORY)
    known.meet("n2", "a")
    known.meet("n2", "c")
    assert known.refusal("n2", "a") == "" and known.refusal("n2", "c")


def test_directory_of_an_old_version_has_no_mark_and_is_let_in() -> None:
    known = Acquaintances(MemoryDisk(), DIRECTORY)
    known.meet("n2", "")
    assert known.refusal("n2", "") == known.refusal("n2", "a") == ""


def test_full_disk_keeps_nobody_out() -> None:
    disk = MemoryDisk()
    known = Acquaintances(disk, DIRECTORY)
    disk.errors["write"] = errno.ENOSPC
    known.meet("n2", "a")
    disk.errors.clear()
    assert known.refusal("n2", "c") == ""
    known.meet("n2", "a")
    assert known.refusal("n2", "c")


def test_damaged_memory_refuses_to_start() -> None:
    disk = MemoryDisk()
    Acquaintances(disk, DIRECTORY).meet("n2", "a")
    assert disk.flip_bit(0.5)
    with pytest.raises(JournalDamaged, match="acquaintances"):
        Acquaintances(disk, DIRECTORY)
