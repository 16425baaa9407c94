"""A peer that ended for good ends like that at every later start."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from raftsched.raft import endings
from raftsched.raft.log import MustStop, RemovedFromCluster, SafetyViolation
from raftsched.testing import SimulatedCluster
from raftsched.testing.disk import MemoryDisk

DATA = Path("/data")


@pytest.mark.parametrize(
    "error", [RemovedFromCluster("n1 was removed"), SafetyViolation("entry 3 was to be cut")]
)
def test_what_was_remembered_is_raised_word_by_word(error: MustStop) -> None:
    disk = MemoryDisk()
    endings.refuse(disk, DATA)
    endings.remember(disk, DATA, error)
    for _ in range(2):
        disk = disk.restarted(power_loss_seed=1)
        with pytest.raises(type(error)) as raised:
            endings.refuse(disk, DATA)
        assert str(raised.value) == str(error)
        assert raised.value.exit_code == error.exit_code


def test_a_disk_that_fails_keeps_no_peer_from_ending(caplog: pytest.LogCaptureFixture) -> None:
    disk = MemoryDisk()
    disk.errors["write"] = errno.EIO
    with caplog.at_level(logging.WARNING):
        endings.remember(disk, DATA, SafetyViolation("entry 3 was to be cut"))
    assert "why this peer ends is not remembered" in caplog.text


def test_a_peer_that_stopped_for_safety_does_not_start_again() -> None:
    with SimulatedCluster(peers=3, seed=5) as cluster:
        cluster.run(3.0)
        follower = next(name for name in ("n1", "n2") if name != cluster.leader())
        machine = cluster._machine(follower)
        ends: list[BaseException] = []
        machine.on_end = lambda _, error: ends.append(error)
        assert machine.peer is not None and machine.loop is not None
        fatal = machine.peer.log._fatal
        machine.loop.call_soon(fatal, SafetyViolation("entry 3 was to be cut"))
        cluster.run(1.0)
        assert machine.loop is None
        for _ in range(2):
            cluster.start(follower)
            cluster.run(1.0)
            assert machine.loop is None
        assert [str(error) for error in ends] == [str(SafetyViolation("entry 3 was to be cut"))] * 3
